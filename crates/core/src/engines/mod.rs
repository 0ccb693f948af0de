//! What serving engines do when they are not told otherwise, and what they can run.
//!
//! State of the engines: vLLM 0.33, SGLang 0.5.23, TensorRT-LLM main, vllm-ascend
//! 182b75ea (November 2026), read from their sources. [`defaults`] holds one row per
//! engine, [`support`] says which strategies an engine can run.

pub mod defaults;
pub mod support;
