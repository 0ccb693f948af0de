//! The reference loads and maps of DeepSeek's EPLB, read from `tests/fixtures/eplb`.

use flate2::read::GzDecoder;
use std::fs::File;
use std::io::Read;
use std::path::Path;

fn gunzip(name: &str) -> Vec<u8> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/eplb").join(name);
    let mut bytes = Vec::new();
    GzDecoder::new(File::open(path).unwrap()).read_to_end(&mut bytes).unwrap();
    bytes
}

/// Loads `[layers][experts]` of input `a` or `b`.
pub(crate) fn loads(input: &str) -> Vec<Vec<f64>> {
    let bytes = gunzip(&format!("input_{input}.npy.gz"));
    let npy = npyz::NpyFile::new(&bytes[..]).unwrap();
    let experts = usize::try_from(npy.shape()[1]).unwrap();
    let counts: Vec<i64> = npy.into_vec().unwrap();
    counts.chunks_exact(experts).map(|row| row.iter().map(|&x| x as f64).collect()).collect()
}

/// Reference maps `[layers][slots]` of one case.
pub(crate) fn maps(case: &str) -> Vec<Vec<u32>> {
    serde_json::from_slice(&gunzip(&format!("out_{case}.json.gz"))).unwrap()
}
