//! Devices by id: those of the catalog, and profiles that clients have registered.
//!
//! A registered profile is named in a question as a shipped one is. Its content is part of what
//! makes two questions equal.

use std::collections::BTreeMap;

use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::app::advisor::AdviceError;
use crate::app::catalog::{described, device_body, list_devices};
use crate::app::clock::now_ms;
use crate::app::context::App;
use crate::app::error::AppError;
use crate::app::question::profile;
use crate::store::devices::{DeviceRecord, Kind, Registration};
use crate::wire::catalog::{DeviceBody, DeviceList, UnreadableDevice};
use crate::wire::read::Violations;
use crate::wire::time::Moment;
use crate::wire::violation::Violation;
use moe_gps_core::catalog::Catalog;
use moe_gps_core::formats::catalog_entry::CatalogEntry;
use moe_gps_core::hardware::Device;

/// Profiles that may be registered, and models.
const MOST_DEVICES: u32 = 1000;

/// Largest profile, bytes as JSON: twenty times the largest one that is shipped.
const MOST_BYTES: usize = 512 << 10;

/// Longest id of a registered profile or model.
const LONGEST_ID: usize = 64;

/// A profile as it is kept.
#[derive(Debug)]
pub struct Registered {
    /// The device.
    pub body: DeviceBody,
    /// Whether it was not kept before.
    pub created: bool,
}

/// Keeps a profile, the fields of a catalog file, under the id inside it.
pub async fn register(app: &App, document: Value) -> Result<Registered, AppError> {
    let violations = Violations::default();
    let n_bytes = document.to_string().len();
    if MOST_BYTES < n_bytes {
        violations.note(
            "",
            "length",
            format!("the profile has {n_bytes} bytes; at most {MOST_BYTES} may be"),
        );
        return Err(AppError::Refused(violations.into_vec()));
    }
    let entry = profile(&document, "", &violations);
    check_id(&document, &violations);
    let Some(entry) = entry.filter(|_| violations.is_empty()) else {
        return Err(AppError::Refused(violations.into_vec()));
    };
    if Catalog::embedded().ships_device(&entry.id) {
        return Err(AppError::Conflict(format!(
            "device {} is shipped with this version; give the profile another id",
            entry.id
        )));
    }
    let (record, created) = keep(app, Kind::Device, &entry.id, &document).await?;
    Ok(Registered { body: body(&record)?, created })
}

/// Notes an id that questions cannot name.
pub(super) fn check_id(document: &Value, violations: &Violations) {
    if let Some(id) = document.get("id").and_then(Value::as_str)
        && !is_id(id)
    {
        violations.note(
            "/id",
            "pattern",
            format!(
                "an id has 1 to {LONGEST_ID} lower-case letters, digits, dots, dashes and \
                 underscores"
            ),
        );
    }
}

/// Keeps a document under an id, and says whether it was not kept before.
pub(super) async fn keep(
    app: &App,
    kind: Kind,
    id: &str,
    document: &Value,
) -> Result<(DeviceRecord, bool), AppError> {
    let text = sorted(document).to_string();
    let record = DeviceRecord {
        id: id.to_owned(),
        digest: Sha256::digest(&text).to_vec(),
        created_ms: now_ms(),
        document: text,
    };
    let name = match kind {
        Kind::Device => "device",
        Kind::Model => "model",
    };
    match app.store.insert_registered(kind, &record, MOST_DEVICES).await? {
        Registration::New => Ok((record, true)),
        Registration::Taken(kept) if kept.digest == record.digest => Ok((kept, false)),
        Registration::Taken(kept) => Err(AppError::Conflict(format!(
            "{name} {} is registered with other content; delete it first, or give another id",
            kept.id
        ))),
        Registration::Full => Err(AppError::Conflict(format!(
            "{MOST_DEVICES} {name}s are registered, which is all there may be; delete one first"
        ))),
    }
}

/// The shipped or registered device with this id.
pub async fn fetch(app: &App, id: &str) -> Result<DeviceBody, AppError> {
    let catalog = Catalog::embedded();
    if !catalog.ships_device(id)
        && let Some(record) = app.store.find_registered(Kind::Device, id).await?
    {
        return body(&record);
    }
    Ok(device_body(catalog, catalog.device(id)?))
}

fn body(record: &DeviceRecord) -> Result<DeviceBody, AppError> {
    shown(record).map_err(|UnreadableDevice { id, detail, .. }| {
        AppError::Conflict(format!(
            "registered device {id} cannot be read by this version: {detail}"
        ))
    })
}

/// All devices, shipped and registered, by id.
pub async fn list(app: &App) -> Result<DeviceList, AppError> {
    let catalog = Catalog::embedded();
    let mut listed = list_devices(catalog);
    for record in app.store.list_registered(Kind::Device).await? {
        match shown(&record) {
            Ok(body) => listed.items.push(body),
            Err(unreadable) => listed.unreadable.push(unreadable),
        }
    }
    listed.items.sort_by(|a, b| a.id.cmp(&b.id));
    Ok(listed)
}

/// Deletes a registered device; accepted questions are answered with what it was.
pub async fn delete(app: &App, id: &str) -> Result<(), AppError> {
    let shipped =
        || AppError::Conflict(format!("device {id} is shipped with this version and stays"));
    let catalog = Catalog::embedded();
    if catalog.ships_device(id) {
        return Err(shipped());
    }
    if !app.store.delete_registered(Kind::Device, id).await? {
        catalog.device(id)?;
        return Err(shipped());
    }
    Ok(())
}

/// The device of a registered profile, as it is stored.
pub(super) fn registered(document: &str) -> Result<Device, AdviceError> {
    read(document).map(|(entry, _)| entry.value).map_err(|reason| {
        let detail = format!("the registered profile cannot be read by this version: {reason}");
        AdviceError::Refused(vec![Violation::new("/cluster/device", "profile", detail)])
    })
}

fn shown(record: &DeviceRecord) -> Result<DeviceBody, UnreadableDevice> {
    let registered_at = Moment(record.created_ms);
    match read(&record.document) {
        Ok((entry, document)) => {
            Ok(DeviceBody { registered_at: Some(registered_at), ..described(&entry, &document) })
        }
        Err(detail) => Err(UnreadableDevice { id: record.id.clone(), registered_at, detail }),
    }
}

/// The profile in a stored document, or what this version finds wrong with it.
fn read(document: &str) -> Result<(CatalogEntry<Device>, Value), String> {
    let again = "delete it and register it again";
    let document = serde_json::from_str(document)
        .map_err(|error| format!("it is not JSON any more ({error}); {again}"))?;
    let violations = Violations::default();
    profile(&document, "", &violations).map(|entry| (entry, document)).ok_or_else(|| {
        let found = violations.into_vec();
        let told: Vec<String> = found.iter().map(ToString::to_string).collect();
        format!("{}; {again}", told.join("; "))
    })
}

fn is_id(id: &str) -> bool {
    let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "-._".contains(c);
    (1..=LONGEST_ID).contains(&id.len()) && id.chars().all(allowed)
}

/// A value with the keys of every object in order, so that equal profiles are equal text.
fn sorted(value: &Value) -> Value {
    match value {
        Value::Object(fields) => {
            let ordered: BTreeMap<&String, Value> =
                fields.iter().map(|(key, value)| (key, sorted(value))).collect();
            Value::Object(ordered.into_iter().map(|(k, v)| (k.clone(), v)).collect())
        }
        Value::Array(items) => Value::Array(items.iter().map(sorted).collect()),
        other => other.clone(),
    }
}
