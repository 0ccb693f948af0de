use proptest::prelude::*;

use crate::app::ingest::tests::*;

fn pointers(text: &str) -> Vec<String> {
    flaws(Shelf::new().take("json", text.as_bytes()))
}

#[test]
fn all_shapes_are_read_and_other_keys_ignored() {
    for (text, steps, layers, experts) in [
        (r#"{"logical_count": [[1, 2, 3], [3, 2, 1]]}"#, 1, 2, 3),
        (r#"{"x": [{"y": null}], "counts": [[[1, 2]], [[3, 4]]], "top_k": "?"}"#, 2, 1, 2),
        (r#"{"counts": {"a": [[1, 0.5]], "b/c": [[3, 0]], "d": [[1, 1]]}}"#, 3, 1, 2),
    ] {
        let got = Shelf::new().take("json", text.as_bytes()).unwrap().summary;
        assert_eq!((got.steps, got.layers, got.experts), (Some(steps), layers, experts), "{text}");
        assert_eq!((got.tokens, got.sequences, got.top_k), (None, None, None));
        assert_eq!(got.distribution_error.is_some(), steps > 1);
    }
}

#[test]
fn dense_layers_are_named_and_left_out() {
    let got = Shelf::new().take("json", COUNTS).unwrap().summary;
    assert_eq!(got.layers, 2);
    assert_eq!(got.skewness.per_layer, [7.0 / 6.0, 7.0 / 6.0]);
    // Halves: [4 2] against [3 3] and [1 5] against [6 0].
    let wanted = f64::midpoint(2.0 * (4.0 / 6.0 - 0.5), 2.0 * (5.0 / 6.0));
    assert!((got.distribution_error.unwrap() - wanted).abs() < 1e-12);
    assert!(got.warnings.iter().any(|text| text.starts_with("layer(s) 1 hold no counts")));
}

#[test]
fn meaningless_counts_are_refused_at_their_place() {
    for (text, wanted) in [
        (r#"{"counts": [[1, -2], [3, null]]}"#, vec!["/counts/0/1 range", "/counts/1/1 type"]),
        (r#"{"counts": [[1, 2], [3]]}"#, vec!["/counts/1 shape"]),
        (r#"{"counts": [[[1, 2]], [[3, 4], [5, 6]]]}"#, vec!["/counts/1 shape"]),
        (r#"{"counts": [1, 2]}"#, vec!["/counts/0 shape"]),
        (r#"{"counts": 7}"#, vec!["/counts shape"]),
        (r#"{"counts": [[[[1]]]]}"#, vec!["/counts/0/0/0 shape"]),
        (r#"{"counts": [[1, [2]]]}"#, vec!["/counts/0/1/0 shape"]),
        (r#"{"counts": [[1, {"a": 2}]]}"#, vec!["/counts/0/1 type"]),
        (r#"{"counts": [[1, "NaN", true]]}"#, vec!["/counts/0/1 type", "/counts/0/2 type"]),
        (r#"{"counts": [[0, 0], [0, 0]]}"#, vec!["/counts empty"]),
        (r#"{"counts": []}"#, vec!["/counts empty"]),
        (r#"{"counts": {}}"#, vec!["/counts empty"]),
        (r#"{"counts": [[]]}"#, vec!["/counts/0 empty"]),
        (r#"{"logical_count": {"a": [[1]]}}"#, vec!["/logical_count type"]),
        (r#"{"counts": {"a": [[1]], "a": [[2]]}}"#, vec!["/counts/a duplicate"]),
        (r#"{"counts": {"a~/b": [[1, -1]]}}"#, vec!["/counts/a~0~1b/0/1 range"]),
        (r#"{"counts": [[1]], "logical_count": [[1]]}"#, vec!["/logical_count duplicate"]),
        (r#"{"counts": [[9007199254740993, 1e300]]}"#, vec!["/counts/0/1 range"]),
        (r#"{"counts": [[1e999]]}"#, vec![" type"]),
        (r#"{"other": 1}"#, vec![" required"]),
        ("[[1, -2]]", vec!["/0/1 range"]),
        ("null", vec![" type"]),
    ] {
        assert_eq!(pointers(text), wanted, "{text}");
    }
}

#[test]
fn declared_experts_must_fit() {
    let shelf = Shelf::new();
    let mut upload = upload("json");
    upload.declared = Declared { experts: Some(3), top_k: Some(2), ..Declared::default() };
    let got = shelf.traces.ingest(&br#"{"counts": [[1, 2]]}"#[..], &upload, &Limits::default());
    assert_eq!(flaws(got), ["/counts/0 experts"]);
    upload.declared = Declared { experts: Some(2), top_k: Some(2), ..Declared::default() };
    let got = shelf.traces.ingest(&br#"{"counts": [[50, 50]]}"#[..], &upload, &Limits::default());
    assert_eq!(got.unwrap().summary.tokens, Some(50));
}

#[test]
fn a_hundred_flaws_are_listed_and_the_rest_counted() {
    let text = format!("{{\"counts\": [[{}0]]}}", "-1,".repeat(250));
    match Shelf::new().take("json", text.as_bytes()) {
        Err(TraceError::Invalid { listed, unlisted }) => {
            assert_eq!((listed.len(), unlisted), (100, 150));
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn broken_json_is_unreadable_wherever_it_breaks() {
    let shelf = Shelf::new();
    for cut in 1..COUNTS.len() {
        let got = shelf.take("json", &COUNTS[..cut]);
        assert!(is_unreadable(&got), "{cut} {got:?}");
    }
    for text in [
        "{\"counts\": [[NaN]]}".to_owned(),
        "{\"counts\": [[1]]} x".to_owned(),
        format!("{{\"x\": {}", "[".repeat(100_000)),
        format!("{{\"x\": \"{}", "y".repeat(1_000_000)),
    ] {
        assert!(is_unreadable(&shelf.take("json", text.as_bytes())));
    }
}

#[test]
fn deep_nesting_among_counts_is_refused() {
    let text = format!("{{\"counts\": {}1{}}}", "[".repeat(100), "]".repeat(100));
    assert_eq!(pointers(&text), ["/counts/0/0/0 shape"]);
    let text = format!("{{\"counts\": {}", "[".repeat(100_000));
    assert!(is_unreadable(&Shelf::new().take("json", text.as_bytes())));
}

#[test]
fn an_endless_string_is_not_held() {
    struct Endless(u64);
    impl Read for Endless {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let n = (buffer.len() as u64).min(self.0);
            self.0 -= n;
            let n = usize::try_from(n).unwrap();
            buffer[..n].fill(b'y');
            Ok(n)
        }
    }
    let body = (&b"{\""[..]).chain(Endless(80 << 20));
    let got = Shelf::new().traces.ingest(body, &upload("json"), &Limits::default());
    assert!(matches!(&got, Err(TraceError::Unreadable(why)) if why.contains("string")), "{got:?}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 1..200)) {
        let _ = Shelf::new().take("json", &bytes);
    }

    #[test]
    fn flipped_bytes_never_panic(
        place in any::<prop::sample::Index>(), byte in any::<u8>(),
    ) {
        let mut bytes = COUNTS.to_vec();
        bytes[place.index(COUNTS.len())] = byte;
        let _ = Shelf::new().take("json", &bytes);
    }
}
