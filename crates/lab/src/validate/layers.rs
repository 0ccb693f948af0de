//! Whole layers as the kit of `docs/measuring.md` measures them, held against what was advised.
//!
//! Two forms are read: `layer.STRATEGY.json`, as the kit writes it, and tables whose name ends in
//! `layers.csv` with the columns `case`, `advised` (may be empty), `strategy`, `term`, `predicted_s`
//! (empty for forced balance) and `measured_s`, which may hold many layers.
//!
//! *Regret* is how much longer a layer takes under one choice than under the fastest of those that
//! were measured: measured(choice) / min measured − 1. Forced balance is no choice.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::validate::errors::Errors;

/// Forced balance, as both forms name it.
const BALANCED: &str = "balanced";

/// To do nothing.
const NONE: &str = "none";

/// Seconds of every term, predicted where it was and measured.
type Terms = BTreeMap<String, (Option<f64>, f64)>;

/// One layer under several strategies.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Layer {
    /// Which layer.
    pub name: String,
    /// The strategy that was advised, where that is known.
    pub advised: Option<String>,
    /// The terms under every strategy.
    pub arms: BTreeMap<String, Terms>,
}

/// What one strategy gains over doing nothing in one layer.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct LayerLine {
    /// Which layer.
    pub layer: String,
    /// The strategy that was measured.
    pub strategy: String,
    /// The layer without a strategy, as predicted.
    pub predicted_none_s: f64,
    /// The layer without a strategy, as measured.
    pub measured_none_s: f64,
    /// Time without a strategy over time with it, as predicted.
    pub predicted_gain: f64,
    /// The same, as measured.
    pub measured_gain: f64,
    /// The strategy that was advised, where that is known.
    pub advised: Option<String>,
    /// How much longer the advised layer takes than the fastest that was measured, less one; null
    /// where what was advised was not measured.
    pub regret: Option<f64>,
}

/// A rule to choose a strategy by, and what it costs.
#[derive(Debug, Clone, PartialEq)]
pub struct Rule {
    /// In words.
    pub name: String,
    /// Over how many layers.
    pub layers: u64,
    /// Mean regret.
    pub mean: f64,
    /// Largest regret.
    pub most: f64,
}

impl Layer {
    fn whole(&self, strategy: &str) -> Option<f64> {
        Some(self.arms.get(strategy)?.values().map(|(_, measured)| measured).sum())
    }

    fn predicted(&self, strategy: &str) -> Option<f64> {
        Some(self.arms.get(strategy)?.values().filter_map(|(predicted, _)| *predicted).sum())
    }

    fn choices(&self) -> impl Iterator<Item = &str> {
        self.arms.keys().map(String::as_str).filter(|strategy| *strategy != BALANCED)
    }

    /// How much longer the layer takes under a strategy than under the fastest.
    fn regret(&self, strategy: &str) -> Option<f64> {
        let fastest = self.choices().filter_map(|one| self.whole(one)).reduce(f64::min)?;
        Some(self.whole(strategy)? / fastest - 1.0)
    }

    /// What every strategy but doing nothing gains.
    #[must_use]
    pub fn lines(&self) -> Vec<LayerLine> {
        let (Some(none), Some(told)) = (self.whole(NONE), self.predicted(NONE)) else {
            return Vec::new();
        };
        let line = |strategy: &str| {
            Some(LayerLine {
                layer: self.name.clone(),
                strategy: strategy.to_owned(),
                predicted_none_s: told,
                measured_none_s: none,
                predicted_gain: told / self.predicted(strategy)?,
                measured_gain: none / self.whole(strategy)?,
                advised: self.advised.clone(),
                regret: self.advised.as_deref().and_then(|advised| self.regret(advised)),
            })
        };
        self.choices().filter(|strategy| *strategy != NONE).filter_map(line).collect()
    }
}

/// Errors of every term without a strategy, over all layers that have it.
#[must_use]
pub fn term_errors(layers: &[Layer]) -> Vec<(String, Errors)> {
    let mut errors: BTreeMap<&str, Vec<f64>> = BTreeMap::new();
    for layer in layers {
        for (term, (predicted, measured)) in layer.arms.get(NONE).into_iter().flatten() {
            if let Some(predicted) = predicted {
                errors.entry(term).or_default().push(predicted / measured - 1.0);
            }
        }
        if let (Some(predicted), Some(measured)) = (layer.predicted(NONE), layer.whole(NONE)) {
            errors.entry("layer").or_default().push(predicted / measured - 1.0);
        }
    }
    let summed = |(term, errors): (&str, Vec<f64>)| Some((term.to_owned(), Errors::of(&errors)?));
    errors.into_iter().filter_map(summed).collect()
}

/// What following the advice costs, and what always doing the same does, over the layers in which all
/// of that was measured.
#[must_use]
pub fn rules(layers: &[Layer]) -> Vec<Rule> {
    let judged: Vec<(&Layer, f64)> = layers
        .iter()
        .filter_map(|layer| Some((layer, layer.regret(layer.advised.as_deref()?)?)))
        .collect();
    let strategies: std::collections::BTreeSet<&str> =
        judged.iter().flat_map(|(layer, _)| layer.choices()).collect();
    let rule = |name: String, regrets: Vec<f64>| {
        let most = regrets.iter().copied().reduce(f64::max)?;
        let mean = regrets.iter().sum::<f64>() / regrets.len() as f64;
        Some(Rule { name, layers: regrets.len() as u64, mean, most })
    };
    let advice = rule("the advice".to_owned(), judged.iter().map(|(_, regret)| *regret).collect());
    let always = strategies.into_iter().filter_map(|strategy| {
        let regrets = judged.iter().filter_map(|(layer, _)| layer.regret(strategy)).collect();
        rule(format!("always {strategy}"), regrets)
    });
    advice.into_iter().chain(always).collect()
}

/// Whether a file of this name holds whole layers.
#[must_use]
pub fn is_file(name: &str) -> bool {
    let of_the_kit = name.starts_with("layer.")
        && std::path::Path::new(name).extension() == Some("json".as_ref());
    of_the_kit || is_table(name)
}

fn is_table(name: &str) -> bool {
    name.strip_suffix(".gz").unwrap_or(name).ends_with("layers.csv")
}

/// Why a file of layers cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum LayerError {
    /// Not what the kit writes.
    #[error("it is not what `moe_gps_measure layer` writes: {0}")]
    Json(#[from] serde_json::Error),
    /// Not the table.
    #[error(
        "it is no table of layers, which has the columns case, advised, strategy, term, predicted_s \
         and measured_s: {0}"
    )]
    Csv(#[from] csv::Error),
    /// A time that is none.
    #[error("{what} of {layer} takes {seconds} s under {strategy}: a time is above 0")]
    Time {
        /// The term.
        what: String,
        /// The layer.
        layer: String,
        /// The strategy.
        strategy: String,
        /// The time.
        seconds: f64,
    },
}

/// What the kit writes.
#[derive(Deserialize)]
struct OfTheKit {
    advised: Option<String>,
    measured_strategy: String,
    measured: BTreeMap<String, BTreeMap<String, f64>>,
    predicted: BTreeMap<String, BTreeMap<String, f64>>,
}

/// A row of a table of layers.
#[derive(Deserialize)]
struct Row {
    case: String,
    advised: Option<String>,
    strategy: String,
    term: String,
    predicted_s: Option<f64>,
    measured_s: f64,
}

/// Reads the layers of a file.
pub fn read(name: &str, bytes: &[u8]) -> Result<Vec<Layer>, LayerError> {
    let layers = if is_table(name) { of_table(bytes)? } else { vec![of_the_kit(name, bytes)?] };
    for layer in &layers {
        for (strategy, terms) in &layer.arms {
            let bad = |seconds: &f64| !(seconds.is_finite() && *seconds > 0.0);
            if let Some((what, (_, seconds))) = terms.iter().find(|(_, (_, time))| bad(time)) {
                return Err(LayerError::Time {
                    what: what.clone(),
                    layer: layer.name.clone(),
                    strategy: strategy.clone(),
                    seconds: *seconds,
                });
            }
        }
    }
    Ok(layers)
}

fn of_the_kit(name: &str, bytes: &[u8]) -> Result<Layer, LayerError> {
    let found: OfTheKit = serde_json::from_slice(bytes)?;
    let mut arms = BTreeMap::new();
    for (arm, terms) in found.measured {
        let predicted = found.predicted.get(&arm);
        let told = |term: &str| predicted.and_then(|terms| terms.get(term)).copied();
        let terms = terms.into_iter().map(|(term, measured)| {
            let told = told(&term);
            (term, (told, measured))
        });
        let strategy = if arm == "advised" { found.measured_strategy.clone() } else { arm };
        arms.insert(strategy, terms.collect());
    }
    let name = name.trim_end_matches(".json").to_owned();
    Ok(Layer { name, advised: found.advised, arms })
}

fn of_table(bytes: &[u8]) -> Result<Vec<Layer>, LayerError> {
    let mut layers: Vec<Layer> = Vec::new();
    let mut reader = csv::ReaderBuilder::new().comment(Some(b'#')).from_reader(bytes);
    for row in reader.deserialize() {
        let Row { case, advised, strategy, term, predicted_s, measured_s } = row?;
        let at = layers.iter().position(|layer| layer.name == case).unwrap_or_else(|| {
            layers.push(Layer { name: case, advised, ..Layer::default() });
            layers.len() - 1
        });
        layers[at].arms.entry(strategy).or_default().insert(term, (predicted_s, measured_s));
    }
    Ok(layers)
}

#[cfg(test)]
mod tests {
    use super::*;

    const KIT: &str = r#"{"advised": "none", "verdict": "do_nothing", "measured_strategy": "replace_only",
        "predicted": {"none": {"attention_s": 1e-4, "expert_ffn_s": 3e-4, "combine_s": 0.0},
                      "advised": {"attention_s": 1e-4, "expert_ffn_s": 2e-4}},
        "measured": {"none": {"attention_s": 1e-4, "expert_ffn_s": 4e-4},
                     "advised": {"attention_s": 1e-4, "expert_ffn_s": 3e-4},
                     "balanced": {"attention_s": 1e-4, "expert_ffn_s": 2e-4}}}"#;

    #[test]
    fn what_the_kit_writes_gives_gains_and_regret() {
        let layers = read("layer.replace_only.json", KIT.as_bytes()).unwrap();
        let lines = layers[0].lines();
        assert_eq!(lines.len(), 1, "forced balance is no choice");
        let line = &lines[0];
        assert_eq!((&*line.layer, &*line.strategy), ("layer.replace_only", "replace_only"));
        approx::assert_relative_eq!(line.predicted_gain, 4.0 / 3.0);
        approx::assert_relative_eq!(line.measured_gain, 1.25);
        approx::assert_relative_eq!(line.regret.unwrap(), 0.25);
        let terms = term_errors(&layers);
        assert_eq!(
            terms.iter().map(|(term, _)| &**term).collect::<Vec<_>>(),
            ["attention_s", "expert_ffn_s", "layer"]
        );
        approx::assert_relative_eq!(terms[1].1.signed_mean, -0.25);
        let rules = rules(&layers);
        let names: Vec<&str> = rules.iter().map(|rule| &*rule.name).collect();
        assert_eq!(names, ["the advice", "always none", "always replace_only"]);
        approx::assert_relative_eq!(rules[1].most, 0.25);
        approx::assert_relative_eq!(rules[2].most, 0.0);
    }

    #[test]
    fn a_table_holds_many_layers_and_what_is_no_time_is_refused() {
        let text = "case,advised,strategy,term,predicted_s,measured_s\n\
            a,none,none,attention_s,1e-4,1e-4\na,none,replace_only,attention_s,1e-4,2e-4\n\
            b,,none,attention_s,1e-4,1e-4\nb,,balanced,attention_s,,1e-4\n";
        let layers = read("my.layers.csv", text.as_bytes()).unwrap();
        assert_eq!(layers.len(), 2);
        assert_eq!(
            (layers[0].advised.as_deref(), layers[1].advised.as_deref()),
            (Some("none"), None)
        );
        assert_eq!(layers[0].lines()[0].regret, Some(0.0));
        assert!(layers[1].lines().is_empty());
        assert_eq!(layers[1].arms["balanced"]["attention_s"], (None, 1e-4));
        let broken = text.replace("2e-4", "0");
        let refused = read("my.layers.csv", broken.as_bytes()).unwrap_err().to_string();
        assert_eq!(refused, "attention_s of a takes 0 s under replace_only: a time is above 0");
        assert!(read("layer.x.json", b"{}").unwrap_err().to_string().contains("measured_strategy"));
        assert!(
            is_file("layer.none.json") && is_file("h200_layers.csv.gz") && !is_file("layer.csv")
        );
    }
}
