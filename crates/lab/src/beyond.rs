//! Does the paper's advice hold up: what it costs at the cells of the [guidelines](crate::guidelines),
//! and what every option of engines is worth there.

use std::fmt::Write as _;

use serde_json::{Value, json};

use moe_gps_core::advice::uncertainty::Gain;
use moe_gps_core::advice::{Advised, Unrecorded, advise};
use moe_gps_core::cancel::Cancel;
use moe_gps_core::options::{LIST, STUDIED};
use moe_gps_core::pricing::error::PricingError;

use crate::guidelines::{DEVICES, MODELS, SIZES, question};
use crate::reproduce::{Document, Read};

/// What the paper's formulas price: single steps.
const STEPS: [&str; 2] = ["prefill", "decode"];

/// The page, whose questions `read` reads.
pub fn document<E: From<PricingError>>(read: Read<E>) -> Result<Document, E> {
    let answered = |asked: &Value| -> Result<Advised, E> {
        let (mut question, known) = read(asked)?;
        question.options.extend(STUDIED);
        Ok(advise(&question, &known, Vec::new(), None::<&mut Unrecorded>, Cancel::NEVER)?)
    };
    let mut table = head();
    let (mut regrets, mut agree) = (Vec::new(), 0);
    for model in &MODELS {
        for device in DEVICES {
            for size in SIZES {
                for step in STEPS {
                    let mut asked = question(model, device, size, step);
                    // The predictor of the reproduction.
                    asked["predictors"] =
                        json!([{"name": "ffn", "accuracy": 0.85, "overhead_s": 153e-6}]);
                    let today = answered(&asked)?;
                    asked["assumptions"] = json!({"preset": "paper"});
                    let paper = answered(&asked)?;
                    let at = format!("`{}`, {size} × {}, {step}", model.id, device.0);
                    let regret = regret(&today, &paper);
                    agree += usize::from(regret.is_none());
                    regrets.extend(regret);
                    row(&mut table, &at, &today, &paper, regret);
                }
            }
        }
    }
    Ok(Document { path: "beyond-the-paper.md".to_owned(), text: page(&table, &regrets, agree) })
}

/// How much faster the calibrated choice is than what the paper's formulas advise; `None` where that
/// is the same strategy.
fn regret(today: &Advised, paper: &Advised) -> Option<Gain> {
    let advised = paper.chosen()?.strategy;
    let chosen = today.choice.as_ref()?.chosen;
    if today.entries[chosen].strategy == advised {
        return None;
    }
    let by_paper = today.entries.iter().position(|entry| entry.strategy == advised)?;
    today.uncertainty.gain(&today.entries, chosen, by_paper)
}

fn written(gain: Gain) -> String {
    format!("{:.3}× ({:.3} to {:.3})", gain.mid, gain.low, gain.high)
}

fn head() -> String {
    let names: Vec<String> = LIST
        .iter()
        .chain(STUDIED)
        .map(|option| {
            let mode = option.mode.map_or_else(String::new, |mode| format!(" ({mode})"));
            format!("{}: {}{mode}", option.id, option.value)
        })
        .collect();
    format!(
        "| cell | the paper advises | today | today's over the paper's | {} |\n| --- |{}\n",
        names.join(" | "),
        " --- |".repeat(3 + names.len())
    )
}

fn row(table: &mut String, at: &str, today: &Advised, paper: &Advised, regret: Option<Gain>) {
    let strategy = |advised: &Advised| {
        advised
            .chosen()
            .map_or_else(|| "nothing fits".to_owned(), |one| format!("`{}`", one.strategy.id()))
    };
    let options = today.options.iter().map(|option| match &option.price {
        Ok(price) => written(price.gain),
        Err(_) => "–".to_owned(),
    });
    let mut cells = vec![
        at.to_owned(),
        strategy(paper),
        strategy(today),
        regret.map_or_else(|| "the same".to_owned(), written),
    ];
    cells.extend(options);
    let _ = writeln!(table, "| {} |", cells.join(" | "));
}

fn page(table: &str, regrets: &[Gain], agree: usize) -> String {
    let n = regrets.len();
    let mean = (regrets.iter().map(|gain| gain.mid.ln()).sum::<f64>() / n.max(1) as f64).exp();
    let worst = regrets.iter().map(|gain| gain.mid).fold(1.0, f64::max);
    let sure = regrets.iter().filter(|gain| gain.is_sure()).count();
    format!(
        "# Does the paper's advice hold up?\n\n\
         Written by `moe-gps guidelines --out docs`; a test compares this page with what is computed. The \
         cells are those of [the guidelines](guidelines.md) that are single steps, with the predictor of \
         [the reproduction](reproduction.md) (accuracy 0.85, 153 µs a layer). *The paper advises* what its \
         formulas choose (preset `paper`), *today* what is chosen by the laws fitted to measured kernels \
         among the strategies that engines run; the ratio is the layer time of the paper's choice over that \
         of today's, both by those laws.\n\n\
         In {agree} of {} cells both choose the same strategy. In the other {n} the paper's choice takes \
         {mean:.2} times as long in the geometric mean and {worst:.2} times at worst; in {sure} of them \
         that is beyond every doubt that is priced. Most of it is the predictor's time: \
         `token_to_expert` pays where a scatter is skipped, which no engine does, and where the \
         experts' time grows with their skewness, which is averaged over the many experts of a GPU.\n\n\
         Options are priced under today's choice, each on its own: layer time off over on, so above 1 an \
         option gains. It changes the advice where its whole interval is above 1; where the least is not, \
         it is worth a trial at most. `replica_split: lp` costs its solver's time in every layer and pays \
         in long steps with copies alone. `replica_routing: min_active` (METRO, arXiv 2512.09277) reads \
         every active expert of a decode step from one replica; no released engine has it.\n\n{table}",
        n + agree
    )
}
