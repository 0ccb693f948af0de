//! A question or a recording that breaks rules, told in one line for every fault.

use std::fmt;

use indexmap::IndexMap;
use moe_gps_core::violation::Violation;

/// What is refused and why; [`main`](super::main) tells it on standard error.
#[derive(Debug)]
pub(super) struct Refused {
    what: String,
    violations: Vec<Violation>,
    unlisted: u64,
}

impl Refused {
    /// `what` is refused for these violations.
    pub(super) fn new(what: impl Into<String>, violations: Vec<Violation>) -> Self {
        Self { what: what.into(), violations, unlisted: 0 }
    }

    /// There are so many more of them.
    pub(super) fn and(self, unlisted: u64) -> Self {
        Self { unlisted, ..self }
    }
}

impl std::error::Error for Refused {}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let n = self.violations.len() as u64 + self.unlisted;
        write!(f, "{} breaks {n} {}", self.what, if n == 1 { "rule" } else { "rules" })?;
        let mut places: IndexMap<&str, Vec<&str>> = IndexMap::new();
        for Violation { pointer, detail, .. } in &self.violations {
            places.entry(detail).or_default().push(pointer);
        }
        for (detail, pointers) in places {
            match &pointers[..] {
                [""] => write!(f, "\n  {detail}")?,
                [one] => write!(f, "\n  {one}: {detail}")?,
                several => {
                    let (first, more) = (several[0], several.len() - 1);
                    write!(f, "\n  {first} and {more} more: {detail}")?;
                }
            }
        }
        match self.unlisted {
            0 => Ok(()),
            more => write!(f, "\n  … and {more} more after the first {}", self.violations.len()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_faults_are_one_line() {
        let far = |at: usize| Violation::new(format!("/values/{at}"), "range", "0 is too small");
        let mut violations: Vec<_> = (0..100).map(far).collect();
        violations.push(Violation::new("", "required", "`routing` is missing"));
        violations.push(Violation::new("/model", "not_found", "no model has this id"));
        let told = Refused::new("the sweep", violations).and(900).to_string();
        assert_eq!(
            told,
            "the sweep breaks 1002 rules\n  /values/0 and 99 more: 0 is too small\n  \
             `routing` is missing\n  /model: no model has this id\n  \
             … and 900 more after the first 102"
        );
        let one = Refused::new("it", vec![Violation::new("/a", "type", "no number")]);
        assert_eq!(one.to_string(), "it breaks 1 rule\n  /a: no number");
    }
}
