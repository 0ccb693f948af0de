//! What is read of an engine's answer; everything else in it is skipped.

use std::fmt;

use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, Error as _, SeqAccess, Visitor};

use crate::formats::trace::routes::NO_ID;

/// An answer.
#[derive(Deserialize)]
pub(super) struct Response {
    /// SGLang's own interface.
    pub(super) meta_info: Option<Meta>,
    /// SGLang behind the interface of `OpenAI`.
    pub(super) sglext: Option<Extension>,
    #[serde(default)]
    pub(super) choices: Vec<Choice>,
    pub(super) usage: Option<Lengths>,
    /// vLLM 0.21: the routes of the prompt.
    pub(super) prompt_routed_experts: Option<Routes>,
    pub(super) routed_experts: Option<Routes>,
}

/// What SGLang says beside a text.
#[derive(Deserialize)]
pub(super) struct Meta {
    pub(super) prompt_tokens: Option<u64>,
    pub(super) completion_tokens: Option<u64>,
    pub(super) routed_experts: Option<Routes>,
}

/// SGLang's addition to an answer in the form of `OpenAI`.
#[derive(Deserialize)]
pub(super) struct Extension {
    pub(super) routed_experts: Option<Routes>,
}

/// One of the texts of an answer.
#[derive(Deserialize)]
pub(super) struct Choice {
    pub(super) routed_experts: Option<Routes>,
    pub(super) sglext: Option<Extension>,
    pub(super) meta_info: Option<Lengths>,
}

/// Tokens that went in and came out.
#[derive(Debug, Clone, Copy, Deserialize)]
pub(super) struct Lengths {
    pub(super) prompt_tokens: Option<u64>,
    pub(super) completion_tokens: Option<u64>,
}

impl Lengths {
    /// Tokens that were routed: all but the last.
    pub(super) fn routed(self) -> Option<u64> {
        self.prompt_tokens?.checked_add(self.completion_tokens?)?.checked_sub(1)
    }
}

/// Routes as they are written.
pub(super) enum Routes {
    /// Base64.
    Text(String),
    /// `[token][layer][k]`.
    Lists(Lists),
}

/// Nested lists, flattened while they are read.
#[derive(Default)]
pub(super) struct Lists {
    pub(super) n_layers: usize,
    pub(super) top_k: usize,
    pub(super) ids: Vec<u16>,
}

impl<'de> Deserialize<'de> for Routes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Either)
    }
}

struct Either;

impl<'de> Visitor<'de> for Either {
    type Value = Routes;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("base64 or lists [token][layer][k]")
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Routes, E> {
        Ok(Routes::Text(text.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut tokens: A) -> Result<Routes, A::Error> {
        let mut lists = Lists::default();
        let mut first = true;
        while let Some(n_layers) = tokens.next_element_seed(Token(&mut lists))? {
            if first {
                lists.n_layers = n_layers;
            }
            let full = lists.n_layers * lists.top_k;
            if n_layers != lists.n_layers || full == 0 || !lists.ids.len().is_multiple_of(full) {
                return Err(A::Error::custom(format!(
                    "a token is no {} layers of {} experts as the first",
                    lists.n_layers, lists.top_k
                )));
            }
            first = false;
        }
        Ok(Routes::Lists(lists))
    }
}

/// Reads the layers of a token; gives their number.
struct Token<'a>(&'a mut Lists);

impl<'de> DeserializeSeed<'de> for Token<'_> {
    type Value = usize;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<usize, D::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for Token<'_> {
    type Value = usize;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the layers of a token")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut layers: A) -> Result<usize, A::Error> {
        let mut n_layers = 0;
        while let Some(width) = layers.next_element_seed(Layer(self.0))? {
            if self.0.top_k == 0 {
                self.0.top_k = width;
            }
            if width != self.0.top_k {
                return Err(A::Error::custom(format!(
                    "a layer has {width} experts; the first has {}",
                    self.0.top_k
                )));
            }
            n_layers += 1;
        }
        Ok(n_layers)
    }
}

/// Reads the experts of a layer; gives their number.
struct Layer<'a>(&'a mut Lists);

impl<'de> DeserializeSeed<'de> for Layer<'_> {
    type Value = usize;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<usize, D::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for Layer<'_> {
    type Value = usize;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the experts of a layer")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut ids: A) -> Result<usize, A::Error> {
        let mut width = 0;
        while let Some(id) = ids.next_element::<i64>()? {
            self.0.ids.push(u16::try_from(id).unwrap_or(NO_ID));
            width += 1;
        }
        Ok(width)
    }
}
