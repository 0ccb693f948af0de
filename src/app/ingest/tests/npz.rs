use std::io::Cursor;

use proptest::prelude::*;
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipWriter};

use crate::app::ingest::tests::*;

/// A NumPy file.
pub(crate) fn npy(descr: &str, fortran: bool, shape: &str, data: &[u8]) -> Vec<u8> {
    let order = if fortran { "True" } else { "False" };
    let text = format!("{{'descr': '{descr}', 'fortran_order': {order}, 'shape': {shape}, }}\n");
    let mut out = b"\x93NUMPY\x01\x00".to_vec();
    out.extend(u16::try_from(text.len()).unwrap().to_le_bytes());
    out.extend(text.as_bytes());
    out.extend(data);
    out
}

fn archive(method: CompressionMethod, members: &[(&str, &[u8])]) -> Vec<u8> {
    let mut writer = ZipWriter::new(Cursor::new(Vec::new()));
    for (name, bytes) in members {
        let options = SimpleFileOptions::default().compression_method(method);
        writer.start_file(*name, options).unwrap();
        writer.write_all(bytes).unwrap();
    }
    writer.finish().unwrap().into_inner()
}

fn stored(members: &[(&str, &[u8])]) -> Vec<u8> {
    archive(CompressionMethod::Stored, members)
}

fn take(bytes: &[u8]) -> Result<Ingested, TraceError> {
    Shelf::new().take("x-npz", bytes)
}

/// `[2, 3, 2, 2]`, ids 0 to 4, C order.
fn ids() -> Vec<u8> {
    (0..12_u8).flat_map(|n| [n % 4, n % 4 + 1]).collect()
}

/// The same elements with the first index fastest.
fn fortran(ids: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    for k in 0..2 {
        for l in 0..2 {
            for t in 0..3 {
                for s in 0..2 {
                    out.push(ids[((s * 3 + t) * 2 + l) * 2 + k]);
                }
            }
        }
    }
    out
}

#[test]
fn every_integer_type_order_and_compression_reads_the_same() {
    let tokens: Vec<u8> = (1..=6).collect();
    let mut seen = Vec::new();
    for method in [CompressionMethod::Stored, CompressionMethod::Deflated] {
        for (descr, size, big) in [
            ("|u1", 1, false),
            ("|i1", 1, false),
            ("<u2", 2, false),
            (">i2", 2, true),
            ("<i4", 4, false),
            ("<u4", 4, false),
            (">u8", 8, true),
            ("<i8", 8, false),
        ] {
            for turned in [false, true] {
                let ids = if turned { fortran(&ids()) } else { ids() };
                let wide: Vec<u8> = ids
                    .iter()
                    .flat_map(|id| {
                        let mut bytes = vec![0; size];
                        bytes[if big { size - 1 } else { 0 }] = *id;
                        bytes
                    })
                    .collect();
                let routes = npy(descr, turned, "(2, 3, 2, 2)", &wide);
                let tokens = npy("|u1", false, "(2, 3)", &tokens);
                let shelf = Shelf::new();
                let bytes = archive(method, &[("routes.npy", &routes), ("tokens.npy", &tokens)]);
                let got = shelf.take("x-npz", &bytes).unwrap();
                let trace = shelf.traces.open_trace(&got.summary.id).unwrap();
                assert_eq!(trace.read_token_ids(0..6).unwrap(), [1, 2, 3, 4, 5, 6]);
                assert_eq!((got.summary.sequences, got.summary.experts), (Some(2), 5));
                seen.push(trace.count(2..6).unwrap());
            }
        }
    }
    assert!(seen.iter().all(|counts| *counts == seen[0]));
    assert_eq!(seen[0].layer(0), [2.0, 2.0, 2.0, 2.0, 0.0]);
}

#[test]
fn the_number_of_experts_may_be_inside_but_must_not_disagree() {
    let routes = npy("|u1", false, "(2, 3, 2, 2)", &ids());
    let experts = |descr, n: &[u8]| npy(descr, false, "()", n);
    let eight = experts("<i8", &8_u64.to_le_bytes());
    let both = stored(&[("routes.npy", &routes), ("num_experts.npy", &eight)]);
    let got = take(&both).unwrap().summary;
    assert_eq!(got.experts, 8);
    assert!(!got.warnings.iter().any(|text| text.contains("largest id")));
    let mut upload = upload("x-npz");
    upload.declared.experts = Some(9);
    let got = Shelf::new().traces.ingest(&both[..], &upload, &Limits::default());
    assert_eq!(flaws(got), ["/num_experts conflict"]);
    for (array, rule) in [
        (experts("|u1", &[0]), "range"),
        (experts("<i4", &(-3_i32).to_le_bytes()), "range"),
        (experts("<f4", &8_f32.to_le_bytes()), "type"),
        (npy("|u1", false, "(2,)", &[8, 8]), "type"),
    ] {
        let bytes = stored(&[("routes.npy", &routes), ("num_experts.npy", &array)]);
        assert_eq!(flaws(take(&bytes)), [format!("/num_experts {rule}")]);
    }
}

#[test]
fn padding_and_doubles_are_named_by_sequence_position_and_layer() {
    let mut bad = ids();
    bad[5] = 255;
    bad[10] = 1;
    bad[11] = 1;
    let mut upload = upload("x-npz");
    upload.declared.experts = Some(8);
    let routes = npy("|u1", false, "(2, 3, 2, 2)", &bad);
    let bytes = stored(&[("routes.npy", &routes)]);
    match Shelf::new().traces.ingest(&bytes[..], &upload, &Limits::default()) {
        Err(TraceError::Invalid { listed, unlisted: 0 }) => {
            assert_eq!(listed[0].pointer, "/routes/0/1/0/1");
            let text = "expert id 255 at sequence 0, position 1, layer 0; ids must be from 0 to 7";
            assert_eq!(listed[0].detail, text);
            assert_eq!(
                (listed[1].pointer.as_str(), listed[1].rule.as_str()),
                ("/routes/0/2/1", "distinct")
            );
        }
        other => panic!("{other:?}"),
    }
    let negative: Vec<u8> = ids().iter().map(|id| if *id == 4 { 0xff } else { *id }).collect();
    let bytes = stored(&[("routes.npy", &npy("|i1", false, "(2, 3, 2, 2)", &negative))]);
    match take(&bytes) {
        Err(TraceError::Invalid { listed, .. }) => assert!(listed[0].detail.contains("id -1 at")),
        other => panic!("{other:?}"),
    }
}

#[test]
fn wrong_arrays_are_refused() {
    let routes = |descr, shape, n| npy(descr, false, shape, &vec![1; n]);
    for (member, wanted) in [
        (routes("<f4", "(2, 3, 1, 1)", 24), "/routes type"),
        (routes("|b1", "(2, 3, 1, 1)", 6), "/routes type"),
        (routes("|u1", "(6,)", 6), "/routes shape"),
        (routes("|u1", "(0, 3, 1, 1)", 0), "/routes empty"),
        (routes("|u1", "(2, 3, 0, 1)", 0), "/routes range"),
        (routes("|u1", "(1, 1, 1, 65)", 65), "/routes range"),
        (routes("|u1", "(1, 1, 1025, 1)", 1025), "/routes range"),
    ] {
        assert_eq!(flaws(take(&stored(&[("routes.npy", &member)]))), [wanted]);
    }
    let good = npy("|u1", false, "(2, 3, 2, 2)", &ids());
    assert_eq!(flaws(take(&stored(&[("tokens.npy", &good)]))), ["/routes required"]);
    let tokens = npy("|u1", false, "(2, 2)", &[0; 4]);
    let bytes = stored(&[("routes.npy", &good), ("tokens.npy", &tokens)]);
    assert_eq!(flaws(take(&bytes)), ["/tokens shape"]);
    let tokens = npy("<i2", false, "(2, 3)", &[0xff; 12]);
    let bytes = stored(&[("routes.npy", &good), ("tokens.npy", &tokens)]);
    assert_eq!(flaws(take(&bytes)).len(), 6);
}

#[test]
fn members_without_meaning_are_said_and_doubles_refused() {
    let good = npy("|u1", false, "(2, 3, 2, 2)", &ids());
    let got = take(&stored(&[("routes.npy", &good), ("notes.npy", b"?")])).unwrap();
    assert!(got.summary.warnings.iter().any(|text| text.contains("notes.npy")));
    // The writer refuses doubles, so the second name is changed behind its back.
    let mut bytes = stored(&[("routes.npy", &good), ("routez.npy", &good)]);
    for place in 0..bytes.len() - 6 {
        if bytes[place..].starts_with(b"routez") {
            bytes[place + 5] = b's';
        }
    }
    assert_eq!(flaws(take(&bytes)), ["/routes duplicate"]);
}

#[test]
fn an_embedding_inside_is_kept_beside_the_trace() {
    let routes = npy("|u1", false, "(2, 3, 2, 2)", &ids());
    let embedding = npy("<f4", false, "(2, 1)", &[0; 8]);
    let shelf = Shelf::new();
    let bytes = stored(&[("routes.npy", &routes), ("embedding.npy", &embedding)]);
    let got = shelf.take("x-npz", &bytes).unwrap().summary;
    assert!(got.has_embedding);
    assert_eq!(shelf.files().len(), 2);
    let nan = npy("<f4", false, "(1, 1)", &f32::INFINITY.to_le_bytes());
    let bytes = stored(&[("routes.npy", &routes), ("embedding.npy", &nan)]);
    assert_eq!(flaws(shelf.take("x-npz", &bytes)), ["/embedding/0/0 finite"]);
}

#[test]
fn headers_that_lie_about_size_are_caught() {
    for (shape, n) in [("(2, 3, 2, 2)", 23), ("(2, 3, 2, 2)", 25)] {
        let routes = npy("|u1", false, shape, &vec![1; n]);
        for method in [CompressionMethod::Stored, CompressionMethod::Deflated] {
            let got = take(&archive(method, &[("routes.npy", &routes)]));
            assert!(is_unreadable(&got), "{n} {got:?}");
        }
    }
    for shape in ["(4294967296, 4294967296, 2, 2)", "(1000000, 1000000, 2, 2)"] {
        let got = take(&stored(&[("routes.npy", &npy("|u1", false, shape, &[1]))]));
        assert!(matches!(got, Err(TraceError::TooLarge { .. })), "{got:?}");
    }
}

#[test]
fn a_bomb_trips_the_limit() {
    let zeros = vec![0; 64 << 20];
    let routes = npy("|u1", false, "(1024, 1024, 32, 2)", &zeros);
    let bomb = archive(CompressionMethod::Deflated, &[("routes.npy", &routes)]);
    assert!(bomb.len() < 1 << 20);
    let limits = Limits { sent_bytes: 1 << 20, inflated_bytes: 16 << 20 };
    let got = Shelf::new().traces.ingest(&bomb[..], &upload("x-npz"), &limits);
    assert!(matches!(got, Err(TraceError::TooLarge { limit_bytes: 0x100_0000, .. })), "{got:?}");
    // A small header in front of the same zeros is caught at its own end.
    let routes = npy("|u1", false, "(1, 1, 1, 1)", &zeros);
    let bomb = archive(CompressionMethod::Deflated, &[("routes.npy", &routes)]);
    let got = Shelf::new().traces.ingest(&bomb[..], &upload("x-npz"), &limits);
    assert!(is_unreadable(&got), "{got:?}");
}

#[test]
fn too_many_members_are_refused_unread() {
    let names: Vec<String> = (0..300).map(|n| format!("{n}.npy")).collect();
    let members: Vec<(&str, &[u8])> = names.iter().map(|n| (n.as_str(), &b""[..])).collect();
    assert_eq!(flaws(take(&stored(&members))), [" range"]);
}

#[test]
fn archives_cut_short_are_unreadable() {
    let routes = npy("|u1", false, "(2, 3, 2, 2)", &ids());
    for method in [CompressionMethod::Stored, CompressionMethod::Deflated] {
        let bytes = archive(method, &[("routes.npy", &routes)]);
        for cut in 1..bytes.len() {
            let got = take(&bytes[..cut]);
            assert!(is_unreadable(&got), "{cut} {got:?}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 1..200)) {
        prop_assert!(take(&bytes).is_err());
    }

    #[test]
    fn flipped_bits_change_nothing_or_are_an_error(
        place in any::<prop::sample::Index>(), bit in 0_u8..8, deflated in any::<bool>(),
    ) {
        let routes = npy("|u1", false, "(2, 3, 2, 2)", &ids());
        let method =
            if deflated { CompressionMethod::Deflated } else { CompressionMethod::Stored };
        let mut bytes = archive(method, &[("routes.npy", &routes)]);
        let good = take(&bytes).unwrap().summary;
        let place = place.index(bytes.len());
        bytes[place] ^= 1 << bit;
        // Dates and the like may change; the routes may not.
        if let Ok(got) = take(&bytes) {
            prop_assert_eq!(got.summary.skewness, good.skewness);
            prop_assert_eq!(got.summary.tokens, good.tokens);
        }
    }
}
