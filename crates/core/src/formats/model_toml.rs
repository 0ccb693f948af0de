//! A catalog file of a model: the published configuration and parameter count.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::{Map, Value};

use crate::formats::catalog_entry::{CatalogEntry, CatalogFileError};
use crate::formats::hf_config;
use crate::model::Model;
use crate::system::Quantization;

/// What a model's catalog file says, besides id, name and sources.
#[derive(Debug, Clone, PartialEq)]
pub struct ModelSheet {
    /// The model; its name is the catalog id.
    pub model: Model,
    /// The family by which the configuration was read.
    pub family: String,
    /// Number formats of the published checkpoint's weights, where the configuration says so.
    pub quantization: Option<Quantization>,
    /// What the model has and no law prices.
    pub not_priced: Vec<String>,
    /// What was guessed.
    pub guessed: Option<String>,
    /// The fields of the published `config.json` that decide cost and size.
    pub config: Map<String, Value>,
    /// Fields of `config` that nothing reads (a mistake in the file, if any).
    pub ignored: Vec<String>,
    /// The published number of parameters, of shipped models.
    pub published: Option<Published>,
}

/// A published number of parameters.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Published {
    /// Parameters of the language model.
    pub parameters: u64,
    /// What the published checkpoint holds besides, and the figure leaves out.
    pub excluded: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    id: String,
    name: String,
    config: Map<String, Value>,
    published: Published,
    sources: BTreeMap<String, String>,
}

/// Reads a model's catalog file.
pub fn parse(text: &str) -> Result<CatalogEntry<ModelSheet>, CatalogFileError> {
    let File { id, name, config, published, sources } = toml::from_str(text)?;
    let read = hf_config::read(&config).map_err(CatalogFileError::Config)?;
    let value = sheet(&id, config, read, Some(published));
    Ok(CatalogEntry { id, name, value, sources })
}

/// What was read of a configuration, as a model of that id.
#[must_use]
pub fn sheet(
    id: &str,
    config: Map<String, Value>,
    read: hf_config::ReadConfig,
    published: Option<Published>,
) -> ModelSheet {
    ModelSheet {
        model: Model { name: id.to_owned(), ..read.model },
        family: read.family,
        quantization: read.quantization,
        not_priced: read.not_priced,
        guessed: read.guessed,
        config,
        ignored: read.ignored,
        published,
    }
}
