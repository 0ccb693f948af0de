//! Which profile prices a measurement.

use std::collections::BTreeMap;

use moe_gps_core::engines;
use moe_gps_core::hardware::{Device, Fit, Link, Stack};
use moe_gps_core::price::Basis;

use crate::validate::measured::Software;

/// The devices and links that measurements may be priced with, by catalog id.
#[derive(Debug, Clone, Default)]
pub struct Profiles {
    devices: BTreeMap<String, Device>,
    links: BTreeMap<String, Link>,
}

/// Names of devices in tables of measurements, and their catalog ids.
const DEVICE_NAMES: [(&str, &str); 6] = [
    ("a100_sxm", "a100-sxm4-80gb"),
    ("h100_sxm", "h100-sxm"),
    ("h200_sxm", "h200-sxm"),
    ("b200_sxm", "b200-sxm"),
    ("gb200", "gb200"),
    ("l40s", "l40s"),
];

/// The stack that prices a measurement.
#[derive(Debug, Clone, Copy)]
pub struct Choice<'a> {
    /// The stack.
    pub stack: &'a Stack,
    /// What was priced with another stack's constants, if so: theirs, in words.
    pub stands_in: Option<&'a moe_gps_core::hardware::Provenance>,
    /// Whether those constants were fitted to measurements of this device.
    pub fitted: bool,
    /// The error band of the constants.
    pub band: f64,
}

impl Profiles {
    /// Profiles of these devices and links.
    pub fn new(
        devices: impl IntoIterator<Item = Device>,
        links: impl IntoIterator<Item = Link>,
    ) -> Self {
        Self {
            devices: devices.into_iter().map(|device| (device.name.clone(), device)).collect(),
            links: links.into_iter().map(|link| (link.name.clone(), link)).collect(),
        }
    }

    /// The device a table names, by its key there or by its catalog id.
    #[must_use]
    pub fn device(&self, name: &str) -> Option<&Device> {
        self.devices.get(catalog_id(name))
    }

    /// The link of that catalog id.
    #[must_use]
    pub fn link(&self, id: &str) -> Option<&Link> {
        self.links.get(id)
    }
}

/// The catalog id of a device by its key in tables; any other name is an id already.
#[must_use]
pub fn catalog_id(name: &str) -> &str {
    DEVICE_NAMES.iter().find(|(key, _)| *key == name).map_or(name, |(_, id)| id)
}

/// The stack of a device whose constants of one operator come nearest to the software
/// that was measured: same framework before same kernel before same version before
/// fitted at all; among equals the first.
pub fn choose<'a, C: 'a>(
    device: &'a Device,
    software: &Software,
    fit: impl Fn(&'a Stack) -> &'a Fit<C>,
) -> Option<Choice<'a>> {
    let framework = plain(&software.framework);
    let kernel = plain(&software.kernel);
    let closeness = |fit: &Fit<C>| {
        let from = &fit.provenance;
        (
            plain(&from.framework) == framework,
            kernel.is_empty() || plain(&from.kernel) == kernel,
            from.version.split(',').any(|version| version.trim() == software.version),
            fit.basis != Basis::Roofline,
        )
    };
    let mut best: Option<(&Stack, _)> = None;
    for stack in device.stacks.iter() {
        let close = closeness(fit(stack));
        if best.is_none_or(|(_, found)| close > found) {
            best = Some((stack, close));
        }
    }
    let (stack, close) = best?;
    let own = close == (true, true, true, true);
    let fit = fit(stack);
    Some(Choice {
        stack,
        stands_in: (!own).then_some(&fit.provenance),
        fitted: close.3,
        band: fit.band,
    })
}

/// A name without case and punctuation; an engine's names are all its id.
fn plain(name: &str) -> String {
    let name = engines::by_framework(name).map_or(name, |engine| engine.id);
    name.chars().filter(char::is_ascii_alphanumeric).map(|c| c.to_ascii_lowercase()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use moe_gps_core::cost::sample;

    fn software(framework: &str, version: &str, kernel: &str) -> Software {
        Software {
            framework: framework.to_owned(),
            version: version.to_owned(),
            kernel: kernel.to_owned(),
        }
    }

    #[test]
    fn the_nearest_stack_is_found_by_framework_then_kernel_then_version() {
        let mut device = sample::device();
        let stack = |framework: &str, version: &str, kernel: &str| {
            let mut stack = sample::device().stacks[0].clone();
            stack.name = format!("{framework} {version} {kernel}");
            stack.gemm.provenance.framework = framework.to_owned();
            stack.gemm.provenance.version = version.to_owned();
            stack.gemm.provenance.kernel = kernel.to_owned();
            stack
        };
        device.stacks = vec![
            stack("vLLM", "1.0", "triton"),
            stack("TensorRT-LLM", "1.3.0rc10, 1.3.0rc20", "torch_flow"),
            stack("TensorRT-LLM", "1.0.0", "torch_flow"),
        ]
        .into();
        for (asked, found, own) in [
            (("TRTLLM", "1.3.0rc20", "torch_flow"), 1, true),
            (("TRTLLM", "1.0.0", "torch_flow"), 2, true),
            (("TRTLLM", "2.0", "other"), 1, false),
            (("VLLM", "0.14.0", "torch_flow"), 0, false),
            (("SGLang", "1.0.0", "torch_flow"), 2, false),
            (("vllm", "1.0", ""), 0, true),
        ] {
            let wanted = software(asked.0, asked.1, asked.2);
            let choice = choose(&device, &wanted, |stack| &stack.gemm).unwrap();
            assert_eq!(choice.stack.name, device.stacks[found].name, "{asked:?}");
            assert_eq!(choice.stands_in.is_none(), own, "{asked:?}");
        }
        let none = Device { stacks: Vec::new().into(), ..device };
        assert!(choose(&none, &Software::default(), |stack| &stack.gemm).is_none());
    }

    #[test]
    fn tables_keys_and_catalog_ids_name_the_same_device() {
        let named = |name: &str| Device { name: name.to_owned(), ..sample::device() };
        let profiles = Profiles::new([named("h200-sxm"), named("mine")], []);
        assert_eq!(profiles.device("h200_sxm"), profiles.device("h200-sxm"));
        assert!(profiles.device("mine").is_some() && profiles.device("h100_sxm").is_none());
    }
}
