//! A computation ends where it is asked to, however long its traces are.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use moe_gps::app::advisor::{AdviceError, KnownTraces, Progress};
use moe_gps_core::cancel::Cancel;
use serde_json::{Value, json};

use crate::asking::{check, keep, known};

/// Cancels after so many asks; counts the asks and keeps the last phase.
struct Impatient {
    cancel: Cancel,
    asks: Arc<AtomicU64>,
    phase: Mutex<&'static str>,
}

impl Impatient {
    fn new(left: u64) -> Self {
        let asks = Arc::new(AtomicU64::new(0));
        let counted = Arc::clone(&asks);
        let cancel = Cancel::when(move || left <= counted.fetch_add(1, Ordering::Relaxed));
        Self { cancel, asks, phase: Mutex::new("") }
    }

    /// Asks a question, and says how it ended: asks, last phase, whether it was canceled.
    fn ask(&self, question: &Value, traces: &KnownTraces) -> (u64, &'static str, bool) {
        let checked = check(question, traces).unwrap();
        let canceled = match (checked.work)(self) {
            Ok(_) => false,
            Err(AdviceError::Canceled) => true,
            Err(other) => panic!("{other:?}"),
        };
        (self.asks.load(Ordering::Relaxed), *self.phase.lock().unwrap(), canceled)
    }
}

impl Progress for Impatient {
    fn report(&self, _done: f64, phase: &'static str) {
        *self.phase.lock().unwrap() = phase;
    }

    fn cancel(&self) -> &Cancel {
        &self.cancel
    }
}

/// So many recorded steps of two layers.
fn counts(n_steps: u32) -> String {
    let layer = |step: u32, layer: u32| -> Vec<u32> {
        (0..8).map(|expert| 100 + (step * 7 + expert * 5 + layer) % 11).collect()
    };
    let steps: Vec<[Vec<u32>; 2]> = (0..n_steps).map(|at| [layer(at, 0), layer(at, 1)]).collect();
    json!({"counts": steps}).to_string()
}

fn question(routing: &Value) -> Value {
    json!({
        "model": "mixtral-8x7b",
        "cluster": {"device": "h100-sxm", "devices": 4, "link": "nvlink4"},
        "workload": {"phase": "prefill", "tokens_per_step": 420},
        "rebalance": {"interval_steps": 1000},
        "routing": routing,
    })
}

#[test]
fn the_work_ends_at_the_ask_that_cancels_it() {
    let directory = tempfile::tempdir().unwrap();
    let trace = keep(directory.path(), "application/json", counts(200).as_bytes());
    let other = keep(directory.path(), "application/json", counts(60).as_bytes());
    let (one, both) = (json!({"trace_id": trace.id}), json!({"trace_ids": [trace.id, other.id]}));
    // Every recorded step is counted once, and those held out are replayed: once for the
    // strategies, and of several traces once more for the matrix of plans.
    for (routing, n_counted, n_replayed) in [(one, 200, 100), (both, 260, 130 + 130)] {
        let asked = question(&routing);
        let traces = known(&[&trace, &other]);
        let (all, phase, canceled) = Impatient::new(u64::MAX).ask(&asked, &traces);
        assert!(!canceled && phase == "replaying", "{phase}");
        assert!(all > n_counted + n_replayed, "asked {all} times");
        let late = all - n_replayed / 2;
        for (left, phase) in [
            (0, "reading"),
            (1, "reading"),
            (n_counted / 2, "reading"),
            (n_counted - 1, "reading"),
            (late, "replaying"),
            (late + 30, "replaying"),
        ] {
            assert_eq!(Impatient::new(left).ask(&asked, &traces), (left + 1, phase, true));
        }
        // Every value of a flip search asks, and all that are left fail at once.
        for left in [n_counted, n_counted + 5, n_counted + 40] {
            let (asks, phase, canceled) = Impatient::new(left).ask(&asked, &traces);
            assert!(canceled && phase == "pricing" && asks <= left + 100, "{asks} {phase}");
        }
        // The very last ask is honoured too.
        let last = Impatient::new(all - 1).ask(&asked, &traces);
        assert_eq!(last, (all, "replaying", true));
    }
}
