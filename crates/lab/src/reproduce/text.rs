//! The words and tables beside the pictures.

use std::fmt::Write as _;

use crate::reproduce::cases::{
    DATA_SETS, DataSet, FFN, FFN_TIMES, GROWTH, LINKS, MEASURED, PaperCase,
};
use crate::reproduce::claims::{self, ErrorModels, Operating};
use crate::reproduce::own::{self, OwnDataSet};
use crate::reproduce::{Computed, Curves, Leads, Priced, Recording, Trends};
use moe_gps_core::advice::sensitivity::decision_map::DecisionMap;
use moe_gps_core::strategies::{self, Strategy};

/// Time over accuracy as CSV.
pub(super) fn accuracy_csv(computed: &Computed) -> String {
    let mut csv = "link,accuracy,none_layer_latency_s,replace_only_layer_latency_s,\
                   distribution_only_layer_latency_s,token_to_expert_layer_latency_s\n"
        .to_owned();
    for ((link, _), curves) in LINKS.iter().zip(&computed.curves) {
        for (accuracy, latency) in &curves.token_to_expert {
            let (none, duplicated) = (curves.none, curves.distribution_only);
            let replaced = Some(curves.replace_only).filter(|latency| latency.is_finite());
            let replaced = replaced.map_or_else(String::new, |latency| latency.to_string());
            let _ = writeln!(csv, "{link},{accuracy},{none},{replaced},{duplicated},{latency}");
        }
    }
    csv
}

/// The whole reproduction as a page.
pub(super) fn markdown(
    computed: &[(&PaperCase, Computed, Computed)],
    leads: &[Leads; 2],
    recordings: &[Recording],
    (operating, errors): (&[Operating], &[ErrorModels]),
    over: &OverSkewness,
) -> String {
    let mut page = format!(
        "# The paper's figures, by its formulas and calibrated\n\n\
         Written by `moe-gps reproduce --out docs --traces examples/traces --points examples/predictors.json`; a \
         test compares this page and its pictures with what is computed. The paper is MoE-GPS (arXiv 2506.07366): four A100, \
         one sequence of 512 tokens, prefill. Left are its formulas (`paper` preset), right the laws \
         fitted to measured A100 operators (`calibrated`).\n\n\
         Known of the paper are its formulas, its data sets' skewness and error, its links, and that \
         `distribution_only` is more than 23 % ahead of the best `token_to_expert` on Mixtral, MMLU and \
         NVLink. The rest is our choice: the values on the axes; the layer times that its formulas start \
         from, which we computed with LLMCompass for Mixtral and with closed forms for the others (the \
         paper states no measured ones); the variants of LLaMA-MoE and Switch; and the predictors, one \
         of accuracy {} that takes {:.0} µs a layer, and the family t = {:.0} µs · exp({GROWTH} · \
         (accuracy − {})) through it. In the figures of a model the forecast's error is that of {} at every \
         skewness, {}, and the predictor's accuracy the same; [over skewness](#over-skewness) both change \
         with it. An accuracy here is the share of a token's experts that are named (`per_choice`).\n",
        FFN.0,
        FFN.1 * 1e6,
        FFN.1 * 1e6,
        FFN.0,
        DATA_SETS[0].name,
        DATA_SETS[0].distribution_error,
    );
    skewness_table(&mut page, recordings);
    if let Some((_, paper, calibrated)) = computed.first() {
        contradictions(&mut page, paper, calibrated);
    }
    claims::sections(&mut page, computed, leads, operating, errors);
    headline(&mut page, leads);
    over_skewness(&mut page, computed, over);
    own::points_section(&mut page, over.own);
    page.push_str(over.counts);
    for (case, paper, calibrated) in computed {
        section(&mut page, case, paper, calibrated);
    }
    page
}

fn skewness_table(page: &mut String, recordings: &[Recording]) {
    page.push_str(
        "\n## Skewness and forecast error\n\nThe paper's data sets on Mixtral 8x7B, and recordings of \
         models with its routing (8 experts, 2 per token): mean over layers, the first half forecasting \
         the second.\n\n| routing | skewness | distribution error |\n| --- | --- | --- |\n",
    );
    for DataSet { name, skewness, distribution_error } in DATA_SETS {
        let _ = writeln!(page, "| {name} (paper) | {skewness:.2} | {distribution_error:.4} |");
    }
    for Recording { name, skewness, distribution_error } in recordings {
        let error = distribution_error.map_or_else(|| "–".to_owned(), |e| format!("{e:.4}"));
        let _ = writeln!(page, "| `{name}` | {skewness:.2} | {error} |");
    }
    page.push_str(
        "\nEqual skewness comes with errors that differ by a factor of two and more, so a skewness \
         alone does not say how good a forecast is.\n",
    );
}

/// Where the calibrated answer contradicts the paper, and why, on the paper's main model.
fn contradictions(page: &mut String, paper: &Computed, calibrated: &Computed) {
    page.push_str("\n## Where the calibrated answer contradicts the paper\n\nOn Mixtral:\n\n");
    let (claimed, found) = (&paper.points[0], &calibrated.points[0]);
    let [none, duplicated, predicted] =
        [strategies::NONE, strategies::DISTRIBUTION_ONLY, strategies::TOKEN_TO_EXPERT];
    let _ = writeln!(
        page,
        "- **The headline.** By the formulas `distribution_only` makes a layer {:.1} % faster than \
         `none` and is {:.1} % ahead of `token_to_expert` ({} on {}). Calibrated, it {} `none`, and \
         the answer is `{}`{}. From a skewness of {} to one of {} a layer under `none` takes {:.1} % \
         longer by the formulas, which multiply the experts' time by it, and {:.1} % longer \
         calibrated: with 128 tokens per expert most of that time is reading weights.",
        gain(claimed.latency(none), claimed.latency(duplicated)),
        gain(claimed.latency(predicted), claimed.latency(duplicated)),
        claimed.data_set.name,
        LINKS[0].1,
        against(found.latency(none), found.latency(duplicated)),
        found.winner.id(),
        if found.tie { ", not known to be faster than `none`" } else { "" },
        DATA_SETS[0].skewness,
        DATA_SETS[2].skewness,
        gain(paper.points[2].latency(none), claimed.latency(none)),
        gain(calibrated.points[2].latency(none), found.latency(none)),
    );
    let lead = |overhead: f64| {
        let predicted = claimed.latency(predicted) - FFN.1 + overhead;
        gain(predicted, claimed.latency(duplicated))
    };
    let _ = writeln!(
        page,
        "- **The lead rests on the predictor's time.** The {:.0} µs of the headline are our choice. By \
         the same formulas a predictor of equal accuracy that takes {:.0} µs leaves `distribution_only` \
         {:.1} % ahead, and one that takes the {:.1} µs we measured for such a network on an H200 \
         leaves it {:.1} % ahead.",
        FFN.1 * 1e6,
        FFN_TIMES[0] * 1e6,
        lead(FFN_TIMES[0]),
        FFN_TIMES[1] * 1e6,
        lead(FFN_TIMES[1]),
    );
    let _ = writeln!(
        page,
        "- **Skewness of experts is not load of devices.** The formulas multiply a device's time by the \
         skewness of its hottest expert. With two experts on every device the busiest device carries \
         less: that expert's share is averaged with its neighbour's."
    );
    let _ = writeln!(
        page,
        "- **The slow link.** In the paper `token_to_expert` wins where links are slow and routing is \
         skewed ({:.1} % of the map), because it skips the scatter. Calibrated it wins {:.1} %: with \
         tensor-parallel attention every device holds every token, engines dispatch nothing and combine \
         with one all-reduce that no strategy changes, and none can skip a scatter.",
        share(&paper.map, predicted),
        share(&calibrated.map, predicted),
    );
    let _ = writeln!(
        page,
        "- **Copies take slots.** The formulas copy experts at no cost. Calibrated, a device with one \
         more slot reads one more expert's weights in every step. `replace_only`, for which the paper \
         has no formula, wins {:.1} % of the calibrated map, `distribution_only` {:.1} %, `none` \
         {:.1} %.",
        share(&calibrated.map, strategies::REPLACE_ONLY),
        share(&calibrated.map, duplicated),
        share(&calibrated.map, none),
    );
    let _ = writeln!(
        page,
        "- **Accuracy.** By the formulas the best predictor of the family has an accuracy of {:.2} on \
         {}; calibrated {:.2}. A predictor may keep the plan of `distribution_only` in any step, so \
         what a wrong forecast costs is bounded, and what a right one saves is less than the time of a \
         dearer predictor.",
        best(&paper.curves[0]),
        LINKS[0].1,
        best(&calibrated.curves[0]),
    );
    let _ = writeln!(
        page,
        "- **Ties.** Formulas taken at their word always have a winner. Calibrated, {:.1} % of the map \
         is hatched: the fastest is not known to be faster than `none`, which is then named.",
        tied(&calibrated.map)
    );
    let _ = writeln!(
        page,
        "\nBoth agree that `distribution_only` is ahead of `token_to_expert` on {}: by {:.1} % and \
         {:.1} %.",
        LINKS[0].1,
        gain(claimed.latency(predicted), claimed.latency(duplicated)),
        gain(found.latency(predicted), found.latency(duplicated)),
    );
}

/// The paper's headline over the time of its predictor, with what was measured of predictors.
fn headline(page: &mut String, [paper, calibrated]: &[Leads; 2]) {
    let _ = write!(
        page,
        "\n## The headline over the predictor's time\n\n![The lead of distribution_only over the \
         predictor's time](reproduction/mixtral-overhead.svg)\n\n\
         Mixtral, {} on {}, a predictor of accuracy {}: by how much `distribution_only` is ahead of \
         `token_to_expert`, over what the predictor adds to a layer. The points are networks that were \
         measured on an H200 with the attention of this layer ([accuracy-layer.md](accuracy-layer.md)): \
         alone, before attention in the same stream, and what is added from a second stream beside \
         it. Their accuracy was not measured.\n\n\
         | predictor | where | µs | lead by the formulas | lead calibrated |\n\
         | --- | --- | --: | --: | --: |\n",
        DATA_SETS[0].name, LINKS[0].1, FFN.0,
    );
    let measured =
        MEASURED.iter().flat_map(|one| one.costs().map(|(place, _)| (one.name, one.op, place)));
    for (((name, op, place), (seconds, by_formulas)), (_, by_laws)) in
        measured.zip(&paper.measured).zip(&calibrated.measured)
    {
        let _ = writeln!(
            page,
            "| {name} (`{op}`) | {place} | {:.1} | {by_formulas:.1} % | {by_laws:.1} % |",
            seconds * 1e6
        );
    }
}

/// What changes with skewness, and what was added.
pub(super) struct OverSkewness<'a> {
    pub(super) trends: &'a Trends,
    /// Mixtral by the formulas and calibrated.
    pub(super) computed: &'a [Computed; 2],
    pub(super) own: &'a [OwnDataSet<'a>],
    pub(super) counts: &'a str,
}

/// The paper's two trends: errors of forecasts and accuracies of predictors over skewness.
fn over_skewness(
    page: &mut String,
    constant: &[(&PaperCase, Computed, Computed)],
    over: &OverSkewness,
) {
    let Some((_, paper, calibrated)) = constant.first() else { return };
    let errors = DATA_SETS.map(|set| format!("{} at {}", set.distribution_error, set.skewness));
    let accuracy = over.trends.accuracies.as_ref().map_or_else(
        || format!("the predictor's accuracy stays {}, as no points were given", FFN.0),
        |trend| {
            let points = trend.points().map(|(at, accuracy)| format!("{accuracy:.3} at {at:.2}"));
            format!(
                "the predictor's accuracy follows the feed-forward one that was fitted on recordings \
                 ([below](#predictors-that-were-fitted)), scaled so that it is {} on {}: {}",
                FFN.0,
                DATA_SETS[0].name,
                points.collect::<Vec<_>>().join(", ")
            )
        },
    );
    let _ = write!(
        page,
        "\n## Over skewness\n\n![Mixtral with errors and accuracies over skewness]\
         (reproduction/mixtral-trends.svg)\n\n\
         The paper's forecast errs more where routing is more skewed, and its predictors less. Here the \
         forecast's error goes through that of its data sets ({}), and {accuracy}. Between points both are \
         log-linear, beyond them the nearest is held: nobody measured there. Below are decision map, \
         difference of savings, and latency over accuracy on {}, where the family reaches the same \
         accuracy sooner by as much as the predictor gains.\n\n\
         Percent of the map that a strategy wins, with error and accuracy the same everywhere and over \
         skewness:\n\n| strategy | formulas, the same | formulas, over skewness | calibrated, the same | \
         calibrated, over skewness |\n| --- | --: | --: | --: | --: |\n",
        errors.join(", "),
        DATA_SETS[2].name,
    );
    let maps = [paper, &over.computed[0], calibrated, &over.computed[1]];
    for strategy in strategies::LIST {
        let shares = maps.map(|of| format!("{:.1}", share(&of.map, *strategy))).join(" | ");
        let _ = writeln!(page, "| `{}` | {shares} |", strategy.id());
    }
    let lead = |of: &Computed| {
        let at = &of.points[2];
        gain(at.latency(strategies::TOKEN_TO_EXPERT), at.latency(strategies::DISTRIBUTION_ONLY))
    };
    let leads = maps.map(|of| format!("{:.1} %", lead(of)));
    let _ = writeln!(
        page,
        "\nOn {} and {} `distribution_only` is ahead of `token_to_expert` by {} by the formulas, {} with \
         the accuracy over skewness; calibrated by {} and {}.",
        DATA_SETS[2].name, LINKS[0].1, leads[0], leads[1], leads[2], leads[3]
    );
}

/// The accuracy with the least latency.
pub(super) fn best(curves: &Curves) -> f64 {
    let least = curves.token_to_expert.iter().min_by(|a, b| a.1.total_cmp(&b.1));
    least.map_or(f64::NAN, |(accuracy, _)| *accuracy)
}

fn section(page: &mut String, case: &PaperCase, paper: &Computed, calibrated: &Computed) {
    let PaperCase { id, title, .. } = case;
    let _ = write!(
        page,
        "\n## {title}\n\n![{title}: decision map](reproduction/{id}-decision-map.svg)\n\n\
         ![{title}: difference of savings](reproduction/{id}-difference.svg)\n\n\
         ![{title}: latency over accuracy](reproduction/{id}-accuracy.svg)\n\n\
         Time of a layer in µs with the predictor of accuracy {}, and the strategy advised (in \
         brackets: not known to be faster than `none`):\n\n| data set, link | preset | none | replace_only | \
         distribution_only | token_to_expert | advised |\n| --- | --- | --- | --- | --- | --- | --- |\n",
        FFN.0
    );
    for (place, point) in paper.points.iter().enumerate() {
        row(page, "paper", point);
        row(page, "calibrated", &calibrated.points[place]);
    }
}

fn row(page: &mut String, preset: &str, point: &Priced) {
    let link = LINKS.iter().find(|(id, _)| *id == point.link).map_or("", |(_, name)| *name);
    let winner = point.winner.id();
    let advised = if point.tie { format!("({winner})") } else { winner.to_owned() };
    let shown = |latency: Option<f64>| {
        latency.map_or_else(|| "–".to_owned(), |latency| format!("{:.1}", latency * 1e6))
    };
    let latencies = point.latencies.map(shown).join(" | ");
    let _ =
        writeln!(page, "| {}, {link} | {preset} | {latencies} | {advised} |", point.data_set.name);
}

/// How much faster `fast` is than `slow`, percent.
pub(super) fn gain(slow: f64, fast: f64) -> f64 {
    (slow / fast - 1.0) * 100.0
}

fn against(none: f64, other: f64) -> String {
    let gain = gain(none, other);
    if gain < 0.0 {
        format!("makes a layer {:.1} % slower than", -gain)
    } else {
        format!("makes a layer {gain:.1} % faster than")
    }
}

/// Percent of the cells that a strategy wins.
pub(super) fn share(map: &DecisionMap, strategy: Strategy) -> f64 {
    let won = map.cells.iter().filter(|cell| cell.winner == Some(strategy)).count();
    won as f64 / map.cells.len().max(1) as f64 * 100.0
}

/// Percent of the cells that are ties.
fn tied(map: &DecisionMap) -> f64 {
    let ties = map.cells.iter().filter(|cell| cell.tie).count();
    ties as f64 / map.cells.len().max(1) as f64 * 100.0
}
