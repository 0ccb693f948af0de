//! The plain form: JSON with every layer's `physical_to_logical`, as the service answers it.

use std::fmt::Write;

use serde::Deserialize;

use crate::formats::placement::{
    Deployed, Format, PlanFile, PlannedLayer, ReadBack, as_layers, list, text,
};

pub(super) const FORMAT: Format =
    Format { id: "json", media_type: "application/json", write: |plan| Ok(write(plan)), read };

fn write(plan: &PlanFile) -> String {
    let shape = plan.shape();
    let mut text = format!(
        "{{\"format\":\"json\",\"n_logical_experts\":{},\"n_physical_experts\":{},\
         \"devices\":{},\"slots_per_device\":{},\"n_model_layers\":{},\"layers\":[",
        shape.n_experts(),
        shape.n_slots(),
        shape.n_devices(),
        shape.slots_per_device(),
        plan.n_model_layers()
    );
    for (nth, layer) in plan.layers().iter().enumerate() {
        let mut replicas = vec![0_u32; shape.n_experts() as usize];
        for expert in &layer.physical_to_logical {
            replicas[*expert as usize] += 1;
        }
        // Writing to a string cannot fail.
        let _ = write!(
            text,
            "{}\n{{\"layer\":{nth},\"model_layer\":{},\"physical_to_logical\":{},\"replicas\":{}}}",
            if nth == 0 { "" } else { "," },
            layer.index,
            list(&layer.physical_to_logical),
            list(&replicas)
        );
    }
    text.push_str("\n]}\n");
    text
}

/// What is read: our own answers, `{"physical_to_logical": [[…]]}` or bare rows.
#[derive(Deserialize)]
#[serde(untagged)]
enum Document {
    Layers { layers: Vec<Layer> },
    Rows { physical_to_logical: Vec<Vec<u32>> },
    Bare(Vec<Vec<u32>>),
}

#[derive(Deserialize)]
struct Layer {
    #[serde(rename = "layer")]
    nth: u32,
    #[serde(default, rename = "model_layer")]
    index: Option<u32>,
    physical_to_logical: Vec<u32>,
}

fn read(bytes: &[u8], _at: Deployed) -> ReadBack {
    let layers: Vec<PlannedLayer> = match serde_json::from_str(text(bytes)?).ok()? {
        Document::Rows { physical_to_logical: rows } | Document::Bare(rows) => as_layers(rows),
        Document::Layers { layers } => layers
            .into_iter()
            .map(|layer| PlannedLayer {
                index: layer.index.unwrap_or(layer.nth),
                physical_to_logical: layer.physical_to_logical,
            })
            .collect(),
    };
    Some(Ok(layers.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bare_rows_and_printed_plans_are_read() {
        let read = |text: &str| read(text.as_bytes(), Deployed::default());
        let rows = |text: &str| read(text).unwrap().unwrap().layers;
        assert_eq!(rows("[[0,1],[1,0]]")[1].physical_to_logical, [1, 0]);
        let printed = r#"{"balance_mean":1.0,"physical_to_logical":[[0,1,1]]}"#;
        assert_eq!(rows(printed)[0].physical_to_logical, [0, 1, 1]);
        assert!(read("{\"physical_to_logical_map\":[[0]]}").is_none());
    }
}
