//! Models and devices that a question may name.

use maud::{Markup, html};

use crate::web::Page;
use crate::web::parts::table;
use crate::wire::catalog::{DeviceList, ModelList, UnreadableDevice};
use crate::wire::written::scaled;

/// The models.
#[must_use]
pub fn models(list: &ModelList) -> String {
    let head = [
        "Model",
        " Family",
        "MoE layers",
        "Experts",
        "Per token",
        "Parameters B",
        "Active B",
        " Not priced",
    ];
    let rows: Vec<Vec<Markup>> = list
        .items
        .iter()
        .map(|model| {
            vec![
                html! { a href=(format!("/v1/models/{}", model.id)) { (model.id) } },
                html! { (model.family) },
                html! { (model.moe_layers) },
                html! { (model.experts.routed) },
                html! { (model.experts.top_k) },
                html! { (scaled(model.parameters.computed as f64, 1e-9, 1)) },
                html! { (scaled(model.parameters.active_per_token as f64, 1e-9, 1)) },
                html! { (model.not_priced.join("; ")) },
            ]
        })
        .collect();
    let words = "Any other model can be asked about by its config.json. A model is shown as JSON, every \
                 number with its source.";
    page("Models", "/models", words, &table("Models", &head, &rows), &list.unreadable)
}

/// The devices.
#[must_use]
pub fn devices(list: &DeviceList) -> String {
    let head =
        ["Device", " Name", "Memory GB", "TB/s", "bf16 TFLOP/s", "fp8 TFLOP/s", "Processors"];
    let rows: Vec<Vec<Markup>> = list
        .items
        .iter()
        .map(|device| {
            vec![
                html! { a href=(format!("/v1/devices/{}", device.id)) { (device.id) } },
                html! { (device.name) },
                html! { (scaled(device.memory_bytes, 1e-9, 0)) },
                html! { (scaled(device.bandwidth_bytes_per_s, 1e-12, 2)) },
                html! { (scaled(device.peak_flop_per_s.bf16, 1e-12, 0)) },
                html! { (scaled(device.peak_flop_per_s.fp8, 1e-12, 0)) },
                html! { (device.multiprocessors) },
            ]
        })
        .collect();
    let words =
        "A device is shown as JSON, with the constants of its laws and the source of every number.";
    page("Devices", "/devices", words, &table("Devices", &head, &rows), &list.unreadable)
}

fn page(
    title: &str,
    place: &'static str,
    words: &str,
    table: &Markup,
    unreadable: &[UnreadableDevice],
) -> String {
    let body = html! {
        h1 { (title) }
        p { (words) }
        (table)
        @if !unreadable.is_empty() {
            h2 { "Registered, and not readable by this version" }
            ul { @for one in unreadable { li { code { (one.id) } ": " (one.detail) } } }
        }
    };
    Page { title: title.to_owned(), place, body, ..Page::default() }.html()
}
