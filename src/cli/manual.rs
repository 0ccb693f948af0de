//! `completions` and `man`: the command line as a shell and as a manual know it.

use std::io::Write;
use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::{Args, Command};
use clap_complete::{Shell, generate};
use clap_mangen::{Man, generate_to};

/// Prints what a shell completes.
#[derive(Debug, Clone, Args)]
pub(super) struct Completions {
    /// The shell.
    shell: Shell,
}

/// Prints the manual page, or writes those of all commands.
#[derive(Debug, Clone, Args)]
pub(super) struct Manual {
    /// Writes a page for every command into this folder.
    #[arg(long, value_name = "FOLDER")]
    out: Option<PathBuf>,
}

/// Runs `completions`.
pub(super) fn completions(asked: &Completions, mut line: Command, out: &mut dyn Write) {
    let name = line.get_name().to_owned();
    generate(asked.shell, &mut line, name, out);
}

/// Runs `man`.
pub(super) fn man(asked: &Manual, line: Command, out: &mut dyn Write) -> Result<()> {
    match &asked.out {
        None => Man::new(line).render(out)?,
        Some(folder) => {
            std::fs::create_dir_all(folder)
                .and_then(|()| generate_to(line, folder))
                .with_context(|| format!("cannot write manual pages into {}", folder.display()))?;
        }
    }
    Ok(())
}
