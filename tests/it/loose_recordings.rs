//! Recordings as they lie about: hooks, tables of ranks, single tensors, counts by layer, logits.

use std::path::{Path, PathBuf};
use std::process::Command;

use moe_gps::app::ingest::{TraceDirectory, Upload};
use moe_gps_core::formats::trace::readers::by_extension;
use moe_gps_core::formats::trace::stored::StoredTrace;
use moe_gps_core::formats::trace::{Declared, Limits, TraceError};

/// A recording taken in: its stored form, what is warned of, and its counts.
struct Taken {
    stored: StoredTrace,
    warnings: String,
}

impl Taken {
    fn counts(&self) -> Vec<Vec<f64>> {
        let counts = self.stored.count(0..self.stored.header().extent()).unwrap();
        counts.layers().map(<[f64]>::to_vec).collect()
    }
}

fn take(name: &str, bytes: &[u8], declared: Declared) -> Result<Taken, String> {
    let directory = tempfile::tempdir().unwrap();
    let traces = TraceDirectory::open(directory.path()).unwrap();
    let reader = by_extension(name.rsplit('.').next().unwrap()).unwrap();
    let upload =
        Upload { content_type: reader.media_type.to_owned(), declared, ..Upload::default() };
    let ingested = match traces.ingest(bytes, &upload, &Limits::default()) {
        Ok(ingested) => ingested,
        Err(TraceError::Invalid { listed, .. }) => {
            return Err(format!("{}: {}", listed[0].pointer, listed[0].detail));
        }
        Err(error) => return Err(error.to_string()),
    };
    let stored = traces.open_trace(&ingested.summary.id).unwrap();
    Ok(Taken { stored, warnings: ingested.summary.warnings.join("\n") })
}

fn taken(name: &str, bytes: &[u8]) -> Taken {
    take(name, bytes, Declared::default()).unwrap_or_else(|said| panic!("{name}: {said}"))
}

fn refused(name: &str, bytes: &[u8]) -> String {
    take(name, bytes, Declared::default()).err().unwrap()
}

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

/// A line of a hook.
fn route(request: &str, token: u32, layer: u32, ids: [u32; 2]) -> String {
    let [a, b] = ids;
    format!(
        r#"{{"type":"route","req_id":"{request}","token_idx":{token},"layer":{layer},"topk_ids":[{a},{b}],"topk_weights":[0.6,0.4]}}"#
    )
}

const META: &str = r#"{"type":"meta","top_k":2,"num_experts":4}"#;

#[test]
fn lines_of_hooks_become_tokens_whatever_their_order() {
    let lines = [
        META.to_owned(),
        route("a", 0, 1, [0, 1]),
        route("b", 0, 1, [3, 2]),
        route("a", 1, 1, [0, 3]),
        route("a", 1, 3, [1, 2]),
        route("a", 0, 3, [2, 3]),
        r#"{"type":"step","n":1}"#.to_owned(),
        route("b", 0, 3, [0, 1]),
    ];
    let found = taken("x.jsonl", lines.join("\n").as_bytes());
    let header = found.stored.header();
    assert_eq!((header.tokens, header.sequences, header.top_k), (3, 2, Some(2)));
    assert_eq!((header.experts, header.layers.clone()), (4, vec![1, 3]));
    assert!(!header.experts_inferred);
    assert_eq!(found.counts(), [[2.0, 1.0, 1.0, 2.0], [1.0, 2.0, 2.0, 1.0]]);
    assert_eq!(found.stored.count(0..1).unwrap().layer(1), [0.0, 0.0, 1.0, 1.0]);
    assert!(
        found.warnings.contains("1 line(s) of other types were not read"),
        "{}",
        found.warnings
    );
    let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/engines");
    let found = taken("x.jsonl", &std::fs::read(fixture.join("route_lines.jsonl")).unwrap());
    assert_eq!((found.stored.header().tokens, found.stored.header().sequences), (6, 2));
}

#[test]
fn lines_that_do_not_fit_each_other_are_refused_with_their_place() {
    let said = |lines: &[String]| refused("x.jsonl", lines.join("\n").as_bytes());
    let first = || vec![META.to_owned(), route("a", 0, 0, [0, 1])];
    for (line, wanted) in [
        (route("a", 1, 1, [0, 1]), "token 0 of the request has no layer 1"),
        (route("a", 0, 0, [2, 3]), "layer 0 of token 0 has come already"),
        (
            route("a", 1, 0, [0, 4]),
            "/lines/3/topk_ids/1: expert id 4 on line 3; ids must be from 0",
        ),
        (route("a", 1, 0, [1, 1]), "must be distinct"),
        (route("a", 1, 2000, [0, 1]), "line 3: a layer is a number below 1024"),
        (r#"{"type":"route","layer":0}"#.to_owned(), "line 3 lacks req_id, token_idx, topk_ids"),
        (
            r#"{"type":"route","req_id":1,"token_idx":0,"layer":0,"topk_ids":[1]}"#.to_owned(),
            "line 3 has 1 experts, the first route 2",
        ),
        (r#"{"type":"route","#.to_owned(), "line 3"),
    ] {
        let mut lines = first();
        lines.push(line);
        assert!(said(&lines).contains(wanted), "{wanted}: {}", said(&lines));
    }
    assert!(said(&[META.to_owned()]).contains("no line is a route"));
    let other = r#"{"type":"meta","top_k":3}"#.to_owned();
    assert!(said(&[other, route("a", 0, 0, [0, 1])]).contains("top_k is 3; routes have 2"));
    for experts in [0_u64, 65_537] {
        let meta = format!(r#"{{"type":"meta","num_experts":{experts}}}"#);
        let refused = said(&[meta, route("a", 0, 0, [0, 1])]);
        assert!(refused.contains(&format!("num_experts is {experts}; it must be")), "{refused}");
    }
}

#[test]
fn tables_of_ranks_are_added_up() {
    let ranks: [(&str, &[u8]); 2] = [
        ("rank0.csv", b"layer_id,expert_id,count\n0,0,3\n0,1,1\n1,1,4\n"),
        ("rank1.csv", b"layer_id,expert_id,count\n0,1,2\n1,0,1\n"),
    ];
    let found = taken("x.zip", &zipped(&ranks));
    assert_eq!(found.counts(), [[3.0, 3.0], [1.0, 4.0]]);
    assert!(found.warnings.contains("tables of 2 rank(s) were added up"), "{}", found.warnings);
    assert_eq!(taken("x.csv", ranks[0].1).counts(), [[3.0, 1.0], [0.0, 4.0]]);
    let steps = zipped(&[("a.csv", b"step,layer,expert,count\n1,0,0,1\n")]);
    assert!(refused("x.zip", &steps).contains("have no steps"));
    let bad = refused("x.zip", &zipped(&[("a.csv", b"layer,expert,count\n0,0,-1\n")]));
    assert!(bad.contains("`a.csv`: count -1"), "{bad}");
}

/// A text in a pickle.
fn pickled(text: &str) -> Vec<u8> {
    let length = u32::try_from(text.len()).unwrap().to_le_bytes();
    [b"X".as_slice(), &length, text.as_bytes()].concat()
}

/// A contiguous tensor of floats in a pickle, whose numbers are the file's `key`.
fn rebuilt(key: &str, shape: &[i32]) -> Vec<u8> {
    let int = |n: i32| [b"J".as_slice(), &n.to_le_bytes()].concat();
    let tuple = |numbers: &[i32]| {
        [b"(".to_vec(), numbers.iter().flat_map(|n| int(*n)).collect(), b"t".to_vec()].concat()
    };
    let strides: Vec<i32> = (0..shape.len()).map(|at| shape[at + 1..].iter().product()).collect();
    let pickle = [
        b"ctorch._utils\n_rebuild_tensor_v2\n((".to_vec(),
        pickled("storage"),
        b"ctorch\nFloatStorage\n".to_vec(),
        pickled(key),
        pickled("cpu"),
        int(shape.iter().product()),
        b"tQ".to_vec(),
        int(0),
        tuple(shape),
        tuple(&strides),
        b"\x89ccollections\nOrderedDict\n)RtR".to_vec(),
    ];
    pickle.concat()
}

fn floats(numbers: &[f32]) -> Vec<u8> {
    numbers.iter().flat_map(|x| x.to_le_bytes()).collect()
}

/// A file of torch.save: floats `[steps, layers, experts]`, alone or under a key.
fn tensor(key: Option<&str>, shape: [i32; 3], numbers: &[f32]) -> Vec<u8> {
    let pickle = [
        b"\x80\x02".to_vec(),
        key.map_or(Vec::new(), |key| [b"}".to_vec(), pickled(key)].concat()),
        rebuilt("0", &shape),
        key.map_or(b".".to_vec(), |_| b"s.".to_vec()),
    ];
    zipped(&[("a/data.pkl", &pickle.concat()), ("a/data/0", &floats(numbers))])
}

#[test]
fn arrays_of_one_layer_each_are_put_together() {
    let counts = [[3.0, 1.0], [0.0, 0.0], [2.0, 2.0]];
    let of = |shape: &str, numbers: [f32; 2]| npy(shape, &numbers);
    let (first, third) = (of("(2,)", [3.0, 1.0]), of("(2,)", [2.0, 2.0]));
    let archive = zipped(&[("layer_2.npy", &third), ("layer_0.npy", &first)]);
    let found = taken("x.npz", &archive);
    assert_eq!(found.counts(), [counts[0], counts[2]]);
    assert_eq!(found.stored.header().layers, [0, 2], "what has no array is dense");
    // Steps of each layer; then tokens with what their router gave.
    let steps = |numbers: [f32; 4]| npy("(2, 2)", &numbers);
    let archive =
        [("0.npy", &*steps([3.0, 1.0, 0.0, 4.0])), ("1.npy", &steps([1.0, 1.0, 2.0, 0.0]))];
    let found = taken("x.npz", &zipped(&archive));
    assert_eq!(found.stored.header().steps, 2);
    assert_eq!(found.counts(), [[3.0, 5.0], [3.0, 1.0]]);
    assert_eq!(found.stored.count(1..2).unwrap().layer(0), [0.0, 4.0]);
    let gap = zipped(&[("layers.1.npy", &steps([1.0; 4])), ("layers.3.npy", &steps([1.0; 4]))]);
    assert!(refused("x.npz", &gap).contains("2 layers are numbered up to 3; number them from 0"));
    let unlike = zipped(&[("0.npy", &first), ("1.npy", &steps([1.0; 4]))]);
    assert!(refused("x.npz", &unlike).contains("/layer_1: is [2, 2]; the first layer is [2]"));
    // A dictionary by name or by number, and a list.
    let key = |layer: u8, by_name: bool| {
        if by_name { pickled(&format!("layers.{layer}")) } else { vec![b'K', layer] }
    };
    for by_name in [true, false] {
        let pickle = [
            b"\x80\x02}(".to_vec(),
            key(1, by_name),
            rebuilt("1", &[2, 2]),
            key(0, by_name),
            rebuilt("0", &[2, 2]),
            b"u.".to_vec(),
        ];
        let file = [
            ("a/data.pkl", &*pickle.concat()),
            ("a/data/0", &floats(&[3.0, 1.0, 0.0, 4.0])),
            ("a/data/1", &floats(&[1.0, 1.0, 2.0, 0.0])),
        ];
        assert_eq!(taken("x.pt", &zipped(&file)).counts(), [[3.0, 5.0], [3.0, 1.0]], "{by_name}");
    }
    let pickle = [b"\x80\x02](".to_vec(), rebuilt("0", &[2]), rebuilt("1", &[2]), b"e.".to_vec()];
    let file = [
        ("a/data.pkl", &*pickle.concat()),
        ("a/data/0", &floats(&[3.0, 1.0])),
        ("a/data/1", &floats(&[2.0, 2.0])),
    ];
    assert_eq!(taken("x.pt", &zipped(&file)).counts(), [[3.0, 1.0], [2.0, 2.0]]);
}

#[test]
fn rows_of_json_are_a_table() {
    let counts = [[3.0, 1.0, 0.0], [1.0, 4.0, 1.0]];
    let rows = r#"{"layer":0,"expert":0,"count":3},{"layer":0,"expert":1,"count":1},
        {"layer":1,"expert":0,"count":1},{"layer":1,"expert":1,"count":4},{"layer":1,"expert":2,"count":1}"#;
    let of_layers = r#"{"layer":1,"counts":[1,4,1]},{"name":"x","layer":0,"counts":[3,1,0]}"#;
    for text in [
        format!("[{rows}]"),
        format!(r#"{{"model":"x","rows":[{rows}]}}"#),
        format!("[{of_layers}]"),
        format!(r#"{{"num_experts":3,"tokens":9,"layers":[{of_layers}]}}"#),
        r#"{"layers":{"0":[3,1,0],"model.layers.1.mlp":[1,4,1]}}"#.to_owned(),
        r#"{"layers":{"0":{"0":3,"1":1},"1":{"0":1,"1":4,"2":1}}}"#.to_owned(),
        r#"{"step":4,"layers":[{"layer_id":0,"experts":[{"expert_id":0,"load":3.0},{"expert_id":1,"load":1}]},
            {"layer_id":1,"expert_load":[1,4,1]}]}"#
            .to_owned(),
        r#"[{"layer":0,"expert_0":3,"expert_1":1},{"layer":1,"0":1,"1":4,"2":1}]"#.to_owned(),
        r#"[{"step":0,"counts":[[3,1,0],[1,4,1]]}]"#.to_owned(),
        r#"[{"rank":0,"layer":0,"counts":[1,1,0]},{"rank":0,"layer":1,"counts":[1,2,0]},
            {"rank":1,"layer":0,"counts":[2,0,0]},{"rank":1,"layer":1,"counts":[0,2,1]}]"#
            .to_owned(),
    ] {
        assert_eq!(taken("x.json", text.as_bytes()).counts(), counts, "{text}");
    }
    for lines in [
        rows.replace("},", "}\n"),
        of_layers.replace("},", "}\n"),
        "{\"counts\":[[1,1,0],[1,2,1]]}\n{\"counts\":[[2,0,0],[0,2,0]]}\n".to_owned(),
    ] {
        assert_eq!(taken("x.jsonl", lines.as_bytes()).counts(), counts, "{lines}");
    }
    let steps = r#"{"steps":[{"step":0,"layers":[{"layer":0,"counts":[1,2]}]},
        {"step":1,"layers":[{"layer":0,"counts":[3,4]}]}]}"#;
    assert_eq!(taken("x.json", steps.as_bytes()).stored.header().steps, 2);
    for (text, wanted) in [
        (
            r#"[{"layer":0,"expert":0,"count":1},{"layer":0,"expert":0,"count":2}]"#,
            "/rows/1: layer 0, expert 0 occurs again",
        ),
        (
            r#"[{"layer":0,"expert":0,"count":1},{"expert":1,"count":2}]"#,
            "/rows/1: row 1: it must have a layer, an expert and a count",
        ),
        (
            r#"[{"layer":0,"expert":0,"count":1},{"layer":"gate","expert":1,"count":2}]"#,
            "`gate` is no whole number",
        ),
        (r#"[{"layer":0,"expert":0,"count":1,"load":2}]"#, "names its expert or its count twice"),
        (r#"[{"layer":0,"counts":[1,-2]}]"#, "count -2"),
        (r#"[{"layer":0,"counts":[1,2]}"#, "EOF while parsing"),
    ] {
        let said = refused("x.json", text.as_bytes());
        assert!(said.contains(wanted), "{text}: {said}");
    }
}

#[test]
fn data_frames_are_read_from_parquet() {
    let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/engines");
    let read = |name: &str| std::fs::read(fixture.join(name)).unwrap();
    let table = taken("x.csv", &read("counts.csv")).counts();
    assert_eq!(taken("x.parquet", &read("counts.parquet")).counts(), table);
    assert_eq!(taken("x.parquet", &read("wide.parquet")).counts(), table, "a column an expert");
    let said = refused("x.parquet", &read("other.parquet"));
    assert!(said.contains("its columns are name, weight; it must have the columns"), "{said}");
}

#[test]
fn a_single_tensor_is_counts() {
    let numbers = [5.0, 1.0, 2.0, 2.0, 1.0, 1.0, 0.0, 4.0];
    for key in [None, Some("expert_load")] {
        let found = taken("x.pt", &tensor(key, [2, 2, 2], &numbers));
        assert_eq!(found.stored.header().steps, 2);
        assert_eq!(found.counts(), [[6.0, 2.0], [2.0, 6.0]], "{key:?}");
    }
    assert!(
        refused("x.pt", &tensor(Some("weight"), [2, 2, 2], &numbers)).contains("logical_count")
    );
}

#[test]
fn lines_of_hooks_go_by_other_names() {
    let line = |fields: &str| format!("{{{fields},\"topk_weights\":[0.6,0.4]}}");
    for lines in [
        [
            line(r#""request_id":7,"token_index":0,"layer_id":0,"expert_ids":[0,1]"#),
            line(r#""request_id":7,"token_index":0,"layer_id":1,"expert_ids":[3,2]"#),
        ],
        [
            line(
                r#""type":"route","rid":"a","token_idx":0,"layer":"model.layers.0.mlp.gate","topk_indices":[0,1]"#,
            ),
            line(
                r#""type":"route","rid":"a","token_idx":0,"layer":"model.layers.1.mlp.gate","topk_indices":[3,2]"#,
            ),
        ],
    ] {
        let found = taken("x.jsonl", lines.join("\n").as_bytes());
        assert_eq!(found.counts(), [[1.0, 1.0, 0.0, 0.0], [0.0, 0.0, 1.0, 1.0]], "{lines:?}");
    }
    let said = refused(
        "x.jsonl",
        br#"{"type":"route","layer":"gate","topk_ids":[1],"req_id":1,"token_idx":0}"#,
    );
    assert!(said.contains("a name with it (`model.layers.3.mlp`)"), "{said}");
}

#[test]
fn tables_come_with_other_marks_names_and_shapes() {
    let counts = [[3.0, 1.0, 0.0, 2.0], [1.0, 4.0, 1.0, 0.0]];
    for table in [
        "layer_idx;expert_idx;num_tokens\n0;0;3\n0;1;1\n0;3;2\n1;0;1\n1;1;4\n1;2;1\n",
        "layer\texpert\ttokens\n0\t0\t3\n0\t1\t1\n0\t3\t2\n1\t0\t1\n1\t1\t4\n1\t2\t1\n",
        // One column an expert, and what data frames add.
        "expert_0,expert_1,expert_2,expert_3\n3,1,0,2\n1,4,1,0\n",
        "layer,0,1,2,3\n1,1,4,1,0\n0,3,1,0,2\n",
        ",0,1,2,3\n0,3,1,0,2\n1,1,4,1,0\n",
        "3,1,0,2\n1,4,1,0\n",
        // Ranks in one table.
        "rank,layer,expert,count\n0,0,0,2\n0,0,1,1\n0,0,3,2\n0,1,1,4\n1,0,0,1\n1,1,0,1\n1,1,2,1\n",
        ",layer,expert,count\n0,0,0,3\n1,0,1,1\n2,0,3,2\n3,1,0,1\n4,1,1,4\n5,1,2,1\n",
    ] {
        assert_eq!(taken("x.csv", table.as_bytes()).counts(), counts, "{table}");
    }
    let steps = taken("x.csv", b"step,layer,e0,e1\n0,0,1,2\n0,1,2,1\n1,0,3,4\n1,1,4,3\n");
    assert_eq!(steps.stored.header().steps, 2);
    assert_eq!(steps.counts(), [[4.0, 6.0], [6.0, 4.0]]);
    for (table, wanted) in [
        ("layer,expert,weight\n0,0,1\n", "must name the columns layer, expert and count"),
        ("0,0,84\n0,1,85\n", "must name the columns layer, expert and count"),
        ("step,e0,e1\n0,1,2\n", "must name the columns layer, expert and count"),
        ("layer,e0,e0\n0,1,2\n", "must name the columns layer, expert and count"),
        ("layer,e0,e1\n0,1\n", "line 2: too few columns"),
    ] {
        let said = refused("x.csv", table.as_bytes());
        assert!(said.contains(wanted), "{table}: {said}");
    }
}

/// Integers of four bytes, 20 tokens in two layers with two of eight experts.
fn routes_of_words() -> (Vec<u8>, [[f64; 8]; 2]) {
    let (mut numbers, mut counts) = (Vec::new(), [[0.0; 8]; 2]);
    for n in 0..40_usize {
        for id in [n % 7, (n % 7 + 1 + n % 3) % 8] {
            counts[n % 2][id] += 1.0;
            numbers.extend(i32::try_from(id).unwrap().to_le_bytes());
        }
    }
    let header = "{'descr': '<i4', 'fortran_order': False, 'shape': (20, 2, 2), }";
    let head = [b"\x93NUMPY\x01\x00\x76\x00", format!("{header:<117}\n").as_bytes()].concat();
    ([head, numbers].concat(), counts)
}

#[test]
fn integers_of_routes_are_not_taken_for_counts() {
    let (bytes, counts) = routes_of_words();
    let found = taken("x.npy", &bytes);
    assert_eq!((found.stored.header().tokens, found.stored.header().top_k), (20, Some(2)));
    assert_eq!(found.counts(), counts.map(Vec::from));
    assert!(found.warnings.contains("read as routes: every row holds 2"), "{}", found.warnings);
    // Stated to have two experts they are counts.
    let two = Declared { experts: Some(2), ..Declared::default() };
    assert_eq!(take("x.npy", &bytes, two).unwrap().stored.header().steps, 20);
    // The same array in an archive, under any name.
    let archive = zipped(&[("topk_ids.npy", &bytes)]);
    assert_eq!(taken("x.npz", &archive).counts(), counts.map(Vec::from));
    let several = zipped(&[("a.npy", &bytes), ("b.npy", &bytes)]);
    let said = refused("x.npz", &several);
    assert!(said.contains("nor a single array; it has a.npy, b.npy"), "{said}");
}

#[test]
fn shares_and_probabilities_are_told_apart() {
    let numbers: Vec<f32> = [[0.75, 0.125, 0.125, 0.0], [0.125, 0.5, 0.25, 0.125]].concat();
    let two = Declared { top_k: Some(2), ..Declared::default() };
    let found = take("x.npy", &npy("(2, 1, 4)", &numbers), two).unwrap();
    assert_eq!(found.counts(), [[1.0, 2.0, 1.0, 0.0]], "the two largest of each token");
    assert!(found.warnings.contains("probabilities of a router were read"), "{}", found.warnings);
    let found = taken("x.npy", &npy("(2, 4)", &numbers));
    assert!(found.warnings.contains("every row adds up to 1"), "{}", found.warnings);
    assert_eq!(found.counts(), [[0.75, 0.125, 0.125, 0.0], [0.125, 0.5, 0.25, 0.125]]);
}

/// A safetensors file of 32-bit integers.
fn safetensors(tensors: &[(&str, &[u32], &[i32])]) -> Vec<u8> {
    let (mut heads, mut data) = (Vec::new(), Vec::new());
    for (name, shape, numbers) in tensors {
        let from = data.len();
        data.extend(numbers.iter().flat_map(|n| n.to_le_bytes()));
        let to = data.len();
        heads.push(format!(
            r#""{name}":{{"dtype":"I32","shape":{shape:?},"data_offsets":[{from},{to}]}}"#
        ));
    }
    let head = format!("{{{}}}", heads.join(","));
    [&(head.len() as u64).to_le_bytes(), head.as_bytes(), &data].concat()
}

#[test]
fn tensors_of_others_in_safetensors_are_counts() {
    let counts = [[3.0, 1.0], [2.0, 2.0]];
    let one = safetensors(&[("expert_load", &[2, 2], &[3, 1, 2, 2])]);
    assert_eq!(taken("x.safetensors", &one).counts(), counts);
    let rows = [("layer_1", &[2_u32][..], &[2, 2][..]), ("layer_0", &[2], &[3, 1])];
    assert_eq!(taken("x.safetensors", &safetensors(&rows)).counts(), counts);
    let other = safetensors(&[("a", &[2], &[2, 2]), ("b", &[2], &[3, 1])]);
    let said = refused("x.safetensors", &other);
    assert!(said.contains("it has the tensors a, b; what is read are"), "{said}");
}

/// Logits of three tokens, two layers and four experts, and the two largest of each.
const LOGITS: [f32; 24] = [
    -1.0, 2.0, 0.5, 0.0, 3.0, -2.0, 1.0, 0.0, 0.0, 0.0, 0.0, -1.0, 1.0, 2.0, 3.0, 4.0, -4.0, -3.0,
    -2.0, -1.0, 9.0, 0.0, 8.0, -1.0,
];
const CHOSEN: [[f64; 4]; 2] = [[1.0, 2.0, 2.0, 1.0], [2.0, 0.0, 3.0, 1.0]];

fn npy(shape: &str, numbers: &[f32]) -> Vec<u8> {
    let header = format!("{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}, }}");
    let mut bytes = b"\x93NUMPY\x01\x00\x76\x00".to_vec();
    bytes.extend(format!("{header:<117}\n").as_bytes());
    bytes.extend(numbers.iter().flat_map(|x| x.to_le_bytes()));
    bytes
}

#[test]
fn router_logits_become_the_k_largest() {
    let two = Declared { top_k: Some(2), ..Declared::default() };
    for (name, bytes) in
        [("x.npy", npy("(3, 2, 4)", &LOGITS)), ("x.pt", tensor(None, [3, 2, 4], &LOGITS))]
    {
        let found = take(name, &bytes, two).unwrap_or_else(|said| panic!("{name}: {said}"));
        assert_eq!(found.counts(), CHOSEN, "{name}");
        assert_eq!((found.stored.header().tokens, found.stored.header().top_k), (3, Some(2)));
        assert!(found.warnings.contains("router logits were read"), "{}", found.warnings);
        assert!(refused(name, &bytes).contains("state how many experts a token has (top_k)"));
        let five = Declared { top_k: Some(5), ..Declared::default() };
        assert!(take(name, &bytes, five).err().unwrap().contains("above the 4 experts"));
    }
    let one_layer = take("x.npy", &npy("(6, 4)", &LOGITS), two).unwrap();
    assert_eq!(one_layer.stored.header().tokens, 6);
    let mut broken = LOGITS;
    broken[6] = f32::NAN;
    let said = take("x.npy", &npy("(3, 2, 4)", &broken), two).err().unwrap();
    assert!(said.contains("token 0, layer 1, expert 2 is no number"), "{said}");
}

#[test]
fn counts_by_layer_and_bare_arrays_are_read() {
    for (text, wanted) in [
        (r#"{"1": [3, 1], "0": [2, 2]}"#, vec![vec![2.0, 2.0], vec![3.0, 1.0]]),
        (
            r#"{"layer_0": {"1": 5}, "layer_1": {"0": 1, "2": 2}}"#,
            vec![vec![0.0, 5.0, 0.0], vec![1.0, 0.0, 2.0]],
        ),
        ("[[3, 1], [2, 2]]", vec![vec![3.0, 1.0], vec![2.0, 2.0]]),
        (r#"{"expert_load": [[3, 1], [2, 2]]}"#, vec![vec![3.0, 1.0], vec![2.0, 2.0]]),
        (
            r#"{"step": 9, "expert_counts": {"0": [3, 1], "1": {"1": 4}}}"#,
            vec![vec![3.0, 1.0], vec![0.0, 4.0]],
        ),
        (
            r#"{"model.layers.0.mlp": {"expert_0": 3, "expert_1": 1}, "model.layers.1.mlp": [2, 2]}"#,
            vec![vec![3.0, 1.0], vec![2.0, 2.0]],
        ),
        ("[[[3, 1], [2, 2]], [[1, 1], [0, 4]]]", vec![vec![4.0, 2.0], vec![2.0, 6.0]]),
    ] {
        assert_eq!(taken("x.json", text.as_bytes()).counts(), wanted, "{text}");
    }
    let sparse = taken("x.json", br#"{"2": {"1": 5}}"#);
    assert_eq!(sparse.stored.header().layers, [2], "layers that are not named are dense");
    let eight = Declared { experts: Some(8), ..Declared::default() };
    let stated = take("x.json", br#"{"0": {"1": 5}}"#, eight).unwrap();
    assert_eq!(stated.stored.header().experts, 8);
    for (text, said) in [
        (r#"{"0": [1, 2], "layer_0": [1, 2]}"#, "layer 0 occurs more than once"),
        (r#"{"0": [1, 2], "1": [1]}"#, "the row has 1 counts; the first row has 2"),
        (r#"{"0": {"many": 2}}"#, "`many` is no expert below 65535"),
        (r#"{"0": 3}"#, "the counts of a layer"),
        (r#"{"counts": [[1, 2]], "0": [1, 2]}"#, "only one can be the trace"),
        (r#"{"9999": [1]}"#, "1024 layers"),
        ("[[1, -2]]", "/0/1: count -2"),
        ("[1, 2]", "[layers][experts]"),
        ("[]", "the array is empty"),
    ] {
        let found = refused("x.json", text.as_bytes());
        assert!(found.contains(said), "{text}: {found}");
    }
}

#[test]
fn one_rank_of_statistics_is_read_and_said_to_be_one() {
    let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/engines");
    let bytes = std::fs::read(fixture.join("trtllm_rank0.safetensors")).unwrap();
    let found = taken("x.safetensors", &bytes);
    assert_eq!((found.stored.header().experts, found.stored.header().top_k), (8, None));
    assert_eq!(found.stored.header().steps, 5);
    assert!(found.warnings.contains("one rank's counts"), "{}", found.warnings);
}

/// What the program prints, or its refusal.
fn ran(arguments: &[&str]) -> Result<String, String> {
    let output = Command::new(env!("CARGO_BIN_EXE_moe-gps")).args(arguments).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    if output.status.success() { Ok(text(output.stdout)) } else { Err(text(output.stderr)) }
}

#[test]
fn a_folder_is_the_archive_of_its_files() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().to_str().unwrap().to_owned();
    let said = ran(&["trace", "inspect", &path]).unwrap_err();
    assert!(said.contains("the folder holds no file whose name ends in .csv"), "{said}");
    for (rank, rows) in [(0, "0,0,3\n0,1,1\n"), (1, "0,1,2\n")] {
        let table = format!("layer_id,expert_id,count\n{rows}");
        std::fs::write(folder.path().join(format!("rank{rank}.csv")), table).unwrap();
    }
    std::fs::write(folder.path().join("notes.txt"), "not read").unwrap();
    let out: PathBuf = folder.path().join("out");
    let out = out.to_str().unwrap();
    ran(&["trace", "convert", &path, "--to", "csv", out]).unwrap();
    let table = std::fs::read_to_string(out).unwrap();
    assert!(table.contains("0,0,3") && table.contains("0,1,3"), "{table}");
}
