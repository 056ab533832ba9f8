//! What readers see of the archive tables.

use std::collections::BTreeMap;

use redpoll_core::ids::Epoch;

use super::{Checks, Process, Seen, Sink, Verdict, ensure};
use crate::archive::{LogEntry, url};

/// One table: its rows, each with the version that brought it.
#[derive(Default)]
pub(super) struct Archive {
    rows: BTreeMap<String, u64>,
    files: BTreeMap<String, u64>,
}

impl Archive {
    pub fn names(&self, file: &str) -> bool {
        self.files.contains_key(file)
    }
}

impl Checks {
    pub(super) fn data_file(&self, path: &str, bytes: &[u8]) -> Verdict {
        let rows: Vec<String> = serde_json::from_slice(bytes).map_err(|error| format!("{path}: {error}"))?;
        let before = self.seen().files_written.insert(path.to_owned(), rows);
        ensure!(before.is_none(), "{path}: two attempts wrote one file");
        Ok(())
    }

    /// I2 and I5: a commit names files of attempts that the log chose, and rows that no reader has seen before.
    pub(super) fn archive_entry(&self, by: Process, table: &str, version: &str, bytes: &[u8]) -> Verdict {
        let entry: LogEntry = serde_json::from_slice(bytes).map_err(|error| format!("{table}: {error}"))?;
        let version: u64 = version.trim_end_matches(".json").parse().map_err(|error| format!("{version}: {error}"))?;
        let Some(sink) = super::super::truth::SINKS.into_iter().find(|sink| sink.name() == table) else {
            return Err(format!("no table is called {table}"));
        };
        let seen = &mut *self.seen();
        let archive = seen.archives.entry(sink).or_default();
        for add in &entry.adds {
            let path = format!("tables/{table}/{}", add.path);
            let rows = seen.files_written.get(&path).ok_or(format!("I5: {table} names {path}, which is not there"))?;
            let chosen = seen.epochs.iter().any(|(epoch, planned)| {
                let attempts = planned.chosen.iter().flatten();
                attempts.into_iter().any(|(split, attempt)| {
                    let receipt = seen.receipts.get(&(*epoch, *split, attempt.clone()));
                    let sink = receipt.and_then(|receipt| receipt.sinks.get(table));
                    sink.is_some_and(|sink| sink.files.iter().any(|file| file["path"] == add.path.as_str()))
                })
            });
            ensure!(chosen, "I5: {by} commits {path}, which no chosen attempt wrote");
            for row in rows {
                let twice = archive.rows.insert(row.clone(), version).is_some();
                ensure!(!twice, "I2: readers of {table} see {row} twice");
            }
            archive.files.insert(path, version);
        }
        Ok(())
    }
}

impl Seen {
    /// I2: at the version that a commit names, a table holds the rows of all epochs up to it and no other.
    pub(super) fn archives_are_complete(&mut self, from: Epoch, to: Epoch, tables: &BTreeMap<String, u64>) -> Verdict {
        for sink in [Sink::Raw, Sink::Science] {
            let name = sink.name();
            let version = *tables.get(&url(name)).ok_or(format!("I2: a commit names no version of {name}"))?;
            let rows: Vec<String> = self.rows(sink, from, to).map(ToString::to_string).collect();
            let archive = self.archives.entry(sink).or_default();
            for row in &rows {
                let there = archive.rows.get(row).is_some_and(|brought| *brought <= version);
                ensure!(there, "I2: {row} is committed, and not in version {version} of {name}");
            }
            let expected = self.expected.entry(sink).or_default();
            *expected += rows.len();
            let n = archive.rows.values().filter(|brought| **brought <= version).count();
            ensure!(n == *expected, "I2: version {version} of {name} has {n} rows, not the {expected} committed ones");
        }
        Ok(())
    }
}
