//! Step times of every strategy over a grid of batches, as a table for serving simulators.

use rayon::iter::{IntoParallelRefIterator, ParallelIterator};
use serde_json::{Value, json};

use crate::app::advise;
use crate::app::advisor::{AdviceError, Progress};
use crate::app::context::App;
use crate::app::error::AppError;
use crate::app::question;
use crate::app::recommendations::{fetch, read_back, refusal};
use crate::app::references::{self, References};
use crate::wire::answer::ResultBody;
use crate::wire::question::TOKENS;
use crate::wire::violation::Violation;
use moe_gps_core::cancel::Cancel;

/// The axes of a grid.
#[derive(Debug, Clone, Default)]
pub struct Grid {
    /// New tokens of a step; in decode as many as sequences.
    pub tokens: Vec<u64>,
    /// Sequences of a step.
    pub sequences: Vec<u64>,
    /// Tokens in the cache of a sequence, in decode.
    pub kv: Vec<u64>,
}

/// Most batches of one grid; each is priced like a question of its own.
const MOST: usize = 256;

/// A batch: its phase, and its place in the grid.
#[derive(Debug, Clone, Copy)]
struct Batch {
    decode: bool,
    tokens: u64,
    sequences: u64,
    kv: u64,
}

impl Grid {
    /// Reads lists of numbers with commas between them.
    pub fn read(tokens: &str, sequences: &str, kv: &str) -> Result<Self, Vec<Violation>> {
        let mut violations = Vec::new();
        let mut list = |name: &str, text: &str| {
            let words = text.split(',').map(str::trim).filter(|word| !word.is_empty());
            let numbers: Option<Vec<u64>> =
                words.map(|word| word.parse().ok().filter(|n| TOKENS.contains(n))).collect();
            numbers.unwrap_or_else(|| {
                let (least, most) = TOKENS.into_inner();
                let detail = format!(
                    "{name} is {text}; it must be numbers from {least} to {most} with commas \
                     between them"
                );
                violations.push(Violation::new(format!("/{name}"), "range", detail));
                Vec::new()
            })
        };
        let grid = Self {
            tokens: list("tokens", tokens),
            sequences: list("sequences", sequences),
            kv: list("kv", kv),
        };
        if violations.is_empty() && grid.sequences.is_empty() {
            let detail = "sequences is missing; name one or several numbers";
            violations.push(Violation::new("/sequences", "required", detail));
        }
        if violations.is_empty() && grid.tokens.is_empty() && grid.kv.is_empty() {
            let detail =
                "neither tokens (prefill) nor kv (decode) is given; name numbers of either";
            violations.push(Violation::new("", "required", detail));
        }
        let n_batches = grid.batches().len();
        if MOST < n_batches {
            let detail = format!("the grid has {n_batches} batches; at most {MOST} may be");
            violations.push(Violation::new("", "items", detail));
        }
        if violations.is_empty() { Ok(grid) } else { Err(violations) }
    }

    /// Prefill with whole prompts of one length, then decode.
    fn batches(&self) -> Vec<Batch> {
        let mut batches = Vec::new();
        for &sequences in &self.sequences {
            let whole = self.tokens.iter().filter(|tokens| tokens.is_multiple_of(sequences));
            batches.extend(whole.map(|&tokens| Batch { decode: false, tokens, sequences, kv: 0 }));
            let decode = |&kv: &u64| Batch { decode: true, tokens: sequences, sequences, kv };
            batches.extend(self.kv.iter().map(decode));
        }
        batches
    }
}

/// The table of a finished or unfinished recommendation's question, CSV.
pub async fn step_times(app: &App, id: &str, grid: Grid) -> Result<String, AppError> {
    let job = fetch(app, id).await?;
    let request = read_back(&job.request)?;
    let asked = question::read(request.clone()).asked;
    let named = references::look_up(app, &asked).await?;
    let _turn = app.sweeps.acquire().await;
    let cancel = Cancel::default();
    let _when_dropped = cancel.on_drop();
    let compute = move || table(&request, &named.open()?, &grid, &Asked(cancel));
    let made = tokio::task::spawn_blocking(compute).await;
    made.map_err(|error| AppError::Internal(format!("step times panicked: {error}")))?
        .map_err(refusal)
}

/// Who asks, as far as the computation may be ended.
struct Asked(Cancel);

impl Progress for Asked {
    fn report(&self, _done: f64, _phase: &'static str) {}

    fn cancel(&self) -> &Cancel {
        &self.0
    }
}

const HEAD: &str = "phase,tokens,sequences,kv_length,strategy,predictor,step_s\n";

fn table(
    request: &Value,
    references: &References,
    grid: &Grid,
    asked: &Asked,
) -> Result<String, AdviceError> {
    let rows: Result<Vec<String>, AdviceError> =
        grid.batches().par_iter().map(|batch| rows(request, references, *batch, asked)).collect();
    Ok(HEAD.to_owned() + &rows?.concat())
}

/// The rows of one batch: the question with this workload, priced without what a table has no
/// use for.
fn rows(
    request: &Value,
    references: &References,
    batch: Batch,
    asked: &Asked,
) -> Result<String, AdviceError> {
    let mut request = request.clone();
    let before = request["workload"].take();
    let mut workload = if batch.decode {
        json!({"phase": "decode", "batch_size": batch.sequences, "kv_length": batch.kv})
    } else {
        let length = batch.tokens / batch.sequences;
        json!({"phase": "prefill", "batch_size": batch.sequences, "sequence_length": length})
    };
    for name in ["dtype", "dtypes", "quantization"] {
        if let Some(kept) = before.get(name) {
            workload[name] = kept.clone();
        }
    }
    request["workload"] = workload;
    request["flip_points"] = false.into();
    let checked = advise::check(question::read(request), references)?;
    let advice = (checked.work)(asked)?;
    let result: ResultBody = serde_json::from_str(advice.result.get())?;
    let phase = if batch.decode { "decode" } else { "prefill" };
    let Batch { tokens, sequences, kv, .. } = batch;
    let rows = result.strategies.iter().filter_map(|entry| {
        let step = entry.model_latency_s?;
        let predictor = entry.predictor.as_ref().map_or("", |predictor| &predictor.name);
        // A predictor's name is the only text that a user writes.
        let predictor = predictor.replace(['"', ',', '\n', '\r'], "_");
        let strategy = &entry.strategy;
        Some(format!("{phase},{tokens},{sequences},{kv},{strategy},{predictor},{step}\n"))
    });
    Ok(rows.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grids_are_read_and_bounded() {
        let grid = Grid::read("64, 100", "1,3,8", "512").unwrap();
        let batches = grid.batches();
        let told: Vec<_> =
            batches.iter().map(|b| (b.decode, b.tokens, b.sequences, b.kv)).collect();
        assert_eq!(
            told,
            [
                (false, 64, 1, 0),
                (false, 100, 1, 0),
                (true, 1, 1, 512),
                (true, 3, 3, 512),
                (false, 64, 8, 0),
                (true, 8, 8, 512),
            ]
        );
        let said = |tokens: &str, sequences: &str, kv: &str| {
            let violations = Grid::read(tokens, sequences, kv).unwrap_err();
            violations.into_iter().map(|one| one.pointer).collect::<Vec<_>>()
        };
        assert_eq!(said("x", "0", ""), ["/tokens", "/sequences"]);
        assert_eq!(said("64", "", ""), ["/sequences"]);
        assert_eq!(said("", "1", ""), [""]);
        let many: Vec<String> = (1..=300).map(|n| n.to_string()).collect();
        assert_eq!(said("", &many.join(","), "1"), [""]);
    }
}
