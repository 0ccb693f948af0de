//! The catalog as it is shown: models, devices and links, every number with its source.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use utoipa::openapi::RefOr;
use utoipa::openapi::schema::{AdditionalProperties, ObjectBuilder, Schema, Type};
use utoipa::{PartialSchema, ToSchema};

use crate::wire::time::Moment;

/// Where the numbers of a body come from: JSON pointer into the body → source.
pub type Sources = BTreeMap<String, String>;

/// All models of the catalog.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ModelList {
    /// The models, by id.
    pub items: Vec<ModelBody>,
    /// Registered models that this version cannot read; absent where there is none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unreadable: Vec<UnreadableDevice>,
}

/// One model of the catalog.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ModelBody {
    /// The id by which questions name it.
    #[schema(examples("mixtral-8x7b"))]
    pub id: String,
    /// Its name for people.
    pub name: String,
    /// The family whose configuration it has.
    pub family: String,
    /// Width of the residual stream.
    pub hidden_size: u32,
    /// Tokens in the vocabulary.
    pub vocabulary_size: u32,
    /// Whether input and output embedding share one table.
    pub tied_embeddings: bool,
    /// Layers in all; of an encoder-decoder both stacks together.
    pub layers: u32,
    /// Layers with routed experts.
    pub moe_layers: u32,
    /// Layers with a dense feed-forward block.
    pub dense_layers: u32,
    /// Intermediate width of the dense feed-forward block, 0 without dense layers.
    pub dense_intermediate_size: u32,
    /// Layers with a second attention over an encoder's output.
    pub cross_attention_layers: u32,
    /// The model's usual attention, where not all layers have it.
    pub attention: AttentionBody,
    /// Routed and shared experts of a layer that has them.
    pub experts: ExpertsBody,
    /// Elements one token leaves in the KV cache of one layer of the model's usual attention.
    pub kv_elements_per_token_and_layer: u64,
    /// Bytes that every further token adds to the caches of keys and values, at 2 bytes a value.
    pub kv_bytes_per_token: f64,
    /// Bytes that it adds to the keys of an index, at 1 byte a value.
    pub index_bytes_per_token: f64,
    /// Bytes that a sequence keeps whatever its length: full windows, at 2 bytes a value, and states.
    pub state_bytes_per_sequence: f64,
    /// What the model has and no law prices.
    pub not_priced: Vec<String>,
    /// Number of parameters, computed part by part and as published.
    pub parameters: ParametersBody,
    /// The fields of the published `config.json` from which all this follows.
    #[schema(value_type = Object)]
    pub config: Map<String, Value>,
    /// When a client registered it; absent where it is shipped.
    #[schema(value_type = Option<String>, format = DateTime)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub registered_at: Option<Moment>,
    /// Source of every number.
    #[schema(value_type = BTreeMap<String, String>)]
    pub sources: Sources,
}

/// Attention of a layer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum AttentionBody {
    /// Multi-head or grouped-query attention.
    Grouped {
        /// Query heads.
        heads: u32,
        /// Key-value heads.
        kv_heads: u32,
        /// Width of one head.
        head_size: u32,
        /// Width of a head's value.
        value_head_size: u32,
        /// Tokens a query looks back at in windowed layers.
        window_tokens: Option<u32>,
        /// Layers with that window.
        windowed_layers: u32,
    },
    /// Multi-head latent attention.
    Latent {
        /// Query heads.
        heads: u32,
        /// Rank of the query compression.
        query_rank: Option<u32>,
        /// Rank of the key-value compression.
        kv_rank: u32,
        /// Width of a head's part without rotary positions.
        nope_head_size: u32,
        /// Width of the shared rotary part.
        rope_head_size: u32,
        /// Width of a head's value.
        value_head_size: u32,
    },
    /// One stream that is key and value of every head.
    Shared {
        /// Query heads.
        heads: u32,
        /// Width of one head and of the stream.
        head_size: u32,
        /// Rank of the query compression.
        query_rank: u32,
        /// Groups of heads whose outputs are compressed together.
        output_groups: u32,
        /// Rank of the compression of one group.
        output_rank: u32,
    },
}

/// Experts of a layer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ExpertsBody {
    /// Routed experts.
    pub routed: u32,
    /// Experts chosen per token, those that cost nothing included.
    pub top_k: u32,
    /// Choices beside the routed experts that cost nothing.
    pub zero_cost: u32,
    /// Width in which routed experts work, where it is not the hidden size.
    pub latent_size: Option<u32>,
    /// Intermediate width of one routed expert.
    pub intermediate_size: u32,
    /// Three matrices (gate, up, down) or two (up, down).
    pub gated: bool,
    /// Intermediate width of all shared experts together.
    pub shared_intermediate_size: u32,
    /// Groups that limit routing, where they do.
    pub routing_groups: Option<u32>,
    /// Groups a token's experts may come from, where groups limit routing.
    pub routing_groups_per_token: Option<u32>,
}

/// Number of parameters.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ParametersBody {
    /// As published, for the language model; absent of a registered model, like the next two.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub published: Option<u64>,
    /// What the published checkpoint holds besides.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub published_excludes: Option<String>,
    /// Computed from the configuration.
    pub computed: u64,
    /// Computed over published, less one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub computed_error: Option<f64>,
    /// Computed, of which one token uses; both embeddings count.
    pub active_per_token: u64,
    /// One layer's usual self-attention.
    pub attention_per_layer: u64,
    /// All blocks together that mix tokens otherwise.
    pub other_mixers: u64,
    /// One decoder layer's attention over the encoder's output.
    pub cross_attention_per_layer: u64,
    /// One layer's router.
    pub router_per_layer: u64,
    /// One routed expert of one layer.
    pub routed_expert: u64,
    /// One layer's shared experts.
    pub shared_experts_per_layer: u64,
    /// The feed-forward block of one dense layer.
    pub dense_ffn_per_layer: u64,
    /// The norms of one layer.
    pub norms_per_layer: u64,
    /// Input and output embedding.
    pub embeddings: u64,
    /// Final norms, position tables, the output head's bias.
    pub outside_layers: u64,
}

/// All devices of the catalog.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct DeviceList {
    /// The devices, by id.
    pub items: Vec<DeviceBody>,
    /// Registered profiles that this version cannot read; absent where there is none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unreadable: Vec<UnreadableDevice>,
}

/// A registered profile or model that this version cannot read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct UnreadableDevice {
    /// The id under which it was registered.
    pub id: String,
    /// When it was registered.
    #[schema(value_type = String, format = DateTime)]
    pub registered_at: Moment,
    /// What is wrong with it, and what to do.
    pub detail: String,
}

/// A device profile as it is registered, for the API description: the fields of a catalog file.
#[derive(Debug)]
pub struct DeviceProfile;

impl ToSchema for DeviceProfile {}

impl PartialSchema for DeviceProfile {
    fn schema() -> RefOr<Schema> {
        with_an_id("The fields of a catalog file, as `calibrate` writes it; `id` names the device.")
    }
}

/// A model as it is registered, for the API description.
#[derive(Debug)]
pub struct ModelConfig;

impl ToSchema for ModelConfig {}

impl PartialSchema for ModelConfig {
    fn schema() -> RefOr<Schema> {
        with_an_id("The fields of a `config.json`, or these under `config`; `id` names the model.")
    }
}

/// An object with an id and whatever fields it has.
fn with_an_id(text: &str) -> RefOr<Schema> {
    let id = ObjectBuilder::new().schema_type(Type::String).max_length(Some(64));
    let object = ObjectBuilder::new().schema_type(Type::Object).description(Some(text));
    let object = object.property("id", id).required("id");
    object.additional_properties(Some(AdditionalProperties::<Schema>::FreeForm(true))).into()
}

/// One device of the catalog.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct DeviceBody {
    /// The id by which questions name it.
    #[schema(examples("h200-sxm"))]
    pub id: String,
    /// Its name for people.
    pub name: String,
    /// Memory of one device.
    pub memory_bytes: f64,
    /// Peak memory bandwidth.
    pub bandwidth_bytes_per_s: f64,
    /// Peak dense rates of the matrix units.
    pub peak_flop_per_s: PeakRatesBody,
    /// Streaming multiprocessors (compute units on AMD).
    pub multiprocessors: u32,
    /// Last-level cache in front of memory.
    pub l2_bytes: f64,
    /// Host time per kernel launch when no graph is replayed.
    pub eager_launch_s: f64,
    /// Software stacks: which set of constants each uses for which operator.
    #[schema(value_type = Vec<Object>)]
    pub stacks: Vec<Value>,
    /// Sets of fitted constants: operator → name of the set → constants, error, origin.
    #[schema(value_type = Object)]
    pub constants: Map<String, Value>,
    /// When a client registered it; absent where it is shipped.
    #[schema(value_type = Option<String>, format = DateTime)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub registered_at: Option<Moment>,
    /// Source of every number.
    #[schema(value_type = BTreeMap<String, String>)]
    pub sources: Sources,
}

/// Peak dense rates of the matrix units, per number format.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct PeakRatesBody {
    /// 16-bit floats of either kind.
    pub bf16: f64,
    /// 8-bit floats, where the device computes in them.
    pub fp8: Option<f64>,
    /// 4-bit floats, where the device computes in them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fp4: Option<f64>,
    /// 32-bit floats, in the tensor format where there is one.
    pub fp32: f64,
}

/// All links of the catalog.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct LinkList {
    /// The links, by id.
    pub items: Vec<LinkBody>,
}

/// One link of the catalog.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct LinkBody {
    /// The id by which questions name it.
    #[schema(examples("nvlink3"))]
    pub id: String,
    /// Its name for people.
    pub name: String,
    /// Bandwidth of one device's link, per direction.
    pub bandwidth_bytes_per_s: f64,
    /// Latency of one message.
    pub latency_s: f64,
    /// Devices that one domain of it joins, where its name says so: nodes of a question that states
    /// none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub domain_devices: Option<u32>,
    /// Source of every number.
    #[schema(value_type = BTreeMap<String, String>)]
    pub sources: Sources,
}
