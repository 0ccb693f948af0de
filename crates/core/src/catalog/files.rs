//! The list of catalog files: one line a file. A test compares it with the folders.

/// A file: its path in the repository, and its text.
pub(super) type File = (&'static str, &'static str);

/// Embeds one file of the catalog.
macro_rules! file {
    ($path:literal) => {
        (
            concat!("catalog/", $path),
            include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/../../catalog/", $path)),
        )
    };
}

/// Every file, kind by kind; what the digest covers.
pub(super) const ALL: [&[File]; 3] = [&MODELS, &DEVICES, &LINKS];

/// Models.
pub(super) const MODELS: [File; 46] = [
    file!("models/dbrx.toml"),
    file!("models/deepseek-v2-lite.toml"),
    file!("models/deepseek-v3.toml"),
    file!("models/deepseek-v3.2.toml"),
    file!("models/deepseek-v4-flash.toml"),
    file!("models/deepseek-v4-pro.toml"),
    file!("models/dots.llm1.toml"),
    file!("models/ernie-4.5-300b-a47b.toml"),
    file!("models/gemma-4-26b-a4b.toml"),
    file!("models/glm-4.5.toml"),
    file!("models/glm-5.toml"),
    file!("models/glm-5.2.toml"),
    file!("models/gpt-oss-120b.toml"),
    file!("models/gpt-oss-20b.toml"),
    file!("models/hunyuan-a13b.toml"),
    file!("models/jamba-1.5-large.toml"),
    file!("models/kimi-k2.toml"),
    file!("models/kimi-k2.5.toml"),
    file!("models/kimi-k3.toml"),
    file!("models/llama-4-maverick.toml"),
    file!("models/llama-4-scout.toml"),
    file!("models/llama-moe-3.5b-2-8.toml"),
    file!("models/llama-moe-3.5b-4-16.toml"),
    file!("models/longcat-flash.toml"),
    file!("models/minimax-m1.toml"),
    file!("models/minimax-m2.5.toml"),
    file!("models/minimax-m3.toml"),
    file!("models/mixtral-8x22b.toml"),
    file!("models/mixtral-8x7b.toml"),
    file!("models/nemotron-3-nano-30b-a3b.toml"),
    file!("models/nemotron-3-ultra-550b-a55b.toml"),
    file!("models/olmoe-1b-7b.toml"),
    file!("models/phi-3.5-moe.toml"),
    file!("models/qwen1.5-moe-a2.7b.toml"),
    file!("models/qwen3-235b-a22b.toml"),
    file!("models/qwen3-30b-a3b.toml"),
    file!("models/qwen3-coder-480b-a35b.toml"),
    file!("models/qwen3-vl-235b-a22b.toml"),
    file!("models/qwen3-vl-30b-a3b.toml"),
    file!("models/qwen3.5-122b-a10b.toml"),
    file!("models/qwen3.5-35b-a3b.toml"),
    file!("models/qwen3.5-397b-a17b.toml"),
    file!("models/step-3.7-flash.toml"),
    file!("models/switch-base-128.toml"),
    file!("models/switch-base-16.toml"),
    file!("models/switch-base-8.toml"),
];

/// Devices.
pub(super) const DEVICES: [File; 16] = [
    file!("devices/a100-sxm4-40gb.toml"),
    file!("devices/a100-sxm4-80gb.toml"),
    file!("devices/ascend-910b.toml"),
    file!("devices/ascend-910c.toml"),
    file!("devices/b200-sxm.toml"),
    file!("devices/b300-sxm.toml"),
    file!("devices/gb200.toml"),
    file!("devices/gb300.toml"),
    file!("devices/h100-sxm.toml"),
    file!("devices/h20.toml"),
    file!("devices/h200-sxm.toml"),
    file!("devices/h800-sxm.toml"),
    file!("devices/l40s.toml"),
    file!("devices/mi300x.toml"),
    file!("devices/mi355x.toml"),
    file!("devices/rtx-pro-6000.toml"),
];

/// Links.
pub(super) const LINKS: [File; 12] = [
    file!("links/hccs.toml"),
    file!("links/ib200.toml"),
    file!("links/ib400.toml"),
    file!("links/nvl72.toml"),
    file!("links/nvlink3.toml"),
    file!("links/nvlink4.toml"),
    file!("links/nvlink4-h800.toml"),
    file!("links/nvlink5.toml"),
    file!("links/pcie4.toml"),
    file!("links/pcie5.toml"),
    file!("links/xgmi3.toml"),
    file!("links/xgmi4.toml"),
];
