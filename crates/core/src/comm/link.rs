//! The law of one collective over one group of devices joined by one link.
//!
//! On the link a profile was measured on, the profile's curve, its bandwidth scaled by
//! the stated over the measured nominal bandwidth. A library that hands operations from a
//! size on to NCCL takes NCCL's time from there, and never less than its own at that size,
//! so that time does not fall with bytes. On any other link, latency and
//! bandwidth:
//!
//! ```text
//! t(x) = L · (a + h · log2 n) + x / (EFFICIENCY · W)
//! ```
//!
//! `L` latency and `W` bandwidth of the link, `n` devices; `a`, `h` per operation from
//! NCCL's small-message times on A100 over L = 8.92 µs (all-reduce 10.0, 14.2, 21.5 µs
//! on 2, 4, 8 devices; all-gather 9.1, 10.8, 15.3 µs; all-to-all 10.5, 12.4, 13 µs).
//! Valid for 2 devices and more. Worked number: an all-gather of 32 MB over 4 devices
//! on PCIe 4 (32 GB/s, 8.92 µs): 12.13 + 24 MB/(0.75 · 32 GB/s) = 1012.1 µs.

use crate::comm::profile::{
    Collective, CollectiveFit, CollectiveKernel, CommunicationProfile, Congestion, Curve, Fitted,
    Ramp,
};
use crate::hardware::Link;
use crate::price::{Basis, Price};
use crate::units::{Bytes, Seconds};

/// Share of a link's nominal bandwidth that large messages reach; NCCL on NVLink 3
/// and 4 reaches 0.6 to 0.8 of it, RDMA and PCIe links 0.8 to 0.9.
pub const EFFICIENCY: f64 = 0.75;

/// Error band of the latency-and-bandwidth law on a link nobody measured.
pub const UNMEASURED_BAND: f64 = 0.35;

/// The law of one collective over one group.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct GroupLaw {
    /// The library's own law.
    own: Between,
    /// The size from which it calls NCCL, and NCCL's law.
    beyond: Option<(Bytes, Between)>,
    /// Share of the operation's size that crosses one link.
    wire_factor: f64,
    /// Added to the bands of the curves.
    extra_band: f64,
    basis: Basis,
}

/// A law between those of two numbers of devices.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Between {
    /// The curve of the nearest smaller and larger measured group.
    curves: [Fitted; 2],
    /// How far the group lies towards the larger one, in log2 of the devices.
    towards: f64,
}

impl Between {
    fn time(&self, wire: Bytes) -> Seconds {
        let [low, high] = self.curves;
        let near = low.curve.time(wire);
        if self.towards <= 0.0 {
            return near;
        }
        near * (1.0 - self.towards) + high.curve.time(wire) * self.towards
    }

    fn band(&self, size: Bytes) -> f64 {
        self.curves[0].band(size).max(self.curves[1].band(size))
    }
}

impl GroupLaw {
    /// The law of `operation` among `devices` devices joined by `link`.
    #[must_use]
    pub fn new(
        profile: Option<&CommunicationProfile>,
        kernel: CollectiveKernel,
        operation: Collective,
        devices: u32,
        link: &Link,
    ) -> Self {
        let wire_factor = operation.wire_factor(f64::from(devices));
        profile
            .filter(|profile| profile.link == link.name)
            .and_then(|profile| {
                Self::measured(profile, kernel, operation, devices, link).or_else(|| {
                    Self::measured(profile, CollectiveKernel::Nccl, operation, devices, link)
                })
            })
            .unwrap_or_else(|| {
                let curve = latency_and_bandwidth(operation, f64::from(devices), link);
                let fitted = Fitted { curve, error_small: 0.0, error_large: 0.0 };
                Self {
                    own: Between { curves: [fitted; 2], towards: 0.0 },
                    beyond: None,
                    wire_factor,
                    extra_band: UNMEASURED_BAND,
                    basis: Basis::Roofline,
                }
            })
    }

    fn measured(
        profile: &CommunicationProfile,
        kernel: CollectiveKernel,
        operation: Collective,
        devices: u32,
        link: &Link,
    ) -> Option<Self> {
        let of = |devices: u32| (kernel, operation, devices);
        let mut below = profile.collectives.range(of(0)..=of(devices));
        let mut above = profile.collectives.range(of(devices)..=of(u32::MAX));
        let (low, high) = match (below.next_back(), above.next()) {
            (Some(low), Some(high)) => (low, high),
            (Some(end), None) | (None, Some(end)) => (end, end),
            (None, None) => return None,
        };
        let (low_devices, high_devices) = (f64::from(low.0.2), f64::from(high.0.2));
        let n = f64::from(devices);
        let speed = link.bandwidth / profile.link_bandwidth;
        // Beyond the largest measured group every doubling adds a stage.
        let stretch = if n > high_devices { n.log2() / high_devices.log2() } else { 1.0 };
        let scaled = |CollectiveFit { fitted, .. }: &CollectiveFit| Fitted {
            curve: Curve { floor: fitted.curve.floor * stretch, ..fitted.curve.scaled(speed) },
            ..*fitted
        };
        let beyond = low.1.handover.filter(|_| kernel != CollectiveKernel::Nccl).and_then(|from| {
            let nccl = CollectiveKernel::Nccl;
            Some((from, Self::measured(profile, nccl, operation, devices, link)?.own))
        });
        let exact = low.0.2 == devices || high.0.2 == devices;
        Some(Self {
            own: Between {
                curves: [scaled(low.1), scaled(high.1)],
                towards: if low_devices < high_devices {
                    (n / low_devices).log2() / (high_devices / low_devices).log2()
                } else {
                    0.0
                },
            },
            beyond,
            wire_factor: operation.wire_factor(n),
            extra_band: speed.ln().abs().min(1.0) * UNMEASURED_BAND + if exact { 0.0 } else { 0.1 },
            basis: if exact && (speed - 1.0).abs() < 1e-9 {
                Basis::Fitted
            } else {
                Basis::Roofline
            },
        })
    }

    /// The time of an operation of `size` bytes (as [`Collective`] defines size).
    #[must_use]
    pub fn time(&self, size: Bytes) -> Seconds {
        let wire = size * self.wire_factor;
        match &self.beyond {
            Some((from, nccl)) if size >= *from => {
                nccl.time(wire).max(self.own.time(*from * self.wire_factor))
            }
            _ => self.own.time(wire),
        }
    }

    /// The same with its error band.
    #[must_use]
    pub fn price(&self, size: Bytes) -> Price {
        let band = match &self.beyond {
            Some((from, nccl)) if size >= *from => nccl.band(size),
            _ => self.own.band(size),
        };
        Price { time: self.time(size), band: band + self.extra_band, basis: self.basis }
    }
}

/// The curve of a link nobody measured; see the module for the formula.
#[must_use]
pub fn latency_and_bandwidth(operation: Collective, devices: f64, link: &Link) -> Curve {
    let (once, per_doubling) = match operation {
        Collective::AllReduce => (0.5, 0.65),
        Collective::AllGather | Collective::ReduceScatter => (0.7, 0.33),
        Collective::AllToAll => (1.0, 0.2),
    };
    let stages = once + per_doubling * devices.max(2.0).log2();
    Curve {
        floor: link.latency * stages,
        overlap: 1.0,
        bandwidth: link.bandwidth * EFFICIENCY,
        ramps: [Ramp::NONE; 2],
        congestion: Congestion::NONE,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::units::BytesPerSecond;

    #[test]
    fn a_handed_over_operation_takes_what_the_other_library_takes() {
        let link = Link {
            name: "nvlink".to_owned(),
            bandwidth: BytesPerSecond::new(1e11),
            latency: Seconds::ZERO,
            domain: None,
        };
        let fit = |floor: f64, handover: Option<f64>| {
            let curve = Curve {
                floor: Seconds::new(floor),
                overlap: 1.0,
                bandwidth: link.bandwidth,
                ramps: [Ramp::NONE; 2],
                congestion: Congestion::NONE,
            };
            let fitted = Fitted { curve, error_small: 0.1, error_large: floor * 1e3 };
            CollectiveFit { fitted, handover: handover.map(Bytes::new) }
        };
        let at = |nccl: f64| {
            let profile = CommunicationProfile {
                link: link.name.clone(),
                link_bandwidth: link.bandwidth,
                inter_node_link: None,
                inter_node_bandwidth: link.bandwidth,
                collectives: [
                    (CollectiveKernel::Nccl, fit(nccl, None)),
                    (CollectiveKernel::Vllm, fit(10e-6, Some(8e6))),
                ]
                .map(|(kernel, fit)| ((kernel, Collective::AllReduce, 2), fit))
                .into(),
                deep_ep: std::collections::BTreeMap::new(),
            };
            GroupLaw::new(Some(&profile), CollectiveKernel::Vllm, Collective::AllReduce, 2, &link)
        };
        // 8 MB over two devices cross the link in 80 µs.
        for (nccl, size, expected) in [
            (50e-6, 4e6, 10e-6 + 40e-6),
            (50e-6, 8e6, 50e-6 + 80e-6),
            (1e-6, 8e6, 10e-6 + 80e-6), // Never below its own at the handover.
            (1e-6, 16e6, 1e-6 + 160e-6),
        ] {
            let price = at(nccl).price(Bytes::new(size));
            assert!((price.time.get() - expected).abs() < 1e-12, "{nccl} {size}: {price:?}");
            let band = 2.06 * if size < 8e6 { 10e-6 * 1e3 } else { nccl * 1e3 };
            assert!((price.band - band).abs() < 1e-12, "{price:?}");
        }
    }

    #[test]
    fn an_unmeasured_link_costs_latency_and_bytes() {
        let link = Link {
            name: "pcie4".to_owned(),
            bandwidth: BytesPerSecond::new(32e9),
            latency: Seconds::new(8.92e-6),
            domain: None,
        };
        let law = GroupLaw::new(None, CollectiveKernel::Nccl, Collective::AllGather, 4, &link);
        let price = law.price(Bytes::new(32e6));
        assert!((price.time.get() - 1012.1312e-6).abs() < 1e-10, "{:?}", price.time);
        assert_eq!(price.basis, Basis::Roofline);
        assert!((price.band - UNMEASURED_BAND).abs() < 1e-12);
    }
}
