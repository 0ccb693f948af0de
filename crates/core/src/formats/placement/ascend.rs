//! vllm-ascend's `expert_map_path`: JSON with a list of layers, each a list of devices, each
//! a list of experts. Layers are counted among those with experts.

use serde::{Deserialize, Serialize};

use crate::formats::placement::{
    Deployed, Format, Maps, PlanFile, PlanFileError, PlannedLayer, ReadBack, of_devices, text,
};

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

fn read(bytes: &[u8], _at: Deployed) -> ReadBack {
    let document: Document = serde_json::from_str(text(bytes)?).ok()?;
    let devices = document.layers.first().map(|layer| layer.n_devices);
    let layers = document.layers.into_iter().map(|layer| {
        let (id, listed) = (layer.id, layer.devices.len());
        if Some(layer.n_devices) != devices || layer.n_devices as usize != listed {
            let detail = format!(
                "layer {id}: device_count is {}, device_list has {listed}; they must be equal, and \
                 the same in every layer",
                layer.n_devices
            );
            return Err(PlanFileError::unreadable(detail));
        }
        let mut devices = layer.devices;
        devices.sort_by_key(|device| device.id);
        let held: Vec<Vec<u32>> = devices.into_iter().map(|device| device.experts).collect();
        of_devices(id, &held)
    });
    let layers: Result<Vec<PlannedLayer>, PlanFileError> = layers.collect();
    Some(layers.map(|layers| Maps { devices, layers, others: None }))
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
    fn the_number_of_devices_is_kept_and_must_fit() {
        let text = |count: u32| {
            format!(
                r#"{{"moe_layer_count": 1, "layer_list": [{{"layer_id": 0, "device_count": {count},
                "device_list": [{{"device_id": 1, "device_expert": [2, 3]}},
                                {{"device_id": 0, "device_expert": [0, 1]}}]}}]}}"#
            )
        };
        let maps = |count| read(text(count).as_bytes(), Deployed::default()).unwrap();
        let sound = maps(2).unwrap();
        assert_eq!(sound.devices, Some(2));
        assert_eq!(sound.layers[0].physical_to_logical, [0, 1, 2, 3]);
        let said = maps(4).unwrap_err().to_string();
        assert!(said.contains("device_count is 4, device_list has 2"), "{said}");
    }

    #[test]
    fn two_copies_on_a_device_are_refused() {
        let layer = PlannedLayer { index: 0, physical_to_logical: vec![0, 0, 1, 2] };
        let plan = PlanFile::new(Shape::new(3, 2, 4).unwrap(), 1, vec![layer]).unwrap();
        let said = write(&plan).unwrap_err().to_string();
        assert!(said.contains("device 0 holds expert 0 twice"), "{said}");
    }
}
