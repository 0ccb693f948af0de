//! The laws of dispatch and combine of DeepEP-like libraries.
//!
//! One law for every build, mode, way and number of nodes ([`DeepEpKey`]), fitted to rows
//! of uniform routing: floor and what it grows by per element of the hidden size,
//! bandwidth, a ramp, copies of own tokens, a header. Rows of one shape decide few of
//! them, so each is drawn to what is usual. How far the floor hides behind the transfer is
//! one of a few. Between nodes a fabric may be congested from a size on, and in
//! low-latency mode the number of experts counts: the floor grows with it, and with few of them the
//! multiprocessors that send are slower than the link; each is kept where it explains the rows
//! clearly better.

use std::collections::BTreeMap;

use rayon::prelude::*;

use crate::calibrate::evidence::{ByVersion, Evidence, LeftOut, measured_most};
use crate::calibrate::fit::four_digits;
use crate::calibrate::held_out::{folds, held_out};
use crate::calibrate::shrinkage::{Point, Relatives};
use crate::validate::exchange::{key, received};
use crate::validate::measured::{Case, ExchangeCase, Measured};
use moe_gps_core::comm::direction::token_bytes;
use moe_gps_core::comm::profile::{
    Congestion, Curve, DeepEpFit, DeepEpKey, DeepEpMode, Fitted, Ramp, Way, senders,
};
use moe_gps_core::system::Dtype;
use moe_gps_core::units::{Bytes, BytesPerSecond, Seconds};

/// Fewest rows for a law of their own.
const FEWEST: usize = 10;

/// Parts the shapes are split into; each is held out once.
const FOLDS: usize = 5;

/// Share of the error that a further part of the law must take away to be kept.
const CLEARLY: f64 = 0.2;

/// Overlaps that are tried: floor and transfer one after the other, or behind each other
/// the more the larger it is.
const OVERLAPS: [f64; 3] = [1.0, 2.0, 4.0];

/// What of a law is chosen rather than fitted.
#[derive(Debug, Clone, Copy)]
struct Form {
    overlap: f64,
    congested: bool,
    /// Whether the number of experts counts.
    by_expert: bool,
}

/// Fits the laws that the rows `at` speak of.
pub fn fit(
    rows: &[Measured],
    at: &[usize],
    multiprocessors: u32,
    left_out: &mut LeftOut,
) -> BTreeMap<DeepEpKey, (DeepEpFit, Evidence)> {
    let mut builds: BTreeMap<DeepEpKey, ByVersion<Sent>> = BTreeMap::new();
    for at in at.iter().copied() {
        let Case::Exchange(case) = &rows[at].case else { continue };
        let key = key(case);
        let of = builds.entry(key).or_default().entry(&rows[at].software).or_default();
        of.push(Sent::new(at, case, multiprocessors, rows[at].time));
    }
    let mut chosen = Vec::new();
    for (key, versions) in builds {
        let (sent, others) = measured_most(versions);
        left_out.add("dispatch and combine: another version of the build", others);
        if sent.len() < FEWEST {
            left_out.add(
                format!("dispatch and combine: fewer than {FEWEST} rows of a mode"),
                sent.len(),
            );
        } else {
            chosen.push((key, sent));
        }
    }
    let fitted: Vec<_> =
        chosen.par_iter().filter_map(|(key, sent)| Some((*key, one(sent, *key)?))).collect();
    fitted.into_iter().collect()
}

fn one(sent: &[Sent], key: DeepEpKey) -> Option<(DeepEpFit, Evidence)> {
    let mean = |fit: &DeepEpFit| {
        sent.iter().map(|sent| sent.error(fit).abs()).sum::<f64>() / sent.len() as f64
    };
    let best = |congested: bool, by_expert: bool| {
        let forms = OVERLAPS.iter().map(|&overlap| Form { overlap, congested, by_expert });
        let fits = forms.filter_map(|form| Some((form, law(sent, key.way, form)?)));
        fits.min_by(|(_, a), (_, b)| mean(a).total_cmp(&mean(b)))
    };
    let plain = best(false, false)?;
    let further = match key.mode.first_version() {
        _ if key.nodes > 1 => best(true, false),
        DeepEpMode::LowLatency => best(false, true),
        _ => None,
    };
    let further = further.filter(|(_, fit)| mean(fit) < (1.0 - CLEARLY) * mean(&plain.1));
    let (form, mut fit) = further.unwrap_or(plain);
    let errors: Vec<f64> = sent.iter().map(|sent| sent.error(&fit)).collect();
    let held_out = unseen(sent, key.way, form);
    let rows: Vec<usize> = sent.iter().map(|sent| sent.row).collect();
    let evidence = Evidence::of(&rows, &errors, held_out.as_deref())?;
    let error = four_digits(evidence.expected().mean);
    (fit.fitted.error_small, fit.fitted.error_large) = (error, error);
    Some((fit, evidence))
}

/// A measured dispatch or combine.
#[derive(Debug, Clone, Copy)]
struct Sent {
    row: usize,
    hidden: f64,
    /// Bytes of a token's hidden state on the wire.
    token: f64,
    /// What the busiest device gets from others, in the unit of the mode.
    received: f64,
    /// Tokens of one device.
    own: f64,
    experts: u32,
    /// Multiprocessors that send them.
    senders: u32,
    /// What is the same in all sizes of a shape.
    shape: [u32; 4],
    time: f64,
}

impl Sent {
    fn new(row: usize, case: &ExchangeCase, multiprocessors: u32, time: Seconds) -> Self {
        let own = f64::from(case.tokens_per_device);
        let received = received(case);
        let dtype = if case.way == Way::Combine { case.combine } else { case.dispatch };
        let hidden = f64::from(case.hidden);
        let shape = [case.hidden, case.top_k, case.experts, u32::from(case.dispatch == Dtype::Fp8)];
        let token = token_bytes(hidden, dtype);
        let senders = senders(case.experts, multiprocessors);
        let experts = case.experts;
        Self { row, hidden, token, received, own, experts, senders, shape, time: time.get() }
    }

    fn time(&self, fit: &DeepEpFit) -> f64 {
        let bytes = fit.bytes(self.received, self.own, self.token);
        fit.curve(self.hidden, self.experts)
            .time(bytes.max(fit.sent_meanwhile(self.own, self.senders)))
            .get()
    }

    fn error(&self, fit: &DeepEpFit) -> f64 {
        self.time(fit) / self.time - 1.0
    }
}

/// A constant of the law: where it usually lies, and by how much it varies, in ln.
///
/// Guesses with wide spreads: they decide what rows of one shape cannot, and rows of
/// several shapes overrule them.
type Usual = (f64, f64);

/// The constants in order: floor, what it grows by per element, bandwidth, time and half
/// of the ramp, copies of own tokens, header, and where there is congestion its size and
/// what its bytes cost, or what the floor grows by per expert and
/// what a multiprocessor takes for a token.
fn usual(sent: &[Sent], way: Way, form: Form) -> Vec<Usual> {
    let least = sent.iter().map(|sent| sent.time).fold(f64::INFINITY, f64::min);
    let hidden = sent.iter().map(|sent| sent.hidden).fold(1.0, f64::max);
    let bytes = |sent: &Sent| (sent.received + 0.5 * sent.own) * (sent.token + 400.0);
    let most = sent.iter().map(bytes).fold(1.0, f64::max);
    let fastest = sent.iter().map(|sent| bytes(sent) / sent.time).fold(1.0, f64::max);
    let mut usual = vec![
        (least * 0.7, 1.0),
        (least * 0.3 / hidden, 1.0),
        (fastest, 0.5),
        (least * 0.5, 1.5),
        (1e6, 2.0),
        (0.5, 0.5),
        (400.0, 0.5),
    ];
    if form.congested {
        usual.extend([(most * 0.5, 1.0), (fastest, 1.0)]);
    }
    if form.by_expert {
        let experts = sent.iter().map(|sent| sent.experts).fold(1, u32::max);
        // What SGLang's build takes on an H100, 110 rows of ten shapes each way.
        let token = if way == Way::Combine { 0.6e-6 } else { 2.3e-6 };
        usual.extend([(least * 0.3 / f64::from(experts), 1.0), (token, 0.5)]);
    }
    usual
}

fn law(sent: &[Sent], way: Way, form: Form) -> Option<DeepEpFit> {
    let usual = usual(sent, way, form);
    let (centres, spreads): (Vec<f64>, Vec<f64>) = usual.into_iter().unzip();
    let relatives = Relatives::new(1, &centres, |constant, _, _| spreads[constant].powi(2))?;
    let points: Vec<Point<&Sent>> =
        sent.iter().map(|sent| Point { curve: 0, what: sent, time: sent.time }).collect();
    let found = relatives.fit(&points, |constants, sent| sent.time(&with(constants, form)));
    let rounded: Vec<f64> = found.first()?.iter().map(|value| four_digits(*value)).collect();
    Some(with(&rounded, form))
}

fn with(constants: &[f64], form: Form) -> DeepEpFit {
    let seconds = |i: usize| Seconds::new(constants[i]);
    let congestion = match constants.get(7..) {
        Some([from, bandwidth]) if form.congested => {
            Congestion { from: Bytes::new(*from), bandwidth: BytesPerSecond::new(*bandwidth) }
        }
        _ => Congestion::NONE,
    };
    let ramp = Ramp { time: seconds(3), half: Bytes::new(constants[4]), sharpness: 1.0 };
    let curve = Curve {
        floor: seconds(0),
        overlap: form.overlap,
        bandwidth: BytesPerSecond::new(constants[2]),
        ramps: [ramp, Ramp::NONE],
        congestion,
    };
    DeepEpFit {
        fitted: Fitted { curve, error_small: 0.0, error_large: 0.0 },
        floor_per_hidden: seconds(1),
        own_copies: constants[5],
        header: Bytes::new(constants[6]),
        floor_per_expert: if form.by_expert { seconds(7) } else { Seconds::ZERO },
        token: if form.by_expert { seconds(8) } else { Seconds::ZERO },
    }
}

/// Errors of every row by a law that had not seen its shape, or where there are hardly
/// any shapes its number of tokens.
fn unseen(sent: &[Sent], way: Way, form: Form) -> Option<Vec<f64>> {
    let shapes: Vec<Vec<u64>> =
        sent.iter().map(|sent| sent.shape.map(u64::from).to_vec()).collect();
    let tokens: Vec<Vec<u64>> = sent.iter().map(|sent| vec![sent.own.to_bits()]).collect();
    let by_shape = (3..=FOLDS).rev().find_map(|parts| folds(&shapes, parts));
    held_out(
        sent,
        &by_shape.or_else(|| folds(&tokens, FOLDS))?,
        |seen| law(seen, way, form),
        |unseen, fit| unseen.iter().map(|sent| sent.error(fit)).collect(),
    )
}
