//! The id that a mistyped one probably meant.

/// Ids longer than this are no typing mistakes; it also bounds the work.
const MAX_LENGTH: usize = 64;

/// The known id nearest to `id`, if it is near enough to be a typing mistake.
///
/// Distance is the number of characters to insert, delete or replace (Levenshtein),
/// without regard to case or to underscores for hyphens; up to a third may differ.
#[must_use]
pub fn nearest<'a>(id: &str, known: &[&'a str]) -> Option<&'a str> {
    if id.len() > MAX_LENGTH {
        return None;
    }
    let wanted = id.trim().to_lowercase().replace('_', "-");
    let distances = known.iter().map(|id| (distance(&wanted, id), *id));
    let (distance, near) = distances.min()?;
    (distance * 3 <= wanted.chars().count()).then_some(near)
}

/// Levenshtein's distance, one row of the table at a time.
fn distance(from: &str, to: &str) -> usize {
    let to: Vec<char> = to.chars().collect();
    let mut above: Vec<usize> = (0..=to.len()).collect();
    for (row, from) in from.chars().enumerate() {
        let mut left = row + 1;
        let mut diagonal = std::mem::replace(&mut above[0], left);
        for (column, to) in to.iter().enumerate() {
            let replaced = diagonal + usize::from(from != *to);
            diagonal = above[column + 1];
            left = replaced.min(left + 1).min(diagonal + 1);
            above[column + 1] = left;
        }
    }
    above[to.len()]
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
    fn the_distance_counts_edits() {
        assert_eq!(distance("kitten", "sitting"), 3);
        assert_eq!(distance("", "abc"), 3);
        assert_eq!(distance("abc", ""), 3);
        assert_eq!(distance("abc", "abc"), 0);
    }

    #[test]
    fn something_else_altogether_is_not() {
        assert_eq!(nearest("bloom", &["mixtral-8x7b"]), None);
        assert_eq!(nearest("", &["mixtral-8x7b"]), None);
        assert_eq!(nearest(&"a".repeat(1_000_000), &["mixtral-8x7b"]), None);
        assert_eq!(nearest("x", &[]), None);
    }
}
