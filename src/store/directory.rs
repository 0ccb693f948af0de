//! The data directory: where things lie in it, and that only one service uses it.

use std::fs::{File, TryLockError};
use std::io::Write;
use std::path::{Path, PathBuf};

use crate::config::Storage;
use crate::store::StoreError;

/// Name of the database within the data directory.
pub const DATABASE: &str = "moe-gps.db";

/// Name of the file within the data directory that says where the running service listens.
pub const ADDRESS: &str = "address";

/// A data directory that belongs to this process until dropped.
#[derive(Debug)]
pub struct DataDir {
    root: PathBuf,
    /// Locked files, here and beside what lies elsewhere; the operating system lets go of them when the
    /// process dies, however it dies.
    locks: Vec<File>,
}

impl DataDir {
    /// Creates the directory where needed and takes it for this process.
    pub fn take(root: &Path) -> Result<Self, StoreError> {
        let failed = |path: &Path| {
            let path = path.to_owned();
            |source| StoreError::Directory { path, source }
        };
        std::fs::create_dir_all(root).map_err(failed(root))?;
        let lock = locked(&root.join("lock"), root)?;
        let dir = Self { root: root.to_owned(), locks: vec![lock] };
        // Left by a killed predecessor; who reads it must not take it for ours.
        match std::fs::remove_file(dir.address()) {
            Err(source) if source.kind() != std::io::ErrorKind::NotFound => {
                Err(StoreError::Directory { path: dir.address(), source })
            }
            _ => Ok(dir),
        }
    }

    /// Takes a database file and a folder of traces that lie elsewhere for this process, too, if the
    /// settings name any.
    pub fn with(mut self, storage: &Storage) -> Result<Self, StoreError> {
        if let Some(file) = storage.database.strip_prefix("sqlite:") {
            let lock = PathBuf::from(format!("{file}-lock"));
            self.locks.push(locked(&lock, Path::new(file))?);
        }
        if let Some(folder) = storage.traces.strip_prefix("file:") {
            let folder = Path::new(folder);
            let failed = |source| StoreError::Directory { path: folder.to_owned(), source };
            std::fs::create_dir_all(folder).map_err(failed)?;
            self.locks.push(locked(&folder.join("lock"), folder)?);
        }
        Ok(self)
    }

    /// The database file.
    #[must_use]
    pub fn database(&self) -> PathBuf {
        self.root.join(DATABASE)
    }

    /// The directory itself.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    fn address(&self) -> PathBuf {
        self.root.join(ADDRESS)
    }

    /// Announces the address in use, whole or not at all.
    pub fn write_address(&self, address: std::net::SocketAddr) -> Result<(), StoreError> {
        let path = self.address();
        let write = || -> std::io::Result<()> {
            let mut file = tempfile::NamedTempFile::new_in(&self.root)?;
            writeln!(file, "{address}")?;
            // Anyone who may look into the directory may read where the service is.
            #[cfg(unix)]
            {
                use std::os::unix::fs::PermissionsExt;
                file.as_file().set_permissions(std::fs::Permissions::from_mode(0o644))?;
            }
            file.persist(&path)?;
            Ok(())
        };
        write().map_err(|source| StoreError::Directory { path: path.clone(), source })
    }

    /// Takes the announcement back.
    pub fn remove_address(&self) {
        // At the end of the process nothing can be done about a failure.
        let _ = std::fs::remove_file(self.address());
    }
}

/// A file that this process alone has; `of` is what another one would use, too.
fn locked(path: &Path, of: &Path) -> Result<File, StoreError> {
    let failed = |source| StoreError::Directory { path: path.to_owned(), source };
    let lock = File::options().create(true).append(true).open(path).map_err(failed)?;
    match lock.try_lock() {
        Ok(()) => Ok(lock),
        Err(TryLockError::WouldBlock) => Err(StoreError::InUse { path: of.to_owned() }),
        Err(TryLockError::Error(source)) => Err(failed(source)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_has_one_user_at_a_time() {
        let dir = tempfile::tempdir().unwrap();
        let first = DataDir::take(dir.path()).unwrap();
        assert!(matches!(DataDir::take(dir.path()), Err(StoreError::InUse { .. })));
        drop(first);
        DataDir::take(dir.path()).unwrap();
    }

    #[test]
    fn an_unusable_directory_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("file");
        std::fs::write(&file, "").unwrap();
        let error = DataDir::take(&file.join("data")).unwrap_err().to_string();
        assert!(error.contains("file/data") && error.contains("--data-dir"), "{error}");
    }

    #[test]
    fn the_address_is_one_line() {
        let dir = tempfile::tempdir().unwrap();
        let data_dir = DataDir::take(dir.path()).unwrap();
        data_dir.write_address("127.0.0.1:4321".parse().unwrap()).unwrap();
        let text = std::fs::read_to_string(dir.path().join("address")).unwrap();
        assert_eq!(text, "127.0.0.1:4321\n");
    }
}
