//! `validate FILE`: forecasts against what was measured after them, per strategy.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::cli::validate::{percent, signed, table};
use crate::wire::outcome::MeasuredOutcome;

/// A recommendation of an export, or as it is fetched.
#[derive(Deserialize)]
struct Exported {
    #[serde(default)]
    outcomes: Vec<MeasuredOutcome>,
}

/// Errors of the forecasts of one strategy.
#[derive(Default)]
struct Errors {
    /// Share by which the forecast is above what was measured, one an outcome.
    errors: Vec<f64>,
    /// Outcomes whose answer had no forecast.
    without: usize,
}

/// Reads outcomes out of a list of recommendations, as JSON, JSON Lines or one recommendation, and
/// says how far off the forecasts were.
pub(super) fn run(file: &Path, as_json: bool, out: &mut dyn Write) -> Result<()> {
    let text = std::fs::read_to_string(file)
        .with_context(|| format!("{} cannot be read", file.display()))?;
    let mut by_strategy: BTreeMap<(String, &'static str), Errors> = BTreeMap::new();
    for value in serde_json::Deserializer::from_str(&text).into_iter::<Value>() {
        let value = value.with_context(|| {
            format!("{} is no export of recommendations (JSON or JSON Lines)", file.display())
        })?;
        let items = match value {
            Value::Object(mut page) if page.contains_key("items") => {
                page.remove("items").unwrap_or_default()
            }
            Value::Array(items) => Value::Array(items),
            one => Value::Array(vec![one]),
        };
        let items: Vec<Exported> = serde_json::from_value(items)
            .with_context(|| format!("{} has an outcome that cannot be read", file.display()))?;
        for outcome in items.into_iter().flat_map(|item| item.outcomes) {
            let quantity = if outcome.tpot_s.is_some() { "tpot_s" } else { "step_s" };
            let errors = by_strategy.entry((outcome.strategy.into_owned(), quantity)).or_default();
            match outcome.forecast_error {
                Some(error) => errors.errors.push(error),
                None => errors.without += 1,
            }
        }
    }
    ensure!(
        !by_strategy.is_empty(),
        "{} holds no outcomes; export them with `Accept: application/x-ndjson` from \
         /v1/recommendations",
        file.display()
    );
    let header = [
        "strategy",
        "measured",
        "outcomes",
        "mean error %",
        "mean |error| %",
        "worst %",
        "without",
    ];
    let mut table = table(&header, 2);
    for ((strategy, quantity), Errors { errors, without }) in by_strategy {
        let n = errors.len();
        let mean = |of: fn(f64) -> f64| errors.iter().copied().map(of).sum::<f64>() / n as f64;
        let worst = errors.iter().copied().max_by(|a, b| a.abs().total_cmp(&b.abs()));
        let figures = worst.map(|worst| (mean(|error| error), mean(f64::abs), worst));
        if as_json {
            let line = json!({
                "strategy": strategy, "quantity": quantity, "outcomes": n, "without_forecast": without,
                "mean_error": figures.map(|(mean, _, _)| mean),
                "mean_absolute_error": figures.map(|(_, mean, _)| mean),
                "worst_error": figures.map(|(_, _, worst)| worst),
            });
            writeln!(out, "{line}")?;
            continue;
        }
        let (mean, absolute, worst) = figures.map_or_else(Default::default, |(mean, of, worst)| {
            (signed(mean), percent(of), signed(worst))
        });
        let (n, without) = (n.to_string(), without.to_string());
        table.add_row([strategy, quantity.to_owned(), n, mean, absolute, worst, without]);
    }
    if !as_json {
        writeln!(out, "{table}")?;
        writeln!(out, "an error is the forecast over what was measured, less one, in percent")?;
    }
    Ok(())
}
