//! One way of an all-to-all over one link: how many bytes a token is, and their time.
//!
//! On the link a profile was measured on, the profile's [`DeepEpFit`] of the engine's
//! builds in its order, of that mode, else of its first version; on any other link latency
//! and bandwidth. Constants of nodes of so many devices that are asked of another group are
//! carried over: their band is that of a link nobody measured.

use crate::comm::link::{UNMEASURED_BAND, latency_and_bandwidth};
use crate::comm::profile::{
    Collective, CommunicationProfile, Congestion, Curve, DeepEpFit, DeepEpKey, DeepEpMode, Ramp,
    Way, senders,
};
use crate::engines::Engine;
use crate::hardware::Link;
use crate::price::{Basis, Price};
use crate::system::Dtype;
use crate::units::{Bytes, BytesPerSecond, Seconds};

/// A curve over link bytes, and how many bytes a received token is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct WayLaw {
    curve: Curve,
    bytes_per_token: f64,
    /// Bytes that do not depend on routing.
    own_bytes: f64,
    /// What few multiprocessors take to send, however fast the link is.
    least: Seconds,
    band: f64,
    basis: Basis,
    /// Whether it was measured, on a group of this size or another.
    pub(super) is_measured: bool,
    /// What was measured, where that was a group of another size.
    pub(super) carried: Option<DeepEpKey>,
}

impl WayLaw {
    /// Devices alone in their node have nobody to send to.
    pub(super) const FREE: Self = Self {
        curve: Curve {
            floor: Seconds::ZERO,
            overlap: 1.0,
            bandwidth: BytesPerSecond::new(1.0),
            ramps: [Ramp::NONE; 2],
            congestion: Congestion::NONE,
        },
        bytes_per_token: 0.0,
        own_bytes: 0.0,
        least: Seconds::ZERO,
        band: 0.0,
        basis: Basis::Fitted,
        is_measured: true,
        carried: None,
    };

    pub(super) fn time(&self, received: f64) -> Seconds {
        let bytes = self.own_bytes + self.bytes_per_token * received;
        self.curve.time(Bytes::new(bytes)).max(self.least)
    }

    pub(super) fn price(&self, received: f64) -> Price {
        Price { time: self.time(received), band: self.band, basis: self.basis }
    }
}

/// Bytes of one token's hidden state on the wire; fp8 carries a 4-byte scale per 128.
#[must_use]
pub fn token_bytes(hidden: f64, dtype: Dtype) -> f64 {
    match dtype {
        Dtype::Fp8 => hidden * (1.0 + 4.0 / 128.0),
        other => hidden * other.bytes(),
    }
}

/// What is needed to find the law of one way over one link.
pub(super) struct WayJob<'a> {
    pub(super) hidden: f64,
    pub(super) bytes: f64,
    pub(super) own: f64,
    /// Routed experts of a layer.
    pub(super) experts: u32,
    pub(super) multiprocessors: u32,
    pub(super) mode: DeepEpMode,
    pub(super) way: Way,
    pub(super) engine: &'static Engine,
    pub(super) profile: Option<&'a CommunicationProfile>,
    /// Devices of the group in one node.
    pub(super) per_node: u32,
}

impl WayJob<'_> {
    pub(super) fn law(&self, link: &Link, nodes: u32, peers: u32) -> WayLaw {
        self.measured(link, nodes).unwrap_or_else(|| WayLaw {
            curve: latency_and_bandwidth(Collective::AllToAll, f64::from(peers), link),
            bytes_per_token: self.bytes,
            own_bytes: 0.0,
            least: Seconds::ZERO,
            band: UNMEASURED_BAND,
            basis: Basis::Roofline,
            is_measured: false,
            carried: None,
        })
    }

    fn measured(&self, link: &Link, nodes: u32) -> Option<WayLaw> {
        let profile = self.profile?;
        let nominal = if nodes > 1 {
            (profile.inter_node_link.as_deref() == Some(link.name.as_str()))
                .then_some(profile.inter_node_bandwidth)?
        } else {
            (profile.link == link.name).then_some(profile.link_bandwidth)?
        };
        let (key, fit) = [self.mode, self.mode.first_version()]
            .into_iter()
            .flat_map(|mode| self.engine.exchange_builds.iter().map(move |build| (*build, mode)))
            .find_map(|(stack, mode)| {
                nearest(profile, (stack, mode, self.way), nodes, self.per_node)
            })?;
        let speed = link.bandwidth / nominal;
        let alike = key.nodes == nodes && self.per_node == key.per_node;
        let scaled = speed.ln().abs().min(1.0) * UNMEASURED_BAND;
        let widened = match (alike, scaled > 1e-9) {
            (true, false) => 0.0,
            (true, true) => 0.1 + scaled,
            (false, _) => UNMEASURED_BAND + scaled,
        };
        let curve = fit.curve(self.hidden, self.experts);
        let sent = fit.sent_meanwhile(self.own, senders(self.experts, self.multiprocessors));
        Some(WayLaw {
            curve: curve.scaled(speed),
            bytes_per_token: fit.bytes(1.0, 0.0, self.bytes).get(),
            own_bytes: fit.bytes(0.0, self.own, self.bytes).get(),
            least: curve.time(sent),
            band: fit.fitted.band(Bytes::ZERO) + widened,
            basis: if alike { Basis::Fitted } else { Basis::Roofline },
            is_measured: true,
            carried: (!alike).then_some(*key),
        })
    }
}

/// The fit for the number of nodes, or for the nearest smaller one, then larger one; among those of
/// one number of nodes that of as many devices in each, or of the nearest smaller number, then larger.
fn nearest<'a>(
    profile: &'a CommunicationProfile,
    (stack, mode, way): (&'static Engine, DeepEpMode, Way),
    nodes: u32,
    per_node: u32,
) -> Option<(&'a DeepEpKey, &'a DeepEpFit)> {
    let of = |key: &DeepEpKey| {
        // One node has no link between nodes, and is nobody's stand-in for several.
        (key.stack, key.mode, key.way) == (stack, mode, way) && (key.nodes == 1) == (nodes == 1)
    };
    let apart = |measured: u32, asked: u32| (measured > asked, measured.abs_diff(asked));
    let found = profile.deep_ep.iter().filter(|(key, _)| of(key));
    found.min_by_key(|(key, _)| (apart(key.nodes, nodes), apart(key.per_node, per_node)))
}
