use std::fmt::Write as _;

use proptest::prelude::*;

use crate::app::ingest::tests::*;
use moe_gps_core::trace::steps::{StepOrder, StepPlan};

fn take(text: &str) -> Result<Ingested, TraceError> {
    Shelf::new().take("x-ndjson", text.as_bytes())
}

fn line(sequence: u64, position: u64, experts: &str) -> String {
    format!("{{\"sequence\": {sequence}, \"position\": {position}, \"experts\": {experts}}}\n")
}

#[test]
fn tokens_in_any_order_are_laid_in_order() {
    let mut text = String::new();
    // Two sequences, interleaved as an engine decodes them, the second one first.
    for position in 0..40_u64 {
        for sequence in [9, 2] {
            let id = (position * 2 + sequence) % 5;
            let token_id = sequence * 1000 + position;
            writeln!(
                text,
                "{{\"experts\": [[{id}, {}]], \"token_id\": {token_id}, \"position\": {position}, \"sequence\": {sequence}}}",
                id + 1
            )
            .unwrap();
        }
    }
    let shelf = Shelf::new();
    let got = shelf.take("x-ndjson", text.as_bytes()).unwrap().summary;
    assert_eq!((got.tokens, got.sequences, got.layers), (Some(80), Some(2), 1));
    assert_eq!((got.top_k, got.experts, got.has_token_ids), (Some(2), 6, true));
    let trace = shelf.traces.open_trace(&got.id).unwrap();
    let token_ids: Vec<u32> = (2000..2040).chain(9000..9040).collect();
    assert_eq!(trace.read_token_ids(0..80).unwrap(), token_ids);
    let plan = StepPlan {
        order: StepOrder::Prefill { tokens_per_step: 80 },
        range: 0..80,
        with_routes: true,
    };
    let mut steps = trace.steps(&plan);
    let step = steps.next_step().unwrap().unwrap();
    assert_eq!(step.routes.layer(0)[..4], [2, 3, 4, 5]);
    assert_eq!(step.routes.layer(0)[80..84], [4, 5, 1, 2]);
}

#[test]
fn what_no_token_can_be_is_refused_at_its_line() {
    let good = line(0, 0, "[[0, 1], [2, 3]]");
    for (bad, wanted) in [
        (line(0, 1, "[[0, -1], [2, 3]]"), "/lines/2/experts/0/1 range"),
        (line(0, 1, "[[0, 1], [2, 70000]]"), "/lines/2/experts/1/1 range"),
        (line(0, 1, "[[0, 1.5], [2, 3]]"), "/lines/2/experts/0/1 range"),
        (line(0, 1, "[[0, 1], [2, 2]]"), "/lines/2/experts/1 distinct"),
        (line(0, 1, "[[0, 0], [2, 3]]"), "/lines/2/experts/0 distinct"),
        (line(0, 1, "[[0, 1], [2]]"), "/lines/2/experts/1 shape"),
        (line(0, 1, "[[0, 1]]"), "/lines/2/experts shape"),
        (line(0, 0, "[[0, 1], [2, 3]]"), "/lines/2 duplicate"),
        (line(0, 1 << 40, "[[0, 1], [2, 3]]"), "/lines/2/position range"),
        (line(0, 1, "\"all\""), "/lines/2 type"),
        (line(0, 1, "[[0, \"1\"], [2, 3]]"), "/lines/2 type"),
        (line(0, 1, "[[0, [1]], [2, 3]]"), "/lines/2 type"),
        ("{\"sequence\": 0, \"position\": 1}\n".to_owned(), "/lines/2 type"),
        (
            "{\"sequence\": 0, \"position\": 1, \"experts\": [], \"x\": 1}\n".to_owned(),
            "/lines/2 type",
        ),
        ("{\"sequence\": -1, \"position\": 1, \"experts\": []}\n".to_owned(), "/lines/2 type"),
        ("[]\n".to_owned(), "/lines/2 type"),
        ("{\"sequence\": 1e999, \"position\": 1, \"experts\": []}\n".to_owned(), "/lines/2 type"),
    ] {
        assert_eq!(flaws(take(&format!("{good}{bad}"))), [wanted], "{bad}");
    }
    assert_eq!(
        flaws(take(&line(0, 0, "[]"))),
        ["/lines/1/experts range", "/lines/1/experts range"]
    );
    assert_eq!(flaws(take("\n \n")), [" empty"]);
}

#[test]
fn declared_experts_bound_the_ids() {
    let shelf = Shelf::new();
    let text = format!("{}{}", line(0, 0, "[[0, 7]]"), line(0, 1, "[[8, 1]]"));
    let mut upload = upload("x-ndjson");
    upload.declared = Declared { experts: Some(8), top_k: Some(2), ..Declared::default() };
    let got = shelf.traces.ingest(text.as_bytes(), &upload, &Limits::default());
    assert_eq!(flaws(got), ["/lines/2/experts/0/0 range"]);
    upload.declared.top_k = Some(4);
    let got = shelf.traces.ingest(text.as_bytes(), &upload, &Limits::default());
    assert_eq!(flaws(got), ["/lines/1/experts top_k"]);
    for experts in [0, 1, 70_000] {
        upload.declared = Declared { experts: Some(experts), top_k: None, ..Declared::default() };
        let got = shelf.traces.ingest(text.as_bytes(), &upload, &Limits::default());
        assert_eq!(flaws(got).len(), 1, "{experts}");
    }
}

#[test]
fn text_that_is_no_json_is_unreadable() {
    let text = format!("{}{}", line(0, 0, "[[0, 1]]"), line(0, 1, "[[1, 2]]"));
    let text = text.trim_end();
    let second = text.find('\n').unwrap() + 1;
    for cut in second + 1..text.len() {
        let got = take(&text[..cut]);
        assert!(is_unreadable(&got), "{cut} {got:?}");
    }
    assert!(is_unreadable(&take(&format!("{text}\nnot json\n"))));
    assert!(is_unreadable(&take(&format!("{{\"sequence\": {}", "[".repeat(500_000)))));
    let long = take(&"9".repeat(2 << 20));
    assert!(matches!(&long, Err(TraceError::Unreadable(why)) if why.contains("longer than")));
}

#[test]
fn missing_token_ids_are_said() {
    let text = format!(
        "{}{}",
        line(0, 0, "[[0, 1]]"),
        "{\"sequence\": 0, \"position\": 1, \"token_id\": 5, \"experts\": [[1, 2]]}"
    );
    let got = take(&text).unwrap().summary;
    assert!(!got.has_token_ids);
    assert!(got.warnings.iter().any(|text| text.contains("1 of 2 tokens")), "{:?}", got.warnings);
}

#[test]
fn dense_layers_are_named_and_left_out() {
    let text: String = (0..4).map(|n| line(0, n, &format!("[[0, 0], [{n}, 5]]"))).collect();
    let got = take(&text).unwrap().summary;
    assert_eq!(got.layers, 1);
    assert!(got.warnings.iter().any(|text| text.starts_with("layer(s) 0 hold no routing")));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 1..200)) {
        let _ = Shelf::new().take("x-ndjson", &bytes);
    }

    #[test]
    fn flipped_bytes_never_panic(place in any::<prop::sample::Index>(), byte in any::<u8>()) {
        let mut bytes = line(0, 0, "[[0, 1], [2, 3]]").into_bytes();
        let place = place.index(bytes.len());
        bytes[place] = byte;
        let _ = Shelf::new().take("x-ndjson", &bytes);
    }
}
