//! Stored traces in an object store: whole objects under the names of the files, each of which says
//! what is in it, so that none ever changes.

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::Path;
use std::time::Duration;

use futures_util::TryStreamExt;
use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey};
use object_store::path::Path as Key;
use object_store::{
    ClientOptions, ObjectStore, ObjectStoreExt, PutMode, PutPayload, RetryConfig, WriteMultipart,
};
use tokio::runtime::Handle;

/// Bytes that are sent at once; what is larger goes in parts of this size.
const PART_BYTES: usize = 16 << 20;
/// Name of the object that says to which database the others belong.
const OWNER: &str = "owner";
/// Parts of one object that are on their way at once.
const PARTS_AT_ONCE: usize = 4;
/// Longest silence of the store, and how long a request is tried again.
const PATIENCE: Duration = Duration::from_secs(30);

/// An object store.
#[derive(Debug)]
pub struct Remote {
    store: Box<dyn ObjectStore>,
    /// Beginning of all keys.
    prefix: Key,
    runtime: Handle,
}

impl Remote {
    /// The store at `s3://bucket/prefix`; credentials, region and endpoint come from the usual
    /// variables, `AWS_ACCESS_KEY_ID` and so on. Within a runtime, in which it then works.
    pub fn open(address: &str) -> Result<Self, String> {
        let within = address.strip_prefix("s3://").unwrap_or(address);
        let (bucket, prefix) = within.split_once('/').unwrap_or((within, ""));
        if bucket.is_empty() {
            return Err("it names no bucket, as s3://bucket/prefix does".to_owned());
        }
        // Another part of the program may have said so before.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let builder = AmazonS3Builder::from_env();
        let endpoint = builder.get_config_value(&AmazonS3ConfigKey::Endpoint).unwrap_or_default();
        let client = ClientOptions::new()
            .with_timeout_disabled()
            .with_connect_timeout(PATIENCE)
            .with_read_timeout(PATIENCE)
            .with_allow_http(endpoint.starts_with("http://"));
        let retry = RetryConfig { max_retries: 5, retry_timeout: PATIENCE, ..Default::default() };
        let builder =
            builder.with_bucket_name(bucket).with_client_options(client).with_retry(retry);
        let store = Box::new(builder.build().map_err(|error| error.to_string())?);
        let parts = prefix.split('/').filter(|part| !part.is_empty()).chain(["traces"]);
        Ok(Self { store, prefix: parts.collect(), runtime: Handle::current() })
    }

    fn key(&self, name: &str) -> Key {
        self.prefix.clone().join(name)
    }

    /// Copies an object into a file; blocks.
    pub fn fetch(&self, name: &str, to: &mut File) -> io::Result<()> {
        self.runtime.block_on(async {
            let mut pieces = self.store.get(&self.key(name)).await.map_err(failed)?.into_stream();
            while let Some(piece) = pieces.try_next().await.map_err(failed)? {
                to.write_all(&piece)?;
            }
            Ok(())
        })
    }

    /// Copies a file into an object, also where it is there, so that it is as young as it can be;
    /// blocks.
    pub fn send(&self, name: &str, from: &Path) -> io::Result<()> {
        let mut file = File::open(from)?;
        let mut part = Vec::new();
        let mut next = |part: &mut Vec<u8>| {
            part.clear();
            (&mut file).take(PART_BYTES as u64).read_to_end(part)
        };
        self.runtime.block_on(async {
            let key = self.key(name);
            if next(&mut part)? < PART_BYTES {
                self.store.put(&key, PutPayload::from(part)).await.map_err(failed)?;
                return Ok(());
            }
            let upload = self.store.put_multipart(&key).await.map_err(failed)?;
            let mut upload = WriteMultipart::new_with_chunk_size(upload, PART_BYTES);
            while !part.is_empty() {
                upload.wait_for_capacity(PARTS_AT_ONCE).await.map_err(failed)?;
                upload.write(&part);
                next(&mut part)?;
            }
            upload.finish().await.map_err(failed)?;
            Ok(())
        })
    }

    /// The name that stands in the object store, which it is given where it has none.
    pub async fn owner(&self, new: &str) -> io::Result<String> {
        let key = self.key(OWNER);
        let (payload, options) = (PutPayload::from(new.to_owned()), PutMode::Create.into());
        match self.store.put_opts(&key, payload, options).await {
            Ok(_) => return Ok(new.to_owned()),
            Err(object_store::Error::AlreadyExists { .. }) => {}
            Err(error) => return Err(failed(error)),
        }
        let bytes = self.store.get(&key).await.map_err(failed)?.bytes().await.map_err(failed)?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// Whether there is an object of this name.
    pub async fn has(&self, name: &str) -> io::Result<bool> {
        match self.store.head(&self.key(name)).await {
            Ok(_) => Ok(true),
            Err(object_store::Error::NotFound { .. }) => Ok(false),
            Err(error) => Err(failed(error)),
        }
    }

    /// The names of all objects with the times at which they were sent, milliseconds.
    pub async fn list(&self) -> io::Result<Vec<(String, i64)>> {
        let listed = self.store.list(Some(&self.prefix)).try_filter_map(|object| async move {
            let name = object.location.filename().map(ToOwned::to_owned);
            Ok(name.map(|name| (name, object.last_modified.timestamp_millis())))
        });
        listed.try_collect().await.map_err(failed)
    }

    /// Deletes an object; fine if it is not there.
    pub async fn delete(&self, name: &str) -> io::Result<()> {
        match self.store.delete(&self.key(name)).await {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
            Err(error) => Err(failed(error)),
        }
    }
}

fn failed(error: object_store::Error) -> io::Error {
    match error {
        object_store::Error::NotFound { .. } => io::ErrorKind::NotFound.into(),
        error => io::Error::new(
            io::ErrorKind::HostUnreachable,
            format!("the object store failed: {error}"),
        ),
    }
}
