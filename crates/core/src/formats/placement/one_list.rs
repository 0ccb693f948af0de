//! JSON with one list of the experts in all slots, `[0, 1, 2, …]`: the same in every layer.

use crate::formats::placement::{Deployed, Maps, ReadBack, text};

pub(super) fn read(bytes: &[u8], _at: Deployed) -> ReadBack {
    let slots: Vec<u32> = serde_json::from_str(text(bytes)?).ok()?;
    Some(Ok(Maps { others: Some(slots), ..Maps::default() }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::formats::placement::read_any;

    #[test]
    fn one_list_stands_for_every_layer() {
        let maps = read_any(b"[3, 2, 1, 0]\n", Deployed::default()).unwrap();
        assert_eq!(maps.others, Some(vec![3, 2, 1, 0]));
        assert!(read(b"[[3, 2]]", Deployed::default()).is_none());
    }
}
