//! Collectives inside a node.

use crate::validate::price::{Estimate, Unpriced};
use crate::validate::profiles::Profiles;
use moe_gps_core::comm::link::GroupLaw;
use moe_gps_core::comm::profile::{Collective, CollectiveKernel};
use moe_gps_core::hardware::Device;
use moe_gps_core::units::Bytes;

/// Prices a collective on the link that the device's profile was measured on.
pub fn price(
    device: &Device,
    profiles: &Profiles,
    kernel: CollectiveKernel,
    operation: Collective,
    devices: u32,
    size: Bytes,
) -> Result<Estimate, Unpriced> {
    let profile = device
        .collectives
        .as_deref()
        .ok_or(Unpriced::NoLaw("the device has no collectives in its profile"))?;
    let link = profiles.link(&profile.link).ok_or_else(|| Unpriced::Link(profile.link.clone()))?;
    let law = GroupLaw::new(Some(profile), kernel, operation, devices, link);
    let of = |kernel| profile.collectives.contains_key(&(kernel, operation, devices));
    let note = (!of(kernel)).then(|| {
        if of(CollectiveKernel::Nccl) {
            "constants of NCCL".to_owned()
        } else {
            "constants of other group sizes".to_owned()
        }
    });
    let price = law.price(size);
    Ok(Estimate { band: Some(price.band), note, ..Estimate::of(price.time) })
}
