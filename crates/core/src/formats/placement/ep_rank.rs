//! JSON with the rank of every expert, `{"expert_to_ep_rank": [0, 1, …]}`, as proposed for vLLM's
//! `--expert-placement-file`: one list for all layers, one per layer, or an object by layer.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::formats::placement::{
    Deployed, Maps, PlanFileError, PlannedLayer, ReadBack, of_devices, text,
};

#[derive(Deserialize)]
struct Document {
    expert_to_ep_rank: Ranks,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Ranks {
    Every(Vec<u32>),
    Layers(Vec<Vec<u32>>),
    Named(BTreeMap<String, Vec<u32>>),
}

pub(super) fn read(bytes: &[u8], at: Deployed) -> ReadBack {
    let document: Document = serde_json::from_str(text(bytes)?).ok()?;
    Some(match document.expert_to_ep_rank {
        Ranks::Every(ranks) => layer(0, &ranks, at)
            .map(|layer| Maps { others: Some(layer.physical_to_logical), ..Maps::default() }),
        Ranks::Layers(layers) => (0..)
            .zip(layers)
            .map(|(index, ranks)| layer(index, &ranks, at))
            .collect::<Result<_, _>>()
            .map(|layers| Maps { layers, ..Maps::default() }),
        Ranks::Named(layers) => layers
            .into_iter()
            .map(|(name, ranks)| match name.parse() {
                Ok(index) => layer(index, &ranks, at),
                Err(_) => Err(PlanFileError::unreadable(format!("`{name}` is no layer"))),
            })
            .collect::<Result<Vec<_>, _>>()
            .map(Maps::from),
    })
}

fn layer(index: u32, ranks: &[u32], at: Deployed) -> Result<PlannedLayer, PlanFileError> {
    if at.devices as usize > ranks.len() {
        let detail = format!("it places {} expert(s) on {} devices", ranks.len(), at.devices);
        return Err(PlanFileError::unreadable(detail));
    }
    let mut held = vec![Vec::new(); at.devices as usize];
    for (expert, &rank) in (0..).zip(ranks) {
        let Some(held) = held.get_mut(rank as usize) else {
            let detail = format!("expert {expert} is on rank {rank} of {} device(s)", at.devices);
            return Err(PlanFileError::unreadable(detail));
        };
        held.push(expert);
    }
    of_devices(index, &held)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::formats::placement::read_any;

    const AT: Deployed = Deployed { experts: 4, devices: 2 };

    #[test]
    fn ranks_become_slots() {
        let maps = read_any(br#"{"expert_to_ep_rank": [1, 0, 0, 1]}"#, AT).unwrap();
        assert_eq!(maps.others, Some(vec![1, 2, 0, 3]));
        let maps = read_any(br#"{"expert_to_ep_rank": [[1, 0, 0, 1], [0, 0, 1, 1]]}"#, AT).unwrap();
        assert_eq!(maps.layers[1].physical_to_logical, [0, 1, 2, 3]);
        let maps = read_any(br#"{"expert_to_ep_rank": {"3": [1, 0, 0, 1]}}"#, AT).unwrap();
        assert_eq!(maps.layers[0].index, 3);
        assert_eq!(maps.layers[0].physical_to_logical, [1, 2, 0, 3]);
    }

    #[test]
    fn ranks_beyond_the_devices_and_unequal_ones_are_said() {
        let said = |text: &str| read_any(text.as_bytes(), AT).unwrap_err().to_string();
        assert!(said(r#"{"expert_to_ep_rank": [1, 0, 0, 2]}"#).contains("expert 3 is on rank 2"));
        let unequal = said(r#"{"expert_to_ep_rank": [1, 0, 0, 0]}"#);
        assert!(unequal.contains("device 0 holds 3 expert(s), device 1 holds 1"), "{unequal}");
    }
}
