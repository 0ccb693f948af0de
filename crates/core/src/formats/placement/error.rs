//! What can be wrong with a plan that is written to or read from a file.

use crate::placement::PlacementError;

/// Why a plan file cannot be written or read.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum PlanFileError {
    /// No format has this name.
    #[error("format is {id}; supported are {known}")]
    UnknownFormat {
        /// The name.
        id: String,
        /// The names there are.
        known: String,
    },
    /// The text is of none of the formats.
    #[error("the file is a placement in none of the formats {known}")]
    Unknown {
        /// The formats.
        known: String,
    },
    /// The text begins like one of the formats and goes on like none.
    #[error("the placement file cannot be read: {0}")]
    Unreadable(String),
    /// A plan without layers.
    #[error("the plan has no layers")]
    NoLayers,
    /// Layers out of order, twice, or beyond the model.
    #[error("layer {layer} is out of place: layers ascend and lie below {n_model_layers}")]
    LayerOrder {
        /// The layer.
        layer: u32,
        /// Layers of the model.
        n_model_layers: u32,
    },
    /// The map of a layer is not one.
    #[error("layer {layer}: {source}")]
    Layer {
        /// The layer.
        layer: u32,
        /// What is wrong with it.
        source: PlacementError,
    },
    /// Two copies of an expert on a device, where the engine knows one place per device.
    #[error(
        "layer {layer}: device {device} holds expert {expert} twice, which vllm-ascend cannot \
         express; plan with algorithm best"
    )]
    Duplicate {
        /// The layer.
        layer: u32,
        /// The device.
        device: usize,
        /// The expert.
        expert: u32,
    },
}

impl PlanFileError {
    /// Text that cannot be what it seems to be.
    pub(super) fn unreadable(detail: impl std::fmt::Display) -> Self {
        Self::Unreadable(detail.to_string())
    }
}
