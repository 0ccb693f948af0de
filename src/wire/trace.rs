//! What the service says about an uploaded trace.

use serde::{Deserialize, Serialize};
use utoipa::openapi::RefOr;
use utoipa::openapi::schema::{
    AnyOfBuilder, ArrayBuilder, ObjectBuilder, Schema, SchemaFormat, SchemaType, Type,
};
use utoipa::{PartialSchema, ToSchema};

use crate::wire::field::{closed, described};

/// The bytes of a file, for the API description.
#[derive(Debug)]
pub struct Bytes;

impl ToSchema for Bytes {}

impl PartialSchema for Bytes {
    fn schema() -> RefOr<Schema> {
        let format = SchemaFormat::Custom("binary".to_owned());
        ObjectBuilder::new().schema_type(Type::String).format(Some(format)).into()
    }
}

/// A form with a file, for the API description.
#[derive(Debug)]
pub struct FileForm;

impl ToSchema for FileForm {}

impl PartialSchema for FileForm {
    fn schema() -> RefOr<Schema> {
        let file = described(Bytes::schema(), "The recording; its name tells the format.");
        closed(ObjectBuilder::new().property("file", file).required("file")).into()
    }
}

/// A recording in JSON, for the API description.
#[derive(Debug)]
pub struct Counts;

impl ToSchema for Counts {}

impl PartialSchema for Counts {
    fn schema() -> RefOr<Schema> {
        let text = "Counts, as `counts` or `logical_count` or alone, or an engine's answers.";
        let object = ObjectBuilder::new().schema_type(Type::Object);
        let items =
            ArrayBuilder::new().items(ObjectBuilder::new().schema_type(SchemaType::AnyValue));
        AnyOfBuilder::new().item(object).item(items).description(Some(text)).into()
    }
}

/// Summary of an uploaded trace.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct TraceSummary {
    /// SHA-256 of the uploaded bytes after decoding, in hexadecimal; where rows were left out, of
    /// that and of which.
    pub id: String,
    /// Name given at the upload.
    pub name: Option<String>,
    /// Model named at the upload, a catalog id.
    pub model: Option<String>,
    /// Tokens; of a trace of counts only if the experts per token are known.
    pub tokens: Option<u64>,
    /// Sequences; absent for a trace of counts.
    pub sequences: Option<u64>,
    /// Recorded steps; absent for a trace of routes, which any step size may cut.
    pub steps: Option<u64>,
    /// Layers that carry routing.
    pub layers: u32,
    /// Experts of a layer.
    pub experts: u32,
    /// Experts per token, where known.
    pub top_k: Option<u32>,
    /// Whether the vocabulary id of every token was recorded.
    pub has_token_ids: bool,
    /// Whether a token embedding lies beside the trace.
    pub has_embedding: bool,
    /// How uneven the load of the experts is: busiest over mean, 1 if even.
    pub skewness: Skewness,
    /// Mean over layers of E·mean|p̂ − p|, p̂ from the first half and p from the second;
    /// absent for a single step of counts.
    pub distribution_error: Option<f64>,
    /// What makes the recording doubtful, in plain words.
    pub warnings: Vec<String>,
}

/// Expert skewness over layers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Skewness {
    /// Mean over layers.
    pub mean: f64,
    /// Most uneven layer.
    pub max: f64,
    /// Each layer that carries routing, in order.
    pub per_layer: Vec<f64>,
}
