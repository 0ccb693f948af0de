//! What the paper claims beside what its formulas and the calibrated laws say: its other operating
//! points, its models of error, and its claims one by one.

use std::fmt::Write as _;

use serde_json::json;

use moe_gps_core::advice::{self, choose::Deciding};
use moe_gps_core::cancel::Cancel;
use moe_gps_core::memory::expert_bytes;
use moe_gps_core::pricing::error::PricingError;
use moe_gps_core::strategies::{self, Strategy};
use moe_gps_core::units::{Bytes, Seconds};

use crate::reproduce::cases::{self, DATA_SETS, FFN, LINKS, PaperCase, Point};
use crate::reproduce::text::{best, gain, share};
use crate::reproduce::{Computed, Leads, Read, fastest};

/// Batches of prompts that the paper mentions: sequences, and tokens of each.
const BATCHES: [(u64, u64); 3] = [(1, 512), (8, 2048), (16, 2048)];

/// Mixtral on MMLU at one batch and link, by the calibrated laws.
pub(super) struct Operating {
    batch: (u64, u64),
    link: &'static str,
    /// Attention of a layer.
    attention: Seconds,
    /// One expert's weights, and their time over the link.
    expert: Bytes,
    copy: Seconds,
    /// Latency of a layer under every strategy, in their order.
    latencies: [Option<Seconds>; Strategy::ALL.len()],
    advised: Strategy,
}

/// By how much `distribution_only` is ahead of `token_to_expert` by the formulas, percent, under every
/// model of error in their order.
pub(super) struct ErrorModels {
    data_set: &'static str,
    link: &'static str,
    leads: [f64; ERROR_MODELS.len()],
}

pub(super) const ERROR_MODELS: [&str; 3] = ["optimistic", "typical", "pessimistic"];

/// The paper's operating points, whose questions `read` reads.
pub(super) fn operating<E: From<PricingError>>(
    case: &PaperCase,
    read: Read<E>,
) -> Result<Vec<Operating>, E> {
    let mut found = Vec::new();
    for batch in BATCHES {
        for (id, link) in LINKS {
            let at = Point { data_set: DATA_SETS[0], link: id };
            let mut asked = cases::question(case, "calibrated", at, &cases::stated());
            asked["workload"]["batch_size"] = batch.0.into();
            asked["workload"]["sequence_length"] = batch.1.into();
            let (question, known) = read(&asked)?;
            let priced = advice::price(&question, &known, Cancel::NEVER)?;
            let advised = priced.decided(&question, Deciding::All);
            let none = priced.entries.iter().find(|entry| entry.strategy == strategies::NONE);
            let terms = none.and_then(|none| none.terms).unwrap_or_default();
            let expert = expert_bytes(&question.system);
            found.push(Operating {
                batch,
                link,
                attention: terms.attention,
                expert,
                copy: expert / question.system.cluster.link.bandwidth,
                latencies: Strategy::ALL.map(|(strategy, _)| fastest(&priced.entries, strategy)),
                advised: advised.map_or(strategies::NONE, |advised| advised.strategy),
            });
        }
    }
    Ok(found)
}

/// The leads under every model of error, whose questions `read` reads.
pub(super) fn error_models<E: From<PricingError>>(
    case: &PaperCase,
    read: Read<E>,
) -> Result<Vec<ErrorModels>, E> {
    let mut found = Vec::new();
    for data_set in DATA_SETS {
        for (id, link) in LINKS {
            let mut leads = [f64::NAN; ERROR_MODELS.len()];
            for (lead, model) in leads.iter_mut().zip(ERROR_MODELS) {
                let at = Point { data_set, link: id };
                let mut asked = cases::question(case, "paper", at, &cases::stated());
                asked["assumptions"]["error_model"] = json!(model);
                let (question, known) = read(&asked)?;
                let entries = advice::price(&question, &known, Cancel::NEVER)?.entries;
                let of = |strategy| fastest(&entries, strategy).map_or(f64::NAN, Seconds::get);
                *lead = gain(of(strategies::TOKEN_TO_EXPERT), of(strategies::DISTRIBUTION_ONLY));
            }
            found.push(ErrorModels { data_set: data_set.name, link, leads });
        }
    }
    Ok(found)
}

/// The sections beside the figures.
pub(super) fn sections(
    page: &mut String,
    computed: &[(&PaperCase, Computed, Computed)],
    leads: &[Leads; 2],
    operating: &[Operating],
    errors: &[ErrorModels],
) {
    claims(page, computed, leads, operating);
    let _ = write!(
        page,
        "\n## Three models of error\n\nWhat an error ε does to the busiest device is not settled in the \
         paper: nothing (optimistic), 1 + ε times the mean (typical), or 1 + (N − 1)·ε times \
         (pessimistic).\n\n![What distribution_only saves more than token_to_expert under each of the three]\
         (reproduction/mixtral-error-models.svg)\n\nBy how much `distribution_only` is ahead of `token_to_expert` with the predictor \
         of accuracy {}, by the formulas on Mixtral:\n\n| data set, link | {} |\n| --- |{}\n",
        FFN.0,
        ERROR_MODELS.join(" | "),
        " --: |".repeat(ERROR_MODELS.len()),
    );
    for ErrorModels { data_set, link, leads } in errors {
        let leads = leads.map(|lead| format!("{lead:.1} %")).join(" | ");
        let _ = writeln!(page, "| {data_set}, {link} | {leads} |");
    }
    let _ = write!(
        page,
        "\n## The paper's other operating points\n\nMixtral on MMLU by the calibrated laws, in µs a layer; \
         *copy* is one expert's weights ({:.0} MB) over the link at its full rate. The paper takes copies \
         for hidden where attention is longer.\n\n\
         | batch × tokens, link | attention | copy | hidden | none | replace_only | distribution_only | \
         token_to_expert | advised |\n| --- | --: | --: | --- | --: | --: | --: | --: | --- |\n",
        operating.first().map_or(f64::NAN, |one| one.expert.get() / 1e6)
    );
    for one in operating {
        let us = |seconds: Seconds| format!("{:.0}", seconds.get() * 1e6);
        let latencies = one.latencies.map(|latency| latency.map_or_else(|| "–".to_owned(), us));
        let _ = writeln!(
            page,
            "| {} × {}, {} | {} | {} | {} | {} | {} |",
            one.batch.0,
            one.batch.1,
            one.link,
            us(one.attention),
            us(one.copy),
            if one.is_hidden() { "yes" } else { "no" },
            latencies.join(" | "),
            one.advised.id(),
        );
    }
}

impl Operating {
    fn is_hidden(&self) -> bool {
        self.copy <= self.attention
    }
}

/// A claim of the paper.
struct Claim {
    text: &'static str,
    /// How it is known: A its authors' text, B two independent reports, C one.
    grade: &'static str,
    ours: String,
    /// By its formulas, and calibrated.
    holds: [bool; 2],
    why: &'static str,
}

fn claims(
    page: &mut String,
    computed: &[(&PaperCase, Computed, Computed)],
    [by_formulas, by_laws]: &[Leads; 2],
    operating: &[Operating],
) {
    let Some((_, paper, calibrated)) = computed.first() else { return };
    let both = [paper, calibrated];
    let [duplicated, predicted] = [strategies::DISTRIBUTION_ONLY, strategies::TOKEN_TO_EXPERT];
    let lead =
        both.map(|of| gain(of.points[0].latency(predicted), of.points[0].latency(duplicated)));
    let free =
        [by_formulas, by_laws].map(|of| of.curve.first().map_or(f64::NAN, |(_, lead)| *lead));
    let best = both.map(|of| best(&of.curves[0]));
    let least = paper.curves[0].token_to_expert.first().map_or(f64::NAN, |(accuracy, _)| *accuracy);
    let slow = both.map(|of| share(&of.map, predicted));
    let rise = both.map(|of| {
        gain(of.points[2].latency(strategies::NONE), of.points[0].latency(strategies::NONE))
    });
    let ahead = |of: &Computed| of.points[0].latency(duplicated) < of.points[0].latency(predicted);
    let trends = [
        computed.iter().all(|(_, paper, _)| ahead(paper)),
        computed.iter().all(|(_, _, calibrated)| ahead(calibrated)),
    ];
    let hidden = |link: &str| operating.iter().find(|one| one.link == link && one.is_hidden());
    let hidden = LINKS.map(|(_, link)| {
        hidden(link).map_or_else(
            || format!("at none of the three batches on {link}"),
            |one| format!("from {} × {} tokens on {link}", one.batch.0, one.batch.1),
        )
    });
    let expected =
        |one: &Operating| one.is_hidden() == (one.batch.0 >= 16 || one.link == LINKS[0].1);
    let all = [
        Claim {
            text: "`distribution_only` is more than 23 % ahead of the best `token_to_expert` (Mixtral, \
                   MMLU, NVLink)",
            grade: "A",
            ours: format!("{:.1} % and {:.1} %", lead[0], lead[1]),
            holds: lead.map(|lead| lead > 23.0),
            why: "it rests on a predictor of 153 µs, our choice",
        },
        Claim {
            text: "the time of the predictor decides it",
            grade: "A",
            ours: format!(
                "with a predictor that takes no time the lead is {:.1} % and {:.1} %",
                free[0], free[1]
            ),
            holds: [0, 1].map(|at| free[at] < lead[at] / 2.0),
            why: "the lead grows with that time",
        },
        Claim {
            text: "`token_to_expert` wins where links are slow and routing is skewed",
            grade: "B",
            ours: format!("{:.1} % and {:.1} % of the map", slow[0], slow[1]),
            holds: slow.map(|share| share > 0.0),
            why: "no engine can skip the scatter",
        },
        Claim {
            text: "experts take as long as balanced ones times the skewness",
            grade: "B",
            ours: format!(
                "a layer +{:.1} % and +{:.1} % from {} to {}",
                rise[0], rise[1], DATA_SETS[0].skewness, DATA_SETS[2].skewness
            ),
            holds: rise.map(|one| one > 0.8 * rise[0]),
            why: "two experts share a device, and reading weights takes as long for few tokens",
        },
        Claim {
            text: "time over the predictor's accuracy has its least value between the ends",
            grade: "C",
            ours: format!("at {:.2} and {:.2}, of {least:.2} to 1", best[0], best[1]),
            holds: best.map(|best| best > least && best < 1.0),
            why: "what a better forecast saves is less than its time",
        },
        Claim {
            text: "LLaMA-MoE and Switch show the same trends",
            grade: "C",
            ours: format!(
                "`distribution_only` is ahead of `token_to_expert` on {}",
                if trends == [true; 2] { "all three" } else { "some of the three" }
            ),
            holds: trends,
            why: "the same predictor is as long beside a shorter layer",
        },
        Claim {
            text: "copies hide behind attention over NVLink, and over PCIe from a batch of 16 × 2,048",
            grade: "C",
            ours: format!("by the calibrated laws {}", hidden.join(", and ")),
            holds: [operating.iter().all(expected); 2],
            why: "its 47 MB of an expert are an eighth of the weights",
        },
    ];
    page.push_str(
        "\n## Claim by claim\n\nOf the paper its abstract was seen (grade A); the rest is known from two \
         independent reports (B) or one (C). *Ours* is by its formulas, then calibrated.\n\n\
         | claim | grade | ours | formulas | calibrated | why |\n| --- | --- | --- | --- | --- | --- |\n",
    );
    let word = |holds: bool| if holds { "agree" } else { "do not" };
    for Claim { text, grade, ours, holds, why } in all {
        let [formulas, calibrated] = holds.map(word);
        let _ = writeln!(page, "| {text} | {grade} | {ours} | {formulas} | {calibrated} | {why} |");
    }
}
