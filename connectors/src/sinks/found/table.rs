//! Rows of a wide-column table, by their keys. They do not say which job wrote them.

use futures::{StreamExt, TryStreamExt};
use redpoll_core::sink::{Error, SinkSpec};

use super::{Contents, Found};
use crate::widecolumn::{self, KeyRange, Location, Scan};

pub(super) fn open(sink: &SinkSpec, store: Option<&str>) -> Result<Contents, Error> {
    let name = sink.name.clone();
    let failed = move |error: widecolumn::Error| Error::new(&name, error);
    let location = Location::parse(&sink.url).map_err(&failed)?;
    let backend = widecolumn::connect(&location.address(store).map_err(&failed)?).map_err(&failed)?;
    let keys = Scan { range: KeyRange::all(), columns: Some(Vec::new()), limit: None };
    let rows = backend.scan(&location.table, keys).map_err(failed);
    let rows = rows.map_ok(|batch| {
        let found = |row: widecolumn::Row| Found {
            at: String::from_utf8_lossy(&row.key).into_owned(),
            mark: Some(row.key),
            ..Found::default()
        };
        batch.rows.into_iter().map(found).collect()
    });
    Ok(Contents { rows: rows.boxed(), shortened: Vec::new() })
}
