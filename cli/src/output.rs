//! What commands print: rows as a table, JSON or CSV, the ledger, light curves.

pub mod table;

pub mod cells;
pub mod rows;

pub mod audit;
pub mod histogram;
pub mod ledger;
pub mod light_curve;
pub mod modules;
pub mod paint;

use std::io::{self, Write};

/// Writes to stdout. A reader that left, as in `redpoll ledger | head`, is an error and not a panic.
pub fn text(text: impl AsRef<str>) -> io::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_ref().as_bytes())?;
    out.flush()
}

/// As [`text`], with the end of the line.
pub fn line(line: impl AsRef<str>) -> io::Result<()> {
    text(format!("{}\n", line.as_ref()))
}
