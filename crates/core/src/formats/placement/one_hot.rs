//! JSON `[device][layer][expert]` of zeros and ones, or of false and true: who holds what.

use serde::Deserialize;

use crate::formats::placement::numpy::who_holds_what;
use crate::formats::placement::{Deployed, PlanFileError, ReadBack, text};

#[derive(Deserialize)]
#[serde(untagged)]
enum Cell {
    Flag(bool),
    Number(f64),
}

pub(super) fn read(bytes: &[u8], at: Deployed) -> ReadBack {
    let cells: Vec<Vec<Vec<Cell>>> = serde_json::from_str(text(bytes)?).ok()?;
    let n_layers = cells.first().map_or(0, Vec::len);
    let n_experts = cells.first().and_then(|layers| layers.first()).map_or(0, Vec::len);
    let is_even = |layers: &Vec<Vec<Cell>>| {
        layers.len() == n_layers && layers.iter().all(|experts| experts.len() == n_experts)
    };
    if !cells.iter().all(is_even) {
        let detail = "its rows differ in length; it must be [device][layer][expert] of 0 and 1";
        return Some(Err(PlanFileError::unreadable(detail)));
    }
    let shape = [cells.len(), n_layers, n_experts];
    let flat = cells.iter().enumerate().flat_map(|(device, layers)| {
        layers.iter().enumerate().flat_map(move |(layer, experts)| {
            experts.iter().enumerate().map(move |(expert, cell)| {
                let number = match cell {
                    Cell::Flag(flag) => f64::from(*flag),
                    Cell::Number(number) => *number,
                };
                ([device, layer, expert], number)
            })
        })
    });
    Some(who_holds_what(shape, at, flat))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::formats::placement::read_any;

    const AT: Deployed = Deployed { experts: 4, devices: 2 };

    #[test]
    fn devices_hold_what_is_set() {
        let maps = read_any(b"[[[1,0,1,0],[0,1,0,1]],[[0,1,0,1],[1,0,1,0]]]", AT).unwrap();
        assert_eq!(maps.devices, Some(2));
        assert_eq!(maps.layers[0].physical_to_logical, [0, 2, 1, 3]);
        assert_eq!(maps.layers[1].physical_to_logical, [1, 3, 0, 2]);
        let flags = b"[[[true,true,false,false]],[[false,false,true,true]]]";
        assert_eq!(read_any(flags, AT).unwrap().layers[0].physical_to_logical, [0, 1, 2, 3]);
    }

    #[test]
    fn other_numbers_and_rows_are_said() {
        let said = |text: &[u8]| read_any(text, AT).unwrap_err().to_string();
        assert!(said(b"[[[1,2,0,0]],[[0,0,1,1]]]").contains("[0, 0, 1] is 2; it must be 0 or 1"));
        assert!(said(b"[[[1,1,0,0]],[[0,0,1]]]").contains("rows differ in length"));
    }
}
