//! Routes as a NumPy archive.

use std::io::Write;

use zip::ZipWriter;
use zip::write::SimpleFileOptions;

use crate::formats::trace::export::{ExportError, SeekWrite, places, routes_of};
use crate::formats::trace::npy;
use crate::formats::trace::stored::StoredTrace;
use crate::trace::steps::{StepOrder, StepPlan};

/// `routes` `[sequences, tokens, layers, top_k]`, `tokens` where recorded, `num_experts`.
pub(super) fn write(trace: &StoredTrace, to: &mut dyn SeekWrite) -> Result<(), ExportError> {
    let top_k = routes_of(trace)?;
    let header = trace.header();
    let (mut shortest, mut longest) = (u64::MAX, 0);
    for range in trace.sequences() {
        let range = range?;
        (shortest, longest) =
            (shortest.min(range.end - range.start), longest.max(range.end - range.start));
    }
    if shortest != longest {
        return Err(ExportError::UnlikeSequences { shortest, longest });
    }
    let places = places(trace);
    let wide = header.experts > 256;
    let shape = [header.sequences, longest, places.len() as u64, top_k as u64];
    let mut archive = ZipWriter::new(to);
    let options = SimpleFileOptions::default()
        .compression_method(zip::CompressionMethod::Deflated)
        .large_file(true);
    archive.start_file("routes.npy", options).map_err(std::io::Error::other)?;
    archive.write_all(&npy::header(if wide { "<u2" } else { "|u1" }, &shape))?;
    let mut bytes = Vec::new();
    for range in trace.sequences() {
        let order = StepOrder::Prefill { tokens_per_step: longest };
        let mut steps = trace.steps(&StepPlan { order, range: range?, with_routes: true });
        let Some(step) = steps.next_step()? else { continue };
        for token in 0..step.routes.n_tokens {
            bytes.clear();
            for place in &places {
                for nth in 0..top_k {
                    let id = place.map_or(0, |layer| step.routes.layer(layer)[token * top_k + nth]);
                    let [low, high] = id.to_le_bytes();
                    bytes.push(low);
                    bytes.extend(wide.then_some(high));
                }
            }
            archive.write_all(&bytes)?;
        }
    }
    if header.has_token_ids {
        archive.start_file("tokens.npy", options).map_err(std::io::Error::other)?;
        archive.write_all(&npy::header("<u4", &shape[..2]))?;
        for range in trace.sequences() {
            for id in trace.read_token_ids(range?)? {
                archive.write_all(&id.to_le_bytes())?;
            }
        }
    }
    archive.start_file("num_experts.npy", options).map_err(std::io::Error::other)?;
    archive.write_all(&npy::header("<u4", &[]))?;
    archive.write_all(&header.experts.to_le_bytes())?;
    archive.finish().map_err(std::io::Error::other)?;
    Ok(())
}
