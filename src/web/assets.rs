//! Style and scripts, under names that change with their content.

use std::fmt::Write as _;
use std::sync::LazyLock;

use sha2::{Digest, Sha256};

use crate::app::report;
use moe_gps_core::charts::figure;

/// A file that pages load.
#[derive(Debug)]
pub struct Asset {
    /// Its name, which holds a digest of its content.
    pub name: String,
    /// Its media type.
    pub media_type: &'static str,
    /// Its content.
    pub text: String,
}

impl Asset {
    fn new(stem: &str, end: &str, media_type: &'static str, text: String) -> Self {
        let mut name = format!("{stem}-");
        for byte in Sha256::digest(&text).iter().take(6) {
            // Writing into a string cannot fail.
            let _ = write!(name, "{byte:02x}");
        }
        Self { name: format!("{name}.{end}"), media_type, text }
    }

    /// The path under which it is answered.
    #[must_use]
    pub fn path(&self) -> String {
        format!("/assets/{}", self.name)
    }
}

const SCRIPT: &str = "text/javascript; charset=utf-8";

/// The style of every page: that of reports, what pages have besides, and the colours of strategies.
pub static STYLE: LazyLock<Asset> = LazyLock::new(|| {
    let text = [report::STYLE, include_str!("assets/pages.css"), &figure::strategies()].concat();
    Asset::new("style", "css", "text/css; charset=utf-8", text)
});

/// Buttons that copy.
pub static COPY: LazyLock<Asset> =
    LazyLock::new(|| Asset::new("pages", "js", SCRIPT, include_str!("assets/pages.js").to_owned()));

/// htmx 2.0.11, for pages that change.
pub static HTMX: LazyLock<Asset> = LazyLock::new(|| {
    Asset::new("htmx", "js", SCRIPT, include_str!("assets/htmx-2.0.11.min.js").to_owned())
});

/// The file with this name.
#[must_use]
pub fn find(name: &str) -> Option<&'static Asset> {
    [&*STYLE, &*COPY, &*HTMX].into_iter().find(|asset| asset.name == name)
}
