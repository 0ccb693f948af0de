//! SGLang's `--init-expert-location`: `{"physical_to_logical_map": [[…] per layer]}`.
//!
//! The object is passed on as keyword arguments, so any other key is an error there. Rows
//! are all layers the model's configuration counts; those without experts, and those the
//! plan does not cover, hold the map SGLang starts with.

use serde::Deserialize;

use crate::formats::placement::{Deployed, Format, PlanFile, ReadBack, as_layers, list, text};

pub(super) const FORMAT: Format =
    Format { id: "sglang", media_type: "application/json", write: |plan| Ok(write(plan)), read };

fn write(plan: &PlanFile) -> String {
    let mut rows = vec![list(&plan.trivial()); plan.n_model_layers() as usize];
    for layer in plan.layers() {
        rows[layer.index as usize] = list(&layer.physical_to_logical);
    }
    format!("{{\"physical_to_logical_map\":[\n{}\n]}}\n", rows.join(",\n"))
}

#[derive(Deserialize)]
struct Document {
    physical_to_logical_map: Vec<Vec<u32>>,
}

fn read(bytes: &[u8], _at: Deployed) -> ReadBack {
    let document: Document = serde_json::from_str(text(bytes)?).ok()?;
    Some(Ok(as_layers(document.physical_to_logical_map).into()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::formats::placement::PlannedLayer;
    use crate::placement::Shape;

    #[test]
    fn there_is_one_key_and_a_row_for_every_layer() {
        let layer = PlannedLayer { index: 1, physical_to_logical: vec![2, 1, 0, 2] };
        let plan = PlanFile::new(Shape::new(3, 2, 4).unwrap(), 3, vec![layer]).unwrap();
        let value: serde_json::Value = serde_json::from_str(&write(&plan)).unwrap();
        let expected = serde_json::json!({
            "physical_to_logical_map": [[0, 1, 2, 0], [2, 1, 0, 2], [0, 1, 2, 0]]
        });
        assert_eq!(value, expected);
    }
}
