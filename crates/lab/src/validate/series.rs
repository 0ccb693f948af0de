//! Measurements that differ in one size only, and the law between and beside them.
//!
//! A mean error does not show what a law does between the points it was fitted to: a
//! series is what is drawn and looked at.

use std::collections::BTreeMap;

use crate::validate::measured::{Case, Loads, Measured, Op, Software, Subset};
use crate::validate::price::{DrawnLoads, price};
use crate::validate::profiles::Profiles;
use moe_gps_core::comm::profile::{Collective, DeepEpMode, Way};
use moe_gps_core::named::name_of;
use moe_gps_core::units::{Bytes, Seconds};

/// Fewest sizes that make a series.
const FEWEST: usize = 4;

/// Sizes at which a law is priced, in even ratios.
const STEPS: u32 = 240;

/// Measurements of one operator that differ in one size.
#[derive(Debug, Clone, PartialEq)]
pub struct Series {
    /// What is the same in all of them, in words.
    pub label: String,
    /// What differs.
    pub size: Size,
    /// Size and measured time, in order of size.
    pub measured: Vec<(f64, Seconds)>,
    /// Size and priced time, from the least measured size to the most.
    pub priced: Vec<(f64, Seconds)>,
}

/// A kind of size.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Size {
    /// Its name, with the unit that is read well.
    pub name: &'static str,
    /// One of that unit in SI.
    pub unit: f64,
}

impl Series {
    /// The largest share by which the priced time falls from one size to a larger one.
    #[must_use]
    pub fn fall(&self) -> f64 {
        let (mut most, mut fall) = (0.0_f64, 0.0_f64);
        for time in self.priced.iter().map(|(_, time)| time.get()) {
            most = most.max(time);
            if most > 0.0 {
                fall = fall.max(1.0 - time / most);
            }
        }
        fall
    }
}

/// Bytes of a mebibyte.
const MIB: f64 = 1_048_576.0;

/// Operators of one piece of software on one device.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Subject {
    /// The device, as the table names it.
    pub device: String,
    /// The software.
    pub software: Software,
    /// The operator.
    pub op: Op,
}

/// The series among `rows`, those with the most sizes first.
///
/// Rows whose loads were drawn at random belong to none: their size is not one number.
#[must_use]
pub fn series(rows: &[Measured], profiles: &Profiles) -> BTreeMap<Subject, Vec<Series>> {
    let mut groups: BTreeMap<(Subject, String), Vec<&Measured>> = BTreeMap::new();
    for row in rows.iter().filter(|row| row.subset != Subset::Excluded) {
        let Some(label) = label(&row.case) else { continue };
        let subject =
            Subject { device: row.device.clone(), software: row.software.clone(), op: row.op };
        groups.entry((subject, label)).or_default().push(row);
    }
    let mut all: BTreeMap<Subject, Vec<Series>> = BTreeMap::new();
    for ((subject, label), rows) in groups {
        if let Some(series) = one(label, &rows, profiles) {
            all.entry(subject).or_default().push(series);
        }
    }
    for series in all.values_mut() {
        series.sort_by_key(|series| std::cmp::Reverse(series.measured.len()));
    }
    all
}

fn one(label: String, rows: &[&Measured], profiles: &Profiles) -> Option<Series> {
    let mut measured: Vec<(f64, Seconds)> =
        rows.iter().filter_map(|row| Some((size(&row.case)?.0, row.time))).collect();
    measured.sort_by(|a, b| a.0.total_cmp(&b.0));
    let mut sizes: Vec<f64> = measured.iter().map(|(size, _)| *size).collect();
    sizes.dedup();
    let (least, most) = (*sizes.first()?, *sizes.last()?);
    if sizes.len() < FEWEST || least <= 0.0 {
        return None;
    }
    let row = *rows.first()?;
    let drawn = DrawnLoads::new();
    let priced = (0..=STEPS)
        .filter_map(|step| {
            let at = least * (most / least).powf(f64::from(step) / f64::from(STEPS));
            let case = resized(&row.case, at.round())?;
            let sized = Measured { case, ..row.clone() };
            Some((at.round(), price(&sized, profiles, &drawn).ok()?.time))
        })
        .collect();
    let (_, name) = size(&row.case)?;
    let unit = if matches!(row.case, Case::Collective { .. }) { MIB } else { 1.0 };
    Some(Series { label, size: Size { name, unit }, measured, priced })
}

/// The size along which a case is drawn, and its name.
fn size(case: &Case) -> Option<(f64, &'static str)> {
    Some(match case {
        Case::Gemm { m, .. } => (*m, "rows of the product"),
        Case::Prefill(_, span) => (span.new, "tokens of a prompt"),
        Case::Decode(_, span) => (span.context, "tokens of context"),
        Case::Experts(case) => match &case.loads {
            Loads::Counts { tokens, zipf } if *zipf <= 0.0 && !case.looped => {
                (*tokens.first()?, "tokens of every expert")
            }
            _ => return None,
        },
        Case::Norm { rows, .. } | Case::GatedActivation { rows, .. } => (*rows, "rows"),
        Case::TopK { tokens, .. } => (*tokens, "tokens"),
        Case::Collective { size, .. } => (size.get(), "MiB of the operation"),
        Case::Exchange(case) => (f64::from(case.tokens_per_device), "tokens of every device"),
        _ => return None,
    })
}

/// The same case at another size.
fn resized(case: &Case, to: f64) -> Option<Case> {
    let factor = to / size(case)?.0;
    let mut case = case.clone();
    match &mut case {
        Case::Gemm { m, .. } => *m = to,
        Case::Prefill(_, span) => (span.new, span.context) = (to, to),
        Case::Decode(_, span) => span.context = to,
        Case::Experts(experts) => {
            experts.group_tokens = experts.group_tokens.map(|tokens| tokens * factor);
            experts.group_pairs *= factor;
            if let Loads::Counts { tokens, .. } = &mut experts.loads {
                tokens.fill(to);
            }
        }
        Case::Norm { rows, .. } | Case::GatedActivation { rows, .. } => *rows = to,
        Case::TopK { tokens, .. } => *tokens = to,
        Case::Collective { size, .. } => *size = Bytes::new(to),
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a whole u32")]
        Case::Exchange(exchange) => exchange.tokens_per_device = to as u32,
        _ => return None,
    }
    Some(case)
}

/// What of a case is not its size.
fn label(case: &Case) -> Option<String> {
    size(case)?;
    Some(match case {
        Case::Gemm { n, k, .. } => format!("n {n}, k {k}"),
        Case::Prefill(heads, span) | Case::Decode(heads, span) => {
            format!("{} sequences, {} heads over {}", span.sequences, heads.query, heads.kv)
        }
        Case::Experts(case) => {
            let Loads::Counts { tokens, .. } = &case.loads else { return None };
            let (experts, each) = (tokens.len() as f64, *tokens.first()?);
            let foreign = case.group_pairs / (experts * each);
            let (h, i) = (case.hidden, case.intermediate);
            format!("{experts} experts of {h} × {i}, 1 of {foreign:.0} devices")
        }
        Case::Norm { width, .. } | Case::GatedActivation { width, .. } => format!("width {width}"),
        Case::TopK { experts, .. } => format!("{experts} experts"),
        Case::Collective { operation, devices, .. } => {
            let name = name_of(&Collective::ALL, operation);
            format!("{name} on {devices}")
        }
        Case::Exchange(case) => {
            let mode = name_of(&DeepEpMode::ALL, &case.mode);
            let way = name_of(&Way::ALL, &case.way);
            format!(
                "{way} {mode}, {} nodes, {} of {} experts, width {}, {:?}",
                case.nodes, case.top_k, case.experts, case.hidden, case.dispatch
            )
        }
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::validate::measured::Launch;
    use moe_gps_core::cost::sample;
    use moe_gps_core::system::Operands;

    fn product(m: f64, n: f64) -> Measured {
        Measured {
            line: 2,
            device: "sample".to_owned(),
            software: Software::default(),
            format: String::new(),
            operands: Operands::BF16,
            op: Op::Gemm,
            subset: Subset::All,
            case: Case::Gemm { m, n, k: 4096.0 },
            time: Seconds::new(m * 1e-8),
            launch: Launch::None,
            simulated: None,
        }
    }

    #[test]
    fn a_series_has_its_points_and_the_law_between_them() {
        let rows: Vec<Measured> = [64.0, 1.0, 4096.0, 512.0, 8.0]
            .into_iter()
            .flat_map(|m| [product(m, 4096.0), product(m.min(8.0), 8192.0)])
            .collect();
        let found = series(&rows, &Profiles::new([sample::device()], []));
        let (subject, found) = found.first_key_value().unwrap();
        assert_eq!((subject.op, found.len()), (Op::Gemm, 1), "two sizes are no series");
        let series = &found[0];
        assert_eq!(series.label, "n 4096, k 4096");
        let sizes: Vec<f64> = series.measured.iter().map(|(m, _)| *m).collect();
        assert_eq!(sizes, [1.0, 8.0, 64.0, 512.0, 4096.0]);
        let ends = (series.priced.first().unwrap(), series.priced.last().unwrap());
        assert!((ends.0.0 - 1.0).abs() < 1e-9 && (ends.1.0 - 4096.0).abs() < 1e-9);
        assert!(ends.1.1 > ends.0.1 && series.fall() < 0.2, "{}", series.fall());
        let fallen = Series {
            priced: [(1.0, 4.0), (2.0, 3.0), (3.0, 5.0)].map(|(x, t)| (x, Seconds::new(t))).into(),
            ..series.clone()
        };
        assert!((fallen.fall() - 0.25).abs() < 1e-12);
    }
}
