//! Counts of one step as an object by layer: `{"3": [n, …]}` or `{"3": {"17": n}}`. Layers and experts
//! may have names that hold their numbers, as modules have them.

use std::collections::BTreeMap;
use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, Error, MapAccess, SeqAccess, Visitor};

use crate::formats::trace::counts_json::sink::{Sink, Stopped};
use crate::formats::trace::shorten;
use crate::trace::{MAX_CELLS, MAX_EXPERTS, MAX_LAYERS};

/// The counts of a layer.
pub(super) enum Row {
    Dense(Vec<f64>),
    Sparse(BTreeMap<usize, f64>),
}

impl<'de> Deserialize<'de> for Row {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(RowVisitor)
    }
}

struct RowVisitor;

impl<'de> Visitor<'de> for RowVisitor {
    type Value = Row;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the counts of a layer, as an array or by expert")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Row, A::Error> {
        let mut counts = Vec::new();
        while let Some(count) = items.next_element()? {
            if counts.len() >= MAX_EXPERTS as usize {
                return Err(A::Error::custom(format_args!("more than {MAX_EXPERTS} experts")));
            }
            counts.push(count);
        }
        Ok(Row::Dense(counts))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Row, A::Error> {
        let mut counts = BTreeMap::new();
        while let Some((key, count)) = map.next_entry::<String, f64>()? {
            let expert = numbered(&key, &["expert", "experts"]);
            let expert = expert.filter(|expert| *expert < MAX_EXPERTS as usize);
            let Some(expert) = expert else {
                let key = shorten(&key);
                return Err(A::Error::custom(format_args!(
                    "`{key}` is no expert below {MAX_EXPERTS}"
                )));
            };
            if counts.insert(expert, count).is_some() {
                return Err(A::Error::custom(format_args!("expert {expert} occurs twice")));
            }
        }
        Ok(Row::Sparse(counts))
    }
}

/// The layers of the object so far.
#[derive(Default)]
pub(super) struct Layers {
    rows: BTreeMap<usize, Row>,
    n_experts: usize,
}

/// The layer that a key names: `3`, `layer_3`, `model.layers.3.mlp.gate`.
pub(crate) fn layer_named(key: &str) -> Option<usize> {
    numbered(key, &["layer", "layers"])
}

/// The number that a name is, or that follows one of these words in it.
fn numbered(name: &str, words: &[&str]) -> Option<usize> {
    let after = |word: &&str, part: &str| part.strip_prefix(*word).and_then(|n| n.parse().ok());
    let mut before = "";
    name.parse().ok().or_else(|| {
        name.split(['.', '_', '-', ' ', '/']).find_map(|part| {
            let found = if words.contains(&before) { part.parse().ok() } else { None };
            before = part;
            found.or_else(|| words.iter().find_map(|word| after(word, part)))
        })
    })
}

impl Layers {
    /// Whether no layer was added.
    pub(super) fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Adds a layer.
    pub(super) fn add(&mut self, layer: usize, row: Row) -> Result<(), String> {
        let n_experts = match &row {
            Row::Dense(counts) => counts.len(),
            Row::Sparse(counts) => counts.keys().last().map_or(0, |last| last + 1),
        };
        self.n_experts = self.n_experts.max(n_experts);
        let cells = self.n_experts.saturating_mul(self.rows.len() + 1);
        if layer >= MAX_LAYERS || self.n_experts > MAX_EXPERTS as usize || cells > MAX_CELLS {
            return Err(format!(
                "layer {layer} of {n_experts} experts; there may be {MAX_LAYERS} layers, \
                 {MAX_EXPERTS} experts and {MAX_CELLS} counts"
            ));
        }
        match self.rows.insert(layer, row) {
            Some(_) => Err(format!("layer {layer} occurs more than once")),
            None => Ok(()),
        }
    }

    /// Hands them on; layers that the object does not name hold no counts.
    pub(super) fn give(
        self,
        under: &str,
        declared: Option<u32>,
        sink: &mut Sink,
    ) -> Result<(), Stopped> {
        let Some(last) = self.rows.keys().last().copied().filter(|_| sink.begin(under)) else {
            return Ok(());
        };
        let sparse = self.rows.values().any(|row| matches!(row, Row::Sparse(_)));
        let stated =
            declared.filter(|_| sparse).map_or(0, |n| n as usize).min(MAX_EXPERTS as usize);
        let width = self.n_experts.max(stated);
        let mut rows = self.rows;
        sink.enter();
        for layer in 0..=last {
            sink.enter();
            let counts = match rows.remove(&layer) {
                Some(Row::Dense(counts)) => counts,
                Some(Row::Sparse(of)) => {
                    let mut counts = vec![0.0; width];
                    for (expert, count) in of {
                        counts[expert] = count;
                    }
                    counts
                }
                None => vec![0.0; width],
            };
            for count in counts {
                sink.count(2, count)?;
                sink.step_over();
            }
            sink.leave(2)?;
            sink.step_over();
        }
        sink.leave(1)
    }
}
