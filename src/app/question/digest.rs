//! What makes two questions equal: a digest of all that decides the answer.

use std::fmt::{Debug, Error, Write};
use std::sync::Arc;

use sha2::{Digest, Sha256};

use crate::app::advisor::TraceFacts;
use crate::app::question::{Answerable, AskedRouting, TraceUse};
use moe_gps_core::catalog::Catalog;
use moe_gps_core::formats::catalog_entry::CatalogEntry;
use moe_gps_core::hardware::Device;
use moe_gps_core::revision::REVISION;
use moe_gps_core::system::System;

/// Digest of the sources that decide an answer (`build.rs`).
const SOURCES: &str = env!("MOE_GPS_SOURCES");

/// Hashes the text that is written to it.
struct Hashed(Sha256);

impl Write for Hashed {
    fn write_str(&mut self, text: &str) -> Result<(), Error> {
        self.0.update(text);
        Ok(())
    }
}

/// The catalog device whose fitted constants these are, where they are shared with it: the digest
/// of the catalog stands for them, which saves the hashing of 50 kB.
fn shipped<'a>(device: &Device, catalog: &'a Catalog) -> Option<&'a str> {
    let shared = |entry: &&CatalogEntry<Device>| {
        Arc::ptr_eq(&device.stacks, &entry.value.stacks)
            && match (&device.collectives, &entry.value.collectives) {
                (Some(one), Some(other)) => Arc::ptr_eq(one, other),
                (one, other) => one.is_none() && other.is_none(),
            }
    };
    catalog.devices_in_use().find(shared).map(|entry| entry.id.as_str())
}

/// Gives the kernel of the experts one name: none where it is what the question would have without one.
fn name_kernel(system: &mut System) {
    let asked = system.engine.as_mut().and_then(|engine| engine.moe_kernel.take());
    let Some(asked) = asked else { return };
    let stack = |system: &System| Device::stack_of(system).map(|stack| stack.name.clone());
    let default = stack(system);
    let limit = system.engine_kind().group_limit;
    let is_limited = limit.is_some_and(|limit| asked.contains(limit.kernel_part));
    let name = |system: &mut System, name: Option<String>| {
        if let Some(engine) = &mut system.engine {
            engine.moe_kernel = name;
        }
    };
    name(system, Some(asked.clone()));
    let named = stack(system);
    if !is_limited {
        name(system, if named == default { None } else { named });
    }
}

impl Answerable {
    /// SHA-256 over version, revision and sources of the cost model, catalog, and the checked
    /// question.
    ///
    /// Its defaults are filled in by then, so a written default is the same question. `Debug`
    /// prints every field, and a float so that no other reads back the same; a trace is taken by
    /// the digest of its content, wherever it is stored.
    #[must_use]
    pub fn digest(&self, catalog: &Catalog) -> [u8; 32] {
        let Self {
            question,
            routing,
            method,
            ignored_model_fields,
            model,
            facts,
            device,
            warnings,
            fits,
            interval_is_stated,
            assume_predictors,
        } = self;
        let mut hashed = Hashed(Sha256::new());
        let mut add = |part: &dyn Debug| {
            // Writing to a digest cannot fail.
            let _ = writeln!(hashed, "{part:?}");
        };
        add(&(env!("CARGO_PKG_VERSION"), REVISION, SOURCES, catalog.digest()));
        let mut question = question.clone();
        name_kernel(&mut question.system);
        let device_of = &mut question.system.cluster.device;
        let constants_of = shipped(device_of, catalog);
        if constants_of.is_some() {
            (device_of.stacks, device_of.collectives) = (Arc::default(), None);
        }
        add(&(question, constants_of));
        match routing {
            AskedRouting::Trace(TraceUse { traces, train_fraction, holdouts, joined, phases }) => {
                let content = |trace: &TraceFacts| (trace.id.clone(), trace.digest);
                let traces: Vec<_> = traces.iter().map(content).collect();
                let holdouts: Vec<_> = holdouts.iter().map(content).collect();
                add(&(traces, train_fraction, holdouts, joined, phases));
            }
            stated => add(stated),
        }
        add(&(method, ignored_model_fields, model, facts, device, warnings, fits));
        add(&(interval_is_stated, assume_predictors));
        hashed.0.finalize().into()
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use moe_gps_core::named::name_of;
    use moe_gps_core::question::RebalanceMode;
    use moe_gps_core::trace::{TraceHeader, TraceKind};
    use serde_json::{Value, json};

    use super::*;
    use crate::app::question::read;
    use crate::app::references::References;

    fn catalog() -> &'static Catalog {
        Catalog::embedded()
    }

    /// A trace of Mixtral's shape whose content has this digest, stored there.
    fn trace(digest: u8, path: &str, embedding_digest: Option<&[u8]>) -> TraceFacts {
        let header = TraceHeader {
            kind: TraceKind::Routes,
            digest: [digest; 32],
            tokens: 4096,
            sequences: 8,
            steps: 0,
            layers: (0..32).collect(),
            experts: 8,
            top_k: Some(2),
            has_token_ids: true,
            has_positions: false,
            experts_inferred: false,
            repeated_rows: 0,
            longest_repeat: 0,
            notes: Vec::new(),
        };
        TraceFacts::new("one", &header, PathBuf::from(path), None, embedding_digest)
    }

    fn question() -> Value {
        json!({
            "model": "mixtral-8x7b",
            "cluster": {"device": "h100-sxm", "devices": 4, "link": "nvlink4"},
            "workload": {"phase": "prefill", "batch_size": 1, "sequence_length": 512},
            "engine": {"name": "vllm"},
            "routing": {"trace_id": "one"},
        })
    }

    fn checked(question: &Value, trace: TraceFacts, device: Option<&str>) -> Answerable {
        let device = device.map(|id| catalog().device(id).unwrap().value.clone());
        let references = References {
            traces: [(trace.id.clone(), trace)].into(),
            device,
            ..References::default()
        };
        let checked = read(question.clone()).answerable(catalog(), &references);
        checked.unwrap_or_else(|error| panic!("{question}: {error:?}"))
    }

    fn digest(question: &Value) -> [u8; 32] {
        checked(question, trace(0, "here", None), None).digest(catalog())
    }

    /// The question with these values, by their pointers.
    fn with(changes: &[(&str, Value)]) -> Value {
        let mut question = question();
        for (pointer, value) in changes {
            let (object, name) = pointer.rsplit_once('/').unwrap();
            question.pointer_mut(object).unwrap()[name] = value.clone();
        }
        question
    }

    fn reversed(value: &Value) -> Value {
        match value {
            Value::Object(fields) => {
                fields.iter().rev().map(|(key, value)| (key.clone(), reversed(value))).collect()
            }
            other => other.clone(),
        }
    }

    #[test]
    fn a_written_default_is_the_same_question() {
        let plain = digest(&question());
        let mode = name_of(
            &RebalanceMode::ALL,
            &checked(&question(), trace(0, "here", None), None).question.rebalance.mode,
        );
        for (pointer, value) in [
            ("/seed", json!(0)),
            ("/flip_points", json!(true)),
            ("/method", json!("simulated")),
            ("/objective", json!("step_latency")),
            ("/predictors", json!([])),
            (
                "/allowed_strategies",
                json!(["none", "replace_only", "distribution_only", "token_to_expert"]),
            ),
            (
                "/allowed_strategies",
                json!(["token_to_expert", "none", "distribution_only", "replace_only"]),
            ),
            ("/engine/moe_kernel", json!("auto")),
            ("/engine/moe_kernel", json!("Triton")),
            ("/engine/moe_kernel", json!("vllm_triton")),
            ("/assumptions", json!({"preset": "calibrated", "seed": 0})),
            ("/duplication", json!({"algorithm": "best", "allow_duplicates": false})),
            ("/rebalance", json!({"mode": mode})),
            ("/parallelism", json!({"pipeline": 1, "expert_tensor": 1, "expert_parallel": 4})),
            ("/cluster/nodes", json!(1)),
            ("/workload/dtype", json!("bf16")),
            ("/workload/dtypes", json!({"dispatch": "bf16"})),
            ("/workload/tokens_per_step", json!(512)),
            ("/routing/train_fraction", json!(0.5)),
        ] {
            assert_eq!(digest(&with(&[(pointer, value)])), plain, "{pointer}");
        }
        assert_eq!(digest(&reversed(&question())), plain, "the order of keys");
        assert_eq!(
            checked(&question(), trace(0, "there", None), None).digest(catalog()),
            plain,
            "the place"
        );
    }

    #[test]
    fn whatever_decides_the_answer_changes_the_digest() {
        let interval =
            checked(&question(), trace(0, "here", None), None).question.rebalance.interval_steps;
        let mut found = vec![digest(&question())];
        for changes in [
            vec![("/model", json!("phi-3.5-moe")), ("/routing", json!({"skewness": 1.5}))],
            vec![("/cluster/device", json!("h200-sxm"))],
            vec![("/cluster/devices", json!(8))],
            vec![("/cluster/link", json!("nvlink3"))],
            vec![("/workload/batch_size", json!(2))],
            vec![
                ("/workload/phase", json!("decode")),
                ("/workload/sequence_length", json!(1)),
                ("/workload/kv_length", json!(9)),
            ],
            vec![("/workload/dtype", json!("fp16"))],
            vec![("/workload/dtypes", json!({"dispatch": "fp8"}))],
            vec![("/engine/name", json!("sglang"))],
            vec![("/engine/version", json!("1"))],
            vec![("/engine/moe_kernel", json!("cutlass"))],
            vec![("/engine/cuda_graph", json!(true))],
            vec![("/routing/train_fraction", json!(0.25))],
            vec![("/routing", json!({"trace_ids": ["one", "one"]}))],
            vec![("/routing", json!({"trace_id": "one", "holdout_trace_id": "one"}))],
            vec![("/routing", json!({"skewness": 1.5}))],
            vec![("/routing", json!({"skewness": 1.500_000_000_000_000_2}))],
            vec![("/routing", json!({"power_law": {"exponent": 1.5}}))],
            vec![("/routing", json!({"balancedness": 0.5, "at_devices": 4}))],
            vec![("/predictors", json!([{"name": "a", "accuracy": 0.5, "overhead_s": 0.0}]))],
            vec![("/predictors", json!([{"name": "a", "accuracy": 0.5, "overhead_s": 1e-9}]))],
            vec![("/predictors", json!([{"fit": "by_token"}]))],
            vec![("/method", json!("analytic"))],
            vec![("/duplication", json!({"slots_per_device": 3}))],
            vec![("/duplication", json!({"max_copies": 3}))],
            vec![("/duplication", json!({"algorithm": "eplb"}))],
            vec![("/rebalance", json!({"mode": "startup_map"}))],
            // A stated interval is not searched.
            vec![("/rebalance", json!({"interval_steps": interval}))],
            vec![("/rebalance", json!({"window_steps": 7}))],
            vec![("/current", json!({"strategy": "none"}))],
            vec![("/allowed_strategies", json!(["none"]))],
            vec![("/objective", json!("throughput_at_tpot"))],
            vec![("/measured_step_s", json!(0.01))],
            vec![("/flip_points", json!(false))],
            vec![("/assumptions", json!({"overlap": "two_batch"}))],
            vec![("/assumptions", json!({"launch_s": 1e-6}))],
            vec![("/seed", json!(1))],
        ] {
            found.push(digest(&with(&changes)));
        }
        let mut of_trace = |trace| found.push(checked(&question(), trace, None).digest(catalog()));
        of_trace(trace(1, "here", None));
        of_trace(trace(0, "here", Some(&[1; 32])));
        let mine = with(&[("/cluster/device", json!("mine"))]);
        for device in ["a100-sxm4-80gb", "h20"] {
            found.push(checked(&mine, trace(0, "here", None), Some(device)).digest(catalog()));
        }
        // A profile of its own, and one of its constants changed.
        let mut profile = catalog().device_document("h20").unwrap().clone();
        found.push(digest(&with(&[("/cluster/device", profile.clone())])));
        let set = profile["gemm"].as_object_mut().unwrap().values_mut().next().unwrap();
        let constant = set.as_object_mut().unwrap().values_mut().find(|value| value.is_f64());
        let constant = constant.unwrap();
        *constant = json!(constant.as_f64().unwrap() * (1.0 + f64::EPSILON));
        found.push(digest(&with(&[("/cluster/device", profile)])));
        let mut distinct = found.clone();
        distinct.sort_unstable();
        distinct.dedup();
        assert_eq!(distinct.len(), found.len());
    }
}
