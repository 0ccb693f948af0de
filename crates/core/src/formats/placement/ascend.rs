//! vllm-ascend's `expert_map_path`: JSON with a list of layers, each a list of devices, each
//! a list of experts. Layers are counted among those with experts.

use serde::{Deserialize, Serialize};

use crate::formats::placement::{Format, PlanFile, PlanFileError, PlannedLayer, ReadBack};

pub(super) const FORMAT: Format =
    Format { id: "vllm_ascend", media_type: "application/json", write, read };

#[derive(Serialize, Deserialize)]
struct Document {
    #[serde(rename = "moe_layer_count")]
    n_layers: usize,
    #[serde(rename = "layer_list")]
    layers: Vec<Layer>,
}

#[derive(Serialize, Deserialize)]
struct Layer {
    #[serde(rename = "layer_id")]
    id: u32,
    #[serde(rename = "device_count")]
    n_devices: u32,
    #[serde(rename = "device_list")]
    devices: Vec<Device>,
}

#[derive(Serialize, Deserialize)]
struct Device {
    #[serde(rename = "device_id")]
    id: u32,
    #[serde(rename = "device_expert")]
    experts: Vec<u32>,
}

fn write(plan: &PlanFile) -> Result<String, PlanFileError> {
    let per_device = plan.shape().slots_per_device() as usize;
    let mut layers = Vec::new();
    for (id, layer) in (0..).zip(plan.layers()) {
        let held = layer.physical_to_logical.chunks_exact(per_device);
        for (device, experts) in held.clone().enumerate() {
            if let Some(at) = (1..experts.len()).find(|&at| experts[..at].contains(&experts[at])) {
                let (layer, expert) = (layer.index, experts[at]);
                return Err(PlanFileError::Duplicate { layer, device, expert });
            }
        }
        let device = |(id, held): (u32, &[u32])| Device { id, experts: held.to_vec() };
        layers.push(Layer {
            id,
            n_devices: plan.shape().n_devices(),
            devices: (0..).zip(held).map(device).collect(),
        });
    }
    let document = Document { n_layers: layers.len(), layers };
    let text = serde_json::to_string(&document).map_err(PlanFileError::unreadable)?;
    Ok(text + "\n")
}

fn read(text: &str) -> ReadBack {
    let document: Document = serde_json::from_str(text).ok()?;
    let layer = |mut layer: Layer| {
        layer.devices.sort_by_key(|device| device.id);
        let width = layer.devices.first().map_or(0, |device| device.experts.len());
        if layer.devices.iter().any(|device| device.experts.len() != width) {
            let detail = format!("layer {}: devices hold unlike numbers of experts", layer.id);
            return Err(PlanFileError::unreadable(detail));
        }
        let slots = layer.devices.into_iter().flat_map(|device| device.experts);
        Ok(PlannedLayer { index: layer.id, physical_to_logical: slots.collect() })
    };
    Some(document.layers.into_iter().map(layer).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::placement::Shape;

    #[test]
    fn the_file_is_as_vllm_ascend_documents_it() {
        let layer = PlannedLayer { index: 3, physical_to_logical: vec![2, 1, 0, 2] };
        let plan = PlanFile::new(Shape::new(3, 2, 4).unwrap(), 4, vec![layer]).unwrap();
        let value: serde_json::Value = serde_json::from_str(&write(&plan).unwrap()).unwrap();
        let expected = serde_json::json!({"moe_layer_count": 1, "layer_list": [
            {"layer_id": 0, "device_count": 2, "device_list": [
                {"device_id": 0, "device_expert": [2, 1]},
                {"device_id": 1, "device_expert": [0, 2]}]}]});
        assert_eq!(value, expected);
    }

    #[test]
    fn two_copies_on_a_device_are_refused() {
        let layer = PlannedLayer { index: 0, physical_to_logical: vec![0, 0, 1, 2] };
        let plan = PlanFile::new(Shape::new(3, 2, 4).unwrap(), 1, vec![layer]).unwrap();
        let said = write(&plan).unwrap_err().to_string();
        assert!(said.contains("device 0 holds expert 0 twice"), "{said}");
    }
}
