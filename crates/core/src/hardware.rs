//! Devices, links and the fitted constants of a device profile.
//!
//! A device is its datasheet plus one or more *stacks*: compute efficiency and start-up
//! time belong to a framework, its version and its kernels as much as to a chip, so one
//! device has several sets of constants and an engine picks one by its kernel.

use std::sync::Arc;

use crate::comm::profile::CommunicationProfile;
use crate::cost::attention::{DecodeConstants, PrefillConstants};
use crate::cost::elementwise::{RowConstants, TopKConstants};
use crate::cost::experts::ExpertConstants;
use crate::cost::gemm::GemmConstants;
use crate::engines::{Engine, LIST};
use crate::price::Basis;
use crate::system::Dtype;
use crate::units::{Bytes, BytesPerSecond, FlopsPerSecond, Seconds};

/// A kind of accelerator.
#[derive(Debug, Clone, PartialEq)]
pub struct Device {
    /// Catalog id, or the user's own name.
    pub name: String,
    /// Fitted communication constants, where somebody measured them.
    pub collectives: Option<Arc<CommunicationProfile>>,
    /// Memory of one device.
    pub memory: Bytes,
    /// Peak memory bandwidth.
    pub bandwidth: BytesPerSecond,
    /// Peak dense rates of the matrix units.
    pub peak: PeakRates,
    /// Streaming multiprocessors (compute units on AMD).
    pub multiprocessors: u32,
    /// Last-level cache in front of memory.
    pub l2: Bytes,
    /// Host time per kernel launch when no graph is replayed.
    pub eager_launch: Seconds,
    /// Stacks in order of preference; at least one.
    pub stacks: Arc<[Stack]>,
}

/// Peak dense rates of the matrix units, per number format.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PeakRates {
    /// 16-bit floats of either kind.
    pub bf16: FlopsPerSecond,
    /// 8-bit floats, where the device computes in them.
    pub fp8: Option<FlopsPerSecond>,
    /// 32-bit floats, in the tensor format where there is one.
    pub fp32: FlopsPerSecond,
}

impl PeakRates {
    /// The rate for operands of `dtype`; 8-bit floats are widened where the device
    /// cannot multiply them.
    #[must_use]
    pub fn of(&self, dtype: Dtype) -> FlopsPerSecond {
        match dtype {
            // 4-bit weights are multiplied in the activations' format.
            Dtype::Bf16 | Dtype::Fp16 | Dtype::Nvfp4 | Dtype::Mxfp4 | Dtype::Int4 => self.bf16,
            Dtype::Fp8 | Dtype::Fp8Block => self.fp8.unwrap_or(self.bf16),
            Dtype::Fp32 => self.fp32,
        }
    }
}

/// Constants of one software stack on one device, operator by operator.
#[derive(Debug, Clone, PartialEq)]
pub struct Stack {
    /// Its name within the device, such as `tensorrt-llm`.
    pub name: String,
    /// Kernels of the routed experts that its constants stand for.
    pub kernels: Vec<String>,
    /// Dense matrix products.
    pub gemm: Fit<GemmConstants>,
    /// Attention over whole prompts.
    pub prefill: Fit<PrefillConstants>,
    /// Attention of one new token per sequence.
    pub decode: Fit<DecodeConstants>,
    /// The routed experts of one device, 16-bit weights.
    pub experts: Fit<ExpertConstants>,
    /// The routed experts of one device, 8-bit weights, where measured.
    pub experts_fp8: Option<Fit<ExpertConstants>>,
    /// Normalisation of rows.
    pub norm: Fit<RowConstants>,
    /// The gated activation between an expert's matrices, where it is its own kernel.
    pub activation: Fit<RowConstants>,
    /// Softmax and top-k over the router's scores.
    pub top_k: Fit<TopKConstants>,
    /// Copies within the device's memory.
    pub copy: Fit<RowConstants>,
}

/// Constants of a law with what is known of their making.
#[derive(Debug, Clone, PartialEq)]
pub struct Fit<C> {
    /// The constants.
    pub constants: C,
    /// Relative error to expect of a price.
    pub band: f64,
    /// Fitted to measurements of this device, or carried over.
    pub basis: Basis,
    /// Where they come from.
    pub provenance: Provenance,
}

/// Where fitted constants come from.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Provenance {
    /// Framework, as the measurements name it.
    pub framework: String,
    /// Version of the framework.
    pub version: String,
    /// Kernel, as the measurements name it.
    pub kernel: String,
    /// What was measured, by whom.
    pub source: String,
    /// Day of the fit, ISO 8601.
    pub date: String,
    /// Rows of measurements fitted.
    pub rows: u32,
    /// Mean absolute relative error over those rows; `None` where nothing was measured.
    pub mean_error: Option<f64>,
    /// The same on whole shapes the fit had not seen.
    pub held_out_error: Option<f64>,
}

impl Device {
    /// The stack of that name.
    #[must_use]
    pub fn stack(&self, name: &str) -> Option<&Stack> {
        self.stacks.iter().find(|stack| stack.name == name)
    }

    /// The stack an engine uses here: the first with the kernel it prefers among those that
    /// stacks here have, else the first of all.
    ///
    /// `None` only for a device without stacks, which the catalog refuses.
    #[must_use]
    pub fn default_stack(&self, engine: &Engine) -> Option<&Stack> {
        let with = |kernel: &&str| {
            self.stacks.iter().find(|stack| stack.kernels.iter().any(|name| name == kernel))
        };
        engine.moe_kernels.iter().find_map(with).or_else(|| self.stacks.first())
    }

    /// The engines that use the stack of that name here, in the order of the list.
    pub fn engines_of(&self, stack: &str) -> impl Iterator<Item = &'static Engine> {
        let uses = move |engine: &&Engine| {
            self.default_stack(engine).is_some_and(|found| found.name == stack)
        };
        LIST.iter().copied().filter(uses)
    }
}

/// A link between devices.
#[derive(Debug, Clone, PartialEq)]
pub struct Link {
    /// Catalog id, or the user's own name.
    pub name: String,
    /// Bandwidth of one device's link, per direction.
    pub bandwidth: BytesPerSecond,
    /// Latency of one message.
    pub latency: Seconds,
    /// Devices that one domain of it joins, where its name says so.
    pub domain: Option<u32>,
}
