//! Who asks, and what they may do: tokens, made, read and looked up.
//!
//! A token is `mgps_`, twelve characters that name it, `_`, 32 that are secret, and six that check
//! the rest, so that scanners for secrets find leaked ones and a typing error needs no database.
//! Its SHA-256 is kept: 190 random bits need no slow hash.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

use sha2::{Digest, Sha256};
use tokio::sync::Mutex;

use crate::app::clock::now_ms;
use crate::app::error::AppError;
use crate::app::ingest::hex;
use crate::store::tokens::TokenRecord;
use crate::store::{Store, StoreError};

/// What a token may do; each includes the ones before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Scope {
    /// Fetch and list.
    Read,
    /// Ask, upload, withdraw one's own.
    Ask,
    /// Everything, also what belongs to others and to all.
    Admin,
}

impl Scope {
    /// Every scope with its name.
    pub const ALL: [(Self, &'static str); 3] =
        [(Self::Read, "read"), (Self::Ask, "ask"), (Self::Admin, "admin")];

    /// The scope's name.
    #[must_use]
    pub fn id(self) -> &'static str {
        Self::ALL.iter().find(|(scope, _)| *scope == self).map_or("", |(_, id)| id)
    }

    /// The scope of this name.
    #[must_use]
    pub fn by_id(id: &str) -> Option<Self> {
        Self::ALL.iter().find(|(_, name)| *name == id).map(|(scope, _)| *scope)
    }
}

/// Who asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    /// Whose asks these are.
    pub principal: Arc<str>,
    /// What they may do.
    pub scope: Scope,
}

/// Whose asks those are that come without a token.
pub const LOCAL: &str = "local";

impl Caller {
    /// Who asks where no token is needed.
    #[must_use]
    pub fn local() -> Self {
        Self { principal: LOCAL.into(), scope: Scope::Admin }
    }
}

/// Beginning of every token.
const PREFIX: &str = "mgps_";
/// Characters that name a token, that are secret, and that check both.
const LENGTHS: [usize; 3] = [12, 32, 6];
const DIGITS: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// A new token, and the part of it that names it.
pub fn mint() -> Result<(String, String), AppError> {
    let id = random(LENGTHS[0])?;
    let body = format!("{id}_{}", random(LENGTHS[1])?);
    let token = format!("{PREFIX}{body}{}", checksum(&body));
    Ok((id, token))
}

/// So many random digits, each as likely as any other.
fn random(n: usize) -> Result<String, AppError> {
    let mut text = String::with_capacity(n);
    let mut bytes = [0; 64];
    while text.len() < n {
        getrandom::fill(&mut bytes)
            .map_err(|error| AppError::Internal(format!("no random numbers: {error}")))?;
        // The bytes above the last multiple of 62 would favour some digits.
        let fair = bytes.iter().filter(|byte| **byte < 248);
        let digits = fair.map(|byte| char::from(DIGITS[usize::from(*byte) % 62]));
        text.extend(digits.take(n - text.len()));
    }
    Ok(text)
}

/// CRC-32 in base 62.
fn checksum(body: &str) -> String {
    let mut crc = flate2::Crc::new();
    crc.update(body.as_bytes());
    let mut left = crc.sum() as usize;
    let mut digits = [b'0'; LENGTHS[2]];
    for digit in digits.iter_mut().rev() {
        *digit = DIGITS[left % 62];
        left /= 62;
    }
    String::from_utf8_lossy(&digits).into_owned()
}

/// The part of a token that names it, if it is one of ours without an error of typing.
#[must_use]
pub fn id_of(token: &str) -> Option<&str> {
    let rest = token.strip_prefix(PREFIX)?;
    let (body, check) = rest.split_at_checked(LENGTHS[0] + 1 + LENGTHS[1])?;
    let (id, secret) = body.split_once('_')?;
    let fits = id.len() == LENGTHS[0] && secret.bytes().all(|c| c.is_ascii_alphanumeric());
    (fits && check == checksum(body)).then_some(id)
}

/// SHA-256 of a token, as it is kept.
#[must_use]
pub fn digest(token: &str) -> [u8; 32] {
    Sha256::digest(token).into()
}

/// Makes a token for someone and keeps its digest; the token is told once.
pub async fn create(
    store: &Store,
    principal: Option<&str>,
    scope: Scope,
) -> Result<(TokenRecord, String), AppError> {
    let (id, token) = mint()?;
    let record = TokenRecord {
        principal: principal.unwrap_or(&id).to_owned(),
        digest: digest(&token).to_vec(),
        scope: scope.id().to_owned(),
        created_ms: now_ms(),
        revoked_ms: None,
        id,
    };
    store.insert_token(&record).await?;
    Ok((record, token))
}

/// How old what is known of the tokens may be before it is looked up again.
const FRESH: Duration = Duration::from_secs(1);
/// The same for a token that is not known, which may have been made just now.
const FRESH_MISS: Duration = Duration::from_millis(50);
/// How old it may be where it cannot be looked up.
const STALE: Duration = Duration::from_secs(5);
/// Shortest token of a file that is none of ours: 128 bits in hexadecimal.
const SHORTEST: usize = 32;

/// The tokens that are in force, and whether one is needed.
#[derive(Debug)]
pub struct Gate {
    /// Nobody is asked for a token.
    open: bool,
    file: Option<PathBuf>,
    known: RwLock<Arc<Known>>,
    looking: Mutex<()>,
    /// Set when the first token is seen; from then on one is needed, also when all are revoked.
    closed: AtomicBool,
}

#[derive(Debug)]
struct Known {
    at: Instant,
    tokens: BTreeMap<String, (Vec<u8>, Caller)>,
}

/// Why a request is not let in.
#[derive(Debug)]
pub enum Denied {
    /// It has no token.
    Missing,
    /// Its token is none that counts.
    Unknown,
    /// It cannot be looked up.
    Store(StoreError),
}

impl Gate {
    /// A gate by the tokens of the database and of a file, if one is named.
    pub async fn new(store: &Store, file: Option<PathBuf>, open: bool) -> Result<Self, AppError> {
        let tokens = load(store, file.as_ref()).await?;
        Ok(Self {
            open,
            file,
            closed: AtomicBool::new(!tokens.is_empty()),
            known: RwLock::new(Arc::new(Known { at: Instant::now(), tokens })),
            looking: Mutex::new(()),
        })
    }

    /// Whether a token is needed.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        !self.open && self.closed.load(Ordering::Relaxed)
    }

    /// Who asks, by the token they present.
    pub async fn admit(&self, store: &Store, token: Option<&str>) -> Result<Caller, Denied> {
        if self.open {
            return Ok(Caller::local());
        }
        // Who has a token already may have the first one, made just now.
        let fresh = if token.is_some() && !self.is_closed() { FRESH_MISS } else { FRESH };
        let known = self.known(store, fresh).await?;
        if !self.is_closed() {
            return Ok(Caller::local());
        }
        let token = token.ok_or(Denied::Missing)?;
        let digest = digest(token);
        let id = name_of(token, &digest);
        if let Some(caller) = known.caller(&id, &digest) {
            return Ok(caller);
        }
        let known = self.known(store, FRESH_MISS).await?;
        known.caller(&id, &digest).ok_or(Denied::Unknown)
    }

    /// What is known of the tokens, looked up again where it is older than that.
    async fn known(&self, store: &Store, fresh: Duration) -> Result<Arc<Known>, Denied> {
        let known = Arc::clone(&self.known.read().unwrap_or_else(PoisonError::into_inner));
        if known.at.elapsed() < fresh {
            return Ok(known);
        }
        // One looks it up; the others need not wait for it.
        let Ok(_looking) = self.looking.try_lock() else { return Ok(known) };
        let tokens = match load(store, self.file.as_ref()).await {
            Ok(tokens) => tokens,
            Err(_) if known.at.elapsed() < STALE => return Ok(known),
            Err(AppError::Store(error)) => return Err(Denied::Store(error)),
            Err(error) => {
                tracing::warn!(%error, "the file of tokens cannot be read; those of before stay");
                return Ok(known);
            }
        };
        if !tokens.is_empty() {
            self.closed.store(true, Ordering::Relaxed);
        }
        let known = Arc::new(Known { at: Instant::now(), tokens });
        *self.known.write().unwrap_or_else(PoisonError::into_inner) = Arc::clone(&known);
        Ok(known)
    }
}

impl Known {
    fn caller(&self, id: &str, digest: &[u8; 32]) -> Option<Caller> {
        let (kept, caller) = self.tokens.get(id)?;
        // In the same time wherever they differ.
        let differing = kept.iter().zip(digest).fold(0, |all, (a, b)| all | (a ^ b));
        (kept.len() == digest.len() && differing == 0).then(|| caller.clone())
    }
}

/// What a token is looked up by: its own name, or a part of its digest where it has none.
fn name_of(token: &str, digest: &[u8; 32]) -> String {
    id_of(token).map_or_else(|| hex(&digest[..6]), ToOwned::to_owned)
}

async fn load(
    store: &Store,
    file: Option<&PathBuf>,
) -> Result<BTreeMap<String, (Vec<u8>, Caller)>, AppError> {
    let mut tokens = BTreeMap::new();
    for token in store.list_tokens().await? {
        if let Some(scope) = Scope::by_id(&token.scope).filter(|_| token.revoked_ms.is_none()) {
            let caller = Caller { principal: token.principal.into(), scope };
            tokens.insert(token.id, (token.digest, caller));
        }
    }
    if let Some(file) = file {
        let text = tokio::fs::read_to_string(file).await.map_err(|error| {
            AppError::Internal(format!("token file {}: {error}", file.display()))
        })?;
        for (n, line) in text.lines().enumerate() {
            read_line(line, &mut tokens).map_err(|fault| {
                let place = format!("token file {}, line {}", file.display(), n + 1);
                AppError::Internal(format!("{place}: {fault}"))
            })?;
        }
    }
    Ok(tokens)
}

/// Reads `TOKEN [SCOPE [NAME]]`; what is wrong never repeats the token.
fn read_line(
    line: &str,
    tokens: &mut BTreeMap<String, (Vec<u8>, Caller)>,
) -> Result<(), &'static str> {
    let mut words = line.split_whitespace();
    let Some(token) = words.next().filter(|word| !word.starts_with('#')) else { return Ok(()) };
    if token.starts_with(PREFIX) {
        id_of(token).ok_or("the token is mistyped: its last characters do not check the rest")?;
    } else if token.len() < SHORTEST {
        return Err("a token has at least 32 characters; make one with `moe-gps token create`");
    }
    let scope = match words.next() {
        None => Scope::Admin,
        Some(word) => Scope::by_id(word).ok_or("the scope must be read, ask or admin")?,
    };
    let digest = digest(token);
    let id = name_of(token, &digest);
    let principal = words.next().unwrap_or(&id).into();
    tokens.insert(id, (digest.to_vec(), Caller { principal, scope }));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_have_their_form_and_check_themselves() {
        let (id, token) = mint().unwrap();
        assert_eq!(token.len(), 5 + 12 + 1 + 32 + 6);
        assert_eq!(id_of(&token), Some(id.as_str()));
        for at in 5..token.len() {
            let mut typed = token.clone().into_bytes();
            typed[at] = if typed[at] == b'x' { b'y' } else { b'x' };
            assert_eq!(id_of(std::str::from_utf8(&typed).unwrap()), None, "{at}");
        }
        for other in ["", "mgps_", "mgps_é", &token[..token.len() - 1], &format!("{token}0")] {
            assert_eq!(id_of(other), None, "{other}");
        }
        assert_ne!(mint().unwrap().1, token);
    }

    #[test]
    fn lines_of_a_token_file_are_read_or_refused() {
        let (id, token) = mint().unwrap();
        let read = |line: &str| {
            let mut tokens = BTreeMap::new();
            read_line(line, &mut tokens)
                .map(|()| tokens.into_iter().next().map(|(id, (_, caller))| (id, caller)))
        };
        let (found, caller) = read(&token).unwrap().unwrap();
        assert_eq!((found, caller.scope, &*caller.principal), (id.clone(), Scope::Admin, &*id));
        let (_, caller) = read(&format!("{token} ask alice")).unwrap().unwrap();
        assert_eq!((caller.scope, &*caller.principal), (Scope::Ask, "alice"));
        assert_eq!(read("  "), Ok(None));
        assert_eq!(read("# a comment"), Ok(None));
        assert!(read(&"0123456789abcdef".repeat(2)).unwrap().is_some());
        assert!(read("short").is_err() && read(&format!("{token} root")).is_err());
        assert!(read(&format!("{token}0")).is_err());
    }
}
