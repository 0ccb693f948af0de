//! Choices that have a name in files and reports.

/// The name of `value` in a list of all values with their names; empty if it is not there.
#[must_use]
pub fn name_of<T: PartialEq>(all: &[(T, &'static str)], value: &T) -> &'static str {
    all.iter().find(|(of, _)| of == value).map_or("", |(_, name)| *name)
}
