//! Other names of catalog entries: those of checkpoints with the same configuration, of drivers
//! and of vendors.

/// An id with its other names, in the spelling of ids and without the organisation of a
/// repository (see [`names`](super::names)).
pub(super) const ALIASES: &[(&str, &[&str])] = &[
    // Models: published checkpoints of the same shape. Those that name a number format (`-fp8`) are
    // left out: a question states its formats.
    ("dbrx", &["dbrx-base", "dbrx-instruct"]),
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
    ("deepseek-v3.2", &["deepseek-v3.2-exp", "deepseek-v3.2-speciale"]),
    ("dots.llm1", &["dots.llm1.base", "dots.llm1.inst"]),
    ("ernie-4.5-300b-a47b", &["ernie-4.5-300b-a47b-base-pt", "ernie-4.5-300b-a47b-pt"]),
    ("gemma-4-26b-a4b", &["gemma-4-26b-a4b-it"]),
    ("glm-4.5", &["glm-4.5-base", "glm-4.6", "glm-4.7"]),
    ("glm-5", &["glm-5.1"]),
    ("glm-5.2", &["glm-5.3"]),
    ("hunyuan-a13b", &["hunyuan-a13b-instruct", "hunyuan-a13b-pretrain"]),
    ("jamba-1.5-large", &["ai21-jamba-1.5-large"]),
    ("kimi-k2.5", &["kimi-k2.6", "kimi-k2.7-code"]),
    ("kimi-k2", &["kimi-k2-base", "kimi-k2-instruct", "kimi-k2-instruct-0905"]),
    ("llama-4-maverick", &["llama-4-maverick-17b-128e", "llama-4-maverick-17b-128e-instruct"]),
    ("llama-4-scout", &["llama-4-scout-17b-16e", "llama-4-scout-17b-16e-instruct"]),
    ("longcat-flash", &["longcat-flash-chat", "longcat-flash-thinking"]),
    ("minimax-m1", &["minimax-m1-40k", "minimax-m1-80k"]),
    ("minimax-m2.5", &["minimax-m2", "minimax-m2.1", "minimax-m2.7"]),
    ("mixtral-8x22b", &["mixtral-8x22b-instruct-v0.1", "mixtral-8x22b-v0.1"]),
    ("mixtral-8x7b", &["mixtral-8x7b-instruct", "mixtral-8x7b-instruct-v0.1", "mixtral-8x7b-v0.1"]),
    (
        "nemotron-3-nano-30b-a3b",
        &["nvidia-nemotron-3-nano-30b-a3b-base-bf16", "nvidia-nemotron-3-nano-30b-a3b-bf16"],
    ),
    ("nemotron-3-ultra-550b-a55b", &["nvidia-nemotron-3-ultra-550b-a55b-bf16"]),
    ("olmoe-1b-7b", &["olmoe-1b-7b-0125", "olmoe-1b-7b-0924", "olmoe-1b-7b-0924-instruct"]),
    ("phi-3.5-moe", &["phi-3.5-moe-instruct"]),
    ("qwen1.5-moe-a2.7b", &["qwen1.5-moe-a2.7b-chat"]),
    ("qwen3-235b-a22b", &["qwen3-235b-a22b-instruct-2507", "qwen3-235b-a22b-thinking-2507"]),
    ("qwen3-coder-480b-a35b", &["qwen3-coder-480b-a35b-instruct"]),
    ("qwen3-vl-235b-a22b", &["qwen3-vl-235b-a22b-instruct", "qwen3-vl-235b-a22b-thinking"]),
    ("qwen3-vl-30b-a3b", &["qwen3-vl-30b-a3b-instruct", "qwen3-vl-30b-a3b-thinking"]),
    ("qwen3.5-35b-a3b", &["qwen3.6-35b-a3b"]),
    (
        "qwen3-30b-a3b",
        &[
            "qwen3-30b-a3b-base",
            "qwen3-30b-a3b-instruct-2507",
            "qwen3-30b-a3b-thinking-2507",
            "qwen3-coder-30b-a3b-instruct",
        ],
    ),
    // Devices: what `nvidia-smi` and `rocm-smi` call them, and the vendors' forms.
    ("a100-sxm4-40gb", &["a100-sxm-40gb", "nvidia-a100-sxm4-40gb"]),
    ("a100-sxm4-80gb", &["a100-sxm-80gb", "nvidia-a100-sxm4-80gb"]),
    ("ascend-910b", &["910b", "ascend910b", "huawei-ascend-910b"]),
    ("ascend-910c", &["910c", "ascend910c", "huawei-ascend-910c"]),
    ("b200-sxm", &["b200", "nvidia-b200"]),
    ("b300-sxm", &["b300", "nvidia-b300"]),
    ("gb200", &["nvidia-gb200"]),
    ("gb300", &["nvidia-gb300"]),
    ("h100-sxm", &["h100-80gb-hbm3", "h100-sxm5", "h100-sxm5-80gb", "nvidia-h100-80gb-hbm3"]),
    ("h20", &["nvidia-h20"]),
    ("h800-sxm", &["h800", "nvidia-h800"]),
    ("h200-sxm", &["h200-sxm-141gb", "h200-sxm5", "h200-sxm5-141gb", "nvidia-h200"]),
    ("l40s", &["nvidia-l40s"]),
    ("mi355x", &["amd-instinct-mi355x", "instinct-mi355x"]),
    (
        "rtx-pro-6000",
        &[
            "nvidia-rtx-pro-6000-blackwell-server-edition",
            "rtx-pro-6000-blackwell",
            "rtx-pro-6000-blackwell-server-edition",
        ],
    ),
    ("mi300x", &["amd-instinct-mi300x", "instinct-mi300x"]),
    // Links: names of their generations.
    ("ib200", &["hdr", "ib-hdr", "infiniband-hdr"]),
    ("ib400", &["ib-ndr", "infiniband-ndr", "ndr"]),
    ("nvlink3", &["nvlink-3", "nvlink-3.0", "nvlink3.0"]),
    ("nvlink4", &["nvlink-4", "nvlink-4.0", "nvlink4.0"]),
    ("hccs", &["huawei-hccs"]),
    ("nvl72", &["gb200-nvl72", "gb300-nvl72", "nvlink5-nvl72"]),
    ("xgmi4", &["infinity-fabric-4"]),
    ("nvlink5", &["nvlink-5", "nvlink-5.0", "nvlink5.0"]),
    ("pcie4", &["pcie-4.0", "pcie-gen4", "pcie4.0"]),
    ("pcie5", &["pcie-5.0", "pcie-gen5", "pcie5.0"]),
    ("xgmi3", &["infinity-fabric-3"]),
];

/// The other names of an id.
pub(super) fn of(id: &str) -> &'static [&'static str] {
    ALIASES.iter().find(|(known, _)| *known == id).map_or(&[], |(_, aliases)| aliases)
}
