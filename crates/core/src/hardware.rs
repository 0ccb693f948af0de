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
use crate::cost::latent::LatentBlockConstants;
use crate::cost::predictor::RecurrentConstants;
use crate::engines::{Engine, LIST};
use crate::price::Basis;
use crate::system::{Dtype, Operands};
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
    /// Recurrent predictors, where they were measured on the device.
    pub recurrent: Option<Fit<RecurrentConstants>>,
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
    /// 4-bit floats, where the device computes in them.
    pub fp4: Option<FlopsPerSecond>,
    /// 32-bit floats, in the tensor format where there is one.
    pub fp32: FlopsPerSecond,
}

impl PeakRates {
    /// The rate for operands of `dtype`; narrow ones are widened where the device cannot multiply
    /// them.
    #[must_use]
    pub fn of(&self, dtype: Dtype) -> FlopsPerSecond {
        match dtype {
            Dtype::Bf16 | Dtype::Fp16 | Dtype::Int4 => self.bf16,
            Dtype::Fp8 | Dtype::Fp8Block => self.fp8.unwrap_or(self.bf16),
            Dtype::Nvfp4 | Dtype::Mxfp4 => self.fp4.unwrap_or_else(|| self.of(Dtype::Bf16)),
            Dtype::Fp32 => self.fp32,
        }
    }

    /// Whether the device multiplies operands of `dtype` as they are.
    #[must_use]
    pub const fn has(&self, dtype: Dtype) -> bool {
        match dtype {
            Dtype::Fp8 | Dtype::Fp8Block => self.fp8.is_some(),
            Dtype::Nvfp4 | Dtype::Mxfp4 => self.fp4.is_some(),
            Dtype::Int4 => false,
            Dtype::Bf16 | Dtype::Fp16 | Dtype::Fp32 => true,
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
    /// The same laws in other number formats, and latent attention, where measured.
    pub formats: Formats,
    /// Normalisation of rows.
    pub norm: Fit<RowConstants>,
    /// The gated activation between an expert's matrices, where it is its own kernel.
    pub activation: Fit<RowConstants>,
    /// Softmax and top-k over the router's scores.
    pub top_k: Fit<TopKConstants>,
    /// Copies within the device's memory.
    pub copy: Fit<RowConstants>,
}

/// Constants of one law by number format.
pub type ByFormat<C> = Vec<(Operands, Fit<C>)>;

/// Constants of a stack's laws in number formats of their own; of latent attention in any.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Formats {
    /// Dense matrix products.
    pub gemm: ByFormat<GemmConstants>,
    /// Attention over whole prompts.
    pub prefill: ByFormat<PrefillConstants>,
    /// Attention of one new token per sequence.
    pub decode: ByFormat<DecodeConstants>,
    /// The routed experts of one device.
    pub experts: ByFormat<ExpertConstants>,
    /// Latent attention over whole prompts.
    pub latent_prefill: ByFormat<PrefillConstants>,
    /// Latent attention of one new token per sequence.
    pub latent_decode: ByFormat<DecodeConstants>,
    /// The module around latent attention over whole prompts.
    pub latent_prefill_block: ByFormat<LatentBlockConstants>,
    /// The module around latent attention of one new token per sequence.
    pub latent_decode_block: ByFormat<LatentBlockConstants>,
}

/// Constants for some operands, and whether they were fitted in that very format.
#[derive(Debug)]
pub struct Chosen<'a, C> {
    /// The constants.
    pub fit: &'a Fit<C>,
    /// Whether they were fitted in the format, or stand in for it.
    pub own: bool,
}

/// Added to the error band where constants were fitted in another number format.
const OTHER_FORMAT: f64 = 0.15;

impl<C> Chosen<'_, C> {
    /// The relative error to expect.
    #[must_use]
    pub fn band(&self) -> f64 {
        self.fit.band + if self.own { 0.0 } else { OTHER_FORMAT }
    }

    /// What they rest on.
    #[must_use]
    pub fn basis(&self) -> Basis {
        if self.own { self.fit.basis } else { self.fit.basis.max(Basis::Fitted) }
    }
}

/// The constants for such operands: their own, else those of the same arithmetic, else the 16-bit
/// ones.
#[must_use]
pub fn fit_for<'a, C>(
    wide: &'a Fit<C>,
    formats: &'a ByFormat<C>,
    operands: Operands,
) -> Chosen<'a, C> {
    let found = |alike: &dyn Fn(&Operands) -> bool| {
        formats.iter().find(|(of, _)| alike(of)).map(|(_, fit)| fit)
    };
    if let Some(fit) = found(&|of| *of == operands) {
        return Chosen { fit, own: true };
    }
    if operands.are_wide() {
        return Chosen { fit: wide, own: operands.computed != Dtype::Fp32 };
    }
    let alike = found(&|of| of.computed == operands.computed && !of.are_wide());
    Chosen { fit: alike.unwrap_or(wide), own: false }
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

impl Link {
    /// The link of a device that is alone, over which nothing is sent.
    #[must_use]
    pub fn unused() -> Self {
        let name = "none".to_owned();
        Self { name, bandwidth: BytesPerSecond::new(1e9), latency: Seconds::ZERO, domain: None }
    }
}
