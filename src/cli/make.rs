//! `trace make PATTERN`: windows of loads that nobody recorded, to try a deployment with.

use std::io::Write;
use std::path::PathBuf;

use anyhow::{Context, Result, anyhow, ensure};
use clap::Args;
use serde_json::json;

use moe_gps_lab::synthetic::{Fleet, Pattern};

/// Writes windows of loads that nobody recorded, one file each, in a named pattern.
#[derive(Debug, Clone, Args)]
pub struct Make {
    /// Which experts are hot, and when: `balanced`, `hot-set`, `hot-rank`, `rotating-hot-spot`,
    /// `burst` or `drift`.
    #[arg(value_parser = Pattern::ALL.map(|(_, id)| id))]
    pub pattern: String,
    /// Folder of the files, made where it is absent.
    #[arg(long, default_value = ".")]
    pub out: PathBuf,
    /// Windows, from the beginning of the pattern to its end.
    #[arg(long, default_value_t = 12, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub windows: u32,
    /// Tokens of a window.
    #[arg(long, default_value_t = 200_000, value_parser = clap::value_parser!(u32).range(1..))]
    pub tokens: u32,
    /// Layers with experts.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=1024))]
    pub layers: u32,
    /// Experts of a layer.
    #[arg(long, value_parser = clap::value_parser!(u32).range(2..=4096))]
    pub experts: u32,
    /// Experts of a token.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..))]
    pub top_k: u32,
    /// Devices that share the experts, of which one is hot in `hot-rank`.
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..))]
    pub devices: u32,
    /// Hot experts of a layer; a tenth of them if left out.
    #[arg(long)]
    pub hot: Option<u32>,
    /// How many times a hot expert is asked for as a cold one.
    #[arg(long, default_value_t = 6.0)]
    pub heat: f64,
    /// Seed of every draw; another one is another workload.
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
}

/// Runs `trace make`; the names of the files are written to `out`.
pub fn run(command: &Make, out: &mut dyn Write) -> Result<()> {
    let Make { windows, tokens, layers, experts, top_k, devices, heat, seed, .. } = *command;
    let pattern = Pattern::by_id(&command.pattern)
        .ok_or_else(|| anyhow!("{} is no pattern", command.pattern))?;
    ensure!(top_k < experts, "--top-k is {top_k}; it must be less than --experts, {experts}");
    ensure!(
        experts.is_multiple_of(devices),
        "--experts is {experts}; it must be a multiple of --devices, {devices}"
    );
    ensure!(heat.is_finite() && 1.0 <= heat, "--heat is {heat}; it must be 1 or more");
    let hot = command.hot.unwrap_or((experts / 10).max(1));
    ensure!(hot < experts, "--hot is {hot}; it must be less than --experts, {experts}");
    let fleet = Fleet { seed, layers, experts, top_k, devices, hot, heat };
    std::fs::create_dir_all(&command.out)
        .with_context(|| format!("cannot make {}", command.out.display()))?;
    for nth in 0..windows {
        let at = f64::from(nth) / f64::from(windows.max(2) - 1);
        let counts = fleet.window(pattern, at, tokens, u64::from(nth));
        let path = command.out.join(format!("{}-{nth:03}.json", command.pattern));
        let text = json!({"counts": [counts]}).to_string();
        std::fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
        writeln!(out, "{}", path.display())?;
    }
    Ok(())
}
