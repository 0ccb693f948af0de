//! Placement plans as the files engines load: one file per format, and one list of them.
//!
//! In every engine rank r owns slots r·S … (r+1)·S − 1 of P = N·S, and P is the same in all
//! layers. What differs is how layers are named and what stands for dense ones. Read at
//! vLLM 0.33.0, SGLang 0.5.23, TensorRT-LLM main and vllm-ascend 182b75ea, November 2026.

mod ascend;
mod ep_rank;
mod error;
mod lightllm;
mod numpy;
mod one_hot;
mod one_list;
mod plain;
mod sglang;
mod trtllm;

pub use error::PlanFileError;

use crate::placement::{Shape, SlotMap};

/// The map of one layer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlannedLayer {
    /// The layer's index among all layers of the model, dense ones included.
    pub index: u32,
    /// The expert in every slot.
    pub physical_to_logical: Vec<u32>,
}

/// A plan ready to be written: checked maps of one shape, layers ascending.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlanFile {
    shape: Shape,
    n_model_layers: u32,
    layers: Vec<PlannedLayer>,
}

impl PlanFile {
    /// A plan of the given layers of a model, each map checked.
    pub fn new(
        shape: Shape,
        n_model_layers: u32,
        layers: Vec<PlannedLayer>,
    ) -> Result<Self, PlanFileError> {
        if layers.is_empty() {
            return Err(PlanFileError::NoLayers);
        }
        let mut next = 0;
        for layer in &layers {
            if layer.index < next || layer.index >= n_model_layers {
                return Err(PlanFileError::LayerOrder { layer: layer.index, n_model_layers });
            }
            next = layer.index + 1;
            SlotMap::new(shape, layer.physical_to_logical.clone())
                .map_err(|source| PlanFileError::Layer { layer: layer.index, source })?;
        }
        Ok(Self { shape, n_model_layers, layers })
    }

    /// Experts, devices and slots of every layer.
    #[must_use]
    pub const fn shape(&self) -> Shape {
        self.shape
    }

    /// Layers of the model, dense ones included.
    #[must_use]
    pub const fn n_model_layers(&self) -> u32 {
        self.n_model_layers
    }

    /// The planned layers, ascending.
    #[must_use]
    pub fn layers(&self) -> &[PlannedLayer] {
        &self.layers
    }

    /// The map engines start with: slot p holds expert p mod E.
    pub(crate) fn trivial(&self) -> Vec<u32> {
        (0..self.shape.n_slots()).map(|slot| slot % self.shape.n_experts()).collect()
    }
}

/// The maps of a file.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Maps {
    /// Devices that the file is for, where it says.
    pub devices: Option<u32>,
    /// The layers it names, ascending.
    pub layers: Vec<PlannedLayer>,
    /// The slots of every layer that it does not name.
    pub others: Option<Vec<u32>>,
}

impl From<Vec<PlannedLayer>> for Maps {
    fn from(layers: Vec<PlannedLayer>) -> Self {
        Self { layers, ..Self::default() }
    }
}

/// Where the maps of a file are in force; some formats tell only what differs from the start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Deployed {
    /// Experts of a layer.
    pub experts: u32,
    /// Devices.
    pub devices: u32,
}

/// The maps of a file; `None` if it is of another format.
pub type ReadBack = Option<Result<Maps, PlanFileError>>;

/// A file format of plans.
#[derive(Debug, Clone, Copy)]
pub struct Format {
    /// Its name in `format=`.
    pub id: &'static str,
    /// Its media type.
    pub media_type: &'static str,
    /// Writes a plan.
    pub write: fn(&PlanFile) -> Result<String, PlanFileError>,
    /// Reads the maps of a file back.
    pub read: fn(&[u8], Deployed) -> ReadBack,
}

/// Every format.
pub const FORMATS: [Format; 4] = [plain::FORMAT, sglang::FORMAT, trtllm::FORMAT, ascend::FORMAT];

/// The format with this name.
pub fn by_id(id: &str) -> Result<&'static Format, PlanFileError> {
    FORMATS
        .iter()
        .find(|format| format.id == id)
        .ok_or_else(|| PlanFileError::UnknownFormat { id: id.to_owned(), known: ids() })
}

/// The names of all formats, for people.
#[must_use]
pub fn ids() -> String {
    FORMATS.map(|format| format.id).join(", ")
}

/// A file format of placements that is only read.
#[derive(Debug, Clone, Copy)]
pub struct ReadOnly {
    /// How its file names end, without the dot.
    pub extension: &'static str,
    /// What it is, for people.
    pub what: &'static str,
    /// Reads the maps of a file.
    pub read: fn(&[u8], Deployed) -> ReadBack,
}

/// Every format that is only read.
pub const READ_ONLY: [ReadOnly; 5] = [
    ReadOnly {
        extension: "npy",
        what: "NumPy array [device, layer, expert] of 0 and 1, or [layer, slot] of experts",
        read: numpy::read,
    },
    ReadOnly {
        extension: "json",
        what: "one list of the experts in all slots",
        read: one_list::read,
    },
    ReadOnly { extension: "json", what: "[device][layer][expert] of 0 and 1", read: one_hot::read },
    ReadOnly {
        extension: "json",
        what: "LightLLM's redundant experts per layer",
        read: lightllm::read,
    },
    ReadOnly { extension: "json", what: "expert_to_ep_rank", read: ep_rank::read },
];

/// Reads the maps of a file of any of the formats; layers ascending.
pub fn read_any(bytes: &[u8], at: Deployed) -> Result<Maps, PlanFileError> {
    let formats = FORMATS.iter().map(|format| format.read);
    let mut maps = formats
        .chain(READ_ONLY.iter().map(|format| format.read))
        .find_map(|read| read(bytes, at))
        .unwrap_or_else(|| {
            let read_only: Vec<&str> = READ_ONLY.iter().map(|format| format.what).collect();
            let known = format!("{}, {}", ids(), read_only.join(", "));
            let holds_loads = text(bytes).is_some_and(|text| text.contains("\"logical_count\""));
            Err(if holds_loads {
                PlanFileError::unreadable(
                    "it holds loads (logical_count), from which SGLang plans by itself, and no \
                     placement",
                )
            } else {
                PlanFileError::Unknown { known }
            })
        })?;
    maps.layers.sort_by_key(|layer| layer.index);
    match maps.layers.windows(2).find(|pair| pair[0].index == pair[1].index) {
        Some(pair) => {
            Err(PlanFileError::unreadable(format!("layer {} occurs more than once", pair[0].index)))
        }
        None if maps.layers.is_empty() && maps.others.is_none() => Err(PlanFileError::NoLayers),
        None => Ok(maps),
    }
}

/// A file as text.
fn text(bytes: &[u8]) -> Option<&str> {
    std::str::from_utf8(bytes).ok()
}

/// The slots of devices that hold these experts; all must hold equally many.
fn of_devices(index: u32, held: &[Vec<u32>]) -> Result<PlannedLayer, PlanFileError> {
    let width = held.first().map_or(0, Vec::len);
    match held.iter().position(|experts| experts.len() != width) {
        Some(device) => Err(PlanFileError::unreadable(format!(
            "layer {index}: device 0 holds {width} expert(s), device {device} holds {}; every \
             device has equally many slots",
            held[device].len()
        ))),
        None => Ok(PlannedLayer { index, physical_to_logical: held.concat() }),
    }
}

/// Rows of maps as layers 0, 1, 2, …
fn as_layers(rows: Vec<Vec<u32>>) -> Vec<PlannedLayer> {
    (0..)
        .zip(rows)
        .map(|(index, physical_to_logical)| PlannedLayer { index, physical_to_logical })
        .collect()
}

/// A list as JSON, `[1,2,3]`, which YAML reads as well.
fn list(numbers: &[u32]) -> String {
    let numbers: Vec<String> = numbers.iter().map(u32::to_string).collect();
    format!("[{}]", numbers.join(","))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Three planned layers of five: dense ones are 0 and 3.
    fn plan() -> PlanFile {
        let shape = Shape::new(4, 2, 6).unwrap();
        let layer =
            |index, map: [u32; 6]| PlannedLayer { index, physical_to_logical: map.to_vec() };
        let layers = vec![
            layer(1, [0, 1, 2, 3, 0, 1]),
            layer(2, [3, 2, 1, 0, 3, 2]),
            layer(4, [0, 2, 1, 3, 1, 0]),
        ];
        PlanFile::new(shape, 5, layers).unwrap()
    }

    #[test]
    fn every_format_reads_back_what_it_writes() {
        for format in FORMATS {
            let text = (format.write)(&plan()).unwrap();
            let back = read_any(text.as_bytes(), Deployed::default()).unwrap().layers;
            for (nth, layer) in plan().layers().iter().enumerate() {
                // vllm-ascend counts mixture-of-experts layers only.
                let index = if format.id == "vllm_ascend" { nth } else { layer.index as usize };
                let found = back.iter().find(|found| found.index as usize == index).unwrap();
                assert_eq!(found.physical_to_logical, layer.physical_to_logical, "{}", format.id);
            }
        }
    }

    #[test]
    fn names_lead_to_formats_and_others_are_refused() {
        for format in FORMATS {
            assert_eq!(by_id(format.id).unwrap().id, format.id);
        }
        let said = by_id("vllm").unwrap_err().to_string();
        assert_eq!(said, "format is vllm; supported are json, sglang, trtllm, vllm_ascend");
    }

    #[test]
    fn plans_that_no_engine_could_load_are_refused() {
        let shape = Shape::new(4, 2, 4).unwrap();
        let layer = |index, map: &[u32]| PlannedLayer { index, physical_to_logical: map.to_vec() };
        let said = |layers| PlanFile::new(shape, 2, layers).unwrap_err().to_string();
        assert!(said(vec![]).contains("no layers"));
        assert!(said(vec![layer(2, &[0, 1, 2, 3])]).contains("layer 2"));
        assert!(said(vec![layer(1, &[0, 1, 2, 3]), layer(1, &[0, 1, 2, 3])]).contains("layer 1"));
        assert!(said(vec![layer(0, &[0, 1, 2, 2])]).contains("expert 3 has no slot"));
    }

    proptest! {
        #[test]
        fn no_text_panics(text in "\\PC{0,200}") {
            let at = Deployed { experts: 4, devices: 2 };
            let _ = read_any(text.as_bytes(), at);
            for head in [
                "num_slots: 2\n",
                "{\"layer_list\":",
                "{\"physical_to_logical_map\":",
                "{\"redundancy_expert_num\":",
                "{\"expert_to_ep_rank\":",
                "[",
                "\u{93}NUMPY",
            ] {
                let _ = read_any(format!("{head}{text}").as_bytes(), at);
            }
        }
    }
}
