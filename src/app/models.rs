//! Models by id: those of the catalog, and those that clients have registered by their
//! configuration.
//!
//! A registered model is named in a question as a shipped one is. Its content is part of what makes
//! two questions equal.

use serde_json::{Map, Value};

use crate::app::advisor::AdviceError;
use crate::app::catalog::{list_models, model_body};
use crate::app::context::App;
use crate::app::devices::{check_id, keep};
use crate::app::error::AppError;
use crate::store::devices::{DeviceRecord, Kind};
use crate::wire::catalog::{ModelBody, ModelList, UnreadableDevice};
use crate::wire::read::Violations;
use crate::wire::time::Moment;
use crate::wire::violation::Violation;
use moe_gps_core::catalog::Catalog;
use moe_gps_core::formats::catalog_entry::CatalogEntry;
use moe_gps_core::formats::hf_config;
use moe_gps_core::formats::model_toml::{ModelSheet, sheet};

/// A model as it is kept.
#[derive(Debug)]
pub struct Registered {
    /// The model.
    pub body: ModelBody,
    /// Whether it was not kept before.
    pub created: bool,
}

/// Keeps a model under the `id` beside its `config`, or among the fields of its `config.json`.
pub async fn register(app: &App, document: Value) -> Result<Registered, AppError> {
    let entry = read(&document).map_err(AppError::Refused)?;
    if Catalog::embedded().ships_model(&entry.id) {
        return Err(AppError::Conflict(format!(
            "model {} is shipped with this version; give the model another id",
            entry.id
        )));
    }
    let (record, created) = keep(app, Kind::Model, &entry.id, &document).await?;
    Ok(Registered { body: shown(&record).map_err(unreadable)?, created })
}

/// The shipped or registered model with this id.
pub async fn fetch(app: &App, id: &str) -> Result<ModelBody, AppError> {
    let catalog = Catalog::embedded();
    if !catalog.ships_model(id)
        && let Some(record) = app.store.find_registered(Kind::Model, id).await?
    {
        return shown(&record).map_err(unreadable);
    }
    Ok(model_body(catalog.model(id)?))
}

/// All models, shipped and registered, by id.
pub async fn list(app: &App) -> Result<ModelList, AppError> {
    let mut listed = list_models(Catalog::embedded());
    for record in app.store.list_registered(Kind::Model).await? {
        match shown(&record) {
            Ok(body) => listed.items.push(body),
            Err(unreadable) => listed.unreadable.push(unreadable),
        }
    }
    listed.items.sort_by(|a, b| a.id.cmp(&b.id));
    Ok(listed)
}

/// Deletes a registered model; accepted questions are answered with what it was.
pub async fn delete(app: &App, id: &str) -> Result<(), AppError> {
    let catalog = Catalog::embedded();
    if catalog.ships_model(id) || !app.store.delete_registered(Kind::Model, id).await? {
        catalog.model(id)?;
        let detail = format!("model {id} is shipped with this version and stays");
        return Err(AppError::Conflict(detail));
    }
    Ok(())
}

/// The model of a registered document, as it is stored.
pub(super) fn registered(document: &str) -> Result<CatalogEntry<ModelSheet>, AdviceError> {
    stored(document).map_err(|reason| {
        let detail = format!("the registered model cannot be read by this version: {reason}");
        AdviceError::Refused(vec![Violation::new("/model", "profile", detail)])
    })
}

fn unreadable(UnreadableDevice { id, detail, .. }: UnreadableDevice) -> AppError {
    AppError::Conflict(format!("registered model {id} cannot be read by this version: {detail}"))
}

fn shown(record: &DeviceRecord) -> Result<ModelBody, UnreadableDevice> {
    let registered_at = Moment(record.created_ms);
    match stored(&record.document) {
        Ok(entry) => Ok(ModelBody { registered_at: Some(registered_at), ..model_body(&entry) }),
        Err(detail) => Err(UnreadableDevice { id: record.id.clone(), registered_at, detail }),
    }
}

fn stored(document: &str) -> Result<CatalogEntry<ModelSheet>, String> {
    let again = "delete it and register it again";
    let document = serde_json::from_str(document)
        .map_err(|error| format!("it is not JSON any more ({error}); {again}"))?;
    read(&document).map_err(|found| {
        let told: Vec<String> = found.iter().map(ToString::to_string).collect();
        format!("{}; {again}", told.join("; "))
    })
}

/// The model of a document, or everything that is wrong with it.
fn read(document: &Value) -> Result<CatalogEntry<ModelSheet>, Vec<Violation>> {
    let violations = Violations::default();
    check_id(document, &violations);
    let Some(fields) = document.as_object() else {
        violations.note(
            "",
            "type",
            "a model is an object: an `id`, and the fields of its config.json",
        );
        return Err(violations.into_vec());
    };
    let id = fields.get("id").and_then(Value::as_str).unwrap_or_default();
    if id.is_empty() {
        violations.note(
            "/id",
            "required",
            "`id` is missing: the name by which questions ask for it",
        );
    }
    let nested = fields.get("config").and_then(Value::as_object);
    let own = || -> Map<String, Value> {
        let fields = fields.iter().filter(|(name, _)| *name != "id");
        fields.map(|(name, value)| (name.clone(), value.clone())).collect()
    };
    let config = nested.cloned().unwrap_or_else(own);
    match hf_config::read(&config) {
        Ok(read) if violations.is_empty() => {
            let name = fields.get("name").and_then(Value::as_str).unwrap_or(id).to_owned();
            let value = sheet(id, config, read, None);
            let sources = [("/config".to_owned(), "registered by a client".to_owned())].into();
            Ok(CatalogEntry { id: id.to_owned(), name, value, sources })
        }
        Ok(_) => Err(violations.into_vec()),
        Err(problems) => {
            violations.note_under(if nested.is_some() { "/config" } else { "" }, problems);
            Err(violations.into_vec())
        }
    }
}
