//! The four collectives over a group of devices, inside a node or over several.
//!
//! Over m nodes with g devices each the steps follow one another:
//!
//! ```text
//! all-reduce      reduce-scatter(D) inside + all-reduce(D/g) across + all-gather(D) inside
//! all-gather      all-gather(D/g) across + all-gather(D) inside
//! reduce-scatter  reduce-scatter(D) inside + reduce-scatter(D/g) across
//! all-to-all      all-to-all of D·(g − 1)/(n − 1) inside + of D·(n − g)/(n − 1) across
//! ```
//!
//! Every device drives a rail of its own between nodes. Source: the two-level
//! algorithms of NCCL and MPI libraries. Valid for equal nodes. Worked number: on one
//! device everything takes no time.

use crate::comm::link::GroupLaw;
use crate::comm::profile::{Collective, CollectiveKernel};
use crate::engines::Engine;
use crate::price::{Basis, Price};
use crate::system::Cluster;
use crate::units::{Bytes, Seconds};

/// The laws of one collective over one group of devices of a cluster.
#[derive(Debug, Clone, PartialEq)]
pub struct CollectiveLaw {
    /// Steps in order: a law, and the share of the operation's size it works on.
    steps: Vec<(GroupLaw, f64)>,
}

impl CollectiveLaw {
    /// The law of `operation` over `devices` devices that fill node after node.
    #[must_use]
    pub fn new(cluster: &Cluster, engine: &Engine, operation: Collective, devices: u32) -> Self {
        if devices < 2 {
            return Self { steps: Vec::new() };
        }
        let profile = cluster.device.collectives.as_deref();
        let kernel = kernel_of(engine, operation);
        let inside = devices.min(cluster.devices_per_node);
        let nodes = devices.div_ceil(cluster.devices_per_node);
        let within = |operation| GroupLaw::new(profile, kernel, operation, inside, &cluster.link);
        if nodes < 2 {
            return Self { steps: vec![(within(operation), 1.0)] };
        }
        let outer = cluster.inter_node_link.as_ref().unwrap_or(&cluster.link);
        let across =
            |operation| GroupLaw::new(None, CollectiveKernel::Nccl, operation, nodes, outer);
        let part = 1.0 / f64::from(inside);
        let steps = match operation {
            Collective::AllReduce => vec![
                (within(Collective::ReduceScatter), 1.0),
                (across(Collective::AllReduce), part),
                (within(Collective::AllGather), 1.0),
            ],
            Collective::AllGather => {
                vec![(across(operation), part), (within(operation), 1.0)]
            }
            Collective::ReduceScatter => {
                vec![(within(operation), 1.0), (across(operation), part)]
            }
            Collective::AllToAll => {
                let (n, g, m) = (f64::from(devices), f64::from(inside), f64::from(nodes));
                // A law sends (p − 1)/p of its size over a link of p devices; what
                // crosses is D/n to each of the g − 1 devices inside and n − g outside.
                vec![(within(operation), g / n), (across(operation), (n - g) / n * m / (m - 1.0))]
            }
        };
        Self { steps: steps.into_iter().filter(|(_, share)| *share > 0.0).collect() }
    }

    /// The time of an operation of `size` bytes (as [`Collective`] defines size).
    #[must_use]
    pub fn time(&self, size: Bytes) -> Seconds {
        self.steps.iter().map(|(law, share)| law.time(size * *share)).sum()
    }

    /// The same with its error band.
    #[must_use]
    pub fn price(&self, size: Bytes) -> Price {
        let steps = self.steps.iter().map(|(law, share)| law.price(size * *share));
        sum_of(steps)
    }
}

/// The price of doing nothing.
pub(super) const NOTHING: Price = Price { time: Seconds::ZERO, band: 0.0, basis: Basis::Fitted };

/// Prices one after another: times add, errors add as if they went the same way.
pub(super) fn sum_of(prices: impl Iterator<Item = Price>) -> Price {
    let total = prices.fold(NOTHING, |sum, price| Price {
        time: sum.time + price.time,
        band: sum.band + price.band * price.time.get(),
        basis: sum.basis.max(price.basis),
    });
    let time = total.time.get();
    Price { band: if time > 0.0 { total.band / time } else { 0.0 }, ..total }
}

/// The kernel an engine uses.
const fn kernel_of(engine: &Engine, operation: Collective) -> CollectiveKernel {
    match operation {
        Collective::AllReduce => engine.all_reduce,
        Collective::AllGather | Collective::ReduceScatter | Collective::AllToAll => {
            CollectiveKernel::Nccl
        }
    }
}
