//! How many devices or nodes the experts of one token lie on, on average.

use crate::model::RoutingGroups;

/// Expected number of distinct blocks that the experts of one token touch.
///
/// ```text
/// blocks · (1 − C(E − E/blocks, k) / C(E, k))
/// ```
///
/// - `experts` E divided evenly over `blocks` (devices or nodes), `top_k` k distinct
///   experts per token, all choices equally likely. With group-limited routing a token
///   first draws `per_token` of the groups, then its experts among theirs.
/// - Source: hypergeometric sampling; fractional E/blocks is meant by continuation.
/// - Valid for blocks of any number up to E; never more than `blocks` or k.
/// - Worked number: 256 experts, 8 per token, 8 devices: 5.29; with 8 groups of which
///   4 are drawn: 3.63.
#[must_use]
pub fn distinct_blocks(
    experts: u32,
    top_k: u32,
    blocks: u32,
    groups: Option<RoutingGroups>,
) -> f64 {
    let blocks = f64::from(blocks);
    let in_block = f64::from(experts) / blocks;
    let missed = match groups {
        Some(RoutingGroups { groups, per_token }) if per_token < groups => {
            missed_in_groups(experts, top_k, in_block, groups, per_token)
        }
        _ => missed(f64::from(experts), in_block, top_k),
    };
    (blocks * (1.0 - missed)).min(f64::from(top_k)).min(blocks)
}

/// C(E − e, k) / C(E, k): no expert of a block of e among k drawn from E.
fn missed(experts: f64, in_block: f64, top_k: u32) -> f64 {
    (0..top_k)
        .map(|drawn| {
            let left = experts - f64::from(drawn);
            if left > 0.0 { ((left - in_block) / left).max(0.0) } else { 0.0 }
        })
        .product()
}

/// The same when a token's experts come from `per_token` of `groups` groups: the mean
/// over how many of the block's groups are drawn.
fn missed_in_groups(experts: u32, top_k: u32, in_block: f64, groups: u32, per_token: u32) -> f64 {
    let group_size = f64::from(experts) / f64::from(groups);
    let reachable = group_size * f64::from(per_token);
    if in_block <= group_size {
        let drawn = f64::from(per_token) / f64::from(groups);
        return 1.0 - drawn * (1.0 - missed(reachable, in_block, top_k));
    }
    let spanned = in_block / group_size;
    let all = choose(f64::from(groups), per_token);
    (0..=per_token)
        .map(|h| {
            let drawn_here =
                choose(spanned, h) * choose(f64::from(groups) - spanned, per_token - h) / all;
            drawn_here * missed(reachable, f64::from(h) * group_size, top_k)
        })
        .sum()
}

/// The binomial coefficient C(n, k), n real.
fn choose(n: f64, k: u32) -> f64 {
    (0..k).map(|i| (n - f64::from(i)).max(0.0) / f64::from(k - i)).product()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn worked_numbers_come_out() {
        let at = |experts, top_k, blocks| distinct_blocks(experts, top_k, blocks, None);
        assert!((at(8, 2, 4) - 4.0 * (1.0 - 15.0 / 28.0)).abs() < 1e-12);
        assert!((at(256, 8, 8) - 5.294_652).abs() < 1e-6, "{}", at(256, 8, 8));
        assert!((at(8, 2, 1) - 1.0).abs() < 1e-12);
        assert!((at(16, 1, 8) - 1.0).abs() < 1e-12);
    }

    #[test]
    fn limited_groups_touch_fewer_blocks_and_never_more_than_are_drawn() {
        let limit = Some(RoutingGroups { groups: 8, per_token: 4 });
        let eight = distinct_blocks(256, 8, 8, limit);
        assert!(eight <= 4.0 && (eight - 3.629_011).abs() < 1e-6, "{eight}");
        let two_nodes = distinct_blocks(256, 8, 2, limit);
        // Four groups a node: all from one node with probability 2/C(8,4) = 1/35.
        let exact = enumerate_two_nodes();
        assert!((two_nodes - exact).abs() < 1e-9, "{two_nodes} {exact}");
        let wide = distinct_blocks(256, 8, 64, limit);
        assert!(wide < distinct_blocks(256, 8, 64, None));
    }

    /// Two nodes of four groups each, by summing over the groups drawn from the first.
    fn enumerate_two_nodes() -> f64 {
        2.0 * (0..=4u32)
            .map(|h| {
                let weight = choose(4.0, h) * choose(4.0, 4 - h) / 70.0;
                weight * (1.0 - missed(128.0, 32.0 * f64::from(h), 8))
            })
            .sum::<f64>()
    }
}
