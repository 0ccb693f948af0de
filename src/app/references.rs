//! What a question names: stored traces, and the registered device.
//!
//! The rows are looked up in the database; what they lead to is opened where threads may block.

use std::collections::BTreeSet;

use crate::app::advise::catalog;
use crate::app::advisor::{AdviceError, KnownTraces};
use crate::app::context::App;
use crate::app::devices;
use crate::app::error::AppError;
use crate::app::ingest::TraceDirectory;
use crate::app::recommendations::refusal;
use crate::store::devices::DeviceRecord;
use crate::store::traces::TraceRecord;
use crate::wire::question::{IdOrObject, Question};
use moe_gps_core::hardware::Device;

/// What the names of a question lead to.
#[derive(Debug, Default)]
pub struct References {
    /// The traces it names that are stored.
    pub traces: KnownTraces,
    /// The registered device it names, where the catalog ships none of that id.
    pub device: Option<Device>,
}

/// The rows of what a question names.
#[derive(Debug)]
pub struct LookedUp {
    directory: TraceDirectory,
    traces: Vec<TraceRecord>,
    device: Option<DeviceRecord>,
}

/// Looks up what a question names, as far as it is stored.
pub async fn look_up(app: &App, asked: &Question) -> Result<LookedUp, AppError> {
    let mut traces = Vec::new();
    for id in trace_ids(asked) {
        traces.extend(app.store.find_trace(id).await?);
    }
    let device = match device_id(asked) {
        Some(id) if !catalog().map_err(refusal)?.ships_device(id) => {
            app.store.find_device(id).await?
        }
        _ => None,
    };
    Ok(LookedUp { directory: app.traces.clone(), traces, device })
}

impl LookedUp {
    /// Opens what was looked up; blocks.
    pub fn open(self) -> Result<References, AdviceError> {
        let mut traces = KnownTraces::new();
        for TraceRecord { id, embedding_digest, .. } in self.traces {
            match self.directory.facts(&id, embedding_digest.as_deref()) {
                Ok(facts) => traces.insert(id, facts),
                Err(source) => return Err(AdviceError::Trace { id, source }),
            };
        }
        Ok(References {
            traces,
            device: self.device.as_ref().map(devices::profile_of).transpose()?,
        })
    }
}

/// Ids of the traces that plan and score, each once.
fn trace_ids(asked: &Question) -> BTreeSet<&str> {
    let routing = asked.routing.iter();
    let ids = routing.flat_map(|routing| {
        let one = routing.trace_id.iter().chain(&routing.holdout_trace_id);
        one.chain(routing.trace_ids.iter().flatten())
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
