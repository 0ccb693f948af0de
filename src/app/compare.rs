//! Two recommendations side by side.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use crate::app::context::App;
use crate::app::error::AppError;
use crate::app::recommendations::{fetch, read_back};
use crate::store::StoreError;
use crate::wire::answer::{ResultBody, StrategyBody};
use crate::wire::compare::{
    Choice, ComparedChoice, ComparedNumber, ComparedStrategy, Comparison, Difference,
};
use crate::wire::job::Status;

/// What differs between two recommendations that have succeeded.
pub async fn compare(app: &App, a: &str, b: &str) -> Result<Comparison, AppError> {
    let (question_a, a_result) = read(app, a).await?;
    let (question_b, b_result) = read(app, b).await?;
    let (choice_a, choice_b) = (choice(&a_result), choice(&b_result));
    let differs =
        (&choice_a.strategy, &choice_a.predictor) != (&choice_b.strategy, &choice_b.predictor);
    Ok(Comparison {
        a: a.to_owned(),
        b: b.to_owned(),
        choice_differs: differs,
        choice: ComparedChoice { a: choice_a, b: choice_b },
        question: differences(&question_a, &question_b),
        provenance: differences(&rests_on(&a_result), &rests_on(&b_result)),
        strategies: strategies(&a_result.strategies, &b_result.strategies),
    })
}

async fn read(app: &App, id: &str) -> Result<(Value, ResultBody), AppError> {
    let job = fetch(app, id).await?;
    let Some(result) = job.result.as_deref().filter(|_| job.status == Status::Succeeded) else {
        return Err(AppError::Conflict(format!(
            "recommendation {id} is {}; only those that have succeeded are compared",
            job.status.as_str()
        )));
    };
    let result = serde_json::from_str(result)
        .map_err(|_| StoreError::Corrupt { what: "result of a recommendation" })?;
    Ok((read_back(&job.request)?, result))
}

fn choice(result: &ResultBody) -> Choice {
    let advised = &result.recommendation;
    Choice {
        strategy: advised.strategy.as_deref().map(ToOwned::to_owned),
        predictor: advised.predictor.as_ref().map(|predictor| predictor.name.clone()),
        verdict: advised.verdict.to_string(),
        gain: advised.gain,
        reason: advised.reason.clone(),
    }
}

/// What a result rests on beside its question.
fn rests_on(result: &ResultBody) -> Value {
    let provenance = &result.provenance;
    json!({
        "version": provenance.version,
        "catalog_digest": provenance.catalog_digest,
        "method": provenance.method,
        "assumptions": provenance.assumptions,
        "system": provenance.system,
    })
}

fn strategies(a: &[StrategyBody], b: &[StrategyBody]) -> Vec<ComparedStrategy> {
    let name = |entry: &StrategyBody| {
        let predictor = entry.predictor.as_ref().map(|predictor| predictor.name.clone());
        (entry.strategy.to_string(), predictor)
    };
    let find = |all: &'_ [StrategyBody], wanted: &(String, Option<String>)| {
        all.iter().find(|entry| name(entry) == *wanted).cloned()
    };
    let mut names: Vec<_> = a.iter().map(name).collect();
    names.extend(b.iter().map(name).filter(|other| find(a, other).is_none()));
    names
        .into_iter()
        .map(|wanted| {
            let (one, other) = (find(a, &wanted), find(b, &wanted));
            let both = |number: fn(&StrategyBody) -> Option<f64>| {
                ComparedNumber::of(one.as_ref().and_then(number), other.as_ref().and_then(number))
            };
            ComparedStrategy {
                layer_latency_s: both(|entry| entry.layer_latency_s),
                model_latency_s: both(|entry| entry.model_latency_s),
                speedup_over_none: both(|entry| entry.speedup_over_none),
                terms: terms(one.as_ref(), other.as_ref()),
                strategy: wanted.0,
                predictor: wanted.1,
            }
        })
        .collect()
}

fn terms(a: Option<&StrategyBody>, b: Option<&StrategyBody>) -> BTreeMap<String, ComparedNumber> {
    let named = |entry: Option<&StrategyBody>| -> BTreeMap<String, f64> {
        let terms = entry.and_then(|entry| entry.terms);
        let fields = terms.and_then(|terms| serde_json::to_value(terms).ok());
        let fields = fields.as_ref().and_then(Value::as_object).into_iter().flatten();
        fields.filter_map(|(name, term)| Some((name.clone(), term.as_f64()?))).collect()
    };
    let (a, b) = (named(a), named(b));
    let names: BTreeSet<&String> = a.keys().chain(b.keys()).collect();
    let both = |name: &String| ComparedNumber::of(a.get(name).copied(), b.get(name).copied());
    names.into_iter().map(|name| (name.clone(), both(name))).collect()
}

/// Where two documents differ, in the order of the first.
fn differences(a: &Value, b: &Value) -> Vec<Difference> {
    let mut found = Vec::new();
    differ(Some(a), Some(b), String::new(), &mut found);
    found
}

fn differ(a: Option<&Value>, b: Option<&Value>, pointer: String, found: &mut Vec<Difference>) {
    match (a, b) {
        (Some(Value::Object(a)), Some(Value::Object(b))) => {
            let names = a.keys().chain(b.keys().filter(|name| !a.contains_key(*name)));
            for name in names {
                let step = name.replace('~', "~0").replace('/', "~1");
                differ(a.get(name), b.get(name), format!("{pointer}/{step}"), found);
            }
        }
        (Some(Value::Array(a)), Some(Value::Array(b))) if a.len() == b.len() => {
            for (n, (a, b)) in a.iter().zip(b).enumerate() {
                differ(Some(a), Some(b), format!("{pointer}/{n}"), found);
            }
        }
        // 16 and 16.0 are one number.
        (Some(Value::Number(a)), Some(Value::Number(b))) if a.as_f64() == b.as_f64() => {}
        (a, b) if a == b => {}
        (a, b) => found.push(Difference { pointer, a: a.cloned(), b: b.cloned() }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn documents_differ_where_they_say_otherwise() {
        let a = json!({"a": 1, "b": {"c/d": [1, 2]}, "e": [1], "g": 16});
        let b = json!({"b": {"c/d": [1, 3]}, "e": [1, 2], "f": null, "g": 16.0});
        let found = differences(&a, &b);
        let told: Vec<_> =
            found.iter().map(|one| (one.pointer.as_str(), one.a.clone(), one.b.clone())).collect();
        assert_eq!(
            told,
            [
                ("/a", Some(json!(1)), None),
                ("/b/c~1d/1", Some(json!(2)), Some(json!(3))),
                ("/e", Some(json!([1])), Some(json!([1, 2]))),
                ("/f", None, Some(Value::Null)),
            ]
        );
        assert_eq!(differences(&a, &a), []);
    }
}
