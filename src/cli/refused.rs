//! A question or a recording that breaks rules, told in one line for every fault.

use std::fmt;

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
        let kinds = Violation::kinds(&self.violations);
        // What is not listed is most likely more of the only kind there is.
        let (unlisted, of_one_kind) = (self.unlisted, kinds.len() == 1);
        for (Violation { pointer, detail, .. }, more) in kinds {
            let more = more + if of_one_kind { unlisted } else { 0 };
            match (pointer.as_str(), more) {
                ("", 0) => write!(f, "\n  {detail}")?,
                (one, 0) => write!(f, "\n  {one}: {detail}")?,
                ("", more) => write!(f, "\n  {detail}; and {more} more like it")?,
                (first, more) => write!(f, "\n  {first} and {more} more: {detail}")?,
            }
        }
        match unlisted {
            0 => Ok(()),
            _ if of_one_kind => Ok(()),
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
        let lines: Vec<_> = (2..102)
            .map(|at| {
                Violation::new(format!("/lines/{at}"), "required", format!("line {at} lacks it"))
            })
            .collect();
        let told = Refused::new("x.jsonl", lines).and(2300).to_string();
        assert_eq!(told, "x.jsonl breaks 2400 rules\n  /lines/2 and 2399 more: line 2 lacks it");
        let two =
            ["/devices", "/nodes"].map(|at| Violation::new(at, "range", "0; it must be 1 to 8"));
        let told = Refused::new("it", two.to_vec()).to_string();
        assert_eq!(
            told,
            "it breaks 2 rules\n  /devices: 0; it must be 1 to 8\n  /nodes: 0; it must be 1 to 8"
        );
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
