//! The shipped descriptions of models, devices and links, embedded in the binary.
//!
//! The files are in `catalog/` at the top of the repository, one per thing, each
//! number with its source; `files` lists them. Each is read once, when it is first asked for: a question
//! needs three of some seventy, and reading all takes longer than most answers.

mod aliases;
pub mod check;
mod files;
pub mod names;
pub mod sources;

use std::sync::{LazyLock, OnceLock};

use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::formats::catalog_entry::{self, CatalogEntry, CatalogFileError};
use crate::formats::model_toml::ModelSheet;
use crate::formats::{device_toml, link_toml, model_toml};
use crate::hardware::{Device, Link};

/// All entries of the catalog, each kind in the order of its ids.
#[derive(Debug)]
pub struct Catalog {
    models: Files<ModelSheet>,
    devices: Files<Device>,
    device_documents: Files<Value>,
    links: Files<Link>,
}

/// What was read of a file.
type ReadFile<T> = Result<CatalogEntry<T>, CatalogError>;

/// The files of one kind, each read when it is first asked for.
#[derive(Debug)]
struct Files<T> {
    kind: &'static str,
    listed: &'static [files::File],
    parse: fn(&str) -> Result<CatalogEntry<T>, CatalogFileError>,
    read: Box<[OnceLock<ReadFile<T>>]>,
}

/// Why a file of the catalog could not be read.
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

impl CatalogError {
    /// The file, relative to the repository.
    #[must_use]
    pub fn path(&self) -> &str {
        let (Self::File { path, .. } | Self::Name { path, .. }) = self;
        path
    }
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
    #[must_use]
    pub fn embedded() -> &'static Self {
        static CATALOG: LazyLock<Catalog> = LazyLock::new(|| Catalog {
            models: Files::new("model", &files::MODELS, model_toml::parse),
            devices: Files::new("device", &files::DEVICES, device_toml::parse),
            device_documents: Files::new("device", &files::DEVICES, catalog_entry::document),
            links: Files::new("link", &files::LINKS, link_toml::parse),
        });
        &CATALOG
    }

    /// All models.
    pub fn models(&self) -> impl Iterator<Item = &CatalogEntry<ModelSheet>> {
        self.models.entries()
    }

    /// All devices.
    pub fn devices(&self) -> impl Iterator<Item = &CatalogEntry<Device>> {
        self.devices.entries()
    }

    /// The devices that something has asked for.
    pub fn devices_in_use(&self) -> impl Iterator<Item = &CatalogEntry<Device>> {
        self.devices.read.iter().filter_map(|read| read.get()?.as_ref().ok())
    }

    /// All links.
    pub fn links(&self) -> impl Iterator<Item = &CatalogEntry<Link>> {
        self.links.entries()
    }

    /// The ids of all models, of all devices, and of all links.
    #[must_use]
    pub fn ids(&self) -> [Vec<&'static str>; 3] {
        [self.models.ids(), self.devices.ids(), self.links.ids()]
    }

    /// What is wrong with files that cannot be read.
    pub fn unreadable(&self) -> impl Iterator<Item = (&'static str, &CatalogError)> {
        let of = |kind, error| (kind, error);
        let models = self.models.results().filter_map(Result::err).map(move |e| of("model", e));
        let devices = self.devices.results().filter_map(Result::err).map(move |e| of("device", e));
        let links = self.links.results().filter_map(Result::err).map(move |e| of("link", e));
        models.chain(devices).chain(links)
    }

    /// The model of this name: its id or an alias.
    pub fn model(&self, id: &str) -> Result<&CatalogEntry<ModelSheet>, UnknownId> {
        self.models.find(id)
    }

    /// Whether a model has exactly this id.
    #[must_use]
    pub fn ships_model(&self, id: &str) -> bool {
        self.models.ids().contains(&id)
    }

    /// Whether a device has exactly this id.
    #[must_use]
    pub fn ships_device(&self, id: &str) -> bool {
        self.devices.ids().contains(&id)
    }

    /// The device of this name: its id or an alias.
    pub fn device(&self, id: &str) -> Result<&CatalogEntry<Device>, UnknownId> {
        self.devices.find(id)
    }

    /// The whole file of the device of this id, as a document: the constants as they are in the file,
    /// next to what was read of them.
    #[must_use]
    pub fn device_document(&self, id: &str) -> Option<&Value> {
        let index = self.devices.ids().iter().position(|other| *other == id)?;
        self.device_documents.at(index).ok().map(|entry| &entry.value)
    }

    /// The link of this name: its id or an alias.
    pub fn link(&self, id: &str) -> Result<&CatalogEntry<Link>, UnknownId> {
        self.links.find(id)
    }

    /// SHA-256 over all files of the catalog, as lower-case hexadecimal.
    #[must_use]
    pub fn digest(&self) -> &'static str {
        static DIGEST: LazyLock<String> = LazyLock::new(|| digest(files::ALL));
        &DIGEST
    }
}

impl<T> Files<T> {
    fn new(
        kind: &'static str,
        listed: &'static [files::File],
        parse: fn(&str) -> Result<CatalogEntry<T>, CatalogFileError>,
    ) -> Self {
        Self { kind, listed, parse, read: listed.iter().map(|_| OnceLock::new()).collect() }
    }

    /// The ids, which are the names of the files.
    fn ids(&self) -> Vec<&'static str> {
        let id = |(path, _): &files::File| {
            let name = path.rsplit_once('/').map_or(*path, |(_, name)| name);
            name.strip_suffix(".toml").unwrap_or(name)
        };
        self.listed.iter().map(id).collect()
    }

    fn at(&self, index: usize) -> Result<&CatalogEntry<T>, &CatalogError> {
        let read = || {
            let (path, text) = self.listed[index];
            let entry = (self.parse)(text)
                .map_err(|source| CatalogError::File { path: path.to_owned(), source })?;
            if !path.ends_with(&format!("/{}.toml", entry.id)) {
                return Err(CatalogError::Name { path: path.to_owned(), id: entry.id });
            }
            Ok(entry)
        };
        self.read[index].get_or_init(read).as_ref()
    }

    fn results(&self) -> impl Iterator<Item = Result<&CatalogEntry<T>, &CatalogError>> {
        (0..self.listed.len()).map(|index| self.at(index))
    }

    fn entries(&self) -> impl Iterator<Item = &CatalogEntry<T>> {
        self.results().filter_map(Result::ok)
    }

    fn find(&self, name: &str) -> Result<&CatalogEntry<T>, UnknownId> {
        let ids = self.ids();
        let unknown =
            |hint: String| UnknownId { kind: self.kind, id: name.chars().take(80).collect(), hint };
        let found = names::resolve(name, &ids);
        let Some(index) = ids.iter().position(|id| Some(*id) == found) else {
            let all = format!("the catalog has {}", ids.join(", "));
            return Err(unknown(names::hint(name, &ids, &all)));
        };
        self.at(index).map_err(|error| unknown(error.to_string()))
    }
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
