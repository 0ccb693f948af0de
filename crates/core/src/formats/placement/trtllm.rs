//! TensorRT-LLM's load balancer file (`moe_config.load_balancer`): YAML with `num_slots`,
//! `initial_global_assignments` by model layer, and `layer_updates_per_iter`.
//!
//! Unknown keys are refused there, so there are no others. 0 updates keep the map as it is.

use std::fmt::Write;

use crate::formats::placement::{
    Deployed, Format, Maps, PlanFile, PlanFileError, PlannedLayer, ReadBack, list, text,
};

pub(super) const FORMAT: Format =
    Format { id: "trtllm", media_type: "application/yaml", write: |plan| Ok(write(plan)), read };

fn write(plan: &PlanFile) -> String {
    let mut text = format!("num_slots: {}\ninitial_global_assignments:\n", plan.shape().n_slots());
    for layer in plan.layers() {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "  {}: {}", layer.index, list(&layer.physical_to_logical));
    }
    text.push_str("layer_updates_per_iter: 0\n");
    text
}

/// Reads the subset of YAML that such files are written in: one mapping of layers to lists,
/// in brackets (over several lines, too) or with a dash per line.
fn read(bytes: &[u8], _at: Deployed) -> ReadBack {
    let text = text(bytes)?;
    let has = |key: &str| text.lines().any(|line| line.starts_with(key));
    if !has("num_slots:") {
        return None;
    }
    if !has("initial_global_assignments:") {
        let detail = "it has `num_slots` and no `initial_global_assignments`, so holds no \
                      placement: the balancer of TensorRT-LLM starts from its own";
        return Some(Err(PlanFileError::unreadable(detail)));
    }
    Some(parse(text).map(Maps::from))
}

fn parse(text: &str) -> Result<Vec<PlannedLayer>, PlanFileError> {
    let mut layers: Vec<PlannedLayer> = Vec::new();
    let (mut inside, mut bracket) = (false, false);
    for (number, line) in (1..).zip(text.lines()) {
        let line = line.split('#').next().unwrap_or_default().trim_end();
        if line.trim().is_empty() {
            continue;
        }
        if !line.starts_with([' ', '-']) && !bracket {
            inside = line.starts_with("initial_global_assignments:");
            continue;
        }
        if !inside {
            continue;
        }
        let bad = || PlanFileError::unreadable(format!("line {number}: {}", line.trim()));
        let mut rest = line.trim();
        if !bracket && let Some((key, after)) = rest.split_once(':') {
            let index = key.trim().parse().map_err(|_| bad())?;
            layers.push(PlannedLayer { index, physical_to_logical: Vec::new() });
            rest = after.trim();
            if let Some(after) = rest.strip_prefix('[') {
                (bracket, rest) = (true, after);
            }
        } else if !bracket {
            rest = rest.strip_prefix('-').ok_or_else(bad)?.trim();
        }
        if bracket && let Some(before) = rest.strip_suffix(']') {
            (bracket, rest) = (false, before);
        }
        let map = layers.last_mut().ok_or_else(bad)?;
        for item in rest.split(',').map(str::trim).filter(|item| !item.is_empty()) {
            map.physical_to_logical.push(item.parse().map_err(|_| bad())?);
        }
    }
    if bracket {
        return Err(PlanFileError::unreadable("a list does not end"));
    }
    Ok(layers)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_wrapped_by_other_writers_are_read() {
        let text = "# made by generate_eplb_config.py\ninitial_global_assignments:\n  3: [0, 1,\n    \
                    2, 1]\n  4:\n  - 2\n  - 1\n  - 0\n  - 0\nlayer_updates_per_iter: 2\n\
                    num_slots: 4\n";
        let read = |text: &str| read(text.as_bytes(), Deployed::default());
        let layers = read(text).unwrap().unwrap().layers;
        assert_eq!((layers[0].index, layers[1].index), (3, 4));
        assert_eq!(layers[0].physical_to_logical, [0, 1, 2, 1]);
        assert_eq!(layers[1].physical_to_logical, [2, 1, 0, 0]);
        assert!(read("num_slots: 4\ninitial_global_assignments:\n  3: [0, x]\n").unwrap().is_err());
        let said = read("num_slots: 4\nlayer_updates_per_iter: 2\n").unwrap().unwrap_err();
        assert!(said.to_string().contains("no `initial_global_assignments`"), "{said}");
    }
}
