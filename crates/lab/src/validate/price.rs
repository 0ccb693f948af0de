//! A measurement priced with the laws and profiles that answer questions.

use std::collections::BTreeMap;

use rayon::prelude::*;

use crate::validate::draws::Drawn;
use crate::validate::measured::{Case, Launch, Loads, Measured};
use crate::validate::profiles::{Choice, Profiles};
use crate::validate::{collectives, compute, exchange, experts, server};
use moe_gps_core::units::Seconds;

/// What the model says of a measurement.
#[derive(Debug, Clone, PartialEq)]
pub struct Estimate {
    /// The time.
    pub time: Seconds,
    /// The error band of its constants; a whole server has none.
    pub band: Option<f64>,
    /// What the time of experts may be otherwise by.
    pub doubts: Option<Doubts>,
    /// Whose constants stood in for those of the measured software, if somebody's did.
    pub note: Option<String>,
}

impl Estimate {
    /// A time with nothing known of its errors.
    #[must_use]
    pub const fn of(time: Seconds) -> Self {
        Self { time, band: None, doubts: None, note: None }
    }
}

/// ln of the time over that as priced, where one thing is otherwise.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Doubts {
    /// Memory takes longer by the error band.
    pub memory: f64,
    /// Arithmetic does.
    pub arithmetic: f64,
    /// Standard deviation of what was measured, where loads were drawn.
    pub draws: f64,
}

/// Why a measurement has no price, with the way out.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, thiserror::Error)]
pub enum Unpriced {
    /// Nobody described the device.
    #[error("no profile of the device \"{0}\": add it to the catalog")]
    Device(String),
    /// The device has no stack at all.
    #[error("the device \"{0}\" has no stack: give it one")]
    Stack(String),
    /// A link of the profile is not in the catalog.
    #[error("no catalog entry of the link \"{0}\"")]
    Link(String),
    /// There is no law for it.
    #[error("no law for it: {0}")]
    NoLaw(&'static str),
    /// A plan for drawn loads cannot exist.
    #[error("no plan with the stated slots: {0}")]
    Plan(String),
}

/// Loads of the heaviest device, draw by draw, of every row that was drawn at random.
pub type DrawnLoads = BTreeMap<(u64, [u32; 5]), Result<Vec<Vec<f64>>, Unpriced>>;

/// Prices every row, in order; rows do not influence each other.
#[must_use]
pub fn price_all(rows: &[Measured], profiles: &Profiles) -> Vec<Result<Estimate, Unpriced>> {
    let drawn = drawn_loads(rows);
    rows.par_iter().map(|row| price(row, profiles, &drawn)).collect()
}

/// Draws the loads that rows need, every one once.
#[must_use]
pub fn drawn_loads(rows: &[Measured]) -> DrawnLoads {
    let needed: BTreeMap<_, Drawn> = rows
        .iter()
        .filter_map(|row| match &row.case {
            Case::Experts(case) => match &case.loads {
                Loads::Drawn(drawn) => Some((drawn.key(), *drawn)),
                Loads::Counts { .. } => None,
            },
            _ => None,
        })
        .collect();
    let needed: Vec<_> = needed.into_iter().collect();
    needed
        .par_iter()
        .map(|(key, drawn)| {
            (*key, drawn.heaviest().map_err(|error| Unpriced::Plan(error.to_string())))
        })
        .collect::<Vec<_>>()
        .into_iter()
        .collect()
}

/// Prices one row.
pub fn price(
    row: &Measured,
    profiles: &Profiles,
    drawn: &DrawnLoads,
) -> Result<Estimate, Unpriced> {
    if let Case::NoLaw(why) = row.case {
        return Err(Unpriced::NoLaw(why));
    }
    let device =
        profiles.device(&row.device).ok_or_else(|| Unpriced::Device(row.device.clone()))?;
    let estimate = match &row.case {
        Case::Experts(case) => experts::price(row, case, device, drawn)?,
        Case::Collective { kernel, operation, devices, size } => {
            collectives::price(device, profiles, *kernel, *operation, *devices, *size)?
        }
        Case::Exchange(case) => exchange::price(case, device, profiles)?,
        Case::Server(case) => server::price(case, row.op, device, profiles)?,
        _ => compute::price(row, device)?,
    };
    let (launch, note) = launch_of(row.launch);
    Ok(Estimate {
        time: estimate.time + launch,
        band: estimate.band,
        doubts: estimate.doubts,
        note: match (estimate.note, note) {
            (Some(one), Some(other)) => Some(format!("{one}; {other}")),
            (one, other) => one.or(other),
        },
    })
}

fn launch_of(launch: Launch) -> (Seconds, Option<String>) {
    match launch {
        Launch::None => (Seconds::ZERO, None),
        Launch::Stated(time) => (time, Some("LLMCompass's launch time added".to_owned())),
    }
}

/// Says in words whose constants stood in.
pub(super) fn note_of(choice: &Choice) -> Option<String> {
    let from = choice.stands_in?;
    Some(if choice.fitted {
        format!("constants of {} {} {}", from.framework, from.version, from.kernel)
    } else {
        format!("not measured here: {}", from.source)
    })
}
