//! One reason why a request, a profile, a configuration or a trace was refused.

use std::fmt;

/// What is wrong with one place, and how to mend it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Violation {
    /// JSON pointer (RFC 6901) to the offending place; in lines, `/lines/` and the line from 1.
    pub pointer: String,
    /// Stable name of the rule that is broken, for programs.
    pub rule: String,
    /// What was found and what would be accepted, for people.
    pub detail: String,
}

impl fmt::Display for Violation {
    /// The place, unless it is the whole document, and what is wrong with it.
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match &*self.pointer {
            "" => f.write_str(&self.detail),
            pointer => write!(f, "{pointer}: {}", self.detail),
        }
    }
}

impl Violation {
    /// A violation of `rule` at `pointer`.
    pub fn new(pointer: impl Into<String>, rule: &str, detail: impl Into<String>) -> Self {
        Self { pointer: pointer.into(), rule: rule.to_owned(), detail: detail.into() }
    }

    /// The same, seen from a document in which the place's own stands at `pointer`.
    #[must_use]
    pub fn under(self, pointer: &str) -> Self {
        Self { pointer: format!("{pointer}{}", self.pointer), ..self }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_place_is_said_unless_it_is_the_whole_document() {
        let missing = Violation::new("", "required", "`routing` is missing");
        assert_eq!(missing.to_string(), "`routing` is missing");
        assert_eq!(missing.under("/question").to_string(), "/question: `routing` is missing");
    }
}
