//! What makes a recording doubtful. Nothing is repaired; everything is said.

use std::collections::BTreeMap;
use std::fmt;

use crate::trace::TraceHeader;
use crate::trace::counts::ExpertCounts;
use crate::trace::impossible::OneBlock;
use crate::trace::stats::{TraceStatistics, mean};

/// Share of a layer's tokens that its k busiest experts must hold to count as all of them.
const TAKES_EVERYTHING: f64 = 0.99;
/// Share of the layers that must agree on those experts. A healthy model never has two:
/// the most lopsided layer of our recordings gives its k busiest experts 92 %.
const MANY_LAYERS: f64 = 0.1;
/// Assignments per expert and layer below which shares are weak evidence: the relative
/// standard error of a share is 1/√n, 10 % at 100.
const FEW_ASSIGNMENTS: f64 = 100.0;
/// Share of tokens routed exactly like their predecessor that real text stays below
/// (2 % is the most seen in our recordings, on one or two small layers' worth of choices).
const REPEATED_SHARE: f64 = 0.05;
/// Longest run of such tokens that real text stays below (25 is the most seen: a ruled line).
const REPEATED_RUN: u64 = 64;

/// Something a reader of the results must know about the recording.
#[derive(Debug, Clone, PartialEq)]
pub enum Warning {
    /// Noticed while the recording was read.
    Note(String),
    /// The same experts take everything in many layers.
    Broken {
        /// Those experts.
        experts: Vec<usize>,
        /// The layers, by their place in the recording.
        layers: Vec<u16>,
        /// Layers of the trace.
        of: usize,
    },
    /// One device's block of experts takes everything in every layer.
    OneBlock(OneBlock),
    /// Layers with the same counts, expert by expert.
    EqualLayers(Vec<u16>),
    /// Many tokens are routed exactly like the token before.
    RepeatedRows {
        /// How many.
        tokens: u64,
        /// In the longest run.
        longest: u64,
        /// Of how many tokens.
        of: u64,
    },
    /// Layers count different numbers of tokens.
    UnevenLayers {
        /// Fewest assignments of a layer.
        least: f64,
        /// Most.
        most: f64,
    },
    /// Too few tokens for firm shares.
    FewTokens {
        /// Mean assignments per expert and layer.
        per_expert: f64,
    },
    /// The number of experts was not stated.
    ExpertsInferred {
        /// 1 + the largest id.
        experts: u32,
    },
}

impl Warning {
    /// Whether the recording cannot be what it claims: answers from it are worthless.
    #[must_use]
    pub fn is_broken(&self) -> bool {
        matches!(self, Self::Broken { .. } | Self::OneBlock(_) | Self::RepeatedRows { .. })
    }

    /// Whether answers from the recording are uncertain.
    #[must_use]
    pub fn is_weak_evidence(&self) -> bool {
        self.is_broken() || matches!(self, Self::FewTokens { .. } | Self::EqualLayers(_))
    }
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Note(text) => f.write_str(text),
            Self::Broken { experts, layers, of } => write!(
                f,
                "broken recording: the same {} expert(s) ({}) take everything in {} of {of} layers ({})",
                experts.len(),
                ranges(experts.iter().copied()),
                layers.len(),
                ranges(layers.iter().map(|layer| usize::from(*layer))),
            ),
            Self::OneBlock(block) => write!(f, "broken recording: {block}"),
            Self::EqualLayers(layers) => write!(
                f,
                "doubtful recording: layers {} have the same counts, expert by expert",
                ranges(layers.iter().map(|layer| usize::from(*layer))),
            ),
            Self::RepeatedRows { tokens, longest, of } => write!(
                f,
                "doubtful recording: {tokens} of {of} tokens are routed exactly like the token before them in every layer (longest run {longest}); warm-up or dummy batches look like this (cut them: --drop-repeats, or drop_repeats=true at the upload)"
            ),
            Self::UnevenLayers { least, most } => write!(
                f,
                "layers count different numbers of assignments, from {least} to {most}; part of the recording is missing"
            ),
            Self::FewTokens { per_expert } => write!(
                f,
                "weak evidence: {per_expert:.1} assignments per expert and layer on average; shares are firm from about {FEW_ASSIGNMENTS}"
            ),
            Self::ExpertsInferred { experts } => write!(
                f,
                "the number of experts was not stated; {experts} is 1 + the largest id seen, and experts that were never chosen above it are missing (state num_experts or model)"
            ),
        }
    }
}

/// Everything doubtful about a recording.
#[must_use]
pub fn examine(header: &TraceHeader, statistics: &TraceStatistics) -> Vec<Warning> {
    let total = &statistics.total;
    let mut warnings: Vec<Warning> = header.notes.iter().cloned().map(Warning::Note).collect();
    warnings.extend(broken(header, total));
    warnings.extend(one_block(total).map(Warning::OneBlock));
    warnings.extend(equal_layers(header, total));
    warnings.extend(repeated_rows(header));
    let sums: Vec<f64> = total.layers().map(|layer| layer.iter().sum()).collect();
    let least = sums.iter().copied().fold(f64::INFINITY, f64::min);
    let most = sums.iter().copied().fold(0.0, f64::max);
    if most > least * 1.01 {
        warnings.push(Warning::UnevenLayers { least, most });
    }
    let per_expert =
        mean(sums.iter().map(|sum| sum / header.n_experts().max(1) as f64)).unwrap_or(0.0);
    if per_expert < FEW_ASSIGNMENTS {
        warnings.push(Warning::FewTokens { per_expert });
    }
    if header.experts_inferred {
        warnings.push(Warning::ExpertsInferred { experts: header.experts });
    }
    warnings
}

/// The same k experts taking (nearly) everything in many layers. Where k is not recorded,
/// the busiest expert tells it: no expert can take more than 1/k of a layer, and in a
/// broken layer each of the k takes just that.
fn broken(header: &TraceHeader, total: &ExpertCounts) -> Option<Warning> {
    let mut layers_of: BTreeMap<Vec<usize>, Vec<u16>> = BTreeMap::new();
    for (counts, layer) in total.layers().zip(&header.layers) {
        let sum: f64 = counts.iter().sum();
        let max = counts.iter().copied().fold(0.0, f64::max);
        if max <= 0.0 {
            continue;
        }
        let top_k = header.top_k.map_or((sum / max).round(), f64::from);
        if top_k >= counts.len() as f64 {
            continue;
        }
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "checked to be below the number of experts"
        )]
        let top_k = top_k as usize;
        let mut order: Vec<usize> = (0..counts.len()).collect();
        order.sort_by(|a, b| counts[*b].total_cmp(&counts[*a]).then(a.cmp(b)));
        order.truncate(top_k);
        let share: f64 = order.iter().map(|expert| counts[*expert]).sum::<f64>() / sum;
        if share >= TAKES_EVERYTHING {
            order.sort_unstable();
            layers_of.entry(order).or_default().push(*layer);
        }
    }
    let least = (header.n_layers() as f64 * MANY_LAYERS).max(2.0);
    let (experts, layers) = layers_of.into_iter().max_by_key(|(_, layers)| layers.len())?;
    (layers.len() as f64 >= least).then(|| Warning::Broken {
        experts,
        layers,
        of: header.n_layers(),
    })
}

/// One device's block of experts taking everything, unless that can be chance.
fn one_block(total: &ExpertCounts) -> Option<OneBlock> {
    let are_shares = total.values().iter().any(|count| count.fract() != 0.0);
    let firm = total.values().iter().sum::<f64>() >= FEW_ASSIGNMENTS * total.n_experts() as f64;
    OneBlock::of(total).filter(|_| are_shares || firm)
}

/// Layers with equal, non-trivial counts.
fn equal_layers(header: &TraceHeader, total: &ExpertCounts) -> Option<Warning> {
    let mut order: Vec<usize> = (0..total.n_layers()).collect();
    let compare = |a: usize, b: usize| {
        total.layer(a).iter().zip(total.layer(b)).map(|(x, y)| x.total_cmp(y)).find(|o| o.is_ne())
    };
    order.sort_by(|a, b| compare(*a, *b).unwrap_or(std::cmp::Ordering::Equal).then(a.cmp(b)));
    let mut equal: Vec<u16> = Vec::new();
    for pair in order.windows(2) {
        // With few tokens or few experts, equal counts can be chance.
        let sum: f64 = total.layer(pair[0]).iter().sum();
        let firm = total.n_experts() >= 4 && sum >= FEW_ASSIGNMENTS * total.n_experts() as f64;
        if firm && compare(pair[0], pair[1]).is_none() {
            equal.extend([header.layers[pair[0]], header.layers[pair[1]]]);
        }
    }
    equal.sort_unstable();
    equal.dedup();
    (!equal.is_empty()).then_some(Warning::EqualLayers(equal))
}

/// Tokens routed exactly like their predecessor, where there are more than real text has.
#[must_use]
pub fn repeated_rows(header: &TraceHeader) -> Option<Warning> {
    let many = header.repeated_rows as f64 > header.tokens as f64 * REPEATED_SHARE
        && header.repeated_rows >= 16;
    (many || header.longest_repeat >= REPEATED_RUN).then_some(Warning::RepeatedRows {
        tokens: header.repeated_rows,
        longest: header.longest_repeat,
        of: header.tokens,
    })
}

/// Ascending numbers as `0-2, 5, 7-9`.
#[must_use]
pub fn ranges(numbers: impl IntoIterator<Item = usize>) -> String {
    let mut spans: Vec<(usize, usize)> = Vec::new();
    for number in numbers {
        match spans.last_mut() {
            Some((_, end)) if *end + 1 == number => *end = number,
            _ => spans.push((number, number)),
        }
    }
    let texts: Vec<String> = spans
        .into_iter()
        .map(|(start, end)| if start == end { start.to_string() } else { format!("{start}-{end}") })
        .collect();
    texts.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trace::TraceKind;

    fn header(n_layers: u16, experts: u32, top_k: Option<u32>) -> TraceHeader {
        TraceHeader {
            kind: TraceKind::Counts,
            digest: [0; 32],
            tokens: 0,
            sequences: 0,
            steps: 2,
            layers: (0..n_layers).collect(),
            experts,
            top_k,
            has_token_ids: false,
            has_positions: false,
            experts_inferred: false,
            repeated_rows: 0,
            longest_repeat: 0,
            notes: Vec::new(),
        }
    }

    fn statistics(rows: &[Vec<f64>]) -> TraceStatistics {
        let values = rows.concat();
        let counts = ExpertCounts::from_values(rows.len(), rows[0].len(), values).unwrap();
        let zeros = ExpertCounts::zeros(rows.len(), rows[0].len());
        TraceStatistics::of_halves(counts, zeros)
    }

    /// Rows that a healthy, rather skewed router gives.
    fn healthy(n: usize) -> Vec<Vec<f64>> {
        (0..n).map(|l| (0..8).map(|e| 1000.0 + 700.0 * (((e + l) % 8) as f64)).collect()).collect()
    }

    #[test]
    fn a_healthy_recording_has_no_warnings() {
        assert_eq!(examine(&header(6, 8, None), &statistics(&healthy(6))), []);
    }

    #[test]
    fn the_same_experts_everywhere_are_a_broken_recording() {
        for top_k in [None, Some(2)] {
            let mut rows = healthy(6);
            for row in &mut rows[2..5] {
                *row = vec![0.0, 9200.0, 3.0, 9201.0, 0.0, 0.0, 0.0, 1.0];
            }
            let found = examine(&header(6, 8, top_k), &statistics(&rows));
            let broken = Warning::Broken { experts: vec![1, 3], layers: vec![2, 3, 4], of: 6 };
            assert!(found.contains(&broken) && broken.is_broken(), "{found:?}");
            assert!(broken.to_string().contains("(1, 3) take everything in 3 of 6 layers (2-4)"));
        }
    }

    #[test]
    fn the_load_of_one_block_of_experts_is_a_broken_recording() {
        let rows: Vec<Vec<f64>> = (0..4)
            .map(|l| vec![0.0, 0.0, 700.0 + f64::from(l), 800.0, 0.0, 0.0, 0.0, 0.0])
            .collect();
        let found = examine(&header(4, 8, None), &statistics(&rows));
        let block = Warning::OneBlock(OneBlock { first: 2, last: 3, of: 8 });
        assert!(found.contains(&block) && block.is_broken(), "{found:?}");
        let shares = vec![vec![0.0, 0.0, 0.4, 0.6]];
        assert!(examine(&header(1, 4, None), &statistics(&shares)).iter().any(Warning::is_broken));
        let chance = vec![vec![0.0, 0.0, 3.0, 2.0]];
        assert!(!examine(&header(1, 4, None), &statistics(&chance)).iter().any(Warning::is_broken));
    }

    #[test]
    fn few_tokens_equal_layers_and_uneven_layers_are_named() {
        let mut rows = healthy(3);
        rows[2] = rows[0].clone();
        let found = examine(&header(3, 8, None), &statistics(&rows));
        assert_eq!(found, [Warning::EqualLayers(vec![0, 2])]);
        let few = examine(&header(1, 4, None), &statistics(&[vec![3.0, 4.0, 5.0, 4.0]]));
        assert_eq!(few, [Warning::FewTokens { per_expert: 4.0 }]);
        let mut rows = healthy(2);
        rows[1][0] += 40_000.0;
        let found = examine(&header(2, 8, None), &statistics(&rows));
        assert!(matches!(found[..], [Warning::UnevenLayers { .. }]), "{found:?}");
    }

    #[test]
    fn repeated_rows_are_named_from_the_rates_real_text_never_reaches() {
        let mut header = header(6, 8, Some(2));
        header.tokens = 10_000;
        header.repeated_rows = 200;
        header.longest_repeat = 25;
        assert_eq!(examine(&header, &statistics(&healthy(6))), []);
        header.repeated_rows = 501;
        assert!(examine(&header, &statistics(&healthy(6)))[0].is_weak_evidence());
        header.repeated_rows = 64;
        header.longest_repeat = 64;
        assert!(matches!(
            examine(&header, &statistics(&healthy(6)))[..],
            [Warning::RepeatedRows { .. }]
        ));
    }

    #[test]
    fn numbers_are_shown_as_ranges() {
        assert_eq!(ranges([0, 1, 2, 5, 7, 8]), "0-2, 5, 7-8");
        assert_eq!(ranges([]), "");
    }
}
