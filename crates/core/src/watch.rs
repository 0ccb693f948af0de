//! Whether a map in force is still the right one: what a change gains once it is paid for, and how
//! long that must hold before it is said.
//!
//! ```text
//! net = 1 / (1/g + c/T)
//! pays = net(mid) > 1 + m  and  net(low) > 1
//! ```
//!
//! `g` what the advised plan gains over the map in force, as a ratio of step times (low and mid of
//! its interval); `c` seconds that serving stops while the plan takes the place of the map; `T`
//! seconds for which the plan is taken to hold; `m` the least gain that is asked for. In a time T
//! the map in force serves T; with the plan the same takes T/g, and c before it. The lower end of
//! the interval is the middle less the error band, so that a gain must exceed the band as well.
//!
//! What has held for a time is taken to hold as long again, and never for less than
//! [`SHORTEST_HOLD`]. Worked number (tested): g = 1.10, c = 3 s, T = 600 s give
//! 1 / (0.90909 + 0.005) = 1.0940.
//!
//! A judgement is one opinion. The advice turns only after every judgement has been of the other
//! opinion for the time that is asked for, in both directions, so that a burst changes nothing.

use crate::advice::uncertainty::Gain;
use crate::strategies::{NONE, Strategy};
use crate::units::Seconds;

/// The least time for which a plan is taken to hold: large deployments adjust the placement of their
/// experts about every ten minutes (DeepSeek-V3 technical report, arXiv 2412.19437, section 3.4.1).
pub const SHORTEST_HOLD: Seconds = Seconds::new(600.0);

/// What is asked of a gain.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Policy {
    /// The least gain for which anything is to be changed: 0.05 is five percent.
    pub min_gain: f64,
    /// How long every judgement must have been of one opinion.
    pub hold: Seconds,
}

impl Policy {
    /// For how long a plan is taken to hold.
    #[must_use]
    pub fn horizon(&self) -> Seconds {
        if self.hold > SHORTEST_HOLD { self.hold } else { SHORTEST_HOLD }
    }
}

/// A gain after the stall that it costs.
#[must_use]
pub fn net(gain: f64, stall: Seconds, horizon: Seconds) -> f64 {
    1.0 / (1.0 / gain + stall / horizon)
}

/// What an answer says of the map in force.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Advice {
    /// The strategy that runs.
    pub runs: Strategy,
    /// The strategy that is advised; `None` where the map in force is kept.
    pub advised: Option<Strategy>,
    /// What it gains over the map in force.
    pub gain: Gain,
    /// How long serving stops while it takes its place.
    pub stall: Seconds,
    /// Whether experts in order, with nothing balanced, would be advised as well.
    pub in_order_does: bool,
}

/// What one judgement finds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Opinion {
    /// The map in force is right, or a change would not pay.
    Keep,
    /// The same strategy with a new plan pays.
    ReplanPays,
    /// Another strategy pays.
    StrategyChanged,
    /// Nothing need be balanced any more.
    BalancingNoLongerPays,
}

impl Opinion {
    /// Every opinion with its name.
    pub const ALL: [(Self, &'static str); 4] = [
        (Self::Keep, "Keep"),
        (Self::ReplanPays, "ReplanPays"),
        (Self::StrategyChanged, "StrategyChanged"),
        (Self::BalancingNoLongerPays, "BalancingNoLongerPays"),
    ];

    /// Its name on the wire.
    #[must_use]
    pub fn id(self) -> &'static str {
        Self::ALL.iter().find(|(opinion, _)| *opinion == self).map_or("", |(_, id)| id)
    }

    /// The opinion of this name.
    #[must_use]
    pub fn by_id(id: &str) -> Option<Self> {
        Self::ALL.iter().find(|(_, name)| *name == id).map(|(opinion, _)| *opinion)
    }
}

/// The opinion that an answer comes to.
#[must_use]
pub fn judge(advice: &Advice, policy: &Policy) -> Opinion {
    let Some(advised) = advice.advised else { return Opinion::Keep };
    let after = |gain| net(gain, advice.stall, policy.horizon());
    let pays = after(advice.gain.mid) > 1.0 + policy.min_gain && after(advice.gain.low) > 1.0;
    match () {
        () if !pays => Opinion::Keep,
        () if advice.runs != NONE && (advised == NONE || advice.in_order_does) => {
            Opinion::BalancingNoLongerPays
        }
        () if advised == advice.runs => Opinion::ReplanPays,
        () => Opinion::StrategyChanged,
    }
}

/// What the judgements of a map so far come to; times are milliseconds of one clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Standing {
    /// Why the advice is not current; `Keep` where it is.
    pub said: Opinion,
    /// Since when every judgement has been of the other opinion than what is said.
    pub otherwise_since_ms: Option<i64>,
}

impl Default for Standing {
    fn default() -> Self {
        Self { said: Opinion::Keep, otherwise_since_ms: None }
    }
}

impl Standing {
    /// After one more judgement, of loads up to `at_ms`.
    #[must_use]
    pub fn after(self, opinion: Opinion, at_ms: i64, policy: &Policy) -> Self {
        if (opinion == Opinion::Keep) == (self.said == Opinion::Keep) {
            return Self { said: opinion, otherwise_since_ms: None };
        }
        let since_ms = self.otherwise_since_ms.unwrap_or(at_ms).min(at_ms);
        if policy.hold.get() * 1e3 <= (at_ms - since_ms) as f64 {
            return Self { said: opinion, otherwise_since_ms: None };
        }
        Self { otherwise_since_ms: Some(since_ms), ..self }
    }

    /// After a judgement that found too little evidence for an opinion: what was not seen in every
    /// judgement begins anew.
    #[must_use]
    pub const fn without_opinion(self) -> Self {
        Self { otherwise_since_ms: None, ..self }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::strategies::{DISTRIBUTION_ONLY, REPLACE_ONLY};

    const POLICY: Policy = Policy { min_gain: 0.05, hold: Seconds::new(600.0) };

    fn advice(low: f64, mid: f64, stall: f64) -> Advice {
        Advice {
            runs: REPLACE_ONLY,
            advised: Some(REPLACE_ONLY),
            gain: Gain { low, mid, high: mid + (mid - low) },
            stall: Seconds::new(stall),
            in_order_does: false,
        }
    }

    #[test]
    fn a_gain_is_told_after_its_stall() {
        let after = net(1.10, Seconds::new(3.0), Seconds::new(600.0));
        assert!((after - 1.0940).abs() < 5e-5, "{after}");
        assert!((net(1.10, Seconds::ZERO, Seconds::new(1.0)) - 1.10).abs() < 1e-12);
        // Ten percent of ten minutes are 54.5 s: a stall of that length takes all of it.
        assert!((net(1.10, Seconds::new(600.0 / 11.0), Seconds::new(600.0)) - 1.0).abs() < 1e-12);
    }

    #[test]
    fn a_change_pays_above_the_least_gain_the_band_and_the_stall() {
        let of = |low, mid, stall| judge(&advice(low, mid, stall), &POLICY);
        assert_eq!(of(1.08, 1.10, 3.0), Opinion::ReplanPays);
        assert_eq!(of(1.03, 1.04, 0.0), Opinion::Keep, "less than is asked for");
        assert_eq!(of(0.98, 1.10, 0.0), Opinion::Keep, "within the band");
        assert_eq!(of(1.08, 1.10, 40.0), Opinion::Keep, "eaten by the stall");
        // The same stall is paid where the plan holds for longer.
        let long = Policy { hold: Seconds::new(3600.0), ..POLICY };
        assert_eq!(judge(&advice(1.08, 1.10, 40.0), &long), Opinion::ReplanPays);
    }

    #[test]
    fn reasons_follow_from_what_runs_and_what_is_advised() {
        let with = |change: fn(&mut Advice)| {
            let mut advice = advice(1.08, 1.10, 0.0);
            change(&mut advice);
            judge(&advice, &POLICY)
        };
        assert_eq!(with(|one| one.advised = None), Opinion::Keep);
        assert_eq!(with(|one| one.advised = Some(DISTRIBUTION_ONLY)), Opinion::StrategyChanged);
        assert_eq!(with(|one| one.runs = NONE), Opinion::StrategyChanged);
        assert_eq!(with(|one| one.advised = Some(NONE)), Opinion::BalancingNoLongerPays);
        assert_eq!(with(|one| one.in_order_does = true), Opinion::BalancingNoLongerPays);
        for (opinion, id) in Opinion::ALL {
            assert_eq!((Opinion::by_id(opinion.id()), opinion.id()), (Some(opinion), id));
        }
    }

    #[test]
    fn what_is_said_turns_after_every_judgement_of_the_time_and_not_by_a_burst() {
        use Opinion::{Keep, ReplanPays};
        let told = |opinions: &[(i64, Opinion)]| {
            let mut standing = Standing::default();
            let after = |(minute, opinion): &(i64, Opinion)| {
                standing = standing.after(*opinion, minute * 60_000, &POLICY);
                standing.said
            };
            opinions.iter().map(after).collect::<Vec<_>>()
        };
        assert_eq!(
            told(&[(0, Keep), (5, ReplanPays), (14, ReplanPays), (15, ReplanPays), (16, Keep)]),
            [Keep, Keep, Keep, ReplanPays, ReplanPays]
        );
        // One judgement between that keeps the map begins the time anew, and so does one without
        // evidence.
        assert_eq!(
            told(&[(0, ReplanPays), (9, Keep), (10, ReplanPays), (19, ReplanPays)]),
            [Keep; 4]
        );
        let halfway = Standing::default().after(ReplanPays, 0, &POLICY).without_opinion();
        assert_eq!(halfway.after(ReplanPays, 600_000, &POLICY).said, Keep);
        // It turns back after as long.
        assert_eq!(
            told(&[(0, ReplanPays), (10, ReplanPays), (11, Keep), (20, Keep), (21, Keep)]),
            [Keep, ReplanPays, ReplanPays, ReplanPays, Keep]
        );
        // Without a time to hold, every judgement counts at once.
        let at_once = Policy { hold: Seconds::ZERO, ..POLICY };
        assert_eq!(Standing::default().after(ReplanPays, 7, &at_once).said, ReplanPays);
    }
}
