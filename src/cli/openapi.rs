//! `moe-gps openapi`: the API description, as it is committed under `openapi/`.

use std::io::Write;

use crate::http::openapi;

/// Prints the description, or one line per operation.
pub(super) fn print(out: &mut impl Write, operations: bool) -> anyhow::Result<()> {
    let text = if operations { openapi::operations() } else { openapi::json() };
    out.write_all(text.as_bytes())?;
    Ok(())
}
