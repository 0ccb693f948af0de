//! A recommendation as tables a person reads at a glance.

mod plan;

use std::io::{self, Write};

use comfy_table::{CellAlignment, Table, presets};
use indexmap::IndexMap;

use crate::cli::paint::{BOLD, CAUTION, of_verdict, paint};
use crate::wire::answer::{
    FlipPoint, ResultBody, ServerBody, ServingBody, StrategyBody, TermsBody,
};
use crate::wire::outcome::MeasuredOutcome;
use crate::wire::written::{
    OUTCOMES, TERMS, advised, copies, engines_with, gain, infeasible, name, option_name,
    other_layouts, outcome, priced_options, quantity, scaled, shown, spread,
};

/// Writes the result of a recommendation: verdict and reason, strategies with their
/// terms, where the advice changes, and what it rests on.
///
/// Of the strategies that no engine runs only the best is shown, unless `all` are asked for.
pub(super) fn write(out: &mut dyn Write, result: &ResultBody, all: bool) -> io::Result<()> {
    let advice = &result.recommendation;
    let strategy = advised(advice).unwrap_or("see why below");
    let verdict = format!("{}: {strategy}", advice.verdict.replace('_', " "));
    writeln!(out, "{}", paint(of_verdict(&advice.verdict), verdict))?;
    writeln!(out, "{}", wrapped(&headline(result)))?;
    writeln!(out, "\n{}\n", wrapped(&advice.reason))?;
    let shown = shown(result, all);
    strategies(out, result, &shown)?;
    server(out, &shown)?;
    terms(out, result, &shown)?;
    options(out, result)?;
    flips(out, &result.flip_points)?;
    plan::write(out, result)?;
    for warning in &result.warnings {
        writeln!(out, "{}", paint(CAUTION, wrapped(&format!("warning: {warning}"))))?;
    }
    writeln!(out, "{}", wrapped(&format!("to confirm: {}", result.confirm)))
}

/// Writes what was measured since, each beside its forecast.
pub(super) fn outcomes(out: &mut dyn Write, outcomes: &[MeasuredOutcome]) -> io::Result<()> {
    if outcomes.is_empty() {
        return Ok(());
    }
    let mut table = table(&OUTCOMES);
    table.add_rows(outcomes.iter().map(outcome));
    right_align(&mut table, 2..OUTCOMES.len());
    writeln!(out, "\n{}", table.trim_fmt())
}

/// What the advised strategy gives, and what to do.
fn headline(result: &ResultBody) -> String {
    let advice = &result.recommendation;
    let entry = result.strategies.iter().find(|entry| {
        Some(&entry.strategy) == advice.strategy.as_ref()
            && entry.predictor.as_ref().map(|one| &one.name)
                == advice.predictor.as_ref().map(|one| &one.name)
    });
    let Some(entry) = entry else { return "to do: see what is missing below".to_owned() };
    let mut told: Vec<String> = Vec::new();
    if let Some(ServingBody::Server(server)) = entry.serving {
        told.push(format!("{} tokens/s a GPU", scaled(server.tokens_per_s_per_device, 1.0, 0)));
        told.push(format!("TPOT {} ms", scaled(server.tpot_s, 1e3, 2)));
        if server.ttft_s.is_some() {
            told.push(format!("TTFT {} ms", scaled(server.ttft_s, 1e3, 1)));
        }
    } else {
        told.push(format!("step {} ms", scaled(entry.model_latency_s, 1e3, 3)));
        told.push(format!("layer {} µs", scaled(entry.layer_latency_s, 1e6, 1)));
    }
    if *entry.strategy != *advice.baseline {
        let over = scaled(entry.gain.map(|gain| gain.mid).or(entry.speedup_over_none), 1.0, 3);
        let interval = gain(entry.gain).map_or_else(String::new, |range| format!(" ({range})"));
        told.push(format!("{over} over {}{interval}", advice.baseline));
    }
    let todo = match (&*advice.verdict, &*entry.strategy) {
        ("insufficient_evidence" | "cannot_run", _) => "see what is missing below",
        ("keep", _) | (_, "none") => "nothing, run on as now",
        _ if result.plan.is_none() => "ask with the calibrated preset, which makes a plan",
        _ => "load the plan (`moe-gps launch` says how)",
    };
    format!("{}; to do: {todo}", told.join(", "))
}

fn strategies(out: &mut dyn Write, result: &ResultBody, shown: &[&StrategyBody]) -> io::Result<()> {
    let against = format!("over {}", result.recommendation.baseline);
    let mut table = table(&["strategy", "layer µs", "step ms", &against, "interval"]);
    for entry in shown {
        table.add_row(vec![
            name(entry),
            scaled(entry.layer_latency_s, 1e6, 1),
            scaled(entry.model_latency_s, 1e3, 3),
            match entry.infeasible_reason {
                Some(_) => "not feasible".to_owned(),
                None => scaled(entry.gain.map(|gain| gain.mid).or(entry.speedup_over_none), 1.0, 4),
            },
            gain(entry.gain).unwrap_or_default(),
        ]);
    }
    table.add_row(vec![
        "(ceiling)".to_owned(),
        scaled(result.ceiling.layer_latency_s, 1e6, 1),
        String::new(),
        scaled(result.ceiling.speedup_over_none, 1.0, 4),
    ]);
    right_align(&mut table, 1..5);
    let advised = result.recommendation.strategy.as_deref();
    // One line of the table for its head, one for every strategy.
    for (at, line) in table.trim_fmt().lines().enumerate() {
        let is_advised = at.checked_sub(1).and_then(|at| shown.get(at));
        let bold = is_advised.is_some_and(|entry| Some(&*entry.strategy) == advised);
        writeln!(out, "{}", if bold { paint(BOLD, line) } else { line.to_owned() })?;
    }
    let mut runs_on: IndexMap<String, Vec<String>> = IndexMap::new();
    for entry in shown {
        let runnable = entry.engine_support.iter().filter(|support| support.runnable);
        let engines: Vec<&str> = runnable.map(|support| &*support.engine).collect();
        let engines =
            if engines.is_empty() { "no engine today".to_owned() } else { engines.join(", ") };
        runs_on.entry(engines).or_default().push(name(entry));
    }
    writeln!(out, "ceiling: perfect balance at no cost")?;
    write_runs_on(out, &runs_on)?;
    let none = result
        .strategies
        .iter()
        .find_map(|entry| entry.layer_latency_s.filter(|_| entry.strategy == "none"));
    for layout in other_layouts(result) {
        let told = format!(
            "another layout, {}: layer {} µs, step {} ms, {} over none, {} GB a GPU",
            spread(layout),
            scaled(layout.layer_latency_s, 1e6, 1),
            scaled(layout.model_latency_s, 1e3, 3),
            scaled(none.map(|none| none / layout.layer_latency_s), 1.0, 4),
            scaled(layout.needed_bytes, 1e-9, 1),
        );
        writeln!(out, "{}", wrapped(&told))?;
    }
    writeln!(out)?;
    let hidden = result.strategies.len() - shown.len();
    if hidden > 0 {
        writeln!(out, "{hidden} more that no engine runs: --all\n")?;
    }
    for (reason, names) in &infeasible(shown) {
        let is = if names.len() == 1 { "is" } else { "are" };
        let told = format!("{} {is} not feasible: {reason}", names.join(", "));
        writeln!(out, "{}\n", wrapped(&told))?;
    }
    Ok(())
}

/// The head of a table with a column for every strategy; its predictor stands below its name.
fn heads<'a>(first: &str, shown: impl Iterator<Item = &'a StrategyBody>) -> Vec<String> {
    let names = shown.map(|entry| name(entry).replace(" (", "\n("));
    [first.to_owned()].into_iter().chain(names).collect()
}

/// A table with such a head; strategies that a line has no room for follow below.
fn by_strategy(head: &[String], rows: &[Vec<String>]) -> String {
    // Two spaces stand between columns.
    let width = |column: usize| {
        let lines = rows.iter().map(|row| &row[column]).chain([&head[column]]);
        2 + lines.flat_map(|text| text.lines()).map(|line| line.chars().count()).max().unwrap_or(0)
    };
    let (mut tables, mut first) = (Vec::new(), 1);
    while first < head.len() {
        let mut room = usize::from(WIDTH).saturating_sub(width(0));
        let fits = |column: &usize| {
            let rest = room.checked_sub(width(*column));
            room = rest.unwrap_or(0);
            rest.is_some()
        };
        let end = first + (first..head.len()).take_while(fits).count().max(1);
        let of = |row: &[String]| [&row[..1], &row[first..end]].concat();
        let names = of(head);
        let mut table = table(&names.iter().map(String::as_str).collect::<Vec<_>>());
        table.add_rows(rows.iter().map(|row| of(row)));
        right_align(&mut table, 1..names.len());
        tables.push(table.trim_fmt());
        first = end;
    }
    tables.join("\n\n")
}

/// What a server gives its users, and how much faster its kinds of steps are than without a strategy.
fn server(out: &mut dyn Write, shown: &[&StrategyBody]) -> io::Result<()> {
    let servers: Vec<(&StrategyBody, ServerBody)> = shown
        .iter()
        .filter_map(|entry| match entry.serving {
            Some(ServingBody::Server(server)) => Some((*entry, server)),
            _ => None,
        })
        .collect();
    let Some((first, _)) = servers.first() else { return Ok(()) };
    let row = |head: &str, of: &dyn Fn(&StrategyBody, ServerBody) -> String| {
        let cells = servers.iter().map(|(entry, server)| of(entry, *server));
        [head.to_owned()].into_iter().chain(cells).collect::<Vec<String>>()
    };
    let mut rows = vec![
        row("tokens/s/GPU", &|_, server| scaled(server.tokens_per_s_per_device, 1.0, 0)),
        row("TPOT ms", &|_, server| scaled(server.tpot_s, 1e3, 2)),
    ];
    let is_server = !first.phases.is_empty();
    if is_server {
        rows.push(row("TTFT ms", &|_, server| scaled(server.ttft_s, 1e3, 1)));
    }
    rows.push(row("GPUs saved", &|_, server| {
        server.devices_saved.map_or_else(String::new, |saved| format!("{:.2}", saved.mid))
    }));
    for (place, phase) in first.phases.iter().enumerate() {
        let head = format!("{} ({:.0} %)", phase.phase, 100.0 * phase.share_of_steps);
        rows.push(row(&head, &|entry, _| {
            let phase = entry.phases.get(place);
            scaled(phase.and_then(|phase| phase.speedup_over_none), 1.0, 4)
        }));
    }
    let head =
        heads(if is_server { "server" } else { "decode" }, servers.iter().map(|(entry, _)| *entry));
    writeln!(out, "{}\n", by_strategy(&head, &rows))
}

/// Microseconds of every term, one column a strategy, and what they rest on.
fn terms(out: &mut dyn Write, result: &ResultBody, shown: &[&StrategyBody]) -> io::Result<()> {
    let priced: Vec<(&StrategyBody, &TermsBody)> =
        shown.iter().filter_map(|entry| Some((*entry, entry.terms.as_ref()?))).collect();
    let mut rows = Vec::new();
    let mut bases: IndexMap<String, Vec<&str>> = IndexMap::new();
    for (field, short, seconds) in TERMS {
        if priced.iter().all(|(_, terms)| seconds(terms) == 0.0) {
            continue;
        }
        let cells = priced.iter().map(|(_, terms)| scaled(seconds(terms), 1e6, 2));
        rows.push([short.to_owned()].into_iter().chain(cells).collect());
        if let Some(origin) = result.provenance.terms.get(field) {
            let basis = format!("{} ±{} %", origin.basis, scaled(origin.error_band, 100.0, 0));
            bases.entry(basis).or_default().push(short);
        }
    }
    let head = heads("µs per layer", priced.iter().map(|(entry, _)| *entry));
    writeln!(out, "{}", by_strategy(&head, &rows))?;
    let bases: Vec<String> =
        bases.iter().map(|(basis, terms)| format!("{} {basis}", terms.join(", "))).collect();
    writeln!(out, "{}", wrapped(&format!("basis: {}", bases.join("; "))))?;
    // The term without an operator of its own.
    if let Some((none, terms)) = priced.first()
        && let Some(layer) = none.layer_latency_s
        && terms.other_s > 0.0
    {
        let share = 100.0 * terms.other_s / layer;
        let drafts = result.provenance.system.contains_key("speculative");
        let what = if drafts { "kernel launches and drafting" } else { "kernel launches" };
        writeln!(out, "{what} (other): {share:.1} % of a layer")?;
    }
    writeln!(out)
}

/// Options that are priced under the advised strategy, each on its own.
fn options(out: &mut dyn Write, result: &ResultBody) -> io::Result<()> {
    let mut table = table(&["option", "off µs", "on µs", "off / on", "interval"]);
    let mut runs_on: IndexMap<String, Vec<String>> = IndexMap::new();
    for (option, price) in priced_options(result) {
        let name = option_name(option);
        table.add_row(vec![
            name.replace(" (", "\n("),
            scaled(price.layer_latency_off_s, 1e6, 1),
            scaled(price.layer_latency_on_s, 1e6, 1),
            scaled(price.gain.mid, 1.0, 4),
            gain(Some(price.gain)).unwrap_or_default(),
        ]);
        runs_on.entry(engines_with(option)).or_default().push(name);
    }
    if table.row_count() == 0 {
        return Ok(());
    }
    right_align(&mut table, 1..5);
    let plan = result.recommendation.strategy.as_deref().unwrap_or_default();
    let told = format!(
        "Options of engines under the plan of {plan}, each on its own, on drawn steps; no price above \
         has one in it"
    );
    writeln!(out, "{}\n{}", wrapped(&told), table.trim_fmt())?;
    write_runs_on(out, &runs_on)?;
    writeln!(out)
}

/// Which engines run what, a line for all that run on the same ones.
fn write_runs_on(out: &mut dyn Write, names: &IndexMap<String, Vec<String>>) -> io::Result<()> {
    for (engines, names) in names {
        writeln!(out, "{}", wrapped(&format!("runs on {engines}: {}", names.join(", "))))?;
    }
    Ok(())
}

fn flips(out: &mut dyn Write, flips: &[FlipPoint]) -> io::Result<()> {
    if flips.is_empty() {
        return Ok(());
    }
    writeln!(out, "The advice changes (to what gains 2 % or more)")?;
    for flip in flips {
        if let Some(changed) = copies(flip) {
            writeln!(out, "  {changed}")?;
            continue;
        }
        let (name, written) = quantity(&flip.parameter);
        match (flip.value, &flip.becomes) {
            (Some(value), Some(becomes)) => {
                let [low, high] = flip.interval.unwrap_or([value, value]).map(written);
                let value = written(value);
                let interval =
                    if low == high { String::new() } else { format!(" ({low} to {high})") };
                writeln!(out, "  to {becomes} at {name} {value}{interval}")?;
            }
            (None, Some(becomes)) => {
                let other = flip.communication.as_deref().unwrap_or("");
                writeln!(out, "  to {becomes} under {name} {other}")?;
            }
            _ => {
                let [low, high] =
                    flip.range.map_or_else(Default::default, |range| range.map(written));
                writeln!(out, "  not with {name} from {low} to {high}")?;
            }
        }
    }
    writeln!(out)
}

fn table(head: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_header(head.iter().copied());
    table
}

fn right_align(table: &mut Table, columns: impl IntoIterator<Item = usize>) {
    for index in columns {
        if let Some(column) = table.column_mut(index) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
}

/// Columns of a terminal that nothing is wider than, where words and names allow.
pub(super) const WIDTH: u16 = 80;

/// Text broken into lines of at most that width.
pub(super) fn wrapped(text: &str) -> String {
    broken(text, usize::from(WIDTH))
}

/// The same, set in by six.
pub(super) fn indented(text: &str) -> String {
    set_in(text, 6)
}

/// The same, set in by so many.
pub(super) fn set_in(text: &str, columns: usize) -> String {
    let margin = " ".repeat(columns);
    let lines = broken(text, usize::from(WIDTH) - columns).replace('\n', &format!("\n{margin}"));
    format!("{margin}{lines}")
}

fn broken(text: &str, most: usize) -> String {
    let mut words: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        // A number and its unit stay together.
        let is_unit = ["%", "µs", "ms", "s", "GB", "GB/s"]
            .contains(&word.trim_end_matches([',', '.', ';', ':', ')']));
        match words.last_mut().filter(|_| is_unit) {
            Some(number) => {
                number.push(' ');
                number.push_str(word);
            }
            None => words.push(word.to_owned()),
        }
    }
    let mut lines = String::new();
    let mut width = 0;
    for word in &words {
        if width > 0 && width + 1 + word.chars().count() > most {
            lines.push('\n');
            width = 0;
        } else if width > 0 {
            lines.push(' ');
            width += 1;
        }
        lines.push_str(word);
        width += word.chars().count();
    }
    lines
}
