//! Stands where the program was built without object stores.

use std::fs::File;
use std::io;
use std::path::Path;

/// An object store, of which there is none.
#[derive(Debug)]
pub enum Remote {}

#[expect(clippy::unused_async, reason = "as where there are object stores")]
impl Remote {
    /// Says how to get a program that has them.
    pub fn open(_address: &str) -> Result<Self, String> {
        Err("this program was built without object stores; build it with `--features replicas`"
            .into())
    }

    /// Never called.
    pub fn fetch(&self, _name: &str, _to: &mut File) -> io::Result<()> {
        match *self {}
    }

    /// Never called.
    pub fn send(&self, _name: &str, _from: &Path) -> io::Result<()> {
        match *self {}
    }

    /// Never called.
    pub async fn owner(&self, _new: &str) -> io::Result<String> {
        match *self {}
    }

    /// Never called.
    pub async fn has(&self, _name: &str) -> io::Result<bool> {
        match *self {}
    }

    /// Never called.
    pub async fn list(&self) -> io::Result<Vec<(String, i64)>> {
        match *self {}
    }

    /// Never called.
    pub async fn delete(&self, _name: &str) -> io::Result<()> {
        match *self {}
    }
}
