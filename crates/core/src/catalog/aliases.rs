//! Other names of catalog entries: those of checkpoints with the same configuration, of drivers
//! and of vendors.

/// An id with its other names, in the spelling of ids and without the organisation of a
/// repository (see [`names`](super::names)).
pub(super) const ALIASES: &[(&str, &[&str])] = &[
    // Models: published checkpoints of the same shape. Those that name a number format (`-fp8`) are
    // left out: a question states its formats.
    ("deepseek-v2-lite", &["deepseek-v2-lite-chat"]),
    (
        "deepseek-v3",
        &[
            "deepseek-r1",
            "deepseek-r1-0528",
            "deepseek-v3-0324",
            "deepseek-v3-base",
            "deepseek-v3.1",
            "deepseek-v3.1-base",
            "deepseek-v3.1-terminus",
        ],
    ),
    ("kimi-k2", &["kimi-k2-base", "kimi-k2-instruct", "kimi-k2-instruct-0905"]),
    ("llama-4-maverick", &["llama-4-maverick-17b-128e", "llama-4-maverick-17b-128e-instruct"]),
    ("llama-4-scout", &["llama-4-scout-17b-16e", "llama-4-scout-17b-16e-instruct"]),
    ("mixtral-8x22b", &["mixtral-8x22b-v0.1"]),
    ("mixtral-8x7b", &["mixtral-8x7b-instruct", "mixtral-8x7b-instruct-v0.1", "mixtral-8x7b-v0.1"]),
    ("olmoe-1b-7b", &["olmoe-1b-7b-0125", "olmoe-1b-7b-0924", "olmoe-1b-7b-0924-instruct"]),
    ("phi-3.5-moe", &["phi-3.5-moe-instruct"]),
    ("qwen1.5-moe-a2.7b", &["qwen1.5-moe-a2.7b-chat"]),
    ("qwen3-235b-a22b", &["qwen3-235b-a22b-instruct-2507", "qwen3-235b-a22b-thinking-2507"]),
    (
        "qwen3-30b-a3b",
        &["qwen3-30b-a3b-base", "qwen3-30b-a3b-instruct-2507", "qwen3-30b-a3b-thinking-2507"],
    ),
    // Devices: what `nvidia-smi` and `rocm-smi` call them, and the vendors' forms.
    ("a100-sxm4-40gb", &["a100-sxm-40gb", "nvidia-a100-sxm4-40gb"]),
    ("a100-sxm4-80gb", &["a100-sxm-80gb", "nvidia-a100-sxm4-80gb"]),
    ("b200-sxm", &["b200", "nvidia-b200"]),
    ("gb200", &["nvidia-gb200"]),
    ("h100-sxm", &["h100-80gb-hbm3", "h100-sxm5", "h100-sxm5-80gb", "nvidia-h100-80gb-hbm3"]),
    ("h20", &["nvidia-h20"]),
    ("h200-sxm", &["h200-sxm-141gb", "h200-sxm5", "h200-sxm5-141gb", "nvidia-h200"]),
    ("l40s", &["nvidia-l40s"]),
    ("mi300x", &["amd-instinct-mi300x", "instinct-mi300x"]),
    // Links: names of their generations.
    ("ib200", &["hdr", "infiniband-hdr"]),
    ("ib400", &["infiniband-ndr", "ndr"]),
    ("nvlink3", &["nvlink-3", "nvlink-3.0", "nvlink3.0"]),
    ("nvlink4", &["nvlink-4", "nvlink-4.0", "nvlink4.0"]),
    ("nvlink5", &["nvlink-5", "nvlink-5.0", "nvlink5.0"]),
    ("pcie4", &["pcie-4.0", "pcie-gen4", "pcie4.0"]),
    ("pcie5", &["pcie-5.0", "pcie-gen5", "pcie5.0"]),
    ("xgmi3", &["infinity-fabric-3"]),
];

/// The other names of an id.
pub(super) fn of(id: &str) -> &'static [&'static str] {
    ALIASES.iter().find(|(known, _)| *known == id).map_or(&[], |(_, aliases)| aliases)
}
