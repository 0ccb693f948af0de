//! One's own predictors: points of accuracy and time, priced along the curve through them.

use maud::html;
use serde_json::{Value, json};

use crate::web::Page;
use crate::web::parts::violations;
use crate::wire::violation::Violation;
use moe_gps_core::question::{OverheadCurve, PredictorPoint};
use moe_gps_core::units::Seconds;

/// What the names of the points of the curve begin with.
pub const OF_CURVE: &str = "curve at ";
/// Points of the curve that are priced; with those that are pasted a question has at most 64 predictors.
const ALONG: u32 = 24;
/// Points that may be pasted.
const MOST: usize = 40;

/// The form.
#[must_use]
pub fn page(id: &str, text: &str, refused: &[Violation]) -> String {
    let body = html! {
        h1 { "Your own predictors" }
        p {
            "A predictor of every token's experts pays where what it saves is more than its time. Paste what \
             you measured, one predictor a line: its accuracy (the share of a token's experts that it names, \
             0 to 1) and its time for a layer and step in seconds. They are priced in the question of "
            a href=(format!("/v1/recommendations/{id}")) { "this answer" }
            ", with the exponential curve through them."
        }
        @if !refused.is_empty() { (violations(refused)) }
        form method="post" action="/predictors" {
            input type="hidden" name="from" value=(id);
            label for="points" { "Accuracy and seconds" }
            textarea id="points" name="points" rows="10" spellcheck="false" autocomplete="off"
                placeholder="0.55 0.00001\n0.75 0.00004\n0.9 0.0002" { (text) }
            p { button class="main" { "Price them" } }
        }
    };
    Page { title: "Predictors".to_owned(), place: "", body, ..Page::default() }.html()
}

/// The question with the predictors of these lines, and points along the curve through them.
pub fn question(mut question: Value, text: &str) -> Result<Value, Vec<Violation>> {
    let mut points = Vec::new();
    let mut refused = Vec::new();
    for (number, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        let parts = line.split([',', ';', ' ', '\t']).filter(|part| !part.is_empty());
        let numbers: Vec<Option<f64>> = parts.map(|part| part.parse().ok()).collect();
        match numbers[..] {
            [Some(accuracy), Some(time)] if (0.0..=1.0).contains(&accuracy) && time > 0.0 => {
                points.push(PredictorPoint { accuracy, overhead: Seconds::new(time) });
            }
            _ => {
                let detail = format!(
                    "line {} is {line:?}; it must be an accuracy from 0 to 1 and a time above 0 s, \
                     such as 0.85 0.000153",
                    number + 1
                );
                refused.push(Violation::new("/points", "format", detail));
            }
        }
    }
    if refused.is_empty() && !(1..=MOST).contains(&points.len()) {
        let detail = format!("there are {} predictors; give from 1 to {MOST}", points.len());
        refused.push(Violation::new("/points", "items", detail));
    }
    if !refused.is_empty() {
        return Err(refused);
    }
    let entry = |name: String, point: &PredictorPoint| json!({"name": name, "accuracy": point.accuracy, "overhead_s": point.overhead.get()});
    let stated = points.iter().enumerate();
    let mut all: Vec<Value> =
        stated.map(|(place, point)| entry(format!("point {}", place + 1), point)).collect();
    let curve = OverheadCurve::fit(&points);
    if curve.lowest < curve.highest {
        all.extend((0..ALONG).map(|place| {
            let share = f64::from(place) / f64::from(ALONG - 1);
            let accuracy = curve.lowest + (curve.highest - curve.lowest) * share;
            let point = PredictorPoint { accuracy, overhead: curve.overhead(accuracy) };
            entry(format!("{OF_CURVE}{accuracy:.4}"), &point)
        }));
    }
    question["predictors"] = all.into();
    Ok(question)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_become_predictors_with_the_curve_through_them() {
        // t = 1e-5 · exp(4·accuracy).
        let time = |accuracy: f64| 1e-5 * (4.0 * accuracy).exp();
        let text = format!("0.5, {}\n\n 0.9\t{}\n", time(0.5), time(0.9));
        let asked = question(json!({"model": "x"}), &text).unwrap();
        let all = asked["predictors"].as_array().unwrap();
        assert_eq!(all.len(), 26);
        assert_eq!((&all[0]["name"], &all[0]["accuracy"]), (&json!("point 1"), &json!(0.5)));
        for point in all {
            let accuracy = point["accuracy"].as_f64().unwrap();
            let ratio = point["overhead_s"].as_f64().unwrap() / time(accuracy);
            assert!((ratio - 1.0).abs() < 1e-9, "{point}");
        }
        assert_eq!(all[25]["name"], "curve at 0.9000");
    }

    #[test]
    fn lines_that_mean_nothing_are_all_told() {
        let refused = question(json!({}), "0.5 1e-5\n1.5 1e-5\n0.5 -1\nx\n").unwrap_err();
        let told: Vec<&str> = refused.iter().map(|one| one.detail.get(..6).unwrap()).collect();
        assert_eq!(told, ["line 2", "line 3", "line 4"]);
        assert!(question(json!({}), " \n").is_err());
    }
}
