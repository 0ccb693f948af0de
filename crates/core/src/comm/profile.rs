//! The shape of a communication law, and the fitted constants of a device profile.

use std::collections::BTreeMap;

use crate::engines::Engine;
use crate::units::{Bytes, BytesPerSecond, Seconds};

/// Time of one communication operator over the bytes that cross a device's link.
///
/// ```text
/// t(x) = (floor^q + (x/W)^q)^(1/q) + Σ_i ramp_i / (1 + (half_i/x)^p_i) + max(0, x − c)/V
/// ```
///
/// - `x` bytes through the busiest link, one direction; `W` bandwidth reached by large
///   messages; `floor` time of an empty message; `q` ≥ 1 says how far the floor hides
///   behind the transfer (1: not at all); a ramp is time that a larger message spends
///   once, on filling the pipeline or on a costlier protocol, half of it at `half`, the more
///   suddenly the larger its sharpness `p`; every byte beyond `c` costs 1/V more, where a
///   congested fabric slows down.
/// - Source: fitted, see `docs/calibration-communication.md`.
/// - Valid for x ≥ 0; continuous, rising in x, falling in W, `floor` at x = 0.
/// - Worked number: floor 10 µs, W 100 GB/s, q 1, one ramp of 20 µs at 1 MB, p 1:
///   1 MB takes 10 + 10 + 10 = 30 µs; 0.5 MB takes 10 + 5 + 20/(1 + 2^p), with p 3 17.2 µs.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Curve {
    /// Time of an empty message.
    pub floor: Seconds,
    /// How far the floor hides behind the transfer, q: 1 is not at all.
    pub overlap: f64,
    /// Bandwidth that large messages reach, per direction.
    pub bandwidth: BytesPerSecond,
    /// Time that larger messages spend once.
    pub ramps: [Ramp; 2],
    /// What the bytes of very large messages cost more.
    pub congestion: Congestion,
}

/// Bytes beyond a size that go slower.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Congestion {
    /// The size, c.
    pub from: Bytes,
    /// Every byte beyond it costs one over this besides, V.
    pub bandwidth: BytesPerSecond,
}

impl Congestion {
    /// No such size.
    pub const NONE: Self =
        Self { from: Bytes::new(f64::INFINITY), bandwidth: BytesPerSecond::new(1.0) };

    fn time(&self, bytes: f64) -> f64 {
        (bytes - self.from.get()).max(0.0) / self.bandwidth.get()
    }
}

/// A cost that saturates: half of `time` is paid at `half` bytes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Ramp {
    /// What is paid in the limit.
    pub time: Seconds,
    /// The size at which half of it is paid; above zero.
    pub half: Bytes,
    /// How suddenly, p: 1 where it grows over decades, more where a protocol is exchanged.
    pub sharpness: f64,
}

impl Ramp {
    /// No such cost.
    pub const NONE: Self = Self { time: Seconds::ZERO, half: Bytes::new(1.0), sharpness: 1.0 };

    fn time(&self, bytes: f64) -> f64 {
        let half = self.half.get();
        let paid = if self.sharpness <= 1.0 {
            bytes / (bytes + half)
        } else {
            1.0 / (1.0 + (half / bytes).powf(self.sharpness))
        };
        self.time.get() * paid
    }
}

impl Curve {
    /// The time of `bytes` through the busiest link.
    #[must_use]
    pub fn time(&self, bytes: Bytes) -> Seconds {
        let x = bytes.get();
        let floor = self.floor.get();
        let wire = x / self.bandwidth.get();
        let base = if self.overlap <= 1.0 {
            floor + wire
        } else {
            // The larger of the two is drawn out, so that no power overflows.
            let (large, small) = if floor > wire { (floor, wire) } else { (wire, floor) };
            if large > 0.0 { large * one_and(small / large, self.overlap) } else { 0.0 }
        };
        let [a, b] = self.ramps.map(|ramp| ramp.time(x));
        Seconds::new(base + a + b + self.congestion.time(x))
    }

    /// The same law on a link whose bandwidth is `factor` times as large.
    #[must_use]
    pub fn scaled(self, factor: f64) -> Self {
        let congestion =
            Congestion { bandwidth: self.congestion.bandwidth * factor, ..self.congestion };
        Self { bandwidth: self.bandwidth * factor, congestion, ..self }
    }
}

/// (1 + rᵠ)^(1/q), by square roots where q allows it: powers cost ten times as much.
fn one_and(r: f64, q: f64) -> f64 {
    match q {
        2.0 => (r * r + 1.0).sqrt(),
        4.0 => ((r * r) * (r * r) + 1.0).sqrt().sqrt(),
        _ => (1.0 + r.powf(q)).powf(1.0 / q),
    }
}

/// A curve with the errors it left.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Fitted {
    /// The law.
    pub curve: Curve,
    /// Mean relative error below 1 MiB.
    pub error_small: f64,
    /// Mean relative error from 1 MiB on.
    pub error_large: f64,
}

/// The 90th percentile of a normal distribution's absolute values over their mean, 1.645 √(π/2): nine
/// rows of ten lie within so many mean errors.
const NINETIETH: f64 = 2.06;

impl Fitted {
    /// The error band at a message of `bytes`.
    #[must_use]
    pub fn band(&self, bytes: Bytes) -> f64 {
        let mean = if bytes.get() < 1_048_576.0 { self.error_small } else { self.error_large };
        NINETIETH * mean
    }
}

/// Which collective: of which library, on how many devices.
pub type CollectiveKey = (CollectiveKernel, Collective, u32);

/// A collective of one library on one number of devices.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct CollectiveFit {
    /// The library's own law.
    pub fitted: Fitted,
    /// The size of the operation from which the library calls NCCL instead.
    pub handover: Option<Bytes>,
}

/// A collective operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Collective {
    /// Everyone gets the sum; size is the buffer of one device.
    AllReduce,
    /// Everyone gets everyone's part; size is the gathered buffer.
    AllGather,
    /// Everyone gets its part of the sum; size is the buffer that is sent.
    ReduceScatter,
    /// Everyone sends a part to everyone; size is the buffer one device sends.
    AllToAll,
}

impl Collective {
    /// Every collective with its name in profiles.
    pub const ALL: [(Self, &'static str); 4] = [
        (Self::AllReduce, "all_reduce"),
        (Self::AllGather, "all_gather"),
        (Self::ReduceScatter, "reduce_scatter"),
        (Self::AllToAll, "alltoall"),
    ];

    /// Share of the operation's size that crosses the link of one of `n` devices.
    ///
    /// (n − 1)/n, twice that for an all-reduce: the lower bound that ring algorithms
    /// reach (Thakur et al. 2005). For 4 devices: 1.5 (all-reduce) and 0.75.
    #[must_use]
    pub fn wire_factor(self, n: f64) -> f64 {
        let once = (n - 1.0).max(0.0) / n.max(1.0);
        if self == Self::AllReduce { 2.0 * once } else { once }
    }
}

/// The library that runs a collective.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum CollectiveKernel {
    /// NCCL.
    Nccl,
    /// NCCL 2.23 and older.
    NcclOld,
    /// vLLM's custom all-reduce, replayed in a CUDA graph; it hands large ones to NCCL.
    Vllm,
    /// The same called from the host, its launches included.
    VllmEager,
    /// TensorRT-LLM's all-reduce.
    TensorRtLlm,
    /// SGLang's custom all-reduce, replayed in a CUDA graph.
    Sglang,
    /// The same called from the host, its launches included.
    SglangEager,
}

impl CollectiveKernel {
    /// Every kernel with its name in profiles.
    pub const ALL: [(Self, &'static str); 7] = [
        (Self::Nccl, "nccl"),
        (Self::NcclOld, "nccl-2.23"),
        (Self::Vllm, "vllm"),
        (Self::VllmEager, "vllm-eager"),
        (Self::TensorRtLlm, "tensorrt-llm"),
        (Self::Sglang, "sglang"),
        (Self::SglangEager, "sglang-eager"),
    ];
}

/// The modes of DeepEP and kernels like it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum DeepEpMode {
    /// One copy per distinct device (or node); high throughput.
    Normal,
    /// One copy per token and expert; for decode.
    LowLatency,
    /// The second version's kernels for prompts.
    V2Normal,
    /// The second version's kernels for decode.
    V2LowLatency,
    /// TensorRT-LLM's over NVLink, both sides taking part: one copy per distinct device, and what is
    /// counted before.
    NvlinkTwoSided,
    /// The same, receivers alone reading.
    NvlinkOneSided,
}

impl DeepEpMode {
    /// Every mode with its name in profiles.
    pub const ALL: [(Self, &'static str); 6] = [
        (Self::Normal, "normal"),
        (Self::LowLatency, "low_latency"),
        (Self::V2Normal, "v2_normal"),
        (Self::V2LowLatency, "v2_low_latency"),
        (Self::NvlinkTwoSided, "nvlink_two_sided"),
        (Self::NvlinkOneSided, "nvlink_one_sided"),
    ];

    /// The same mode of the first version.
    #[must_use]
    pub const fn first_version(self) -> Self {
        match self {
            Self::Normal | Self::V2Normal | Self::NvlinkTwoSided | Self::NvlinkOneSided => {
                Self::Normal
            }
            Self::LowLatency | Self::V2LowLatency => Self::LowLatency,
        }
    }

    /// The same mode of the second version.
    #[must_use]
    pub const fn second_version(self) -> Self {
        match self.first_version() {
            Self::Normal => Self::V2Normal,
            _ => Self::V2LowLatency,
        }
    }
}

/// The ways of an exchange.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Way {
    /// Tokens to experts.
    Dispatch,
    /// Outputs back.
    Combine,
    /// What is counted before tokens are sent, where that is a step of its own.
    Prepare,
}

impl Way {
    /// All with their names in profiles.
    pub const ALL: [(Self, &'static str); 3] =
        [(Self::Dispatch, "dispatch"), (Self::Combine, "combine"), (Self::Prepare, "prepare")];
}

/// A fitted dispatch or combine of a DeepEP-like library.
///
/// ```text
/// x = max((received + own_copies · own) · (d · b + header), W · t_token · own / S)
/// floor = floor_0 + floor_per_hidden · d + floor_per_expert · E
/// ```
///
/// `received` counts what the busiest device gets from others in the mode's unit
/// (distinct tokens; over several nodes distinct tokens per node's device; pairs in
/// low-latency mode), `own` the tokens one device sends out. Worked number: 100 tokens of
/// 7,392 bytes with a header of 400, from a device with 50 of its own, half a copy each:
/// 974,000 bytes.
///
/// In low-latency mode a count goes out and is awaited for each of E experts, and a group of warps
/// serves each: S = ⌈E / ⌈E / multiprocessors⌉⌉
/// multiprocessors send (DeepEP, `csrc/kernels/internode_ll.cu`), each `t_token` a token, which
/// with few experts is longer than the link of bandwidth W takes. Worked number: 8 experts use 8
/// of 132 multiprocessors, 288 use 96; 1,024 tokens at 2.4 µs on 8 take 307 µs.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct DeepEpFit {
    /// The law, with the floor of a hidden size of zero.
    pub fitted: Fitted,
    /// What the floor grows by per element of the hidden size.
    pub floor_per_hidden: Seconds,
    /// What the floor grows by per expert of the layer.
    pub floor_per_expert: Seconds,
    /// Copies of its own tokens a device handles besides, as link traffic.
    pub own_copies: f64,
    /// Bytes that travel with every token besides its hidden state.
    pub header: Bytes,
    /// What a multiprocessor takes for a token that it sends, where few of them send.
    pub token: Seconds,
}

/// Multiprocessors that take part where each expert has a group of warps: S of [`DeepEpFit`].
#[must_use]
pub const fn senders(experts: u32, multiprocessors: u32) -> u32 {
    experts.div_ceil(experts.div_ceil(multiprocessors))
}

impl DeepEpFit {
    /// The curve for a hidden size and a number of experts.
    #[must_use]
    pub fn curve(&self, hidden: f64, experts: u32) -> Curve {
        let curve = self.fitted.curve;
        let floor = curve.floor
            + self.floor_per_hidden * hidden
            + self.floor_per_expert * f64::from(experts);
        Curve { floor, ..curve }
    }

    /// What crosses the link of a device: x of the formula, for tokens of `token` bytes.
    #[must_use]
    pub fn bytes(&self, received: f64, own: f64, token: f64) -> Bytes {
        (Bytes::new(token) + self.header) * (received + self.own_copies * own)
    }

    /// The bytes that a link moves while one of `senders` multiprocessors sends its part of `own`
    /// tokens: the second x of the formula.
    #[must_use]
    pub fn sent_meanwhile(&self, own: f64, senders: u32) -> Bytes {
        let seconds = self.token.get() * own / f64::from(senders);
        Bytes::new(self.fitted.curve.bandwidth.get() * seconds)
    }
}

/// Which DeepEP-like rows a fit stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct DeepEpKey {
    /// The engine whose build was measured.
    pub stack: &'static Engine,
    /// The mode.
    pub mode: DeepEpMode,
    /// Dispatch or combine.
    pub way: Way,
    /// Nodes.
    pub nodes: u32,
    /// Devices of each.
    pub per_node: u32,
}

/// The fitted communication constants of one device.
#[derive(Debug, Clone, PartialEq)]
pub struct CommunicationProfile {
    /// The link they were measured on, by catalog id.
    pub link: String,
    /// That link's nominal bandwidth, per direction.
    pub link_bandwidth: BytesPerSecond,
    /// The link between nodes they were measured on, by catalog id.
    pub inter_node_link: Option<String>,
    /// Nominal bandwidth of the link between nodes.
    pub inter_node_bandwidth: BytesPerSecond,
    /// Collectives inside a node, by kernel, operation and devices.
    pub collectives: BTreeMap<CollectiveKey, CollectiveFit>,
    /// Dispatch and combine of DeepEP-like libraries.
    pub deep_ep: BTreeMap<DeepEpKey, DeepEpFit>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn ramp_of(seconds: f64, half: f64, sharpness: f64) -> Ramp {
        Ramp { time: Seconds::new(seconds), half: Bytes::new(half), sharpness }
    }

    fn worked() -> Curve {
        Curve {
            floor: Seconds::new(10e-6),
            overlap: 1.0,
            bandwidth: BytesPerSecond::new(100e9),
            ramps: [ramp_of(20e-6, 1e6, 1.0), Ramp::NONE],
            congestion: Congestion::NONE,
        }
    }

    #[test]
    fn the_worked_number_comes_out() {
        let time = worked().time(Bytes::new(1e6)).get();
        assert!((time - 30e-6).abs() < 1e-15, "{time}");
        let sharp = Curve { ramps: [ramp_of(20e-6, 1e6, 3.0), Ramp::NONE], ..worked() };
        let time = sharp.time(Bytes::new(0.5e6)).get();
        assert!((time - (15.0 + 20.0 / 9.0) * 1e-6).abs() < 1e-15, "{time}");
        let hidden = Curve { overlap: 2.0, ..worked() }.time(Bytes::new(1e6)).get();
        assert!((hidden - (200f64.sqrt() + 10.0) * 1e-6).abs() < 1e-15, "{hidden}");
        let congestion = Congestion { from: Bytes::new(4e5), bandwidth: BytesPerSecond::new(60e9) };
        let jammed = Curve { congestion, ..worked() }.time(Bytes::new(1e6)).get();
        assert!((jammed - 40e-6).abs() < 1e-15, "{jammed}");
    }

    #[test]
    fn bytes_of_a_token_and_its_header_come_out() {
        let fit = DeepEpFit {
            fitted: Fitted { curve: worked(), error_small: 0.0, error_large: 0.0 },
            floor_per_hidden: Seconds::new(1e-9),
            own_copies: 0.5,
            floor_per_expert: Seconds::new(15e-9),
            token: Seconds::new(2.4e-6),
            header: Bytes::new(400.0),
        };
        assert!((fit.bytes(100.0, 50.0, 7392.0).get() - 974_000.0).abs() < 1e-6);
        assert!((fit.curve(7168.0, 200).floor.get() - 20.168e-6).abs() < 1e-15);
        assert_eq!([8, 132, 160, 288].map(|experts| senders(experts, 132)), [8, 132, 80, 96]);
        let meanwhile = fit.sent_meanwhile(1024.0, senders(8, 132));
        assert!(
            (meanwhile / fit.fitted.curve.bandwidth - Seconds::new(307.2e-6)).get().abs() < 1e-12
        );
    }

    #[test]
    fn roots_and_powers_agree() {
        for r in [0.0, 1e-3, 0.5, 1.0] {
            for q in [2.0, 4.0] {
                assert!((one_and(r, q) - one_and(r, q + 1e-12)).abs() < 1e-9, "{r} {q}");
            }
        }
    }

    proptest! {
        #[test]
        fn a_curve_rises_with_bytes_falls_with_bandwidth_and_starts_at_its_floor(
            floor in 0.0..1e-3f64, q in 1.0..5.0f64, bandwidth in 1e6..1e13f64,
            ramp in 0.0..1e-3f64, half in 1.0..1e9f64, x in 0.0..1e12f64,
            more in 0.0..1e12f64, faster in 1.0..100.0f64, sharpness in 1.0..6.0f64,
        ) {
            let curve = Curve {
                floor: Seconds::new(floor),
                overlap: q,
                bandwidth: BytesPerSecond::new(bandwidth),
                ramps: [ramp_of(ramp, half, sharpness), Ramp::NONE],
                congestion: Congestion {
                    from: Bytes::new(half * 10.0),
                    bandwidth: BytesPerSecond::new(bandwidth),
                },
            };
            let at = |bytes| curve.time(Bytes::new(bytes)).get();
            let slack = 1.0 + 1e-12;
            prop_assert!((at(0.0) - floor).abs() <= 1e-18);
            prop_assert!(at(x) <= at(x + more) * slack);
            prop_assert!(curve.scaled(faster).time(Bytes::new(x)).get() <= at(x) * slack);
            let near = at(x.mul_add(1e-9, x));
            prop_assert!((near - at(x)).abs() <= 1e-6 * at(x) + 1e-18, "a jump at {}", x);
        }
    }
}
