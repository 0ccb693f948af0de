//! What a sequence keeps in memory: what grows with its tokens, and what does not.
//!
//! ```text
//! grows  = Σ blocks · width / ratio                     keys and values, 16 bits
//! index  = Σ blocks · index width / ratio               index keys, one byte a value
//! state  = Σ windows · width · 2 + states · 4 + convolution states · 2
//! ```
//!
//! A window drops older tokens, a sparse reach keeps all and reads few, a compressed one keeps an
//! entry for every `ratio` tokens beside its window. Worked numbers: DeepSeek-V3.2, 61 · 576 · 2 =
//! 70,272 bytes and 61 · 128 index keys a token; Qwen3.5-397B, 15 · 2 · 2 · 256 · 2 = 30,720 bytes a
//! token and 45 · (64 · 128 · 128 · 4 + 3 · 12,288 · 2) = 192.1 MB a sequence.

use crate::model::{Attention, Mixing, Model, Reach};

/// One kind of block that keeps keys and values, and how.
#[derive(Debug, Clone, Copy)]
pub struct Keeps<'a> {
    /// How many blocks.
    pub layers: u32,
    /// Whose keys and values.
    pub shape: &'a Attention,
    /// Which of them.
    pub reach: Reach,
}

impl Model {
    /// Every kind of block that keeps keys and values.
    pub fn keeps(&self) -> impl Iterator<Item = Keeps<'_>> {
        let windowed = self.attention.window().filter(|(_, layers)| *layers > 0);
        let whole = self.attention_layers - windowed.map_or(0, |(_, layers)| layers);
        let near = windowed.map(|(window, layers)| (layers, Reach::Window(window)));
        let usual = [Some((whole, Reach::All)), near].into_iter().flatten();
        let usual = usual.map(|(layers, reach)| Keeps { layers, shape: &self.attention, reach });
        usual.chain(self.mixers.iter().filter_map(|mixer| match &mixer.mixing {
            Mixing::Attention { shape, reach, .. } => {
                Some(Keeps { layers: mixer.layers, shape, reach: *reach })
            }
            Mixing::Recurrent { .. } => None,
        }))
    }

    /// Bytes of keys and values that every further token adds, at two bytes a value.
    #[must_use]
    pub fn kv_bytes_per_token(&self) -> f64 {
        total(self.keeps().map(|kept| kept.tokens(1.0).1 * 2.0 * kept.values()))
    }

    /// Bytes of index keys that every further token adds.
    #[must_use]
    pub fn index_bytes_per_token(&self) -> f64 {
        let of = |mixing: &Mixing| match mixing {
            Mixing::Attention { index: Some(index), .. } if index.own => {
                f64::from(index.width) / f64::from(index.ratio)
            }
            _ => 0.0,
        };
        total(self.mixers.iter().map(|mixer| f64::from(mixer.layers) * of(&mixer.mixing)))
    }

    /// Bytes of recurrent and convolution states of one sequence, whatever its length.
    #[must_use]
    pub fn recurrent_bytes_per_sequence(&self) -> f64 {
        let of = |mixing: &Mixing| match mixing {
            Mixing::Recurrent { state, convolution, .. } => {
                4.0 * *state as f64 + 2.0 * *convolution as f64
            }
            Mixing::Attention { .. } => 0.0,
        };
        total(self.mixers.iter().map(|mixer| f64::from(mixer.layers) * of(&mixer.mixing)))
    }

    /// Bytes that one sequence keeps whatever its length: full windows, at two bytes a value, and
    /// states.
    #[must_use]
    pub fn state_bytes_per_sequence(&self) -> f64 {
        let windows = self.keeps().map(|kept| kept.window() * 2.0 * kept.values());
        total(windows) + self.recurrent_bytes_per_sequence()
    }
}

/// A sum that is 0 where there is nothing, and not -0 as that of floats.
fn total(items: impl Iterator<Item = f64>) -> f64 {
    items.fold(0.0, |sum, item| sum + item)
}

impl Keeps<'_> {
    /// Values that one token leaves in all these blocks.
    fn values(&self) -> f64 {
        f64::from(self.layers) * self.shape.kv_width() as f64
    }

    /// Tokens of a full window, 0 without.
    fn window(&self) -> f64 {
        match self.reach {
            Reach::Window(window) | Reach::Compressed { window, .. } => f64::from(window),
            Reach::All | Reach::Sparse(_) => 0.0,
        }
    }

    /// Entries of a window, and entries that grow without bound, of so many tokens.
    #[must_use]
    pub fn tokens(&self, context: f64) -> (f64, f64) {
        match self.reach {
            Reach::All | Reach::Sparse(_) => (0.0, context),
            Reach::Window(window) => (context.min(f64::from(window)), 0.0),
            Reach::Compressed { ratio, window, .. } => {
                (context.min(f64::from(window)), context / f64::from(ratio))
            }
        }
    }
}
