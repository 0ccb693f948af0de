//! `moe-gps token`: makes, lists and revokes tokens, also while a service runs.

use std::io::Write;

use anyhow::{Result, bail, ensure};
use clap::Subcommand;

use crate::app::clock::now_ms;
use crate::app::tokens::{self, Scope};
use crate::cli::serve::runtime;
use crate::config::Storage;
use crate::store::Store;
use crate::wire::time::Moment;

#[derive(Debug, Subcommand)]
pub(super) enum TokenCommand {
    /// Make a token and print it; it is shown this once.
    #[command(after_help = "Examples:\n  moe-gps token create --name ci --scope ask")]
    Create {
        /// Who holds it; tokens of one name see the same recommendations. Left out, the token
        /// stands for itself.
        #[arg(long)]
        name: Option<String>,
        /// What it may do: `read` (fetch, list), `ask` (also ask, upload, withdraw one's own) or
        /// `admin` (also devices, models, and what belongs to others).
        #[arg(long, default_value = "ask", value_parser = Scope::ALL.map(|(_, id)| id))]
        scope: String,
        #[command(flatten)]
        storage: Storage,
    },
    /// List the tokens; the secrets are not kept.
    #[command(after_help = "Examples:\n  moe-gps token list\n  moe-gps token list --json")]
    List {
        /// Print JSON.
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        storage: Storage,
    },
    /// Revoke a token by its id, the twelve characters after `mgps_`.
    #[command(after_help = "Examples:\n  moe-gps token revoke 0123456789ab")]
    Revoke {
        /// The id, or the whole token.
        id: String,
        #[command(flatten)]
        storage: Storage,
    },
}

/// Longest name of a holder, characters.
const LONGEST_NAME: usize = 64;

pub(super) fn run(command: &TokenCommand, out: &mut impl Write) -> Result<()> {
    match command {
        TokenCommand::Create { name, scope, storage } => {
            if let Some(name) = name {
                let fits = (1..=LONGEST_NAME).contains(&name.chars().count())
                    && !name.contains(|c: char| c.is_control() || c.is_whitespace());
                ensure!(
                    fits,
                    "--name is {name:?}; it must have 1 to {LONGEST_NAME} characters without spaces"
                );
            }
            let Some(scope) = Scope::by_id(scope) else { bail!("there is no scope {scope}") };
            let (_, token) = with_store(storage, async |store| {
                Ok(tokens::create(store, name.as_deref(), scope).await?)
            })?;
            writeln!(out, "{token}")?;
        }
        TokenCommand::List { json, storage } => {
            let all = with_store(storage, async |store| Ok(store.list_tokens().await?))?;
            if *json {
                let shown: Vec<_> = all
                    .iter()
                    .map(|token| {
                        serde_json::json!({
                            "id": token.id, "name": token.principal, "scope": token.scope,
                            "created_at": Moment(token.created_ms),
                            "revoked_at": token.revoked_ms.map(Moment),
                        })
                    })
                    .collect();
                writeln!(out, "{:#}", serde_json::Value::from(shown))?;
                return Ok(());
            }
            for token in all {
                let revoked = token.revoked_ms.map(|ms| format!("  revoked {}", Moment(ms)));
                writeln!(
                    out,
                    "{}  {:<5}  {}  {}{}",
                    token.id,
                    token.scope,
                    Moment(token.created_ms),
                    token.principal,
                    revoked.unwrap_or_default()
                )?;
            }
        }
        TokenCommand::Revoke { id, storage } => {
            let id = tokens::id_of(id).unwrap_or(id);
            let revoked =
                with_store(storage, async |store| Ok(store.revoke_token(id, now_ms()).await?))?;
            ensure!(revoked, "there is no token {id} that could be revoked; see `token list`");
            writeln!(out, "{id} is revoked; a running service refuses it within seconds")?;
        }
    }
    Ok(())
}

/// Does something with the database of a data directory, which a service may have open: SQLite
/// lets several processes write in turn.
fn with_store<T>(storage: &Storage, work: impl AsyncFnOnce(&Store) -> Result<T>) -> Result<T> {
    std::fs::create_dir_all(&storage.data_dir)?;
    runtime()?.block_on(async {
        let store = Store::open(storage).await?;
        let done = work(&store).await;
        store.close().await;
        done
    })
}
