//! A NumPy array `[device, layer, expert]` of zeros and ones: who holds what. Or whole numbers
//! `[layer, slot]`, the expert in every slot, or `[slot]` for all layers.

use crate::formats::placement::{Deployed, Maps, PlanFileError, ReadBack, as_layers, of_devices};
use crate::formats::trace::npy::{NpyHeader, read_header};

/// Most numbers of an array: 4,096 devices, 64 layers and 256 experts fit.
const MAX_CELLS: u64 = 1 << 26;

pub(super) fn read(bytes: &[u8], at: Deployed) -> ReadBack {
    bytes.starts_with(b"\x93NUMPY").then(|| parse(bytes, at))
}

fn parse(mut bytes: &[u8], at: Deployed) -> Result<Maps, PlanFileError> {
    let header = read_header(&mut bytes, "file").map_err(PlanFileError::unreadable)?;
    let shape = header.shape.iter().map(|n| usize::try_from(*n));
    let shape: Vec<usize> = shape.collect::<Result<_, _>>().map_err(PlanFileError::unreadable)?;
    let (size, n_bytes) = (header.dtype.size.max(1), header.n_bytes().unwrap_or(u64::MAX));
    let is_flag = header.dtype.is_number() || header.dtype.kind == 'b';
    if !is_flag
        || shape.contains(&0)
        || n_bytes / size as u64 > MAX_CELLS
        || n_bytes != bytes.len() as u64
    {
        let detail = format!("{shape:?} of {} in {} bytes", header.dtype.name(), bytes.len());
        return Err(PlanFileError::unreadable(detail));
    }
    let &[n_devices, n_layers, n_experts] = &shape[..] else {
        return slots(bytes, &header, &shape);
    };
    let numbers = bytes.chunks_exact(size).map(|number| header.dtype.number(number));
    let held = numbers.enumerate().map(|(place, number)| {
        let at = if header.fortran {
            [place % n_devices, place / n_devices % n_layers, place / n_devices / n_layers]
        } else {
            [place / n_experts / n_layers, place / n_experts % n_layers, place % n_experts]
        };
        (at, number)
    });
    who_holds_what([n_devices, n_layers, n_experts], at, held)
}

/// The maps of zeros and ones at `[device, layer, expert]`.
pub(super) fn who_holds_what(
    shape @ [n_devices, n_layers, _]: [usize; 3],
    at: Deployed,
    cells: impl Iterator<Item = ([usize; 3], f64)>,
) -> Result<Maps, PlanFileError> {
    if at.devices > 0 && n_devices != at.devices as usize && n_layers == at.devices as usize {
        let detail = format!(
            "its shape is {shape:?}; it must be [device, layer, expert], with {} devices first",
            at.devices
        );
        return Err(PlanFileError::unreadable(detail));
    }
    let mut held = vec![vec![Vec::new(); n_devices]; n_layers];
    for ([device, layer, expert], number) in cells {
        match number {
            0.0 => {}
            1.0 => held[layer][device].push(u32::try_from(expert).unwrap_or(u32::MAX)),
            other => {
                let detail = format!("[{device}, {layer}, {expert}] is {other}; it must be 0 or 1");
                return Err(PlanFileError::unreadable(detail));
            }
        }
    }
    let layers = (0..).zip(held).map(|(index, held)| of_devices(index, &held));
    let layers = layers.collect::<Result<_, _>>()?;
    Ok(Maps { devices: u32::try_from(n_devices).ok(), layers, others: None })
}

/// Reads the experts of slots, layer by layer or of every layer.
fn slots(bytes: &[u8], header: &NpyHeader, shape: &[usize]) -> Result<Maps, PlanFileError> {
    let (n_layers, n_slots) = match *shape {
        [n_slots] => (1, n_slots),
        [n_layers, n_slots] => (n_layers, n_slots),
        _ => {
            let detail = format!(
                "has {} dimension(s); it must be [device, layer, expert] of 0 and 1, or the expert \
                 in every slot, [layer, slot]",
                shape.len()
            );
            return Err(PlanFileError::unreadable(detail));
        }
    };
    let mut rows = vec![vec![0; n_slots]; n_layers];
    for (place, number) in bytes.chunks_exact(header.dtype.size).enumerate() {
        let (layer, slot) = if header.fortran {
            (place % n_layers, place / n_layers)
        } else {
            (place / n_slots, place % n_slots)
        };
        let expert = header.dtype.is_integer().then(|| header.dtype.integer(number));
        rows[layer][slot] =
            expert.and_then(|expert| u32::try_from(expert).ok()).ok_or_else(|| {
                let number = header.dtype.number(number);
                PlanFileError::unreadable(format!(
                    "[{layer}, {slot}] is {number}, which is no expert"
                ))
            })?;
    }
    Ok(match shape {
        [_] => Maps { others: rows.pop(), ..Maps::default() },
        _ => as_layers(rows).into(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::formats::placement::read_any;

    /// Version 1.0 of the format.
    fn npy(shape: &str, fortran: &str, cells: &[u8]) -> Vec<u8> {
        let header = format!("{{'descr': '|u1', 'fortran_order': {fortran}, 'shape': {shape}, }}");
        let header = format!("{header:<117}\n");
        [b"\x93NUMPY\x01\x00\x76\x00", header.as_bytes(), cells].concat()
    }

    const AT: Deployed = Deployed { experts: 4, devices: 2 };

    #[test]
    fn devices_hold_what_is_set() {
        let cells = [1, 0, 1, 0, 1, 1, 0, 0, 0, 1, 0, 1, 0, 0, 1, 1];
        let maps = read_any(&npy("(2, 2, 4)", "False", &cells), AT).unwrap();
        assert_eq!(maps.devices, Some(2));
        assert_eq!(maps.layers[0].physical_to_logical, [0, 2, 1, 3]);
        assert_eq!(maps.layers[1].physical_to_logical, [0, 1, 2, 3]);
        // The same by columns: device first.
        let cells = [1, 0, 1, 0, 0, 1, 1, 0, 1, 0, 0, 1, 0, 1, 0, 1];
        assert_eq!(read_any(&npy("(2, 2, 4)", "True", &cells), AT).unwrap(), maps);
    }

    #[test]
    fn slots_hold_experts() {
        let maps = read_any(&npy("(2, 4)", "False", &[3, 2, 1, 0, 0, 1, 2, 3]), AT).unwrap();
        assert_eq!(maps.layers[0].physical_to_logical, [3, 2, 1, 0]);
        assert_eq!(maps.layers[1].physical_to_logical, [0, 1, 2, 3]);
        let maps = read_any(&npy("(2, 4)", "True", &[3, 0, 2, 1, 1, 2, 0, 3]), AT).unwrap();
        assert_eq!(maps.layers[0].physical_to_logical, [3, 2, 1, 0]);
        let maps = read_any(&npy("(4,)", "False", &[3, 2, 1, 0]), AT).unwrap();
        assert_eq!(maps.others, Some(vec![3, 2, 1, 0]));
    }

    #[test]
    fn unequal_devices_and_other_numbers_are_said() {
        let said = |bytes: &[u8]| read_any(bytes, AT).unwrap_err().to_string();
        let unequal = said(&npy("(2, 1, 4)", "False", &[1, 1, 1, 0, 0, 0, 0, 1]));
        assert!(
            unequal.contains("layer 0: device 0 holds 3 expert(s), device 1 holds 1"),
            "{unequal}"
        );
        let two = said(&npy("(2, 1, 4)", "False", &[1, 1, 2, 0, 0, 0, 0, 1]));
        assert!(two.contains("[0, 0, 2] is 2; it must be 0 or 1"), "{two}");
        assert!(said(&npy("(2, 1, 1, 4)", "False", &[1; 8])).contains("[device, layer, expert]"));
        let turned = said(&npy("(1, 2, 4)", "False", &[1, 1, 0, 0, 0, 0, 1, 1]));
        assert!(turned.contains("with 2 devices first"), "{turned}");
        assert!(said(&npy("(2, 2, 4)", "False", &[1; 8])).contains("8 bytes"));
    }
}
