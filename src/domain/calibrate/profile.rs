//! Everything measured on one device fitted: laws of its operators, curves of its links.

use std::collections::BTreeMap;

use rayon::prelude::*;

use super::collectives::{self, FittedCurve, Key};
use super::fit::{Fitted, fit};
use super::parameters::{Family, Sample};
use crate::domain::comm::profile::{Collective, CollectiveKernel};
use crate::domain::hardware::{Device, Stack};
use crate::domain::validate::measured::{Case, Launch, Loads, Measured, Software, Subset};
use crate::domain::validate::price::{DrawnLoads, drawn_loads};
use crate::domain::validate::profiles::choose;

/// Draws of a random load that a fit averages over; more take longer and change little.
const DRAWS: usize = 4;

/// One law fitted to the measurements of one piece of software.
#[derive(Debug, Clone)]
pub struct Set {
    /// The law.
    pub family: Family,
    /// The software.
    pub software: Software,
    /// The constants, and how well they fit.
    pub fitted: Fitted,
    /// The rows they were fitted to, as indices into what was given.
    pub rows: Vec<usize>,
}

/// One curve fitted to the measurements of one collective.
#[derive(Debug, Clone)]
pub struct CurveSet {
    /// Library, operation, devices.
    pub key: Key,
    /// The curve, and how well it fits.
    pub fitted: FittedCurve,
    /// The rows it was fitted to.
    pub rows: Vec<usize>,
}

/// What measurements of one device gave.
#[derive(Debug, Clone, Default)]
pub struct Calibration {
    /// Laws of operators.
    pub sets: Vec<Set>,
    /// Curves of collectives.
    pub curves: Vec<CurveSet>,
    /// What was not fitted, and why.
    pub left_out: BTreeMap<String, u64>,
}

/// Fits what `rows` measure of `device`, starting from its own constants.
#[must_use]
pub fn calibrate(rows: &[Measured], device: &Device) -> Calibration {
    let mut found = Calibration::default();
    let mut laws: BTreeMap<(Family, &Software), Vec<usize>> = BTreeMap::new();
    let mut links: BTreeMap<Key, BTreeMap<&Software, Vec<usize>>> = BTreeMap::new();
    for (at, row) in rows.iter().enumerate() {
        if row.subset == Subset::Excluded {
            found.leave_out("known to be wrong");
        } else if row.launch != Launch::None {
            found.leave_out("the host's launch is in the time");
        } else if let Some(key) = collectives::key(row) {
            links.entry(key).or_default().entry(&row.software).or_default().push(at);
        } else if let Some(family) = Family::of(row) {
            laws.entry((family, &row.software)).or_default().push(at);
        } else {
            found.leave_out(&format!("{}: no free constants of its own", row.op.name()));
        }
    }
    for ((family, _), at) in &mut laws {
        let known = keep_known_loads(rows, at);
        if known < at.len() {
            let what = format!("{}: loads drawn at random, where others are known", family.name());
            *found.left_out.entry(what).or_default() += (at.len() - known) as u64;
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
    for (((family, software), at), fitted) in laws.into_iter().zip(fits) {
        match fitted {
            Ok(fitted) => {
                let software = software.clone();
                found.sets.push(Set { family, software, fitted, rows: at });
            }
            Err(why) => {
                let what = format!("{} of {}: {why}", family.name(), software.label());
                *found.left_out.entry(what).or_default() += at.len() as u64;
            }
        }
    }
    let links: Vec<_> = links
        .into_iter()
        .filter_map(|(key, versions)| {
            // A profile has one curve for a library: that of the version measured most,
            // the last of several.
            let all: usize = versions.values().map(Vec::len).sum();
            let at = versions.into_values().max_by_key(Vec::len)?;
            if all > at.len() {
                let what = "collectives: another version of the library".to_owned();
                *found.left_out.entry(what).or_default() += (all - at.len()) as u64;
            }
            Some((key, at))
        })
        .collect();
    let curves: Vec<_> = links
        .par_iter()
        .map(|(_, at)| collectives::fit(&at.iter().map(|&i| &rows[i]).collect::<Vec<_>>()))
        .collect();
    for ((key, at), fitted) in links.into_iter().zip(curves) {
        match fitted {
            Some(fitted) => found.curves.push(CurveSet { key, fitted, rows: at }),
            None => {
                *found
                    .left_out
                    .entry("collectives with hardly any sizes".to_owned())
                    .or_default() += at.len() as u64;
            }
        }
    }
    found
}

impl Calibration {
    fn leave_out(&mut self, why: &str) {
        *self.left_out.entry(why.to_owned()).or_default() += 1;
    }
}

impl CurveSet {
    /// Operation and devices in one word.
    #[must_use]
    pub fn name(&self) -> String {
        let (_, operation, devices) = self.key;
        let operation = Collective::ALL.iter().find(|(of, _)| *of == operation);
        format!("{} x{devices}", operation.map_or("", |(_, name)| name))
    }

    /// The library's name in catalog files.
    #[must_use]
    pub fn library(&self) -> &'static str {
        CollectiveKernel::ALL.iter().find(|(of, _)| *of == self.key.0).map_or("", |(_, name)| name)
    }
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
) -> Result<Fitted, String> {
    let samples = at.iter().map(|&i| sample(&rows[i], drawn)).collect::<Result<Vec<_>, _>>()?;
    let start = start(family, software, device)
        .ok_or_else(|| format!("the device {} has no stack to start from", device.name))?;
    fit(family, &samples, device, &start).map_err(|why| why.to_string())
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
