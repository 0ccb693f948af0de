#![no_main]
//! Feeds `parquet` files; see `tests/it/hostile_entry.rs`.

#[path = "../../tests/it/hostile_entry.rs"]
mod hostile_entry;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| hostile_entry::feed("parquet", bytes));
