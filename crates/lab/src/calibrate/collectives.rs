//! The curves of the collectives of one library, fitted together.
//!
//! A [`Curve`] over the bytes that cross a link for every operation and number of devices:
//! floor, bandwidth and ramps are free, what is a choice of the library stands in `Form`.
//! Curves that share an algorithm, an operation or a number of devices are drawn towards
//! each other, so that a group with few large messages borrows its bandwidth, and an
//! operation without a size near a change of protocol borrows its place.

use std::collections::{BTreeMap, BTreeSet};

use rayon::prelude::*;

use crate::calibrate::evidence::{ByVersion, Evidence, LeftOut, measured_most};
use crate::calibrate::fit::four_digits;
use crate::calibrate::held_out::{folds, held_out};
use crate::calibrate::shrinkage::{Point, Relatives};
use crate::validate::errors::Errors;
use crate::validate::measured::{Case, Measured, Subset};
use moe_gps_core::comm::profile::{
    Collective, CollectiveFit, CollectiveKernel, CollectiveKey, CommunicationProfile, Congestion,
    Curve, Fitted, Ramp,
};
use moe_gps_core::units::{Bytes, BytesPerSecond, Seconds};

/// Fewest sizes of one operation on one number of devices.
const FEWEST: usize = 3;

/// Parts the sizes are split into; each is held out once.
const FOLDS: usize = 5;

/// What is a choice of a library rather than a number.
struct Form {
    /// How far the floor hides behind the transfer.
    overlap: f64,
    /// How suddenly the cost of each change of protocol is paid.
    sharpness: &'static [f64],
}

/// The form of an operation's curve.
///
/// Chosen for each library over all devices, by errors on sizes held out. NCCL gathers
/// and scatters on one ring and exchanges its protocol at a size, so their second ramp is
/// a step; its all-reduce goes from trees to rings as well, and the sends of its
/// all-to-all grow channel by channel: theirs are drawn out. vLLM's kernel has one
/// protocol and hides half of its floor; called from the host it hides the launches, and
/// steps up where NCCL begins.
const fn form(kernel: CollectiveKernel, operation: Collective) -> Form {
    let (overlap, sharpness): (f64, &[f64]) = match (kernel, operation) {
        (CollectiveKernel::Vllm, _) => (2.0, &[1.0]),
        (CollectiveKernel::VllmEager, _) => (3.0, &[1.0, 3.0]),
        (
            CollectiveKernel::Nccl | CollectiveKernel::NcclOld,
            Collective::AllGather | Collective::ReduceScatter,
        ) => (1.0, &[1.0, 2.0]),
        _ => (1.0, &[1.0, 1.0]),
    };
    Form { overlap, sharpness }
}

/// The law a measurement speaks of, if it is of a collective among several devices.
const fn key(row: &Measured) -> Option<CollectiveKey> {
    match row.case {
        Case::Collective { kernel, operation, devices, .. } if devices > 1 => {
            Some((kernel, operation, devices))
        }
        _ => None,
    }
}

/// Fits the curves that the rows `at` speak of, those of one library together.
///
/// `profile` says from which sizes a library hands over to NCCL: such rows are NCCL's.
pub fn fit(
    rows: &[Measured],
    at: &[usize],
    profile: Option<&CommunicationProfile>,
    left_out: &mut LeftOut,
) -> BTreeMap<CollectiveKey, (CollectiveFit, Evidence)> {
    let libraries = libraries(rows, at, profile, left_out);
    let libraries: Vec<Vec<(CollectiveKey, usize)>> = libraries.into_values().collect();
    let fitted: Vec<_> = libraries
        .par_iter()
        .map(|keyed| {
            let rows: Vec<_> = keyed.iter().map(|(key, at)| (*key, *at, &rows[*at])).collect();
            one_library(&rows, profile)
        })
        .collect();
    let fitted: BTreeMap<CollectiveKey, (CollectiveFit, Evidence)> =
        fitted.into_iter().flatten().collect();
    let missing = libraries.iter().flatten().filter(|(key, _)| !fitted.contains_key(key));
    left_out.add("collectives with hardly any sizes", missing.count());
    fitted
}

/// The size from which the library of a key hands over to NCCL, as `profile` has it.
fn handover(profile: Option<&CommunicationProfile>, key: CollectiveKey) -> Option<Bytes> {
    profile?.collectives.get(&key)?.handover
}

/// The rows of every library with their keys: one version of each, and under NCCL what
/// others hand over to it.
fn libraries(
    rows: &[Measured],
    at: &[usize],
    profile: Option<&CommunicationProfile>,
    left_out: &mut LeftOut,
) -> BTreeMap<CollectiveKernel, Vec<(CollectiveKey, usize)>> {
    let mut versions: BTreeMap<CollectiveKernel, ByVersion<(CollectiveKey, usize)>> =
        BTreeMap::new();
    let mut handed_over = Vec::new();
    for at in at.iter().copied() {
        let row = &rows[at];
        let Some(key @ (kernel, operation, devices)) = key(row) else {
            if matches!(row.case, Case::Collective { .. }) {
                left_out.add("collectives on one device", 1);
            }
            continue;
        };
        if handover(profile, key).is_some_and(|from| size(row) >= Some(from)) {
            handed_over.push(((CollectiveKernel::Nccl, operation, devices), at));
        } else {
            let of = versions.entry(kernel).or_default().entry(&row.software).or_default();
            of.push((key, at));
        }
    }
    let mut libraries = BTreeMap::new();
    for (kernel, versions) in versions {
        let (chosen, others) = measured_most(versions);
        left_out.add("collectives: another version of the library", others);
        libraries.insert(kernel, chosen);
    }
    match libraries.get_mut(&CollectiveKernel::Nccl) {
        Some(own) => own.extend(handed_over),
        None => left_out.add("handed over to NCCL, which was not measured", handed_over.len()),
    }
    libraries
}

fn one_library(
    rows: &[(CollectiveKey, usize, &Measured)],
    profile: Option<&CommunicationProfile>,
) -> BTreeMap<CollectiveKey, (CollectiveFit, Evidence)> {
    let mut sizes: BTreeMap<CollectiveKey, BTreeSet<u64>> = BTreeMap::new();
    for (key, _, row) in rows {
        sizes.entry(*key).or_default().extend(size(row).map(|size| size.get().to_bits()));
    }
    let keys: Vec<CollectiveKey> =
        sizes.into_iter().filter(|(_, sizes)| sizes.len() >= FEWEST).map(|(key, _)| key).collect();
    let points: Vec<Message> = rows.iter().filter_map(|row| Message::of(row, &keys)).collect();
    let Some(curves) = together(&keys, &points) else { return BTreeMap::new() };
    let errors_of = |points: &[Message], curves: &Vec<Curve>| -> Vec<f64> {
        points.iter().map(|point| point.error(curves)).collect()
    };
    let errors = errors_of(&points, &curves);
    let shape = |point: &Message| vec![point.curve as u64, point.size.get().to_bits()];
    let folds = folds(&points.iter().map(shape).collect::<Vec<_>>(), FOLDS);
    let held_out =
        folds.and_then(|folds| held_out(&points, &folds, |seen| together(&keys, seen), errors_of));
    let known = held_out.as_ref().unwrap_or(&errors);
    // A band is that of the operation, over all numbers of devices.
    let band = |operation: Collective, small: bool| {
        let chosen = points
            .iter()
            .zip(known)
            .filter(|(point, _)| keys[point.curve].1 == operation && point.is_small() == small);
        let chosen: Vec<f64> = chosen.map(|(_, error)| *error).collect();
        Errors::of(&chosen).map(|errors| four_digits(errors.mean))
    };
    let of = |(at, key): (usize, &CollectiveKey)| {
        let own: Vec<usize> = (0..points.len()).filter(|i| points[*i].curve == at).collect();
        let chosen = |all: &[f64]| own.iter().map(|i| all[*i]).collect::<Vec<f64>>();
        let (small, large) = (band(key.1, true), band(key.1, false));
        let fitted = Fitted {
            curve: curves[at],
            error_small: small.or(large)?,
            error_large: large.or(small)?,
        };
        let rows: Vec<usize> = own.iter().map(|i| points[*i].row).collect();
        let unseen = held_out.as_deref().map(chosen);
        let evidence = Evidence::of(&rows, &chosen(&errors), unseen.as_deref())?;
        Some((*key, (CollectiveFit { fitted, handover: handover(profile, *key) }, evidence)))
    };
    keys.iter().enumerate().filter_map(of).collect()
}

/// A measured operation.
#[derive(Debug, Clone, Copy)]
struct Message {
    /// Which of the curves.
    curve: usize,
    row: usize,
    size: Bytes,
    /// What of it crosses a link.
    wire: Bytes,
    time: f64,
}

fn size(row: &Measured) -> Option<Bytes> {
    match row.case {
        Case::Collective { size, .. } => Some(size),
        _ => None,
    }
}

impl Message {
    fn of(
        (key, at, row): &(CollectiveKey, usize, &Measured),
        keys: &[CollectiveKey],
    ) -> Option<Self> {
        let size = size(row)?;
        let wire = size * key.1.wire_factor(f64::from(key.2));
        let curve = keys.binary_search(key).ok()?;
        Some(Self { curve, row: *at, size, wire, time: row.time.get() })
    }

    fn error(&self, curves: &[Curve]) -> f64 {
        curves[self.curve].time(self.wire).get() / self.time - 1.0
    }

    fn is_small(&self) -> bool {
        Subset::of_size(self.size) == Subset::Below1Mib
    }
}

/// A curve from its constants: floor, bandwidth, then time and half of every ramp.
fn curve(constants: &[f64], form: &Form) -> Curve {
    let mut ramps = [Ramp::NONE; 2];
    for (i, (ramp, sharpness)) in ramps.iter_mut().zip(form.sharpness).enumerate() {
        *ramp = Ramp {
            time: Seconds::new(constants[2 + 2 * i]),
            half: Bytes::new(constants[3 + 2 * i]),
            sharpness: *sharpness,
        };
    }
    Curve {
        floor: Seconds::new(constants[0]),
        overlap: form.overlap,
        bandwidth: BytesPerSecond::new(constants[1]),
        ramps,
        congestion: Congestion::NONE,
    }
}

/// What of its algorithm an operation shares with others: gathering and scattering run
/// one ring.
const fn algorithm(operation: Collective) -> u8 {
    match operation {
        Collective::AllGather | Collective::ReduceScatter => 0,
        Collective::AllReduce => 1,
        Collective::AllToAll => 2,
    }
}

/// Covariance between logarithms of a constant of two curves: the squares of what it varies
/// by in everything they have in common.
///
/// The spreads were chosen once for all devices, by errors on sizes held out; up to twice
/// of each changes no operation's mean error by more than 2 points.
fn covariance(a: CollectiveKey, b: CollectiveKey) -> f64 {
    let algorithm = algorithm(a.1) == algorithm(b.1);
    let (operation, devices) = (a.1 == b.1, a.2 == b.2);
    let levels: [(bool, f64); 6] = [
        (true, 2.5),
        (algorithm, 0.7),
        (operation, 0.05),
        (devices, 0.3),
        (algorithm && devices, 0.1),
        (operation && devices, 0.03),
    ];
    levels.iter().filter(|(common, _)| *common).map(|(_, spread)| spread * spread).sum()
}

fn together(keys: &[CollectiveKey], points: &[Message]) -> Option<Vec<Curve>> {
    let (kernel, operation, _) = *keys.first()?;
    let floor = points.iter().map(|point| point.time).fold(f64::INFINITY, f64::min);
    let fastest = points.iter().map(|point| point.wire.get() / point.time).fold(1.0, f64::max);
    let centres = [floor, fastest, floor * 0.3, 3e4, floor * 2.0, 3e6];
    let constants = 2 + 2 * form(kernel, operation).sharpness.len();
    let relatives =
        Relatives::new(keys.len(), &centres[..constants], |_, a, b| covariance(keys[a], keys[b]))?;
    let forms: Vec<Form> = keys.iter().map(|(kernel, of, _)| form(*kernel, *of)).collect();
    let given: Vec<Point<&Message>> = points
        .iter()
        .map(|point| Point { curve: point.curve, what: point, time: point.time })
        .collect();
    let found = relatives.fit(&given, |constants, point| {
        curve(constants, &forms[point.curve]).time(point.wire).get()
    });
    let rounded =
        |constants: &Vec<f64>| constants.iter().map(|x| four_digits(*x)).collect::<Vec<_>>();
    Some(found.iter().zip(&forms).map(|(found, form)| curve(&rounded(found), form)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::validate::measured::{Launch, Op, Software};

    fn row(devices: u32, size: f64, time: Seconds) -> Measured {
        let size = Bytes::new(size);
        Measured {
            line: 2,
            device: "d".to_owned(),
            software: Software::default(),
            format: String::new(),
            operands: moe_gps_core::system::Operands::BF16,
            op: Op::AllReduce,
            subset: Subset::of_size(size),
            case: Case::Collective {
                kernel: CollectiveKernel::Nccl,
                operation: Collective::AllReduce,
                devices,
                size,
            },
            time,
            launch: Launch::None,
            simulated: None,
        }
    }

    fn fitted(rows: &[Measured]) -> BTreeMap<CollectiveKey, (CollectiveFit, Evidence)> {
        let all: Vec<usize> = (0..rows.len()).collect();
        fit(rows, &all, None, &mut LeftOut::default())
    }

    #[test]
    fn times_made_by_a_curve_give_it_back() {
        let form = form(CollectiveKernel::Nccl, Collective::AllReduce);
        let truth = curve(&[10e-6, 300e9, 20e-6, 3e6, 1e-9, 1e9], &form);
        let rows: Vec<Measured> = (10..30)
            .map(|exponent| f64::from(exponent).exp2())
            .map(|size| row(4, size, truth.time(Bytes::new(size * 1.5))))
            .collect();
        let found = fitted(&rows);
        let (fit, evidence) = &found[&(CollectiveKernel::Nccl, Collective::AllReduce, 4)];
        assert!(evidence.errors.mean < 0.01, "{evidence:?}");
        assert!(evidence.held_out.unwrap().mean < 0.1, "{evidence:?}");
        assert!((fit.fitted.curve.bandwidth.get() / 300e9 - 1.0).abs() < 0.02, "{fit:?}");
        assert!(fitted(&rows[..2]).is_empty());
    }

    #[test]
    fn a_group_without_large_messages_borrows_its_bandwidth() {
        let form = form(CollectiveKernel::Nccl, Collective::AllReduce);
        let truth = curve(&[10e-6, 300e9, 20e-6, 3e6, 1e-9, 1e9], &form);
        let rows: Vec<Measured> = (10..30)
            .flat_map(|exponent| [(4, 1.5, exponent), (8, 1.75, exponent)])
            .filter(|(devices, _, exponent)| *devices == 4 || *exponent < 20)
            .map(|(devices, factor, exponent)| {
                let size = f64::from(exponent).exp2();
                row(devices, size, truth.time(Bytes::new(size * factor)))
            })
            .collect();
        let found = fitted(&rows);
        let (borrowed, _) = &found[&(CollectiveKernel::Nccl, Collective::AllReduce, 8)];
        let bandwidth = borrowed.fitted.curve.bandwidth.get();
        assert!((bandwidth / 300e9 - 1.0).abs() < 0.1, "{borrowed:?}");
    }
}
