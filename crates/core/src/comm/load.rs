//! What an exchange of tokens asks of the busiest device.

use crate::comm::expected_destinations::distinct_blocks;
use crate::model::Experts;

/// What the busiest device receives in one layer of one step, from other devices.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct ExchangeLoad {
    /// Tokens with at least one expert there.
    pub tokens: f64,
    /// Pairs of a token and an expert there.
    pub pairs: f64,
    /// Tokens with at least one expert on the busiest node, from other nodes.
    pub node_tokens: f64,
}

impl ExchangeLoad {
    /// What every device receives when all choices of experts are equally likely.
    ///
    /// ```text
    /// tokens      = T/N · distinct devices · (N − 1)/N
    /// pairs       = T·k/N · (N − 1)/N
    /// node_tokens = T/m · distinct nodes · (m − 1)/m
    /// ```
    ///
    /// - T `tokens` of a step on N `devices` of m `nodes`, k experts per token.
    /// - Source: [`distinct_blocks`]; a share 1/N of what goes anywhere stays at home.
    /// - Worked number: 8 experts, 2 per token, 512 tokens on 4 devices: 1.857 distinct
    ///   devices, 178.3 tokens and 192 pairs.
    #[must_use]
    pub fn balanced(experts: &Experts, devices: u32, nodes: u32, tokens: f64) -> Self {
        let distinct =
            |blocks| distinct_blocks(experts.routed, experts.top_k, blocks, experts.groups);
        let from_others = |blocks: u32| {
            let blocks = f64::from(blocks);
            (blocks - 1.0) / (blocks * blocks)
        };
        Self {
            tokens: tokens * distinct(devices) * from_others(devices),
            pairs: tokens * f64::from(experts.top_k) * from_others(devices),
            node_tokens: tokens * distinct(nodes) * from_others(nodes),
        }
    }

    /// All of it times `factor`.
    pub(crate) fn times(self, factor: f64) -> Self {
        Self {
            tokens: self.tokens * factor,
            pairs: self.pairs * factor,
            node_tokens: self.node_tokens * factor,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn worked_numbers_come_out_and_one_node_has_no_others() {
        let experts = Experts {
            routed: 8,
            top_k: 2,
            zero_cost: 0,
            chosen: 2,
            latent: None,
            intermediate: 1,
            gated: true,
            shared_intermediate: 0,
            groups: None,
        };
        let load = ExchangeLoad::balanced(&experts, 4, 1, 512.0);
        assert!((load.tokens - 512.0 / 4.0 * (13.0 / 7.0) * 0.75).abs() < 1e-9, "{load:?}");
        assert!((load.pairs - 192.0).abs() < 1e-9);
        assert!(load.node_tokens.abs() < 1e-12);
    }
}
