//! Everything measured on one device fitted: laws of its operators, curves of its links.

use std::collections::BTreeMap;

use rayon::prelude::*;

use crate::calibrate::collectives;
use crate::calibrate::evidence::{Evidence, LeftOut};
use crate::calibrate::exchanges;
use crate::calibrate::fit::fit;
use crate::calibrate::floors;
use crate::calibrate::parameters::{Family, Parameter, Sample};
use crate::calibrate::recurrent::{self, Recurrent};
use crate::validate::measured::{Case, Launch, Loads, Measured, Op, Software, Subset};
use crate::validate::price::{DrawnLoads, drawn_loads};
use crate::validate::profiles::choose;
use moe_gps_core::comm::profile::{CollectiveFit, CollectiveKey, DeepEpFit, DeepEpKey};
use moe_gps_core::cost::latent::LatentBlockConstants;
use moe_gps_core::hardware::{Device, Fit, Provenance, Stack, fit_for};
use moe_gps_core::price::Basis;
use moe_gps_core::system::Operands;
use moe_gps_core::units::Seconds;

/// Draws of a random load that a fit averages over; more take longer and change little.
const DRAWS: usize = 4;

/// One law fitted to the measurements of one piece of software.
#[derive(Debug, Clone)]
pub struct Set {
    /// The law.
    pub family: Family,
    /// The number format of what it takes.
    pub operands: Operands,
    /// The software.
    pub software: Software,
    /// A stack that holds the constants.
    pub stack: Stack,
    /// What they rest on.
    pub evidence: Evidence,
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
    /// Recurrent predictors.
    pub recurrent: Option<Recurrent>,
    /// What was not fitted, and why.
    pub left_out: LeftOut,
}

/// Fits what `rows` measure of `device`, starting from its own constants.
#[must_use]
pub fn calibrate(rows: &[Measured], device: &Device) -> Calibration {
    let mut left_out = LeftOut::default();
    let mut laws: BTreeMap<Of, Vec<usize>> = BTreeMap::new();
    let (mut links, mut predictors): (Vec<usize>, Vec<usize>) = (Vec::new(), Vec::new());
    for (at, row) in rows.iter().enumerate() {
        if row.subset == Subset::Excluded {
            left_out.add("known to be wrong", 1);
        } else if row.launch != Launch::None {
            left_out.add("the host's launch is in the time", 1);
        } else if row.op == Op::AlltoallSplit {
            left_out.add("alltoall_split: the law is that of equal parts", 1);
        } else if matches!(row.case, Case::Collective { .. } | Case::Exchange(_)) {
            links.push(at);
        } else if recurrent::is_of(row) {
            predictors.push(at);
        } else if let Some(family) = Family::of(row) {
            laws.entry((family, row.operands, row.software.clone())).or_default().push(at);
        } else {
            left_out.add(format!("{}: no free constants of its own", row.op.name()), 1);
        }
    }
    let sets = operators(rows, laws, device, &mut left_out);
    let profile = device.collectives.as_deref();
    let collectives = collectives::fit(rows, &links, profile, &mut left_out);
    let exchanges = exchanges::fit(rows, &links, device.multiprocessors, &mut left_out);
    let recurrent = recurrent::fit(rows, &predictors, device, &mut left_out);
    Calibration { sets, collectives, exchanges, recurrent, left_out }
}

/// Which rows decide one set of constants: a law in a number format, of one piece of software.
type Of = (Family, Operands, Software);

/// Fits the laws of a device's operators, each to the rows of one piece of software.
///
/// Modules of latent attention come last: products and kernels in them take the constants that were
/// just fitted, and a kernel that was not measured by itself is fitted inside its module.
fn operators(
    rows: &[Measured],
    mut laws: BTreeMap<Of, Vec<usize>>,
    device: &Device,
    left_out: &mut LeftOut,
) -> Vec<Set> {
    join_minor_kernels(&mut laws);
    for ((family, ..), at) in &mut laws {
        let known = keep_known_loads(rows, at);
        if known < at.len() {
            let what = format!("{}: loads drawn at random, where others are known", family.name());
            left_out.add(what, at.len() - known);
            at.retain(|&i| !is_drawn(&rows[i]));
        }
    }
    let used: Vec<Measured> = laws.values().flatten().map(|&at| rows[at].clone()).collect();
    let drawn = drawn_loads(&used);
    let (modules, laws): (Vec<_>, Vec<_>) =
        laws.into_iter().partition(|((family, ..), _)| family.kernel().is_some());
    let mut sets: Vec<Set> = Vec::new();
    for stage in [laws, modules] {
        let fits: Vec<_> = stage
            .par_iter()
            .map(|(of, at)| {
                let start = start(of, device, &sets).ok_or_else(|| {
                    format!("the device {} has no stack to start from", device.name)
                })?;
                one_law(of, rows, at, device, &drawn, &start)
            })
            .collect();
        for (((family, operands, software), at), found) in stage.into_iter().zip(fits) {
            match found {
                Ok(found) => sets.extend(found),
                Err(why) => {
                    let of = format!("{} of {}", family.name(), software.label());
                    left_out.add(format!("{of} in {}: {why}", operands.name()), at.len());
                }
            }
        }
    }
    sets
}

/// Share of a framework's rows of one law that a kernel must have to be fitted by itself.
const MINOR: f64 = 0.25;

/// Rows of a kernel that a framework takes for few shapes join those of the one it takes for most,
/// so that a law follows what the framework takes; kernels of experts are chosen by users.
fn join_minor_kernels(laws: &mut BTreeMap<Of, Vec<usize>>) {
    let mut frameworks: BTreeMap<(Family, Operands, String, String), Vec<Of>> = BTreeMap::new();
    for of in laws.keys().filter(|(family, ..)| *family != Family::Experts) {
        let (family, operands, software) = of;
        let (framework, version) = (software.framework.clone(), software.version.clone());
        frameworks.entry((*family, *operands, framework, version)).or_default().push(of.clone());
    }
    for of in frameworks.into_values().filter(|of| of.len() > 1) {
        let rows = |of: &Of| laws.get(of).map_or(0, Vec::len);
        let all: usize = of.iter().map(rows).sum();
        let Some(main) = of.iter().max_by_key(|of| rows(of)).cloned() else { continue };
        let minor: Vec<&Of> =
            of.iter().filter(|of| **of != main && (rows(of) as f64) < MINOR * all as f64).collect();
        for of in minor {
            let mut at = laws.remove(of).unwrap_or_default();
            laws.entry(main.clone()).or_default().append(&mut at);
        }
    }
    for at in laws.values_mut() {
        at.sort_unstable();
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

/// Fits one law; with a module its kernel, where that was not measured by itself.
fn one_law(
    (family, operands, software): &Of,
    rows: &[Measured],
    at: &[usize],
    device: &Device,
    drawn: &DrawnLoads,
    (start, kernel_is_known): &(Stack, bool),
) -> Result<Vec<Set>, String> {
    let samples = at.iter().map(|&i| sample(&rows[i], drawn)).collect::<Result<Vec<_>, _>>()?;
    let inner = family.kernel().filter(|_| !kernel_is_known);
    let mut free: Vec<&Parameter> = family.free(&samples);
    free.extend(inner.into_iter().flat_map(|kernel| kernel.free(&samples)));
    let start = &floors::set(*family, &samples, start);
    if *family == Family::Gemm && start.gemm.constants.host > Seconds::ZERO {
        // The host hides what a kernel takes to start.
        free.retain(|parameter| !floors::HIDDEN.contains(&parameter.name));
    }
    let fitted = fit(*family, &free, &samples, device, start).map_err(|why| why.to_string())?;
    let evidence = Evidence::of(at, &fitted.errors, fitted.held_out.as_deref())
        .ok_or_else(|| "there are no rows".to_owned())?;
    let set = |family| Set {
        family,
        operands: *operands,
        software: software.clone(),
        stack: fitted.stack.clone(),
        evidence: evidence.clone(),
    };
    Ok([Some(*family), inner].into_iter().flatten().map(set).collect())
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

/// The stack whose constants of this law and format come nearest, in the place of its 16-bit ones,
/// which are what is fitted; and whether the kernel of a module was fitted already.
fn start(
    (family, operands, software): &Of,
    device: &Device,
    sets: &[Set],
) -> Option<(Stack, bool)> {
    let of = *operands;
    macro_rules! nearest {
        ($wide:ident, $narrow:ident) => {{
            let choice = choose(device, software, |stack| {
                fit_for(&stack.$wide, &stack.formats.$narrow, of).fit
            })?;
            let mut stack = choice.stack.clone();
            stack.$wide = fit_for(&stack.$wide, &stack.formats.$narrow, of).fit.clone();
            stack
        }};
    }
    let mut stack = match family {
        Family::Gemm => nearest!(gemm, gemm),
        Family::Prefill => nearest!(prefill, prefill),
        Family::Decode => nearest!(decode, decode),
        Family::LatentPrefill | Family::LatentPrefillBlock => nearest!(prefill, latent_prefill),
        Family::LatentDecode | Family::LatentDecodeBlock => nearest!(decode, latent_decode),
        Family::Experts => nearest!(experts, experts),
        Family::Norm => choose(device, software, |stack| &stack.norm)?.stack.clone(),
        Family::Activation => choose(device, software, |stack| &stack.activation)?.stack.clone(),
        Family::TopK => choose(device, software, |stack| &stack.top_k)?.stack.clone(),
        Family::Copy => choose(device, software, |stack| &stack.copy)?.stack.clone(),
    };
    let mut formats = std::mem::take(&mut stack.formats);
    let Some(kernel) = family.kernel() else { return Some((stack, true)) };
    // A module: products of its framework in every format, its kernel, and itself.
    let own = |set: &&Set| {
        set.software.framework == software.framework && set.software.version == software.version
    };
    stack.formats.gemm = std::mem::take(&mut formats.gemm);
    for set in sets.iter().filter(|set| set.family == Family::Gemm).filter(own) {
        if set.operands.are_wide() {
            stack.gemm = set.stack.gemm.clone();
        } else {
            stack.formats.gemm.retain(|(of, _)| *of != set.operands);
            stack.formats.gemm.push((set.operands, set.stack.gemm.clone()));
        }
    }
    let measured = sets.iter().filter(own).find(|set| set.family == kernel && set.operands == of);
    if let Some(set) = measured {
        stack.prefill = set.stack.prefill.clone();
        stack.decode = set.stack.decode.clone();
    }
    let constants = LatentBlockConstants {
        start: Seconds::new(10e-6),
        passes: 2.0,
        quantise_start: Seconds::new(5e-6),
        quantise_passes: 1.0,
    };
    let provenance = Provenance::default();
    let module = vec![(of, Fit { constants, band: 0.1, basis: Basis::Fitted, provenance })];
    match family {
        Family::LatentPrefillBlock => stack.formats.latent_prefill_block = module,
        _ => stack.formats.latent_decode_block = module,
    }
    Some((stack, measured.is_some()))
}
