//! One reason why a request, a profile, a configuration or a trace was refused.

use std::collections::BTreeMap;
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

    /// The kinds among these, in their order: the first of each and how many more there are, which differ
    /// from it in nothing but numbers, as of lines or of items.
    #[must_use]
    pub fn kinds(violations: &[Self]) -> Vec<(&Self, u64)> {
        let without_digits = |text: &str| text.replace(|c: char| c.is_ascii_digit(), "");
        let mut kinds: Vec<(&Self, u64)> = Vec::new();
        let mut places: BTreeMap<_, usize> = BTreeMap::new();
        for one in violations {
            let kind = (&one.rule, without_digits(&one.pointer), without_digits(&one.detail));
            if let Some(place) = places.get(&kind) {
                kinds[*place].1 += 1;
            } else {
                places.insert(kind, kinds.len());
                kinds.push((one, 0));
            }
        }
        kinds
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

    #[test]
    fn faults_that_differ_in_numbers_are_of_one_kind() {
        let line = |at: usize| Violation::new(format!("/lines/{at}"), "type", format!("line {at}"));
        let other = Violation::new("/devices", "type", "line 3");
        let all = [line(3), other.clone(), line(5), line(14)];
        assert_eq!(Violation::kinds(&all), [(&line(3), 2), (&other, 0)]);
    }
}
