//! What a step's loads are to the devices of a placement, before any link carries them.

use super::layer::LayerCosts;
use super::loads::{Placed, exchange_load};
use crate::domain::comm::exchange::ExchangeLoad;
use crate::domain::cost::experts::ExpertWork;
use crate::domain::units::Seconds;

/// One layer of one step under a placement.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Loaded {
    /// Experts' time of the slowest device.
    pub slowest: Seconds,
    /// Mean over devices of the experts' time.
    pub mean: Seconds,
    /// What the busiest device receives.
    pub exchange: ExchangeLoad,
}

impl LayerCosts {
    /// What a step's `counts` are to the devices of a placement.
    #[must_use]
    pub fn loaded(&self, placed: &Placed, counts: &[f64]) -> Loaded {
        let works: Vec<ExpertWork> = placed.each_part(counts, |n| self.work(n)).collect();
        self.loaded_with(placed, counts, &works)
    }

    /// The same under each of several placements, for which whole experts are priced once.
    ///
    /// `works` is room that is used for one step after another.
    pub fn loaded_each<'a>(
        &'a self,
        counts: &'a [f64],
        all: impl Iterator<Item = &'a Placed> + 'a,
        works: &'a mut Vec<ExpertWork>,
    ) -> impl Iterator<Item = Loaded> + 'a {
        works.clear();
        works.extend(counts.iter().map(|n| self.work(*n)));
        all.map(|placed| {
            works.truncate(counts.len());
            works.extend(placed.portions().iter().map(|part| self.work(part.tokens(counts))));
            self.loaded_with(placed, counts, works)
        })
    }

    /// From the work of every part of an expert, in the order of [`Placed::each_part`].
    fn loaded_with(&self, placed: &Placed, counts: &[f64], works: &[ExpertWork]) -> Loaded {
        let (mut slowest, mut sum, mut n) = (Seconds::ZERO, Seconds::ZERO, 0.0);
        for slots in placed.devices() {
            let mut work = ExpertWork::default();
            for part in slots {
                work += works[*part];
            }
            let time = self.device_ffn(work);
            slowest = slowest.max(time);
            sum += time;
            n += 1.0;
        }
        let exchange = if self.exchange.depends_on_routing() {
            exchange_load(placed, counts, self.tokens, self.halves)
        } else {
            self.exchange.balanced()
        };
        Loaded { slowest, mean: sum / n, exchange }
    }
}
