//! `LightLLM`'s `ep_redundancy_expert_config_path`: JSON with the experts that every rank holds beside
//! its own, `{"redundancy_expert_num": 1, "0": [7], "default": [0]}`, by layer of the model.
//!
//! A rank's own experts are the E/N that follow those of the rank before.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::formats::placement::{Deployed, Maps, PlanFileError, PlannedLayer, ReadBack, text};

#[derive(Deserialize)]
struct Document {
    #[serde(rename = "redundancy_expert_num")]
    n_redundant: usize,
    #[serde(flatten)]
    layers: BTreeMap<String, Vec<u32>>,
}

pub(super) fn read(bytes: &[u8], at: Deployed) -> ReadBack {
    let document = serde_json::from_str(text(bytes)?).ok()?;
    Some(maps(document, at))
}

fn maps(document: Document, at: Deployed) -> Result<Maps, PlanFileError> {
    let Deployed { experts, devices } = at;
    if devices == 0 || !experts.is_multiple_of(devices) {
        let detail = format!("{experts} experts do not divide among {devices} devices");
        return Err(PlanFileError::unreadable(detail));
    }
    let own = experts / devices;
    let mut maps = Maps::default();
    for (key, beside) in document.layers {
        if beside.len() != document.n_redundant {
            let detail = format!(
                "`{key}` lists {} expert(s); redundancy_expert_num is {}",
                beside.len(),
                document.n_redundant
            );
            return Err(PlanFileError::unreadable(detail));
        }
        let rank = |rank: u32| (rank * own..(rank + 1) * own).chain(beside.iter().copied());
        let slots = (0..devices).flat_map(rank).collect();
        match key.parse() {
            Ok(index) => maps.layers.push(PlannedLayer { index, physical_to_logical: slots }),
            Err(_) if key == "default" => maps.others = Some(slots),
            Err(_) => return Err(PlanFileError::unreadable(format!("`{key}` is no layer"))),
        }
    }
    Ok(maps)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::formats::placement::read_any;

    const AT: Deployed = Deployed { experts: 4, devices: 2 };

    #[test]
    fn every_rank_holds_its_own_and_the_redundant_experts() {
        let text = br#"{"redundancy_expert_num": 1, "3": [2], "default": [0]}"#;
        let maps = read_any(text, AT).unwrap();
        assert_eq!(maps.layers[0].index, 3);
        assert_eq!(maps.layers[0].physical_to_logical, [0, 1, 2, 2, 3, 2]);
        assert_eq!(maps.others, Some(vec![0, 1, 0, 2, 3, 0]));
    }

    #[test]
    fn lists_of_other_lengths_are_said() {
        let said = |text: &str, at| read_any(text.as_bytes(), at).unwrap_err().to_string();
        let text = r#"{"redundancy_expert_num": 2, "3": [2]}"#;
        assert!(said(text, AT).contains("`3` lists 1 expert(s); redundancy_expert_num is 2"));
        let text = r#"{"redundancy_expert_num": 1, "three": [2]}"#;
        assert!(said(text, AT).contains("`three` is no layer"));
        assert!(said(text, Deployed { experts: 4, devices: 3 }).contains("do not divide"));
    }
}
