//! Named random streams: every draw of the program comes from one of these.
//!
//! A stream is a `ChaCha8` generator whose key is the question's seed and whose
//! stream number is derived from a purpose and an index. Equal seed, purpose and
//! index give equal draws on every machine, and no stream depends on how many
//! numbers another one has drawn.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;

/// What a stream of random numbers is used for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// Orders in which a scalar skewness is laid over expert ids.
    ExpertOrder,
    /// Tokens per expert drawn from expected shares.
    LoadSample,
    /// Forecasts drawn around the true shares.
    ForecastError,
    /// Tokens whose expert a predictor of stated accuracy gets wrong.
    Misprediction,
    /// Blocks of steps resampled for an interval.
    Bootstrap,
    /// First weights and order of batches of a learned predictor.
    PredictorFit,
    /// Loads of measured tables, drawn again.
    PowerLawLoads,
}

/// The random stream of one purpose and index under a question's seed.
#[must_use]
pub fn stream(seed: u64, purpose: Purpose, index: u64) -> ChaCha8Rng {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    rng.set_stream(((purpose as u64) << 48) ^ index);
    rng
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::Rng;

    #[test]
    fn streams_repeat_and_differ_by_purpose_and_index() {
        let draw = |purpose, index| stream(7, purpose, index).next_u64();
        assert_eq!(draw(Purpose::LoadSample, 3), draw(Purpose::LoadSample, 3));
        assert_ne!(draw(Purpose::LoadSample, 3), draw(Purpose::LoadSample, 4));
        assert_ne!(draw(Purpose::LoadSample, 3), draw(Purpose::Bootstrap, 3));
    }
}
