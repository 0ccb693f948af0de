//! A map: which strategy wins over one or two quantities of a question.

use maud::{Markup, PreEscaped, html};
use serde_json::{Value, json};

use crate::web::Page;
use crate::web::parts::{behind, warnings};
use crate::wire::sweep::{SweepAnswer, SweptParameter};
use crate::wire::written::quantity;
use moe_gps_core::advice::sensitivity::decision_map::{DecisionMap, MapAxis};
use moe_gps_core::charts::decision_map::{MARGINS, axis, key, lines, panel, shade};
use moe_gps_core::charts::figure::{PLOT_HEIGHT, PLOT_WIDTH, inline};

/// An axis as it stands in the form.
#[derive(Debug, Clone, PartialEq)]
pub struct AskedAxis {
    /// The quantity.
    pub parameter: SweptParameter,
    /// Its least value.
    pub from: f64,
    /// Its largest value.
    pub to: f64,
}

/// The page of a map.
#[derive(Debug)]
pub struct Map<'a> {
    /// The recommendation whose question is varied.
    pub id: &'a str,
    /// What it is about.
    pub about: String,
    /// To the right, and upwards.
    pub axes: &'a [AskedAxis],
    /// Who wins where, as drawn and as answered.
    pub drawn: Option<(&'a DecisionMap, &'a SweepAnswer)>,
    /// The values of the question along the axes of the map.
    pub stated: Vec<Option<f64>>,
}

impl Map<'_> {
    /// The page.
    #[must_use]
    pub fn html(&self) -> String {
        let body = html! {
            p class="facts" {
                a href=(format!("/v1/recommendations/{}", self.id)) { (self.about) }
            }
            h1 { "Which strategy wins where" }
            (self.form())
            @if let Some((map, answer)) = self.drawn { (self.map(map, answer)) }
        };
        Page { title: "Map".to_owned(), place: "/map", body, ..Page::default() }.html()
    }

    fn form(&self) -> Markup {
        html! {
            form class="fields no-print" method="get" action="/map" {
                input type="hidden" name="from" value=(self.id);
                @for (place, direction) in [("x", "To the right"), ("y", "Upwards")].into_iter().enumerate() {
                    @let asked = self.axes.get(place);
                    (axis_fields(direction.0, direction.1, asked, place > 0))
                }
                button { "Draw" }
            }
        }
    }

    fn map(&self, map: &DecisionMap, answer: &SweepAnswer) -> Markup {
        let mut drawn = panel("the strategy recommended; pale where its lead is small", map);
        drawn.body += &shade(map);
        drawn.body += &self.cross(map);
        let (mut rows, mut key) = (vec![vec![drawn]], key(&[map]));
        if map.axes.len() == 1 {
            let (times, of_lines) = lines("time of a layer", map);
            rows.insert(0, vec![times]);
            key.extend(of_lines);
        }
        let picture = inline("Decision map", &rows, &key);
        let margins: Vec<String> =
            MARGINS.iter().map(|margin| format!("{:.0} %", margin * 100.0)).collect();
        html! {
            div class="scroll map" tabindex="0" role="group" aria-label="Map" data-axes=(places(map)) {
                (PreEscaped(picture))
            }
            p class="facts" {
                "The cross is the question; a click asks the question of that place. Steps of the shade: a lead of " (margins.join(", ")) "."
            }
            (self.place(map))
            (warnings(&answer.warnings))
            (behind(answer))
        }
    }

    /// A form that asks the question of a place, which a click on the map fills in.
    fn place(&self, map: &DecisionMap) -> Markup {
        html! {
            form class="fields place no-print" method="post" action="/map" aria-label="A place of the map" {
                input type="hidden" name="from" value=(self.id);
                @for ((name, axis), stated) in ["x", "y"].into_iter().zip(map.axes.iter().rev()).zip(self.stated.iter().rev()) {
                    @let at = format!("{name}_at");
                    @let (words, written) = quantity(axis.parameter);
                    @let off = |value: f64| (value - stated.unwrap_or(f64::NEG_INFINITY)).abs();
                    @let nearest = axis.values.iter().copied().min_by(|a, b| off(*a).total_cmp(&off(*b)));
                    div class="field" {
                        input type="hidden" name=(name) value=(axis.parameter);
                        label for=(at) { (words.replace('_', " ")) }
                        select id=(at) name=(at) {
                            @for value in &axis.values {
                                option value=(value.to_string()) selected[nearest == Some(*value)] { (written(*value)) }
                            }
                        }
                    }
                }
                button class="main" { "Ask it" }
                button formmethod="get" formaction="/ask" { "Change more of it" }
            }
        }
    }

    /// Lines through the question, where its value lies on the map.
    fn cross(&self, map: &DecisionMap) -> String {
        let at = |place: usize| {
            let swept = map.axes.get(place)?;
            let share = axis(swept.parameter, &swept.values).at((*self.stated.get(place)?)?);
            (0.0..=1.0).contains(&share).then_some(share)
        };
        // The first axis of a map goes upwards where there are two.
        let (up, right) = if map.axes.len() > 1 { (at(0), at(1)) } else { (None, at(0)) };
        let up = up.map(|share| format!("M0 {:.1}H{PLOT_WIDTH}", (1.0 - share) * PLOT_HEIGHT));
        let right = right.map(|share| format!("M{:.1} 0V{PLOT_HEIGHT}", share * PLOT_WIDTH));
        let path: String = up.into_iter().chain(right).collect();
        format!("<path class=\"cross\" d=\"{path}\"/>")
    }
}

/// Where the values of the axes to the right and upwards lie, from 0 to 1, as JSON.
fn places(map: &DecisionMap) -> String {
    let axis = |swept: &MapAxis| -> Vec<f64> {
        let drawn = axis(swept.parameter, &swept.values);
        // A pixel is a five hundredth.
        swept.values.iter().map(|value| (drawn.at(*value) * 1e4).round() / 1e4).collect()
    };
    json!(map.axes.iter().rev().map(axis).collect::<Vec<_>>()).to_string()
}

fn axis_fields(id: &str, words: &str, asked: Option<&AskedAxis>, may_be_none: bool) -> Markup {
    let number = |value: Option<f64>| value.map(|value| value.to_string());
    let ends = [("from", "From", asked.map(|one| one.from)), ("to", "To", asked.map(|one| one.to))];
    html! {
        div class="field" {
            label for=(id) { (words) }
            select id=(id) name=(id) {
                @if may_be_none { option value="" { "nothing" } }
                @for (parameter, name) in SweptParameter::ALL {
                    option value=(name) selected[asked.is_some_and(|one| one.parameter == parameter)] {
                        (quantity(name).0.replace('_', " "))
                    }
                }
            }
        }
        @for (end, word, value) in ends {
            div class="field" {
                label for=(format!("{id}_{end}")) { (word) }
                input id=(format!("{id}_{end}")) name=(format!("{id}_{end}")) value=[number(value)]
                    inputmode="decimal" placeholder="by itself" autocomplete="off";
            }
        }
    }
}

/// A page that has nothing to vary yet.
#[must_use]
pub fn without_question() -> String {
    let body = html! {
        h1 { "Which strategy wins where" }
        p { "A map varies the question of an answer, and there is none yet. " a href="/ask" { "Ask one" } "." }
    };
    Page { title: "Map".to_owned(), place: "/map", body, ..Page::default() }.html()
}

/// The range of an axis that states none: that in which the answer was searched for flip points, else a
/// usual one.
#[must_use]
pub fn usual_range(parameter: SweptParameter, result: &Value) -> [f64; 2] {
    let searched = result["flip_points"].as_array().into_iter().flatten().find_map(|flip| {
        let range = flip.get("range")?;
        (flip["parameter"] == parameter.id()).then_some([range[0].as_f64()?, range[1].as_f64()?])
    });
    let usual = match parameter.id() {
        "skewness" => [1.0, 4.0],
        "predictor_accuracy" => [0.5, 1.0],
        "predictor_overhead_s" => [1e-6, 1e-3],
        "devices" => [2.0, 64.0],
        "output_tokens" => [16.0, 4096.0],
        "tokens_per_step" => [64.0, 65536.0],
        _ => [1e10, 1e12],
    };
    match (searched, parameter.id()) {
        (Some(range), "skewness" | "output_tokens") => range,
        _ => usual,
    }
}
