//! What a question names: stored traces, and the registered device.
//!
//! The rows are looked up in the database; what they lead to is opened where threads may block.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::app::advisor::{AdviceError, KnownTraces};
use crate::app::context::App;
use crate::app::devices;
use crate::app::error::AppError;
use crate::app::ingest::{NeededFiles, TraceDirectory, hex};
use crate::app::models;
use crate::store::devices::Kind;
use crate::store::jobs::JobRecord;
use crate::store::{Store, StoreError};
use crate::wire::question::{IdOrObject, NamedTrace, Question};
use moe_gps_core::catalog::Catalog;
use moe_gps_core::formats::catalog_entry::CatalogEntry;
use moe_gps_core::formats::model_toml::ModelSheet;
use moe_gps_core::hardware::Device;

/// What the names of a question lead to.
#[derive(Debug, Default)]
pub struct References {
    /// The traces it names that are stored.
    pub traces: KnownTraces,
    /// The registered device it names, where the catalog ships none of that id.
    pub device: Option<Device>,
    /// The registered model it names, where the catalog ships none of that id.
    pub model: Option<CatalogEntry<ModelSheet>>,
    /// The same, as an accepted job keeps it.
    pub inputs: Inputs,
}

/// What the names of a question led to when they were looked up.
///
/// An accepted job keeps it to its end, so that nothing registered, uploaded or declared later
/// changes its answer.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Inputs {
    /// The profile of the registered device, as it is stored.
    device: Option<String>,
    /// The registered model, as it is stored.
    #[serde(default)]
    model: Option<String>,
    /// The stored traces, by id.
    traces: BTreeMap<String, Pinned>,
}

/// A trace as it was looked up.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Pinned {
    /// Which stored form; that in force until it is opened.
    version: Option<String>,
    /// SHA-256 of the embedding put beside it.
    embedding: Option<Vec<u8>>,
}

/// What was looked up, to be opened.
#[derive(Debug, Clone)]
pub struct LookedUp {
    directory: TraceDirectory,
    inputs: Inputs,
}

/// Looks up what a question names, as far as it is stored.
pub async fn look_up(app: &App, asked: &Question) -> Result<LookedUp, AppError> {
    let mut inputs = Inputs::default();
    for id in trace_ids(asked) {
        if let Some(trace) = app.store.find_trace(id).await? {
            let pinned = Pinned { version: trace.version, embedding: trace.embedding_digest };
            inputs.traces.insert(trace.id, pinned);
        }
    }
    if let Some(id) = device_id(asked)
        && !Catalog::embedded().ships_device(id)
    {
        let found = app.store.find_registered(Kind::Device, id).await?;
        inputs.device = found.map(|device| device.document);
    }
    if let Some(IdOrObject::Id(id)) = &asked.model
        && !Catalog::embedded().ships_model(id)
    {
        let found = app.store.find_registered(Kind::Model, id).await?;
        inputs.model = found.map(|model| model.document);
    }
    Ok(LookedUp { directory: app.traces.clone(), inputs })
}

/// What the names of a job's question led to when it was accepted.
pub async fn of_job(app: &App, job: &JobRecord, asked: &Question) -> Result<LookedUp, AppError> {
    let Some(text) = &job.inputs else {
        // It names nothing, or was accepted by a version that kept none.
        return look_up(app, asked).await;
    };
    Ok(LookedUp { directory: app.traces.clone(), inputs: read(text)? })
}

/// The files of all traces that rows and jobs name.
pub async fn needed_files(store: &Store) -> Result<NeededFiles, StoreError> {
    let mut versions: BTreeSet<(String, String)> = BTreeSet::new();
    for text in store.needed_inputs().await? {
        for (id, Pinned { version, embedding }) in read(&text)?.traces {
            let digest = embedding.map(|digest| hex(&digest));
            versions.extend(version.into_iter().chain(digest).map(|name| (id.clone(), name)));
        }
    }
    let embeddings = store.list_embeddings().await?;
    versions.extend(embeddings.into_iter().map(|(id, digest)| (id, hex(&digest))));
    let mut traces = BTreeSet::new();
    for (id, version) in store.list_trace_ids().await? {
        versions.extend(version.map(|version| (id.clone(), version)));
        traces.insert(id);
    }
    Ok(NeededFiles { traces, versions })
}

/// Removes what superseded uploads have left and no job needs, and files whose row was never
/// written; for when nobody is asking.
pub async fn forget_superseded(app: &App) -> Result<(), StoreError> {
    let needed = needed_files(&app.store).await?;
    app.traces.forget_others(&needed).unwrap_or_else(|error| {
        tracing::warn!(%error, "superseded files of traces stay behind");
    });
    Ok(())
}

fn read(text: &str) -> Result<Inputs, StoreError> {
    serde_json::from_str(text)
        .map_err(|_| StoreError::Corrupt { what: "inputs of a recommendation" })
}

impl LookedUp {
    /// Opens what was looked up; blocks.
    pub fn open(self) -> Result<References, AdviceError> {
        let LookedUp { directory, mut inputs } = self;
        let mut traces = KnownTraces::new();
        for (id, pinned) in &mut inputs.traces {
            let (version, embedding) = (pinned.version.as_deref(), pinned.embedding.as_deref());
            let opened = directory.pinned(id, version, embedding);
            let (facts, version) =
                opened.map_err(|source| AdviceError::Trace { id: id.clone(), source })?;
            pinned.version = Some(version);
            traces.insert(id.clone(), facts);
        }
        let device = inputs.device.as_deref().map(devices::registered).transpose()?;
        let model = inputs.model.as_deref().map(models::registered).transpose()?;
        Ok(References { traces, device, model, inputs })
    }
}

impl References {
    /// What an accepted job keeps, JSON; nothing where the question names nothing stored.
    pub fn inputs(&self) -> Result<Option<String>, AdviceError> {
        let Inputs { device, model, traces } = &self.inputs;
        let names_nothing = device.is_none() && model.is_none() && traces.is_empty();
        Ok((!names_nothing).then(|| serde_json::to_string(&self.inputs)).transpose()?)
    }
}

/// Ids of the traces that plan and score, each once.
fn trace_ids(asked: &Question) -> BTreeSet<&str> {
    let routing = asked.routing.iter();
    let ids = routing.flat_map(|routing| {
        let one = routing.trace_id.iter().chain(&routing.holdout_trace_id);
        let several = routing.trace_ids.iter().chain(&routing.windows).flatten();
        one.chain(several.filter_map(NamedTrace::id))
    });
    ids.map(String::as_str).collect()
}

/// The id of the device, where it is named by one.
fn device_id(asked: &Question) -> Option<&str> {
    match asked.cluster.as_ref()?.device.as_ref()? {
        IdOrObject::Id(id) => Some(id),
        IdOrObject::Object(_) => None,
    }
}
