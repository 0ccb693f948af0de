//! The id that a mistyped one probably meant.

/// Ids longer than this are no typing mistakes; it also bounds the work.
const MAX_LENGTH: usize = 64;

/// The known id nearest to `id`, if it is near enough to be a typing mistake.
///
/// Distance is the number of characters to insert, delete, replace or swap, without
/// regard to case or to underscores for hyphens; up to a third may differ.
#[must_use]
pub fn nearest<'a>(id: &str, known: &[&'a str]) -> Option<&'a str> {
    if id.len() > MAX_LENGTH {
        return None;
    }
    let wanted = id.trim().to_lowercase().replace('_', "-");
    let distances = known.iter().map(|id| (strsim::osa_distance(&wanted, id), *id));
    let (distance, near) = distances.min()?;
    (distance * 3 <= wanted.chars().count()).then_some(near)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_typing_mistake_is_forgiven() {
        let known = ["mixtral-8x7b", "mixtral-8x22b", "kimi-k2"];
        assert_eq!(nearest("mixtral-8x7", &known), Some("mixtral-8x7b"));
        assert_eq!(nearest("Kimi_K2", &known), Some("kimi-k2"));
        assert_eq!(nearest("mixtral-8x22", &known), Some("mixtral-8x22b"));
    }

    #[test]
    fn something_else_altogether_is_not() {
        assert_eq!(nearest("bloom", &["mixtral-8x7b"]), None);
        assert_eq!(nearest("", &["mixtral-8x7b"]), None);
        assert_eq!(nearest(&"a".repeat(1_000_000), &["mixtral-8x7b"]), None);
        assert_eq!(nearest("x", &[]), None);
    }
}
