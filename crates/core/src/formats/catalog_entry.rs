//! What every catalog file has, whatever it describes, and how reading one fails.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;

use crate::violation::Violation;

/// One described thing of the catalog.
#[derive(Debug, Clone, PartialEq)]
pub struct CatalogEntry<T> {
    /// The id by which questions name it; equal to the file's name.
    pub id: String,
    /// Its name for people.
    pub name: String,
    /// What is described.
    pub value: T,
    /// JSON pointer into the file → where the numbers at and below it come from.
    pub sources: BTreeMap<String, String>,
}

/// Why a catalog file could not be read.
#[derive(Debug, Clone, thiserror::Error)]
pub enum CatalogFileError {
    /// Not TOML, or not the fields of this kind of file.
    #[error("the file cannot be read as TOML with the expected fields")]
    Toml(#[from] toml::de::Error),
    /// Parts of a device profile are wrong.
    #[error("the profile has problems: {}", list(.0))]
    Device(Vec<Violation>),
    /// The model configuration inside has problems.
    #[error("the configuration has problems: {}", list(.0))]
    Config(Vec<Violation>),
}

/// Reads any catalog file as a document, without understanding it.
pub fn document(text: &str) -> Result<CatalogEntry<Value>, CatalogFileError> {
    #[derive(Deserialize)]
    struct Head {
        id: String,
        name: String,
        #[serde(default)]
        sources: BTreeMap<String, String>,
    }
    let Head { id, name, sources } = toml::from_str(text)?;
    Ok(CatalogEntry { id, name, value: toml::from_str(text)?, sources })
}

fn list(problems: &[Violation]) -> String {
    problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}
