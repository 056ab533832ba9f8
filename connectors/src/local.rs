//! The embedded wide-column store: tables in a folder of the local disk, served to other processes.
//!
//! ```text
//! executors ── Client ──gRPC──► Service ──► Store ──► one writer thread ──► fjall (a log-structured tree)
//! ```
//! Only one process opens the folder: `redpoll store`, or the scheduler when the cluster is embedded. All others hold a
//! [`Client`].
//!
//! **Layout.** A table is one fjall keyspace; a row is one entry: its key, and all its cells in one value. An alert's
//! ~150 cells are read and written together, so one entry is far cheaper than one per cell, and a scan is a plain range
//! read. Names of columns are stored once per table (`columns`), and rows refer to them by number.
//!
//! **Writing.** One thread owns all writes. It takes every put that waits (up to [`store::GROUP_BYTES`]), merges their
//! cells with the rows that are there, writes one atomic batch, and calls `fdatasync` once before it answers any of
//! them: an epoch counts its rows as written once a put is answered, so an answered put must survive a power cut.

mod client;
mod codec;
mod names;
mod service;
mod store;
mod unmade;
mod writer;

pub use client::Client;
pub use service::Service;
pub use store::Store;
pub use unmade::Unmade;

#[cfg(test)]
mod tests;
