//! Placements as they lie about, and what the map in force is worth.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};

use crate::asking::result;

struct Files(tempfile::TempDir);

impl Files {
    /// Two steps of two layers of four experts.
    fn new() -> Self {
        let folder = Self(tempfile::tempdir().unwrap());
        let steps = json!({"counts": [[[6, 4, 1, 1], [3, 3, 3, 3]], [[5, 3, 2, 2], [9, 1, 1, 1]]]});
        folder.put("loads.json", steps.to_string().as_bytes());
        folder
    }

    fn put(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.0.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        path
    }

    /// What `place` prints, or why it does not.
    fn place(&self, flags: &str) -> Result<String, String> {
        let mut command = Command::new(env!("CARGO_BIN_EXE_moe-gps"));
        command.current_dir(self.0.path()).args(["place", "loads.json", "--devices", "2"]);
        let output = command.args(flags.split_whitespace()).output().unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        if output.status.success() { Ok(text(output.stdout)) } else { Err(text(output.stderr)) }
    }

    fn body(&self, flags: &str) -> Value {
        serde_json::from_str(&self.place(&format!("{flags} --json")).unwrap()).unwrap()
    }
}

fn near(value: &Value, wanted: f64) {
    assert!((value.as_f64().unwrap() - wanted).abs() < 1e-12, "{value} for {wanted}");
}

#[test]
fn the_map_in_force_is_a_figure_of_its_own() {
    let files = Files::new();
    files.put("map.json", b"[[0, 2, 1, 3], [0, 1, 2, 3]]");
    // Layer 0: 11 + 3 against 7 + 3 of 24; contiguous 18 against 6. Layer 1: 16 against 8, both.
    let at = "--slots-per-device 2 --current map.json";
    let body = files.body(at);
    near(&body["balance_in_force"], f64::midpoint(14.0 / 12.0, 16.0 / 12.0));
    near(&body["balance_in_force_per_layer"][0], 14.0 / 12.0);
    near(&body["balance_without"], f64::midpoint(18.0 / 12.0, 16.0 / 12.0));
    assert!(body.get("cross_node_share").is_none());
    // Held out: the second step alone. Layer 0: 5 + 2 against 3 + 2; layer 1: 10 against 2.
    let body = files.body(&format!("{at} --train-fraction 0.5 --nodes 2"));
    near(&body["holdout"]["balance_in_force_per_layer"][0], 7.0 / 6.0);
    near(&body["holdout"]["balance_in_force_per_layer"][1], 10.0 / 6.0);
    near(&body["cross_node_share"], 0.5);
    near(&body["cross_node_share_in_force"], 0.5);
    let out = files.place(at).unwrap();
    assert!(out.contains("max/mean GPU load 1.4167, 1.2500 in force → "), "{out}");
    assert!(files.body("--slots-per-device 2").get("balance_in_force").is_none());
}

#[test]
fn any_map_is_scored_without_a_plan() {
    let files = Files::new();
    files.put("map.json", b"[[0, 2, 1, 0, 3, 1], [0, 1, 2, 0, 3, 3]]");
    let body = files.body("--score map.json --nodes 2");
    // Layer 0: half of expert 0 and of expert 1, 11/2 + 3 + 7/2, on either device.
    near(&body["balance_per_layer"][0], 1.0);
    near(&body["balance_per_layer"][1], 14.0 / 12.0);
    assert_eq!(body["slots_per_device"], json!([3, 3]));
    assert_eq!(body["same_device_duplicates"], 1);
    // Experts 0 and 1 of layer 0 stay on their node, 0 of layer 1; half of the others leaves.
    near(&body["cross_node_share"], f64::midpoint(6.0 / 48.0, 12.0 / 48.0));
    let held = files.body("--score map.json --train-fraction 0.5");
    near(&held["holdout_per_layer"][0], 1.0);
    let out = files.place("--score map.json --nodes 2").unwrap();
    assert!(
        out.contains("max/mean GPU load 1.4167 → 1.0833 in force (worst layer 1.1667)"),
        "{out}"
    );
    assert!(out.contains("dispatched tokens that cross nodes: 18.8 %"), "{out}");
    for (flags, said) in [
        ("--slots-per-device 3", "cannot be used with"),
        ("--algorithm eplb", "cannot be used with"),
        ("--nodes 3", "2 devices are not a multiple of 3 nodes"),
    ] {
        let refused = files.place(&format!("--score map.json {flags}")).unwrap_err();
        assert!(refused.contains(said), "{refused}");
    }
}

#[test]
fn every_placement_is_read_and_says_what_does_not_fit() {
    let files = Files::new();
    let header = "{'descr': '|u1', 'fortran_order': False, 'shape': (2, 2, 4), }";
    let npy = |cells: [u8; 16]| {
        [b"\x93NUMPY\x01\x00\x76\x00", format!("{header:<117}\n").as_bytes(), &cells].concat()
    };
    files.put("devices.npy", &npy([1, 0, 1, 0, 1, 1, 0, 0, 0, 1, 0, 1, 0, 0, 1, 1]));
    files.put("list.json", b"[0, 2, 1, 3]");
    files.put("lightllm.json", br#"{"redundancy_expert_num": 1, "0": [0], "default": [1]}"#);
    files.put("rank.json", br#"{"expert_to_ep_rank": [0, 1, 0, 1]}"#);
    let layer = |devices: u32, lists: [&str; 2]| {
        json!({"layer_id": 0, "device_count": devices, "device_list": [
            {"device_id": 0, "device_expert": serde_json::from_str::<Value>(lists[0]).unwrap()},
            {"device_id": 1, "device_expert": serde_json::from_str::<Value>(lists[1]).unwrap()}]})
    };
    let mut ascend = json!({"moe_layer_count": 2,
        "layer_list": [layer(2, ["[0,2]", "[1,3]"]), layer(2, ["[0,2]", "[1,3]"])]});
    ascend["layer_list"][1]["layer_id"] = json!(1);
    files.put("ascend.json", ascend.to_string().as_bytes());
    for (file, first) in [
        ("devices.npy", 14.0 / 12.0),
        ("list.json", 14.0 / 12.0),
        ("rank.json", 14.0 / 12.0),
        ("ascend.json", 14.0 / 12.0),
        // Ranks hold 0 and 1, and 2 and 3; expert 0 on both: 5.5 + 7 against 5.5 + 6.
        ("lightllm.json", 2.0 * (11.0 / 3.0 * 2.0 + 7.0) / 24.0),
    ] {
        let body = files.body(&format!("--score {file}"));
        near(&body["balance_per_layer"][0], first);
    }
    files.put("unlike.json", b"[[0, 1, 2, 3], [0, 1, 2, 3, 0, 1]]");
    let out = files.place("--score unlike.json").unwrap();
    let said = "warning: the placement given has unlike slots per device: 2 in layer(s) 0, 3 in layer(s) 1";
    // Broken into lines of a terminal.
    assert!(out.split_whitespace().collect::<Vec<_>>().join(" ").contains(said), "{out}");
    files.put("num_slots.yaml", b"num_slots: 8\nlayer_updates_per_iter: 2\n");
    files.put("missing.json", b"[0, 1, 2, 2]");
    files.put("uneven.json", br#"{"expert_to_ep_rank": [0, 0, 0, 1]}"#);
    for (file, said) in [
        ("num_slots.yaml", "no `initial_global_assignments`, so holds no placement"),
        ("missing.json", "expert 3 has no slot"),
        ("uneven.json", "device 0 holds 3 expert(s), device 1 holds 1"),
        ("loads.json", "none of the formats"),
    ] {
        let error = files.place(&format!("--score {file}")).unwrap_err();
        assert!(error.contains(said) && error.lines().count() == 1, "{file}: {error}");
        assert_eq!(error.matches(said).count(), 1, "a cause is told once: {error}");
        let error = files.place(&format!("--slots-per-device 2 --current {file}")).unwrap_err();
        assert!(error.contains(said), "{file}: {error}");
    }
    let mut command = Command::new(env!("CARGO_BIN_EXE_moe-gps"));
    let path = |name: &str| Path::new(files.0.path()).join(name);
    let loads = path("loads.json");
    command.arg("place").arg(loads).args(["--devices", "4", "--score"]).arg(path("ascend.json"));
    let error = String::from_utf8(command.output().unwrap().stderr).unwrap();
    assert!(error.contains("the placement is for 2 devices; --devices says 4"), "{error}");
}

#[test]
fn a_question_is_told_of_unlike_slots_of_its_map_in_force() {
    let map = |slots: usize| (0..slots).map(|slot| slot % 8).collect::<Vec<_>>();
    let asked = |last: usize| {
        let mut maps = vec![map(8); 31];
        maps.push(map(last));
        result(&json!({
            "model": "mixtral-8x7b",
            "cluster": {"device": "h100-sxm", "devices": 4, "link": "nvlink4"},
            "workload": {"phase": "prefill", "batch_size": 2, "sequence_length": 512},
            "engine": {"name": "vllm"},
            "routing": {"skewness": 1.5},
            "current": {"physical_to_logical": maps},
            "flip_points": false,
        }))["warnings"]
            .to_string()
    };
    let said = "/current/physical_to_logical: the placement given has unlike slots per device: 2 in \
                layer(s) 0-30, 3 in layer(s) 31";
    assert!(asked(12).contains(said), "{}", asked(12));
    assert!(!asked(8).contains("unlike slots"));
}
