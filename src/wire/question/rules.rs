//! Rules over several fields of an object, or over a whole list.

use crate::wire::question::{LinkNumbers, Predictor, Routing, Speculative};
use crate::wire::read::{Fields, Located};

/// Notes a routing that has no form, several, or a companion of another form.
pub(super) fn only_one_form(fields: &Fields, routing: &Routing) {
    let has = |name: &'static str| fields.get(name).is_some();
    let forms = [
        "skewness",
        "power_law",
        "expert_shares",
        "balancedness",
        "trace_id",
        "trace_ids",
        "windows",
    ];
    let given: Vec<&str> = forms.into_iter().filter(|form| has(form)).collect();
    if given.len() != 1 {
        let found = if given.is_empty() { "none".to_owned() } else { given.join(" and ") };
        fields.note(
            "exactly_one",
            format!("exactly one of {} must be given; found {found}", forms.join(", ")),
        );
        return;
    }
    let form = given[0];
    for (companion, of) in [
        ("distribution_error", "skewness"),
        ("distribution_error_points", "skewness"),
        ("at_devices", "balancedness"),
        ("train_fraction", "trace_id"),
        ("holdout_trace_id", "trace_id"),
    ] {
        if has(companion) && form != of && !(companion == "train_fraction" && form == "trace_ids") {
            fields.note("exactly_one", format!("`{companion}` goes with `{of}`, not `{form}`"));
        }
    }
    one_of_two(fields, "distribution_error", "distribution_error_points");
    if form == "balancedness" && !has("at_devices") {
        fields.note("required", "`balancedness` needs `at_devices`: the devices it was logged at");
    }
    if routing.train_fraction.is_some() && routing.holdout_trace_id.is_some() {
        fields.note("exactly_one", "give `train_fraction` or `holdout_trace_id`, not both");
    }
}

/// Notes a link without a name that lacks a number.
pub(super) fn numbers_or_name(fields: &Fields, _: &LinkNumbers) {
    for number in ["bandwidth_bytes_per_s", "latency_s"] {
        if fields.get("name").is_none() && fields.get(number).is_none() {
            fields.note(
                "choice",
                format!("`{number}` is missing; give it, or the `name` of a link of the catalog"),
            );
        }
    }
}

/// Notes more accepted tokens than are drafted.
pub(super) fn accepted_of_drafted(fields: &Fields, asked: &Speculative) {
    if let (Some(drafted), Some(accepted)) = (asked.draft_tokens, asked.accepted)
        && accepted > f64::from(drafted)
    {
        fields.note(
            "range",
            format!(
                "{accepted} of {drafted} drafted tokens cannot be accepted; an acceptance length that \
                 counts the step's own token is given less one"
            ),
        );
    }
}

/// Notes a layer without any load.
pub(super) fn not_all_zero(layer: &Located, shares: &[f64]) -> bool {
    let some = shares.iter().sum::<f64>() > 0.0;
    if !some {
        layer.note("sum", "the shares of a layer must not all be zero");
    }
    some
}

/// Notes points of which two have the same skewness.
pub(super) fn at_different_skewness(
    place: &Located,
    skewness: impl Iterator<Item = Option<f64>>,
) -> bool {
    let mut all: Vec<f64> = skewness.flatten().collect();
    all.sort_by(f64::total_cmp);
    let twice = all.windows(2).find(|pair| pair[0].total_cmp(&pair[1]).is_eq());
    if let Some([twice, ..]) = twice {
        let detail = format!("two points have skewness {twice}; give each skewness once");
        place.note("unique", detail);
    }
    twice.is_none()
}

/// Notes a value that is stated as a number and as points over skewness.
fn one_of_two(fields: &Fields, number: &'static str, points: &'static str) {
    if fields.get(number).is_some() && fields.get(points).is_some() {
        fields.note("exactly_one", format!("give `{number}` or `{points}`, not both"));
    }
}

/// Notes a predictor that is stated in no way, or in several.
pub(super) fn one_way_of_stating(fields: &Fields, _read: &Predictor) {
    let has = |name: &'static str| fields.get(name).is_some();
    // Beside `fit`, a time that was measured takes the place of the laws.
    let accurate = has("accuracy") || has("accuracy_points");
    let point = accurate || (has("overhead_s") && !has("fit"));
    if u8::from(point) + u8::from(has("points")) + u8::from(has("fit")) != 1 {
        fields.note(
            "exactly_one",
            "a predictor is a stated point (`accuracy` and `overhead_s`), a curve (`points`), or \
             `fit`; give exactly one",
        );
    } else if point && !(accurate && has("overhead_s")) {
        fields.note("required", "a stated point needs both `accuracy` and `overhead_s`");
    }
    one_of_two(fields, "accuracy", "accuracy_points");
    if has("fit") && has("metric") {
        fields.note("exactly_one", "the accuracy of a fit counts choices; leave `metric` out");
    }
    if has("fit") && has("name") {
        fields.note("exactly_one", "a fitted predictor is named by its kind; leave `name` out");
    } else if (point || has("points")) && !has("name") {
        fields.note("required", "`name` is missing");
    }
}
