//! The shipped descriptions of models, devices and links, embedded in the binary.
//!
//! The files stand in `catalog/` at the top of the repository, one per thing, each
//! number with its source; `files` lists them. They are read once, on first use.

mod aliases;
pub mod check;
mod files;
pub mod names;
pub mod sources;

use std::collections::BTreeMap;
use std::sync::LazyLock;

use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::formats::catalog_entry::{self, CatalogEntry, CatalogFileError};
use crate::formats::model_toml::ModelSheet;
use crate::formats::{device_toml, link_toml, model_toml};
use crate::hardware::{Device, Link};

/// All entries of the catalog, each kind in the order of its ids.
#[derive(Debug, Clone)]
pub struct Catalog {
    models: Vec<CatalogEntry<ModelSheet>>,
    devices: Vec<CatalogEntry<Device>>,
    device_documents: BTreeMap<String, Value>,
    links: Vec<CatalogEntry<Link>>,
    digest: String,
}

/// Why the catalog could not be read.
#[derive(Debug, Clone, thiserror::Error)]
pub enum CatalogError {
    /// One file has a mistake.
    #[error("catalog file {path} is wrong")]
    File {
        /// The file, relative to the repository.
        path: String,
        /// What is wrong with it.
        source: CatalogFileError,
    },
    /// A file is not named after the id inside it.
    #[error("catalog file {path} holds the id {id}; name the file after its id")]
    Name {
        /// The file, relative to the repository.
        path: String,
        /// The id found inside.
        id: String,
    },
}

/// An id the catalog does not have.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("no {kind} has the id \"{id}\"; {hint}")]
pub struct UnknownId {
    /// What was asked for: `model`, `device` or `link`.
    pub kind: &'static str,
    /// The id asked for, cut to a readable length.
    pub id: String,
    /// The nearest id, or all ids.
    pub hint: String,
}

impl Catalog {
    /// The catalog inside this binary.
    pub fn embedded() -> Result<&'static Self, &'static CatalogError> {
        static CATALOG: LazyLock<Result<Catalog, CatalogError>> = LazyLock::new(Catalog::read);
        CATALOG.as_ref()
    }

    fn read() -> Result<Self, CatalogError> {
        let devices = entries(&files::DEVICES, device_toml::parse)?;
        // The constants are shown as they stand in the file, next to what was read of them.
        let documents = entries(&files::DEVICES, catalog_entry::document)?;
        Ok(Self {
            devices,
            device_documents: documents.into_iter().map(|entry| (entry.id, entry.value)).collect(),
            models: entries(&files::MODELS, model_toml::parse)?,
            links: entries(&files::LINKS, link_toml::parse)?,
            digest: digest(files::ALL),
        })
    }

    /// All models.
    #[must_use]
    pub fn models(&self) -> &[CatalogEntry<ModelSheet>] {
        &self.models
    }

    /// All devices.
    #[must_use]
    pub fn devices(&self) -> &[CatalogEntry<Device>] {
        &self.devices
    }

    /// All links.
    #[must_use]
    pub fn links(&self) -> &[CatalogEntry<Link>] {
        &self.links
    }

    /// The model of this name: its id or an alias.
    pub fn model(&self, id: &str) -> Result<&CatalogEntry<ModelSheet>, UnknownId> {
        find("model", &self.models, id)
    }

    /// Whether a model has exactly this id.
    #[must_use]
    pub fn ships_model(&self, id: &str) -> bool {
        self.models.iter().any(|entry| entry.id == id)
    }

    /// Whether a device has exactly this id.
    #[must_use]
    pub fn ships_device(&self, id: &str) -> bool {
        self.devices.iter().any(|entry| entry.id == id)
    }

    /// The device of this name: its id or an alias.
    pub fn device(&self, id: &str) -> Result<&CatalogEntry<Device>, UnknownId> {
        find("device", &self.devices, id)
    }

    /// The whole file of the device of this id, as a document.
    #[must_use]
    pub fn device_document(&self, id: &str) -> Option<&Value> {
        self.device_documents.get(id)
    }

    /// The link of this name: its id or an alias.
    pub fn link(&self, id: &str) -> Result<&CatalogEntry<Link>, UnknownId> {
        find("link", &self.links, id)
    }

    /// SHA-256 over all files of the catalog, as lower-case hexadecimal.
    #[must_use]
    pub fn digest(&self) -> &str {
        &self.digest
    }
}

/// Reads the files of one kind, in the order of their ids.
fn entries<T>(
    files: &[files::File],
    parse: impl Fn(&str) -> Result<CatalogEntry<T>, CatalogFileError>,
) -> Result<Vec<CatalogEntry<T>>, CatalogError> {
    let mut entries = Vec::with_capacity(files.len());
    for (path, text) in files {
        let entry = parse(text)
            .map_err(|source| CatalogError::File { path: (*path).to_owned(), source })?;
        if !path.ends_with(&format!("/{}.toml", entry.id)) {
            return Err(CatalogError::Name { path: (*path).to_owned(), id: entry.id });
        }
        entries.push(entry);
    }
    entries.sort_by(|a, b| a.id.cmp(&b.id));
    Ok(entries)
}

fn find<'a, T>(
    kind: &'static str,
    entries: &'a [CatalogEntry<T>],
    name: &str,
) -> Result<&'a CatalogEntry<T>, UnknownId> {
    let ids: Vec<&str> = entries.iter().map(|entry| entry.id.as_str()).collect();
    let found = names::resolve(name, &ids);
    entries.iter().find(|entry| Some(entry.id.as_str()) == found).ok_or_else(|| {
        let all = format!("the catalog has {}", ids.join(", "));
        UnknownId { kind, id: name.chars().take(80).collect(), hint: names::hint(name, &ids, &all) }
    })
}

/// Hashes paths and contents with their lengths, so that no two catalogs collide.
fn digest(kinds: [&[files::File]; 3]) -> String {
    let mut hash = Sha256::new();
    for part in kinds.into_iter().flatten().flat_map(|(path, text)| [path, text]) {
        hash.update((part.len() as u64).to_le_bytes());
        hash.update(part.as_bytes());
    }
    hash.finalize().iter().flat_map(|byte| [byte >> 4, byte & 15]).filter_map(hex_digit).collect()
}

fn hex_digit(value: u8) -> Option<char> {
    char::from_digit(value.into(), 16)
}

#[cfg(test)]
mod tests;
