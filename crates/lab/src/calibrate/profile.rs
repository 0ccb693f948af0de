//! Everything measured on one device fitted: laws of its operators, curves of its links.

use std::collections::BTreeMap;

use rayon::prelude::*;

use crate::calibrate::collectives;
use crate::calibrate::evidence::{Evidence, LeftOut};
use crate::calibrate::exchanges;
use crate::calibrate::fit::fit;
use crate::calibrate::parameters::{Family, Sample};
use crate::validate::measured::{Case, Launch, Loads, Measured, Software, Subset};
use crate::validate::price::{DrawnLoads, drawn_loads};
use crate::validate::profiles::choose;
use moe_gps_core::comm::profile::{CollectiveFit, CollectiveKey, DeepEpFit, DeepEpKey};
use moe_gps_core::hardware::{Device, Stack};

/// Draws of a random load that a fit averages over; more take longer and change little.
const DRAWS: usize = 4;

/// One law fitted to the measurements of one piece of software.
#[derive(Debug, Clone)]
pub struct Set {
    /// The law.
    pub family: Family,
    /// The software.
    pub software: Software,
    /// A stack that holds the constants.
    pub stack: Stack,
    /// What they rest on.
    pub evidence: Evidence,
}

impl Set {
    /// The error to expect: the 90th percentile, held out where there is such.
    #[must_use]
    pub fn band(&self) -> f64 {
        self.evidence.expected().p90.max(0.02)
    }
}

/// What measurements of one device gave.
#[derive(Debug, Clone, Default)]
pub struct Calibration {
    /// Laws of operators.
    pub sets: Vec<Set>,
    /// Curves of collectives.
    pub collectives: BTreeMap<CollectiveKey, (CollectiveFit, Evidence)>,
    /// Laws of dispatch and combine.
    pub exchanges: BTreeMap<DeepEpKey, (DeepEpFit, Evidence)>,
    /// What was not fitted, and why.
    pub left_out: LeftOut,
}

/// Fits what `rows` measure of `device`, starting from its own constants.
#[must_use]
pub fn calibrate(rows: &[Measured], device: &Device) -> Calibration {
    let mut left_out = LeftOut::default();
    let mut laws: BTreeMap<(Family, &Software), Vec<usize>> = BTreeMap::new();
    let mut links: Vec<usize> = Vec::new();
    for (at, row) in rows.iter().enumerate() {
        if row.subset == Subset::Excluded {
            left_out.add("known to be wrong", 1);
        } else if row.launch != Launch::None {
            left_out.add("the host's launch is in the time", 1);
        } else if matches!(row.case, Case::Collective { .. } | Case::Exchange(_)) {
            links.push(at);
        } else if let Some(family) = Family::of(row) {
            laws.entry((family, &row.software)).or_default().push(at);
        } else {
            left_out.add(format!("{}: no free constants of its own", row.op.name()), 1);
        }
    }
    let sets = operators(rows, laws, device, &mut left_out);
    let profile = device.collectives.as_deref();
    let collectives = collectives::fit(rows, &links, profile, &mut left_out);
    let exchanges = exchanges::fit(rows, &links, &mut left_out);
    Calibration { sets, collectives, exchanges, left_out }
}

/// Fits the laws of a device's operators, each to the rows of one piece of software.
fn operators(
    rows: &[Measured],
    mut laws: BTreeMap<(Family, &Software), Vec<usize>>,
    device: &Device,
    left_out: &mut LeftOut,
) -> Vec<Set> {
    for ((family, _), at) in &mut laws {
        let known = keep_known_loads(rows, at);
        if known < at.len() {
            let what = format!("{}: loads drawn at random, where others are known", family.name());
            left_out.add(what, at.len() - known);
            at.retain(|&i| !is_drawn(&rows[i]));
        }
    }
    let used: Vec<Measured> = laws.values().flatten().map(|&at| rows[at].clone()).collect();
    let drawn = drawn_loads(&used);
    let laws: Vec<_> = laws.into_iter().collect();
    let fits: Vec<_> = laws
        .par_iter()
        .map(|((family, software), at)| one_law(*family, software, rows, at, device, &drawn))
        .collect();
    let mut sets = Vec::new();
    for (((family, software), at), set) in laws.into_iter().zip(fits) {
        match set {
            Ok(set) => sets.push(set),
            Err(why) => {
                left_out.add(format!("{} of {}: {why}", family.name(), software.label()), at.len());
            }
        }
    }
    sets
}

fn is_drawn(row: &Measured) -> bool {
    matches!(&row.case, Case::Experts(case) if matches!(case.loads, Loads::Drawn(_)))
}

/// How many rows have known loads; all of them where none has.
fn keep_known_loads(rows: &[Measured], at: &[usize]) -> usize {
    let known = at.iter().filter(|&&i| !is_drawn(&rows[i])).count();
    if known == 0 { at.len() } else { known }
}

fn one_law(
    family: Family,
    software: &Software,
    rows: &[Measured],
    at: &[usize],
    device: &Device,
    drawn: &DrawnLoads,
) -> Result<Set, String> {
    let samples = at.iter().map(|&i| sample(&rows[i], drawn)).collect::<Result<Vec<_>, _>>()?;
    let start = start(family, software, device)
        .ok_or_else(|| format!("the device {} has no stack to start from", device.name))?;
    let fitted = fit(family, &samples, device, &start).map_err(|why| why.to_string())?;
    let evidence = Evidence::of(at, &fitted.errors, fitted.held_out.as_deref())
        .ok_or_else(|| "there are no rows".to_owned())?;
    Ok(Set { family, software: software.clone(), stack: fitted.stack, evidence })
}

fn sample<'a>(row: &'a Measured, drawn: &DrawnLoads) -> Result<Sample<'a>, String> {
    let draws = match &row.case {
        Case::Experts(case) => match &case.loads {
            Loads::Counts { tokens, .. } => vec![tokens.clone()],
            Loads::Drawn(loads) => match drawn.get(&loads.key()) {
                Some(Ok(draws)) => draws.iter().take(DRAWS).cloned().collect(),
                Some(Err(why)) => return Err(why.to_string()),
                None => Vec::new(),
            },
        },
        _ => Vec::new(),
    };
    Ok(Sample { row, draws })
}

/// The stack whose constants of this law come nearest; 8-bit experts' in the place of the
/// 16-bit ones, which are then what is fitted.
fn start(family: Family, software: &Software, device: &Device) -> Option<Stack> {
    let choice = match family {
        Family::Gemm => choose(device, software, |stack| &stack.gemm)?,
        Family::Prefill => choose(device, software, |stack| &stack.prefill)?,
        Family::Decode => choose(device, software, |stack| &stack.decode)?,
        Family::Experts => choose(device, software, |stack| &stack.experts)?,
        Family::ExpertsFp8 => {
            choose(device, software, |stack| stack.experts_fp8.as_ref().unwrap_or(&stack.experts))?
        }
        Family::Norm => choose(device, software, |stack| &stack.norm)?,
        Family::Activation => choose(device, software, |stack| &stack.activation)?,
        Family::TopK => choose(device, software, |stack| &stack.top_k)?,
        Family::Copy => choose(device, software, |stack| &stack.copy)?,
    };
    let mut stack = choice.stack.clone();
    if let Some(narrow) = stack.experts_fp8.take().filter(|_| family == Family::ExpertsFp8) {
        stack.experts = narrow;
    }
    Some(stack)
}
