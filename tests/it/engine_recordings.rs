//! What engines record, made once with their own libraries (`tests/fixtures/engines/make.py`).

use std::fs::File;
use std::path::{Path, PathBuf};

use axum::body::Body;
use axum::http::Request;
use moe_gps::app::ingest::{Ingested, TraceDirectory, Upload};
use moe_gps_core::formats::trace::readers::{READERS, by_extension};
use moe_gps_core::formats::trace::stored::StoredTrace;
use moe_gps_core::formats::trace::{Declared, Limits, TraceError};
use moe_gps_core::trace::counts::ExpertCounts;
use serde_json::Value;

use crate::support::TestApp;

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/engines").join(name)
}

fn expected() -> Value {
    serde_json::from_reader(File::open(fixture("expected.json")).unwrap()).unwrap()
}

/// Counts as nested lists, layers without tokens left out.
fn layers(value: &Value) -> Vec<Vec<f64>> {
    let rows: Vec<Vec<f64>> = serde_json::from_value(value.clone()).unwrap();
    rows.into_iter().filter(|row| row.iter().any(|x| *x > 0.0)).collect()
}

fn lists(counts: &ExpertCounts) -> Vec<Vec<f64>> {
    counts.layers().map(<[f64]>::to_vec).collect()
}

struct Taken {
    ingested: Ingested,
    stored: StoredTrace,
    _directory: tempfile::TempDir,
}

fn take_bytes(name: &str, bytes: &[u8], declared: Declared) -> Result<Taken, TraceError> {
    let reader = by_extension(name.rsplit('.').next().unwrap()).unwrap();
    let directory = tempfile::tempdir().unwrap();
    let traces = TraceDirectory::open(directory.path()).unwrap();
    let content_type = reader.media_type.to_owned();
    let upload = Upload { content_type, declared, ..Upload::default() };
    let ingested = traces.ingest(bytes, &upload, &Limits::default())?;
    let stored = traces.open_trace(&ingested.summary.id).unwrap();
    Ok(Taken { ingested, stored, _directory: directory })
}

fn take(name: &str) -> Taken {
    let bytes = std::fs::read(fixture(name)).unwrap();
    take_bytes(name, &bytes, Declared::default()).unwrap_or_else(|e| panic!("{name}: {e:?}"))
}

fn total(taken: &Taken) -> Vec<Vec<f64>> {
    lists(&taken.stored.count(0..taken.stored.header().extent()).unwrap())
}

#[test]
fn counts_are_read_whatever_they_are_written_in() {
    let expected = expected();
    for (name, steps) in [
        ("sglang_stat.pt", 5),
        ("sglang_stat_approx.pt", 5),
        ("sglang_stat.json", 5),
        ("sglang_per_pass.pt", 5),
        ("sglang_per_pass.ranks.zip", 5),
        ("sglang_stat.times.tar", 5),
        ("trtllm.tar", 5),
        ("trtllm.zip", 5),
        ("steps.npy", 5),
        ("counts.npy", 1),
        ("counts.csv", 1),
        ("counts.parquet", 1),
    ] {
        let taken = take(name);
        assert_eq!(total(&taken), layers(&expected["total"]), "{name}");
        assert_eq!(taken.ingested.summary.steps, Some(steps), "{name}");
        assert_eq!(taken.stored.header().layers, [1, 2, 3], "{name}: the dense layer is left out");
        for step in 0..steps {
            if steps == 1 {
                continue;
            }
            let counts = taken.stored.count(step..step + 1).unwrap();
            let wanted = layers(&expected["steps"][usize::try_from(step).unwrap()]);
            assert_eq!(lists(&counts), wanted, "{name}, step {step}");
        }
    }
}

#[test]
fn what_a_file_knows_beside_the_counts_is_taken_over() {
    let summary = take("trtllm.tar").ingested.summary;
    assert_eq!((summary.experts, summary.top_k, summary.tokens), (8, Some(2), Some(80)));
    let warnings = take("sglang_per_pass.pt").ingested.summary.warnings.join("\n");
    assert!(warnings.contains("rank 0"), "{warnings}");
}

#[test]
fn routes_of_requests_are_read_whatever_they_are_written_in() {
    let expected = expected();
    for name in ["sglang_openai.json", "vllm_routes.json", "vllm_0_21.json", "routes.npy"] {
        let taken = take(name);
        assert_eq!(total(&taken), layers(&expected["request"]), "{name}");
        let summary = &taken.ingested.summary;
        assert_eq!((summary.tokens, summary.sequences), (Some(7), Some(1)), "{name}");
        assert_eq!((summary.top_k, summary.layers), (Some(2), 3), "{name}");
    }
    let lines = take("sglang_routes.jsonl");
    let both: Vec<Vec<f64>> = layers(&expected["request"])
        .iter()
        .zip(&layers(&expected["four"]))
        .map(|(a, b)| a.iter().zip(b).map(|(a, b)| a + b).collect())
        .collect();
    assert_eq!(total(&lines), both);
    assert_eq!(lines.ingested.summary.sequences, Some(2));
    let warnings = lines.ingested.summary.warnings.join("\n");
    assert!(warnings.contains("how many experts a token has: 2"), "{warnings}");
}

#[test]
fn tokens_of_a_recording_are_mapped_back_and_joined_to_sequences() {
    let expected = expected();
    let taken = take("sglang_per_token.pt");
    assert_eq!(total(&taken), layers(&expected["per_token"]));
    let lengths: Vec<u64> = taken
        .stored
        .sequences()
        .map(|range| range.map(|range| range.end - range.start).unwrap())
        .collect();
    assert_eq!(serde_json::json!(lengths), expected["per_token_lengths"]);
    let ids = taken.stored.read_token_ids(0..16).unwrap();
    assert_eq!(ids[..9], [100, 101, 102, 103, 104, 200, 201, 202, 203]);
    assert_eq!(ids[9..], [105, 106, 107, 300, 301, 302, 303]);
}

#[test]
fn ranks_are_added_up_and_what_several_saw_alike_counts_once() {
    let expected = expected();
    let taken = take("sglang_per_token.ranks.zip");
    assert_eq!(total(&taken), layers(&expected["per_token"]));
    let ids = taken.stored.read_token_ids(0..16).unwrap();
    assert_eq!(ids[..9], [100, 101, 102, 103, 104, 200, 201, 202, 203]);
    assert_eq!(ids[9..], [100, 101, 102, 300, 301, 302, 303]);
    for name in ["sglang_per_token.ranks.zip", "sglang_per_pass.ranks.zip"] {
        let warnings = take(name).ingested.summary.warnings.join("\n");
        assert!(warnings.contains("5 records are the same on several ranks"), "{warnings}");
        assert!(!warnings.contains("files of their own"), "{warnings}");
    }
}

#[test]
fn files_that_are_not_of_one_recording_are_refused() {
    let file = |name: &str| std::fs::read(fixture(name)).unwrap();
    let (stat, pass) = (file("sglang_stat.pt"), file("sglang_per_pass.pt"));
    let said = refused("x.zip", &zipped(&[("a.pt", &stat), ("b.pt", &pass)]));
    assert!(said.contains("is missing in one of the files"), "{said}");
    let other = claiming(8, 0, &[2, 4], &[4, 1], 32);
    let said = refused("x.zip", &zipped(&[("a.pt", &stat), ("b.pt", &other)]));
    assert!(said.contains("has 2 layers of 4 experts"), "{said}");
    let said = refused("x.zip", &zipped(&[("a.pt", &pass), ("b.pt", b"PK")]));
    assert!(said.contains("`b.pt`: not a readable archive"), "{said}");
    // The map is the only tensor of 64-bit numbers: 0, 1, 2, … in the dense layer.
    let map: Vec<u8> = (0..8_u64).flat_map(u64::to_le_bytes).collect();
    let mut archive = zip::ZipArchive::new(std::io::Cursor::new(&pass)).unwrap();
    let mut members = Vec::new();
    for nth in 0..archive.len() {
        let mut member = archive.by_index(nth).unwrap();
        let mut bytes = Vec::new();
        std::io::Read::read_to_end(&mut member, &mut bytes).unwrap();
        if bytes.starts_with(&map) {
            bytes[0] = 7;
        }
        members.push((member.name().unwrap().into_owned(), bytes));
    }
    let members: Vec<_> = members.iter().map(|(name, bytes)| (&**name, &**bytes)).collect();
    let moved = zipped(&members);
    let said = refused("x.zip", &zipped(&[("a.pt", &pass), ("b.pt", &moved)]));
    assert!(said.contains("the map of file 1 is not that of the first one"), "{said}");
    let taken = zipped(&[("a.pt", &pass), ("b.pt", &pass)]);
    let taken = take_bytes("x.zip", &taken, Declared::default()).unwrap();
    assert_eq!(total(&taken), layers(&expected()["total"]), "one file twice counts once");
}

fn refused(name: &str, bytes: &[u8]) -> String {
    refused_for(name, bytes, Declared::default())
}

fn refused_for(name: &str, bytes: &[u8], declared: Declared) -> String {
    match take_bytes(name, bytes, declared) {
        Err(TraceError::Invalid { listed, .. }) => listed
            .iter()
            .map(|flaw| format!("{} {}: {}", flaw.pointer, flaw.rule, flaw.detail))
            .collect::<Vec<_>>()
            .join("\n"),
        Err(error) => error.to_string(),
        Ok(taken) => panic!("{name} was taken in: {:?}", taken.ingested.summary),
    }
}

/// A zip archive of stored members.
fn zipped(members: &[(&str, &[u8])]) -> Vec<u8> {
    let mut zip = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    let options =
        zip::write::SimpleFileOptions::default().compression_method(zip::CompressionMethod::Stored);
    for (name, bytes) in members {
        zip.start_file(*name, options).unwrap();
        std::io::Write::write_all(&mut zip, bytes).unwrap();
    }
    zip.finish().unwrap().into_inner()
}

#[test]
fn hostile_pickles_are_refused_and_nothing_runs() {
    let marker = tempfile::tempdir().unwrap();
    let touched = marker.path().join("ran");
    let command = format!("touch {}", touched.display());
    let mut system = b"\x80\x02cposix\nsystem\nX".to_vec();
    system.extend(u32::try_from(command.len()).unwrap().to_le_bytes());
    system.extend(command.as_bytes());
    system.extend(b"\x85R.");
    let said = refused("x.pt", &zipped(&[("archive/data.pkl", &system)]));
    assert!(said.contains("`posix.system` is refused"), "{said}");
    assert!(!touched.exists());

    let nested =
        [b"\x80\x02".as_slice(), &b"]".repeat(300_000), &b"a".repeat(299_999), b"."].concat();
    let said = refused("x.pt", &zipped(&[("archive/data.pkl", &nested)]));
    assert!(said.contains("neither `logical_count`"), "depth costs nothing: {said}");
    let endless = b"\x80\x02X\xff\xff\xff\xff".as_slice();
    let said = refused("x.pt", &zipped(&[("archive/data.pkl", endless)]));
    assert!(said.contains("4294967295 bytes"), "{said}");
    assert!(refused("x.pt", &zipped(&[("other", b"")])).contains("no `data.pkl`"));
    assert!(refused("x.pt", b"\x80\x02}.").contains("not a readable archive"), "not zipped");
}

/// A file of torch.save with one tensor under `logical_count`, as its pickle claims it.
fn claiming(n_stored: i32, offset: i32, size: &[i32], stride: &[i32], bytes: usize) -> Vec<u8> {
    let int = |n: i32| [b"J".as_slice(), &n.to_le_bytes()].concat();
    let tuple = |numbers: &[i32]| {
        [b"(".to_vec(), numbers.iter().flat_map(|n| int(*n)).collect(), b"t".to_vec()].concat()
    };
    let text = |text: &str| {
        [b"X".as_slice(), &u32::try_from(text.len()).unwrap().to_le_bytes(), text.as_bytes()]
            .concat()
    };
    let pickle = [
        b"\x80\x02}".to_vec(),
        text("logical_count"),
        b"ctorch._utils\n_rebuild_tensor_v2\n((".to_vec(),
        text("storage"),
        b"ctorch\nIntStorage\n".to_vec(),
        text("0"),
        text("cpu"),
        int(n_stored),
        b"tQ".to_vec(),
        int(offset),
        tuple(size),
        tuple(stride),
        b"\x89ccollections\nOrderedDict\n)RtRs.".to_vec(),
    ]
    .concat();
    zipped(&[("a/data.pkl", &pickle), ("a/data/0", &vec![1; bytes])])
}

#[test]
fn tensors_that_lie_about_their_size_are_refused() {
    let honest = claiming(8, 0, &[2, 4], &[4, 1], 32);
    assert!(take_bytes("x.pt", &honest, Declared::default()).is_ok());
    let turned = claiming(8, 0, &[2, 4], &[1, 2], 32);
    assert!(take_bytes("x.pt", &turned, Declared::default()).is_ok(), "a transposed view");
    for (n_stored, offset, size, stride, bytes) in [
        (8, 0, [2, 4], [4, 1], 31),
        (i32::MAX, 0, [2, 4], [4, 1], 32),
        (8, 1, [2, 4], [4, 1], 32),
        (8, 0, [4, 4], [4, 1], 32),
        (8, 0, [2, 4], [5, 1], 32),
        (8, 0, [2, i32::MAX], [0, 0], 32),
        (8, -1, [2, 4], [4, 1], 32),
        (8, 0, [2, -4], [4, 1], 32),
        (8, 0, [0, 0], [4, 1], 32),
    ] {
        let file = claiming(n_stored, offset, &size, &stride, bytes);
        let said = refused("x.pt", &file);
        println!("{said}");
    }
}

/// A folder of one rank with this head in front of these data.
fn statistics(head: &str, data: &[u8]) -> Vec<u8> {
    let length = (head.len() as u64).to_le_bytes();
    let file = [length.as_slice(), head.as_bytes(), data].concat();
    let meta = br#"{"num_experts": 2, "num_experts_per_token": 1}"#;
    zipped(&[("meta_info.json", meta.as_slice()), ("rank0.safetensors", &file)])
}

#[test]
fn statistics_that_lie_about_their_size_are_refused() {
    let counts = [5_u64.to_le_bytes(), 3_u64.to_le_bytes()].concat();
    let head = |name: &str, shape: &str, to: u64| {
        format!(r#"{{"{name}":{{"dtype":"I64","shape":[{shape}],"data_offsets":[0,{to}]}}}}"#)
    };
    let good = statistics(&head("7_3", "2", 16), &counts);
    assert_eq!(total(&take_bytes("x.zip", &good, Declared::default()).unwrap()), [[5.0, 3.0]]);
    for (name, shape, to, said) in [
        ("7_3", "2", 17, "do not hold 2 elements"),
        ("7_3", "4611686018427387904", 16, "do not hold"),
        ("7_3", "1", 8, "has 1 counts"),
        ("7_3", "1,2", 16, "dimension"),
        ("7_9999", "2", 16, "layer below"),
        ("seven", "2", 16, "is no iteration"),
    ] {
        let error = refused("x.zip", &statistics(&head(name, shape, to), &counts));
        assert!(error.contains(said), "{name} [{shape}] {to}: {error}");
    }
    let gap = r#"{"1_0":{"dtype":"I64","shape":[2],"data_offsets":[0,16]},
                  "3_0":{"dtype":"I64","shape":[2],"data_offsets":[0,16]}}"#;
    assert!(refused("x.zip", &statistics(gap, &counts)).contains("iteration 1 is followed by 3"));
    let long = [&[0xff; 8], b"{}".as_slice(), &counts].concat();
    let meta = br#"{"num_experts": 2, "num_experts_per_token": 1}"#;
    let long = zipped(&[("meta_info.json", meta.as_slice()), ("rank0.safetensors", &long)]);
    assert!(refused("x.zip", &long).contains("its head claims"));
    assert!(refused("x.zip", &zipped(&[("a.txt", b"")])).contains("no meta_info.json"));
    let other = Declared { experts: Some(4), top_k: Some(1), ..Declared::default() };
    assert!(refused_for("x.zip", &good, other).contains("there are 4 experts"));
}

#[test]
fn tables_that_mean_nothing_are_refused_with_their_line() {
    let good = "count,expert,layer,note\n3,0,0,a\n\n5,1,0,b\n";
    assert_eq!(
        total(&take_bytes("x.csv", good.as_bytes(), Declared::default()).unwrap()),
        [[3.0, 5.0]]
    );
    let steps = "step,layer,expert,count\n4,0,0,1\n4,0,1,2\n6,0,1,2\n";
    let taken = take_bytes("x.csv", steps.as_bytes(), Declared::default()).unwrap();
    assert_eq!(taken.ingested.summary.steps, Some(2));
    for (table, said) in [
        ("\n\n", "the table is empty"),
        ("layer,expert\n0,0\n", "must name the columns"),
        ("layer,layer,expert,count\n", "must name the columns"),
        ("layer,expert,count\n", "holds no rows"),
        ("layer,expert,count\n0,0\n", "/lines/2 type: line 2: too few"),
        ("layer,expert,count\n0,0,1,2\n", "too many"),
        ("layer,expert,count\n0,x,1\n", "`x` is no whole number"),
        ("layer,expert,count\n-1,0,1\n", "`-1` is no whole number"),
        ("layer,expert,count\n0,0,many\n", "`many` is no number"),
        ("layer,expert,count\n0,0,-1\n", "counts must be from 0"),
        ("layer,expert,count\n0,0,nan\n", "counts must be from 0"),
        ("layer,expert,count\n0,0,1\n0,0,1\n", "occurs again"),
        ("layer,expert,count\n9999,0,1\n", "1024 layers"),
        ("layer,expert,count\n0,18446744073709551615,1\n", "65535 experts"),
        ("step,layer,expert,count\n2,0,0,1\n1,0,0,1\n", "comes after step 2"),
    ] {
        let error = refused("x.csv", table.as_bytes());
        assert!(error.contains(said), "{table}: {error}");
    }
}

#[test]
fn answers_without_routes_say_what_is_missing() {
    for (answer, said) in [
        (r#"{"choices": [{"index": 0}]}"#, "--enable-return-routed-experts"),
        (r#"{"meta_info": {"routed_experts": "AAAA"}}"#, "no whole 32-bit ids"),
        (r#"{"meta_info": {"routed_experts": "AAAAAA=="}}"#, "prompt_tokens"),
        (r#"{"meta_info": {"routed_experts": "%"}}"#, "no base64"),
        (
            r#"{"meta_info": {"prompt_tokens": 2, "completion_tokens": 2, "routed_experts": "AAAAAA=="}}"#,
            "do not divide over 3 tokens",
        ),
        (r#"{"choices": [{"routed_experts": [[[1, 2], [3]]]}]}"#, "a layer has 1 experts"),
        (r#"{"choices": [{"routed_experts": [[[1, 1]]]}]}"#, "must be distinct"),
        (r#"{"choices": [{"routed_experts": [[[-7, 1]]]}]}"#, "range"),
        (r#"{"choices": [{"routed_experts": "k05VTVBZAQ=="}]}"#, "header"),
    ] {
        let error = refused("x.json", answer.as_bytes());
        assert!(error.contains(said), "{answer}: {error}");
    }
}

#[tokio::test]
async fn every_format_is_taken_in_over_http_and_others_are_told_which() {
    let app = TestApp::start().await;
    let files = [
        "counts.csv",
        "counts.npy",
        "sglang_routes.jsonl",
        "sglang_stat.json",
        "sglang_per_token.pt",
        "trtllm.tar",
        "trtllm.zip",
        "trtllm_rank0.safetensors",
    ];
    for name in files {
        let reader = by_extension(name.rsplit('.').next().unwrap()).unwrap();
        let request = Request::post("/v1/traces").header("content-type", reader.media_type);
        let body = Body::from(std::fs::read(fixture(name)).unwrap());
        let answer = app.send(request.body(body).unwrap()).await;
        assert_eq!(answer.status, 201, "{name}: {}", String::from_utf8_lossy(&answer.body));
    }
    let request = Request::post("/v1/traces").header("content-type", "application/pdf");
    let answer = app.send(request.body(Body::from("x")).unwrap()).await;
    let problem = answer.problem(415, "unsupported-format");
    let api =
        std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/api.md")).unwrap();
    for reader in READERS {
        assert!(problem["detail"].as_str().unwrap().contains(reader.media_type), "{problem}");
        assert!(api.contains(&format!("`{}`", reader.media_type)), "docs/api.md");
    }
}

#[derive(clap::Parser)]
struct Line {
    #[command(flatten)]
    convert: moe_gps::cli::convert::Convert,
}

/// What `trace convert` makes of a fixture.
fn converted(name: &str, flags: &[&str], out: &Path) -> Result<Vec<u8>, String> {
    let fixture = fixture(name);
    let line = ["convert", fixture.to_str().unwrap(), out.to_str().unwrap()];
    let line = <Line as clap::Parser>::parse_from(line.iter().chain(flags));
    let mut said = Vec::new();
    moe_gps::cli::convert::run(&line.convert, &mut said).map_err(|error| error.to_string())?;
    Ok(std::fs::read(out).unwrap())
}

#[test]
fn a_recording_survives_its_way_through_every_format() {
    let folder = tempfile::tempdir().unwrap();
    let declared = Declared { experts: Some(8), top_k: None, ..Declared::default() };
    for (name, to, end) in [
        ("sglang_per_token.pt", "ndjson", "ndjson"),
        ("vllm_routes.json", "npz", "npz"),
        ("vllm_routes.json", "ndjson", "jsonl"),
        ("trtllm.tar", "json", "json"),
        ("trtllm.tar", "sglang", "json"),
        ("trtllm.tar", "csv", "csv"),
        ("counts.csv", "npy", "npy"),
        ("sglang_per_token.pt", "csv", "csv"),
    ] {
        let before = take(name);
        let bytes = converted(name, &["--to", to], &folder.path().join("out")).unwrap();
        let after = take_bytes(&format!("x.{end}"), &bytes, declared).unwrap();
        assert_eq!(total(&after), total(&before), "{name} as {to}");
        assert_eq!(after.stored.header().layers, before.stored.header().layers, "{name} as {to}");
        if to == "ndjson" || to == "npz" {
            let all = 0..before.stored.header().tokens;
            let ids = |taken: &Taken| taken.stored.read_token_ids(all.clone()).unwrap();
            assert_eq!(ids(&after), ids(&before), "{name} as {to}");
        }
    }
    let steps = converted(
        "vllm_routes.json",
        &["--to", "json", "--tokens-per-step", "2"],
        &folder.path().join("steps"),
    );
    let steps = take_bytes("x.json", &steps.unwrap(), declared).unwrap();
    assert_eq!(steps.ingested.summary.steps, Some(3), "7 tokens are three steps of 2");
}

#[test]
fn what_cannot_be_converted_is_said_and_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out");
    for (name, to, said) in [
        ("counts.csv", "ndjson", "holds counts, not the experts of every token"),
        ("sglang_per_token.pt", "npz", "7 to 9 tokens"),
        ("counts.csv", "parquet", "supported are ndjson, npz, json, sglang, csv, npy"),
    ] {
        let error = converted(name, &["--to", to], &out).unwrap_err();
        assert!(error.contains(said), "{error}");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0, "{name}");
    }
}
