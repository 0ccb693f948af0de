//! Does the paper's advice hold up: what it costs on recorded routing and at the cells of the
//! [guidelines](crate::guidelines), what every option of engines is worth there, and what was
//! proposed since.

use std::fmt::Write as _;

use serde_json::{Value, json};

use moe_gps_core::advice::uncertainty::Gain;
use moe_gps_core::advice::{Advised, Unrecorded, advise};
use moe_gps_core::cancel::Cancel;
use moe_gps_core::options::{LIST, STUDIED, ServingOption};
use moe_gps_core::pricing::error::PricingError;

use crate::guidelines::{DEVICES, MODELS, SIZES, question_with};
use crate::proposed;
use crate::reproduce::{Document, Read};

/// What the paper's formulas price: single steps.
pub(crate) const STEPS: [&str; 2] = ["prefill", "decode"];

/// A recording, one part or data set of which plans and another scores.
#[derive(Debug, Clone, PartialEq)]
pub struct Recorded {
    /// What plans and what scores, for people.
    pub name: String,
    /// The model whose routing it is, or whose shape it has, by catalog id.
    pub model: String,
    /// Devices that its experts are spread over.
    pub devices: u32,
    /// `routing` of a question that names it.
    pub routing: Value,
}

/// Recordings that the page is made of.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Recordings {
    /// Those that come with the program.
    pub bundled: Vec<Recorded>,
    /// Others, which stay where they are; none where they are not there.
    pub others: Vec<Recorded>,
}

/// The page, whose questions `read` reads.
pub fn document<E: From<PricingError>>(
    recordings: &Recordings,
    read: Read<E>,
) -> Result<Document, E> {
    let mut page = INTRODUCTION.to_owned();
    let mut recorded = Cells::default();
    for one in recordings.bundled.iter().chain(&recordings.others) {
        for step in STEPS {
            let at = format!("{}, {step}", one.name);
            recorded.add(&at, recorded_question(one, step), read)?;
        }
    }
    page.push_str("\n## Over recordings\n\n");
    page.push_str(OVER_RECORDINGS);
    if recordings.others.is_empty() {
        page.push_str(ONLY_BUNDLED);
    }
    recorded.write(&mut page);
    let mut guided = Cells::default();
    for model in &MODELS {
        for device in DEVICES {
            for size in SIZES {
                for step in STEPS {
                    let at = format!("`{}`, {size} × {}, {step}", model.id, device.0);
                    let asked = question_with(model.id, device, size, step, &model.routing());
                    guided.add(&at, asked, read)?;
                }
            }
        }
    }
    page.push_str("\n## At the cells of the guidelines\n\n");
    page.push_str(OVER_CELLS);
    guided.write(&mut page);
    proposed::sections(&mut page, recordings, read)?;
    Ok(Document { path: "beyond-the-paper.md".to_owned(), text: page })
}

/// The question of a recording: the guidelines' own on one node.
pub(crate) fn recorded_question(one: &Recorded, step: &str) -> Value {
    question_with(&one.model, DEVICES[0], one.devices, step, &one.routing)
}

/// The answer to a question with the options that are only studied.
pub(crate) fn answered<E: From<PricingError>>(asked: &Value, read: Read<E>) -> Result<Advised, E> {
    let (mut question, known) = read(asked)?;
    question.options.extend(STUDIED);
    Ok(advise(&question, &known, Vec::new(), None::<&mut Unrecorded>, Cancel::NEVER)?)
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

pub(crate) fn written(gain: Gain) -> String {
    format!("{:.3}× ({:.3} to {:.3})", gain.mid, gain.low, gain.high)
}

/// The options that are priced, those of engines first.
fn options() -> impl Iterator<Item = &'static ServingOption> {
    LIST.iter().chain(STUDIED).copied()
}

fn option_name(option: &ServingOption) -> String {
    let mode = option.mode.map_or_else(String::new, |mode| format!(" ({mode})"));
    format!("{}: {}{mode}", option.id, option.value)
}

/// Questions asked of the paper and of today's laws.
#[derive(Default)]
struct Cells {
    /// A row of the table each.
    rows: String,
    /// Where they choose otherwise, what the paper's choice costs.
    regrets: Vec<Gain>,
    /// How often they choose the same.
    agree: usize,
    /// Of every option the gain where it is priced, and where that is.
    gains: Vec<Vec<(String, Gain)>>,
}

impl Cells {
    fn add<E: From<PricingError>>(
        &mut self,
        at: &str,
        mut asked: Value,
        read: Read<E>,
    ) -> Result<(), E> {
        // The predictor of the reproduction.
        asked["predictors"] = json!([{"name": "ffn", "accuracy": 0.85, "overhead_s": 153e-6}]);
        let today = answered(&asked, read)?;
        asked["assumptions"] = json!({"preset": "paper"});
        let paper = answered(&asked, read)?;
        let regret = regret(&today, &paper);
        self.agree += usize::from(regret.is_none());
        self.regrets.extend(regret);
        let strategy = |advised: &Advised| {
            let of = advised.chosen();
            of.map_or_else(|| "nothing fits".to_owned(), |one| format!("`{}`", one.strategy.id()))
        };
        let mut cells = vec![
            at.to_owned(),
            strategy(&paper),
            strategy(&today),
            regret.map_or_else(|| "the same".to_owned(), written),
        ];
        self.gains.resize_with(options().count(), Vec::new);
        for (option, gains) in today.options.iter().zip(&mut self.gains) {
            let gain = option.price.as_ref().ok().map(|price| price.gain);
            cells.push(gain.map_or_else(|| "–".to_owned(), written));
            gains.extend(gain.map(|gain| (at.to_owned(), gain)));
        }
        let _ = writeln!(self.rows, "| {} |", cells.join(" | "));
        Ok(())
    }

    fn write(&self, page: &mut String) {
        let n = self.regrets.len();
        let sum: f64 = self.regrets.iter().map(|gain| gain.mid.ln()).sum();
        let worst = self.regrets.iter().map(|gain| gain.mid).fold(1.0, f64::max);
        let sure = self.regrets.iter().filter(|gain| gain.is_sure()).count();
        let _ = write!(
            page,
            "\nIn {} of {} cells both choose the same strategy. In the other {n} the paper's choice takes \
             {:.2} times as long in the geometric mean and {worst:.2} times at worst; in {sure} of them that \
             is beyond every doubt that is priced; below 1 the paper's choice is ahead, but not surely ahead \
             of `none`. Over all cells its regret is {:.1} % in the geometric mean.\n\n\
             | option | cells | gains surely | loses surely | most, and where | least, and where |\n\
             | --- | --: | --: | --: | --- | --- |\n",
            self.agree,
            n + self.agree,
            (sum / n.max(1) as f64).exp(),
            ((sum / (n + self.agree).max(1) as f64).exp() - 1.0) * 100.0
        );
        for (option, gains) in options().zip(&self.gains) {
            let by = |a: &&(String, Gain), b: &&(String, Gain)| a.1.mid.total_cmp(&b.1.mid);
            let told = |found: Option<&(String, Gain)>| {
                found.map_or_else(
                    || "–".to_owned(),
                    |(at, gain)| format!("{}: {at}", written(*gain)),
                )
            };
            let _ = writeln!(
                page,
                "| {} | {} | {} | {} | {} | {} |",
                option_name(option),
                gains.len(),
                gains.iter().filter(|(_, gain)| gain.low > 1.0).count(),
                gains.iter().filter(|(_, gain)| gain.high < 1.0).count(),
                told(gains.iter().max_by(by)),
                told(gains.iter().min_by(by))
            );
        }
        page.push('\n');
        for (option, gains) in options().zip(&self.gains) {
            let sure = gains.iter().filter(|(_, gain)| gain.low > 1.0);
            let sure: Vec<String> =
                sure.map(|(at, gain)| format!("{at} {}", written(*gain))).collect();
            if !sure.is_empty() {
                let _ = writeln!(
                    page,
                    "- {} changes the advice at: {}.",
                    option_name(option),
                    sure.join("; ")
                );
            }
        }
        let names: Vec<String> = options().map(option_name).collect();
        let _ = write!(
            page,
            "\n| cell | the paper advises | today | today's over the paper's | {} |\n| --- |{}\n{}",
            names.join(" | "),
            " --- |".repeat(3 + names.len()),
            self.rows
        );
    }
}

const INTRODUCTION: &str = "# Does the paper's advice hold up?\n\n\
    Written by `moe-gps guidelines --out docs --recordings ../shared/data/routing`; a test compares this \
    page with what is computed, as far as the recordings are there. *The paper advises* what its \
    formulas choose (preset `paper`) with the predictor of [the reproduction](reproduction.md) (accuracy \
    0.85, 153 µs a layer), *today* what is chosen by the laws fitted to measured kernels among the \
    strategies that engines run; the ratio is the layer time of the paper's choice over that of today's, \
    both by those laws. Most of it is the predictor's time: `token_to_expert` pays where a scatter is \
    skipped, which no engine does, and where the experts' time grows with their skewness, which is \
    averaged over the many experts of a GPU.\n\n\
    Options are priced under today's choice, each on its own: layer time off over on, so above 1 an \
    option gains. It changes the advice where its whole interval is above 1 (*gains surely*); where the \
    least is not, it is worth a trial at most. `replica_split: lp` costs its solver's time in every layer \
    and pays in long steps with copies alone. `replica_routing: min_active` (METRO, arXiv 2512.09277) \
    reads every active expert of a decode step from one replica; no released engine has it.\n";

const OVER_RECORDINGS: &str = "Routing as it was recorded, expert by expert and layer by layer: one part \
    of a recording, or all other data sets of its file, plans, and the part named after the arrow is scored. A GPU \
    prefills one prompt of 4,096 tokens in a step or decodes 64 sequences, as in the guidelines: SGLang \
    with DeepEP on one node of H200, 8-bit weights. Small models of our own stand for the model of their \
    shape. Of files with several data sets those two are shown that the others forecast best and worst.\n";

const ONLY_BUNDLED: &str = "\nOnly the recordings that come with the program are here: the others were not \
    given or not there.\n";

const OVER_CELLS: &str = "The cells of [the guidelines](guidelines.md) that are single steps: skewness and \
    forecast error as recorded, which expert is hot drawn.\n";
