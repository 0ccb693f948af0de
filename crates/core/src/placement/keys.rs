//! Order of loads as order of integers, so that heaps and sorts need no comparator.

/// A key that orders finite, non-negative numbers as they are.
///
/// The bit pattern of such an IEEE 754 number grows with its value; adding zero turns
/// −0 into +0.
#[inline]
pub(super) fn ascending(x: f32) -> u32 {
    (x + 0.0).to_bits()
}

/// A key that puts larger finite, non-negative numbers first.
#[inline]
pub(super) fn descending(x: f32) -> u32 {
    !ascending(x)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_order_as_numbers_do() {
        let sorted = [0.0, f32::MIN_POSITIVE, 0.5, 1.0, 1.0 + f32::EPSILON, 3e30];
        for pair in sorted.windows(2) {
            assert!(ascending(pair[0]) < ascending(pair[1]));
            assert!(descending(pair[0]) > descending(pair[1]));
        }
        assert_eq!(ascending(-0.0), ascending(0.0));
    }
}
