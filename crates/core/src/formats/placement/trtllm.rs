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
/// in brackets (over several lines, too) or with a dash per line. In a file of all options it stands
/// under `moe_config.load_balancer`.
fn read(bytes: &[u8], _at: Deployed) -> ReadBack {
    let text = text(bytes)?;
    let balancer = under_load_balancer(text);
    let text = balancer.as_deref().unwrap_or(text);
    let value = |key: &str| text.lines().find_map(|line| line.strip_prefix(key));
    let n_slots = value("num_slots:")?.split('#').next().unwrap_or_default().trim();
    if value("initial_global_assignments:").is_none() {
        let detail = "it has `num_slots` and no `initial_global_assignments`, so holds no \
                      placement: the balancer of TensorRT-LLM starts from its own";
        return Some(Err(PlanFileError::unreadable(detail)));
    }
    let layers = parse(text).and_then(|layers| {
        let unlike = layers.iter().find(|layer| {
            n_slots.parse().is_ok_and(|n: usize| n != layer.physical_to_logical.len())
        });
        match unlike {
            None => Ok(layers),
            Some(layer) => Err(PlanFileError::unreadable(format!(
                "layer {}: {} slots are assigned, num_slots is {n_slots}",
                layer.index,
                layer.physical_to_logical.len()
            ))),
        }
    });
    Some(layers.map(Maps::from))
}

/// The lines under `load_balancer:`, moved to the margin; `None` where there are none.
fn under_load_balancer(text: &str) -> Option<String> {
    let mut lines = text.lines().skip_while(|line| line.trim() != "load_balancer:");
    let outer = lines.next()?;
    let margin = |line: &str| line.len() - line.trim_start().len();
    let outer = margin(outer);
    let inside: Vec<&str> = lines
        .filter(|line| !line.trim().is_empty())
        .take_while(|line| margin(line) > outer)
        .collect();
    let least = inside.iter().map(|line| margin(line)).min()?;
    Some(inside.iter().map(|line| &line[least..]).collect::<Vec<_>>().join("\n"))
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
        let inside = "backend: pytorch\nmoe_config:\n  load_balancer:\n    num_slots: 2\n    \
                      initial_global_assignments:\n      0: [1, 0]\n  backend: CUTLASS\n";
        assert_eq!(read(inside).unwrap().unwrap().layers[0].physical_to_logical, [1, 0]);
        let said = read("num_slots: 3\ninitial_global_assignments:\n  3: [0, 1]\n").unwrap();
        let said = said.unwrap_err().to_string();
        assert!(said.contains("layer 3: 2 slots are assigned, num_slots is 3"), "{said}");
        let said = read("num_slots: 4\nlayer_updates_per_iter: 2\n").unwrap().unwrap_err();
        assert!(said.to_string().contains("no `initial_global_assignments`"), "{said}");
    }
}
