//! The `[collectives]` section of a device's catalog file: fitted communication laws.

use serde::Deserialize;

use crate::comm::profile::{
    Collective, CollectiveFit, CollectiveKernel, CommunicationProfile, Congestion, Curve,
    DeepEpFit, DeepEpKey, DeepEpMode, Fitted, Ramp, Way,
};
use crate::engines;
use crate::units::{Bytes, BytesPerSecond, Seconds};

/// The section as it stands in the file.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CollectivesTable {
    link: String,
    link_bandwidth_bytes_per_s: f64,
    inter_node_link: Option<String>,
    inter_node_bandwidth_bytes_per_s: Option<f64>,
    /// Where the constants come from; for readers of the file.
    #[serde(rename = "source")]
    _source: String,
    /// When they were fitted; for readers of the file.
    #[serde(rename = "date")]
    _date: String,
    fits: Vec<FitTable>,
    #[serde(default)]
    deep_ep: Vec<DeepEpTable>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct FitTable {
    kernel: String,
    op: String,
    devices: u32,
    floor_s: f64,
    /// Absent where nothing of the floor hides behind the transfer.
    overlap: Option<f64>,
    bandwidth_bytes_per_s: f64,
    ramps: [RampTable; 2],
    /// Absent where the library runs every size itself.
    handover_bytes: Option<f64>,
    #[serde(rename = "rows")]
    _rows: u32,
    error_below_1mib: f64,
    error_from_1mib: f64,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct DeepEpTable {
    stack: String,
    mode: String,
    way: String,
    nodes: u32,
    /// Absent where they have eight.
    devices_per_node: Option<u32>,
    floor_s: f64,
    floor_per_hidden_s: f64,
    overlap: f64,
    bandwidth_bytes_per_s: f64,
    ramp: RampTable,
    congestion: Option<CongestionTable>,
    own_copies: f64,
    header_bytes: f64,
    /// Absent where the number of experts was not seen to matter.
    floor_per_expert_s: Option<f64>,
    /// Absent where few multiprocessors were not seen to be slower than the link.
    token_s: Option<f64>,
    #[serde(rename = "rows")]
    _rows: u32,
    error: f64,
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields)]
struct RampTable {
    time_s: f64,
    half_bytes: f64,
    /// Absent where it grows over decades.
    sharpness: Option<f64>,
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields)]
struct CongestionTable {
    from_bytes: f64,
    bandwidth_bytes_per_s: f64,
}

/// What is wrong with a section that could be read.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum CollectivesError {
    /// A name that stands for nothing.
    #[error("{field} \"{value}\" is not known: use one of {known}")]
    UnknownName {
        /// Which field.
        field: &'static str,
        /// What it says.
        value: String,
        /// What it may say.
        known: String,
    },
    /// A number outside its range.
    #[error("{field} is {value}, which is not {rule}")]
    OutOfRange {
        /// Which field.
        field: &'static str,
        /// What it says.
        value: f64,
        /// What it must be.
        rule: &'static str,
    },
    /// The same law twice.
    #[error("two laws for {0}: keep one")]
    Repeated(String),
}

impl TryFrom<CollectivesTable> for CommunicationProfile {
    type Error = CollectivesError;

    fn try_from(table: CollectivesTable) -> Result<Self, Self::Error> {
        let link_bandwidth =
            positive("link_bandwidth_bytes_per_s", table.link_bandwidth_bytes_per_s)?;
        let inter = table.inter_node_bandwidth_bytes_per_s.unwrap_or(link_bandwidth);
        let inter = positive("inter_node_bandwidth_bytes_per_s", inter)?;
        let mut profile = Self {
            link: table.link,
            link_bandwidth: BytesPerSecond::new(link_bandwidth),
            inter_node_link: table.inter_node_link,
            inter_node_bandwidth: BytesPerSecond::new(inter),
            collectives: std::collections::BTreeMap::new(),
            deep_ep: std::collections::BTreeMap::new(),
        };
        for fit in &table.fits {
            let kernel = named("kernel", &fit.kernel, &CollectiveKernel::ALL)?;
            let operation = named("op", &fit.op, &Collective::ALL)?;
            let key = (kernel, operation, fit.devices);
            if profile.collectives.insert(key, fit.fitted()?).is_some() {
                return Err(CollectivesError::Repeated(format!("{key:?}")));
            }
        }
        for fit in &table.deep_ep {
            let key = fit.key()?;
            if profile.deep_ep.insert(key, fit.fitted()?).is_some() {
                return Err(CollectivesError::Repeated(format!("{key:?}")));
            }
        }
        Ok(profile)
    }
}

impl FitTable {
    fn fitted(&self) -> Result<CollectiveFit, CollectivesError> {
        at_least("devices", f64::from(self.devices), 2.0, "2 or more")?;
        let curve = Curve {
            floor: Seconds::new(not_negative("floor_s", self.floor_s)?),
            overlap: at_least("overlap", self.overlap.unwrap_or(1.0), 1.0, "1 or more")?,
            bandwidth: rate(self.bandwidth_bytes_per_s)?,
            ramps: [self.ramps[0].ramp()?, self.ramps[1].ramp()?],
            congestion: Congestion::NONE,
        };
        let handover = self.handover_bytes.map(|bytes| not_negative("handover_bytes", bytes));
        Ok(CollectiveFit {
            fitted: Fitted {
                curve,
                error_small: not_negative("error_below_1mib", self.error_below_1mib)?,
                error_large: not_negative("error_from_1mib", self.error_from_1mib)?,
            },
            handover: handover.transpose()?.map(Bytes::new),
        })
    }
}

impl DeepEpTable {
    fn key(&self) -> Result<DeepEpKey, CollectivesError> {
        at_least("nodes", f64::from(self.nodes), 1.0, "1 or more")?;
        let per_node = self.devices_per_node.unwrap_or(8);
        at_least("devices_per_node", f64::from(per_node), 1.0, "1 or more")?;
        Ok(DeepEpKey {
            stack: named("stack", &self.stack, &engines::names())?,
            mode: named("mode", &self.mode, &DeepEpMode::ALL)?,
            way: named("way", &self.way, &Way::ALL)?,
            nodes: self.nodes,
            per_node,
        })
    }

    fn fitted(&self) -> Result<DeepEpFit, CollectivesError> {
        at_least("overlap", self.overlap, 1.0, "1 or more")?;
        let congestion = match self.congestion {
            None => Congestion::NONE,
            Some(table) => Congestion {
                from: Bytes::new(not_negative("congestion.from_bytes", table.from_bytes)?),
                bandwidth: rate(table.bandwidth_bytes_per_s)?,
            },
        };
        let curve = Curve {
            floor: Seconds::new(not_negative("floor_s", self.floor_s)?),
            overlap: self.overlap,
            bandwidth: rate(self.bandwidth_bytes_per_s)?,
            ramps: [self.ramp.ramp()?, Ramp::NONE],
            congestion,
        };
        let error = not_negative("error", self.error)?;
        Ok(DeepEpFit {
            fitted: Fitted { curve, error_small: error, error_large: error },
            floor_per_hidden: Seconds::new(not_negative(
                "floor_per_hidden_s",
                self.floor_per_hidden_s,
            )?),
            floor_per_expert: Seconds::new(not_negative(
                "floor_per_expert_s",
                self.floor_per_expert_s.unwrap_or(0.0),
            )?),
            own_copies: not_negative("own_copies", self.own_copies)?,
            header: Bytes::new(not_negative("header_bytes", self.header_bytes)?),
            token: Seconds::new(not_negative("token_s", self.token_s.unwrap_or(0.0))?),
        })
    }
}

impl RampTable {
    fn ramp(self) -> Result<Ramp, CollectivesError> {
        Ok(Ramp {
            time: Seconds::new(not_negative("time_s", self.time_s)?),
            half: Bytes::new(positive("half_bytes", self.half_bytes)?),
            sharpness: at_least("sharpness", self.sharpness.unwrap_or(1.0), 1.0, "1 or more")?,
        })
    }
}

fn named<T: Copy>(
    field: &'static str,
    value: &str,
    all: &[(T, &'static str)],
) -> Result<T, CollectivesError> {
    all.iter().find(|(_, name)| *name == value).map(|(found, _)| *found).ok_or_else(|| {
        let known: Vec<_> = all.iter().map(|(_, name)| *name).collect();
        CollectivesError::UnknownName { field, value: value.to_owned(), known: known.join(", ") }
    })
}

fn rate(value: f64) -> Result<BytesPerSecond, CollectivesError> {
    positive("bandwidth_bytes_per_s", value).map(BytesPerSecond::new)
}

fn positive(field: &'static str, value: f64) -> Result<f64, CollectivesError> {
    at_least(field, value, f64::MIN_POSITIVE, "a positive finite number")
}

fn not_negative(field: &'static str, value: f64) -> Result<f64, CollectivesError> {
    at_least(field, value, 0.0, "a finite number of zero or more")
}

fn at_least(
    field: &'static str,
    value: f64,
    least: f64,
    rule: &'static str,
) -> Result<f64, CollectivesError> {
    if value.is_finite() && value >= least {
        Ok(value)
    } else {
        Err(CollectivesError::OutOfRange { field, value, rule })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECTION: &str = r#"
        link = "nvlink4"
        link_bandwidth_bytes_per_s = 450e9
        source = "a test"
        date = "2026-11-23"
        fits = [
          { kernel = "nccl", op = "all_reduce", devices = 4, floor_s = 9e-6, bandwidth_bytes_per_s = 3e11, ramps = [{ time_s = 2e-6, half_bytes = 3e4 }, { time_s = 2e-5, half_bytes = 3e6 }], rows = 26, error_below_1mib = 0.07, error_from_1mib = 0.06 },
        ]
        deep_ep = [
          { stack = "sglang", mode = "normal", way = "dispatch", nodes = 1, floor_s = 2e-5, floor_per_hidden_s = 1e-10, overlap = 1.5, bandwidth_bytes_per_s = 4e11, ramp = { time_s = 1e-5, half_bytes = 1e6 }, own_copies = 0.5, header_bytes = 400.0, rows = 90, error = 0.04 },
        ]
    "#;

    fn read(text: &str) -> Result<CommunicationProfile, String> {
        let table: CollectivesTable = toml::from_str(text).map_err(|error| error.to_string())?;
        table.try_into().map_err(|error: CollectivesError| error.to_string())
    }

    #[test]
    fn a_section_is_read_in_si_units() {
        let profile = read(SECTION).unwrap();
        assert_eq!(profile.link, "nvlink4");
        let fit = &profile.collectives[&(CollectiveKernel::Nccl, Collective::AllReduce, 4)];
        assert!((fit.fitted.curve.floor.get() - 9e-6).abs() < 1e-18);
        assert_eq!(profile.deep_ep.len(), 1);
    }

    #[test]
    fn wrong_names_numbers_and_repetitions_are_refused() {
        for (from, to, message) in [
            (
                "nccl",
                "mpi",
                "kernel \"mpi\" is not known: use one of nccl, nccl-2.23, vllm, vllm-eager, tensorrt-llm",
            ),
            ("devices = 4", "devices = 1", "devices is 1, which is not 2 or more"),
            ("overlap = 1.5", "overlap = nan", "overlap is NaN, which is not 1 or more"),
            ("450e9", "-1.0", "link_bandwidth_bytes_per_s is -1"),
        ] {
            let error = read(&SECTION.replace(from, to)).unwrap_err();
            assert!(error.contains(message), "{error}");
        }
        assert!(read(&SECTION.replace("rows = 90", "row = 90")).is_err());
        let start = SECTION.find("  { kernel").unwrap();
        let end = SECTION[start..].find('\n').unwrap() + start + 1;
        let twice = format!("{}{}{}", &SECTION[..end], &SECTION[start..end], &SECTION[end..]);
        assert!(read(&twice).unwrap_err().contains("keep one"));
    }
}
