//! `sweep FILE`: who wins over a grid of one or two quantities, without a server.

use std::io::Write;
use std::path::PathBuf;

use anyhow::{Context, Result, bail, ensure};
use clap::Args;
use serde_json::{Value, json};

use crate::app::advisor::AdviceError;
use crate::app::references::References;
use crate::app::sweep;
use crate::cli::refused::Refused;
use crate::cli::{advise, sweep_table};
use crate::wire::sweep::{SweepAnswer, SweptParameter, spread as spread_values};
use moe_gps_core::cancel::Cancel;
use moe_gps_core::charts::{decision_map, figure};

/// Sweeps one or two quantities of a question without a server.
#[derive(Debug, Clone, Args)]
pub struct Sweep {
    /// The question as JSON, as `advise` takes it; `-` reads standard input.
    pub file: PathBuf,
    /// A quantity and its values: `NAME=FROM:TO:COUNT`, with `:log` at even ratios, or
    /// `NAME=A,B,C`. NAME is `skewness`, `link_bandwidth_bytes_per_s`,
    /// `inter_node_bandwidth_bytes_per_s`, `tokens_per_step`, `output_tokens`, `devices`,
    /// `predictor_accuracy` or `predictor_overhead_s`. Give it once or twice.
    #[arg(long = "axis", required = true, value_name = "AXIS", value_parser = parse_axis)]
    pub axes: Vec<AxisArgument>,
    /// Prints the answer as JSON.
    #[arg(long)]
    pub json: bool,
    /// Prints one line per cell, with the latency of a layer under every strategy.
    #[arg(long, conflicts_with = "json")]
    pub csv: bool,
    /// Draws the winners into this file; over one quantity also the time of a layer.
    #[arg(long, value_name = "FILE")]
    pub svg: Option<PathBuf>,
}

/// An axis as it stands on the command line.
#[derive(Debug, Clone, PartialEq)]
pub struct AxisArgument {
    /// The quantity's name.
    pub parameter: String,
    /// Its values.
    pub values: Vec<f64>,
}

/// Runs `sweep` and writes the answer to `out`.
pub fn run(command: &Sweep, out: &mut dyn Write) -> Result<()> {
    let axes: Vec<Value> = command.axes.iter().map(AxisArgument::json).collect();
    let request = json!({"question": advise::read(&command.file)?, "axes": axes});
    let swept = match sweep::compute(&sweep::read(&request), &References::default(), Cancel::NEVER)
    {
        Ok(swept) => swept,
        Err(AdviceError::Refused(violations)) => {
            return Err(Refused::new("the sweep", violations).into());
        }
        Err(error) => return Err(error.into()),
    };
    if let Some(path) = &command.svg {
        let winners = decision_map::panel("the strategy recommended", &swept.map);
        let mut key = decision_map::key(&[&swept.map]);
        let panels = if swept.map.axes.len() > 1 {
            vec![vec![winners]]
        } else {
            let (lines, lines_key) = decision_map::lines("time of a layer", &swept.map);
            key.extend(lines_key);
            vec![vec![lines], vec![winners]]
        };
        advise::write_page(path, &figure::svg("Decision map", &panels, &key, &[]))?;
    }
    if command.json {
        serde_json::to_writer_pretty(&mut *out, &SweepAnswer::from(swept))?;
        writeln!(out)?;
    } else if command.csv {
        out.write_all(swept.map.csv().as_bytes())?;
    } else {
        sweep_table::write(out, &swept.map, &swept.warnings)?;
    }
    Ok(())
}

impl AxisArgument {
    /// The axis as a request has it; counts as whole numbers.
    fn json(&self) -> Value {
        let whole = SweptParameter::by_id(&self.parameter).is_some_and(SweptParameter::is_whole);
        let value = |value: &f64| -> Value {
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "checked")]
            if whole && value.fract() == 0.0 && (0.0..1e15).contains(value) {
                (*value as u64).into()
            } else {
                (*value).into()
            }
        };
        let values: Vec<Value> = self.values.iter().map(value).collect();
        json!({"parameter": self.parameter, "values": values})
    }
}

/// `NAME=FROM:TO:COUNT[:log]` or `NAME=A,B,C`.
fn parse_axis(text: &str) -> Result<AxisArgument> {
    let form = "an axis is NAME=FROM:TO:COUNT, NAME=FROM:TO:COUNT:log or NAME=A,B,C";
    let (parameter, values) = text.split_once('=').context(form)?;
    let number = |text: &str| -> Result<f64> {
        let number: f64 = text.trim().parse().with_context(|| format!("{text:?} is no number"))?;
        ensure!(number.is_finite(), "{text:?} is not finite");
        Ok(number)
    };
    let parts: Vec<&str> = values.split(':').collect();
    let mut values = match parts[..] {
        [list] => list.split(',').map(number).collect::<Result<Vec<f64>>>()?,
        [from, to, count] => spread(number(from)?, number(to)?, count, false)?,
        [from, to, count, "log"] => spread(number(from)?, number(to)?, count, true)?,
        _ => bail!(form),
    };
    let is_whole = SweptParameter::by_id(parameter).is_some_and(SweptParameter::is_whole);
    if is_whole && parts.len() > 1 {
        // Between whole ends lie whole values only; equal neighbours are one.
        values = values.into_iter().map(f64::round).collect();
        values.dedup();
    }
    Ok(AxisArgument { parameter: parameter.to_owned(), values })
}

/// `count` values from `from` to `to`, both among them.
fn spread(from: f64, to: f64, count: &str, log: bool) -> Result<Vec<f64>> {
    let count: u32 = count.parse().with_context(|| format!("{count:?} is no number of values"))?;
    ensure!((1..=10_000).contains(&count), "{count} values; there must be from 1 to 10000");
    ensure!(!log || (from > 0.0 && to > 0.0), "even ratios need ends above 0");
    Ok(spread_values(from, to, count, log))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(text: &str) -> Vec<f64> {
        parse_axis(text).unwrap().values
    }

    #[test]
    fn an_axis_is_a_range_or_a_list() {
        assert_eq!(values("skewness=1:3:5"), [1.0, 1.5, 2.0, 2.5, 3.0]);
        assert_eq!(values("devices=2,4,8"), [2.0, 4.0, 8.0]);
        assert_eq!(values("tokens_per_step=1:4:13"), [1.0, 2.0, 3.0, 4.0]);
        assert_eq!(values("output_tokens=16:4096:5:log"), [16.0, 64.0, 256.0, 1024.0, 4096.0]);
        let ratios = values("link_bandwidth_bytes_per_s=1e9:1e12:4:log");
        for (found, exact) in ratios.into_iter().zip([1e9, 1e10, 1e11, 1e12]) {
            assert!((found / exact - 1.0).abs() < 1e-12, "{found}");
        }
        assert_eq!(values("skewness=1.5:3:1"), [1.5]);
    }

    #[test]
    fn what_is_no_axis_is_refused_with_the_form() {
        for text in
            ["skewness", "skewness=", "skewness=1:2", "skewness=0:1:3:log", "skewness=1:2:0"]
        {
            assert!(parse_axis(text).is_err(), "{text}");
        }
        assert!(parse_axis("skewness=1:x:3").unwrap_err().to_string().contains("no number"));
    }
}
