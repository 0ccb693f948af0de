//! What a step's loads are to the devices of a placement, before any link carries them.

use crate::comm::load::ExchangeLoad;
use crate::cost::experts::ExpertWork;
use crate::pricing::layer::LayerCosts;
use crate::pricing::slot_shares::{SlotShares, exchange_load};
use crate::units::Seconds;

/// One layer of one step under a placement.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct DeviceLoad {
    /// Experts' time of the slowest device.
    pub slowest: Seconds,
    /// Mean over devices of the experts' time.
    pub mean: Seconds,
    /// What the busiest device receives.
    pub exchange: ExchangeLoad,
}

/// Most tokens of a slot whose work is tabulated: a table of 100 kB.
const MOST_TABULATED: f64 = 4096.0;

impl LayerCosts {
    /// The work of one slot with that many tokens, in one half of the step.
    pub(crate) fn work(&self, tokens: f64) -> ExpertWork {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "what is no whole number is not found, or is not equal"
        )]
        let whole = tokens as usize;
        match self.works.get(whole) {
            Some(work) if (whole as f64).to_bits() == tokens.to_bits() => *work,
            _ => self.experts.piece(tokens / self.halves),
        }
    }

    /// The same costs with the work of few tokens looked up, for many steps of whole tokens.
    #[must_use]
    pub fn tabulated(mut self) -> Self {
        let most = self.tokens.clamp(0.0, MOST_TABULATED);
        let whole = (0_u32..).map(f64::from).take_while(|tokens| *tokens <= most);
        self.works = whole.map(|tokens| self.work(tokens)).collect();
        self
    }

    /// What a step's `counts` are to the devices of a placement.
    #[must_use]
    pub fn loaded(&self, placed: &SlotShares, counts: &[f64]) -> DeviceLoad {
        let works: Vec<ExpertWork> = placed.each_part(counts, |n| self.work(n)).collect();
        self.loaded_with(placed, counts, &works)
    }

    /// Experts' time of every device under a placement.
    #[must_use]
    pub fn device_times(&self, placed: &SlotShares, counts: &[f64]) -> Vec<Seconds> {
        let works: Vec<ExpertWork> = placed.each_part(counts, |n| self.work(n)).collect();
        self.times(placed, &works).collect()
    }

    /// Experts' time of every device, from the work of every part of an expert.
    fn times(&self, placed: &SlotShares, works: &[ExpertWork]) -> impl Iterator<Item = Seconds> {
        placed.devices().map(move |slots| {
            let mut work = ExpertWork::default();
            for part in slots {
                work += works[*part];
            }
            self.device_ffn(work)
        })
    }

    /// The same under each of several placements, for which whole experts are priced once.
    ///
    /// `works` is room that is used for one step after another.
    pub fn loaded_each<'a>(
        &'a self,
        counts: &'a [f64],
        all: impl Iterator<Item = &'a SlotShares> + 'a,
        works: &'a mut Vec<ExpertWork>,
    ) -> impl Iterator<Item = DeviceLoad> + 'a {
        works.clear();
        works.extend(counts.iter().map(|n| self.work(*n)));
        all.map(|placed| {
            works.truncate(counts.len());
            works.extend(placed.portions().iter().map(|part| self.work(part.tokens(counts))));
            self.loaded_with(placed, counts, works)
        })
    }

    /// From the work of every part of an expert, in the order of [`SlotShares::each_part`].
    fn loaded_with(&self, placed: &SlotShares, counts: &[f64], works: &[ExpertWork]) -> DeviceLoad {
        let (mut slowest, mut sum, mut n) = (Seconds::ZERO, Seconds::ZERO, 0.0);
        for time in self.times(placed, works) {
            slowest = slowest.max(time);
            sum += time;
            n += 1.0;
        }
        let exchange = if self.exchange.depends_on_routing() {
            exchange_load(placed, counts, self.tokens, self.halves)
        } else {
            self.exchange.balanced()
        };
        DeviceLoad { slowest, mean: sum / n, exchange }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::comm::fixtures::system;
    use crate::system::Communication;

    #[test]
    fn looked_up_work_is_the_law() {
        let system = system(4, 4, 512);
        let costs = LayerCosts::new(&system, Communication::Replicated, None, 512.0).unwrap();
        let table = costs.clone().tabulated();
        assert_eq!(table.works.len(), 513);
        for tokens in [0.0, 1.0, 17.0, 17.5, 512.0, 513.0, 1e9] {
            assert_eq!(table.work(tokens), costs.work(tokens), "{tokens}");
        }
    }
}
