//! One line of JSON Lines as a token, without allocating once the first lines are read.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};

use crate::formats::trace::routes::NO_ID;
use crate::trace::{MAX_LAYERS, MAX_TOP_K};

/// What a line says; reused from line to line.
#[derive(Debug, Default)]
pub(super) struct Line {
    pub(super) sequence: u64,
    pub(super) position: u64,
    pub(super) token_id: Option<u64>,
    /// Ids, layer after layer; what cannot be an id is [`NO_ID`].
    pub(super) ids: Vec<u16>,
    /// Ids of each layer.
    pub(super) widths: Vec<usize>,
    /// What was written where an id cannot be: place in `ids`, text.
    pub(super) strange: Vec<(usize, String)>,
}

impl Line {
    /// Reads a line.
    pub(super) fn read(&mut self, text: &[u8]) -> Result<(), serde_json::Error> {
        self.ids.clear();
        self.widths.clear();
        self.strange.clear();
        let mut deserializer = serde_json::Deserializer::from_slice(text);
        (&mut *self).deserialize(&mut deserializer)?;
        deserializer.end()
    }
}

impl<'de> DeserializeSeed<'de> for &mut Line {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_map(self)
    }
}

/// The keys of a line.
#[derive(serde::Deserialize)]
#[serde(field_identifier, rename_all = "snake_case")]
enum Key {
    Sequence,
    Position,
    TokenId,
    Experts,
}

impl<'de> Visitor<'de> for &mut Line {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object with sequence, position, experts and perhaps token_id")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let (mut sequence, mut position, mut token_id, mut experts) = (None, None, None, false);
        while let Some(key) = map.next_key::<Key>()? {
            let twice = match key {
                Key::Sequence => sequence.replace(map.next_value::<u64>()?).is_some(),
                Key::Position => position.replace(map.next_value::<u64>()?).is_some(),
                Key::TokenId => token_id.replace(map.next_value::<Option<u64>>()?).is_some(),
                Key::Experts => {
                    let before = experts;
                    experts = true;
                    if before {
                        true
                    } else {
                        map.next_value_seed(Layers(self))?;
                        false
                    }
                }
            };
            if twice {
                return Err(A::Error::custom("a field occurs twice"));
            }
        }
        self.sequence = sequence.ok_or_else(|| A::Error::missing_field("sequence"))?;
        self.position = position.ok_or_else(|| A::Error::missing_field("position"))?;
        self.token_id = token_id.flatten();
        if experts { Ok(()) } else { Err(A::Error::missing_field("experts")) }
    }
}

/// `[[k ids] per layer]`.
struct Layers<'a>(&'a mut Line);

impl<'de> DeserializeSeed<'de> for Layers<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for Layers<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array of ids per layer")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut layers: A) -> Result<(), A::Error> {
        while let Some(width) = layers.next_element_seed(Ids(self.0))? {
            self.0.widths.push(width);
            if self.0.widths.len() > MAX_LAYERS {
                return Err(A::Error::custom(format_args!("more than {MAX_LAYERS} layers")));
            }
        }
        Ok(())
    }
}

/// The ids of one layer.
struct Ids<'a>(&'a mut Line);

impl<'de> DeserializeSeed<'de> for Ids<'_> {
    type Value = usize;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<usize, D::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for Ids<'_> {
    type Value = usize;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the ids of a layer")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut ids: A) -> Result<usize, A::Error> {
        let mut width = 0;
        while ids.next_element_seed(Id(self.0))?.is_some() {
            width += 1;
            if width > MAX_TOP_K {
                return Err(A::Error::custom(format_args!("more than {MAX_TOP_K} experts")));
            }
        }
        Ok(width)
    }
}

/// One id.
struct Id<'a>(&'a mut Line);

impl Id<'_> {
    fn strange(self, text: String) {
        // A few are enough for the list of flaws.
        if self.0.strange.len() < 100 {
            self.0.strange.push((self.0.ids.len(), text));
        }
        self.0.ids.push(NO_ID);
    }
}

impl<'de> DeserializeSeed<'de> for Id<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl Visitor<'_> for Id<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the id of an expert")
    }

    fn visit_u64<E>(self, id: u64) -> Result<(), E> {
        match u16::try_from(id) {
            Ok(id) if id != NO_ID => self.0.ids.push(id),
            _ => self.strange(id.to_string()),
        }
        Ok(())
    }

    fn visit_i64<E>(self, id: i64) -> Result<(), E> {
        self.strange(id.to_string());
        Ok(())
    }

    fn visit_f64<E>(self, id: f64) -> Result<(), E> {
        self.strange(id.to_string());
        Ok(())
    }
}
