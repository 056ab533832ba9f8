//! Where a wide-column table lives: `store://host:port/table`, or `store:/table` in the embedded cluster's own store.

use std::fmt;
use std::sync::{Arc, LazyLock};

use dashmap::DashMap;

use super::{Backend, Error};
use crate::local;

/// A store's address and a table in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Location {
    /// `host:port`. `None`: the store of the cluster that runs the pipeline.
    pub authority: Option<String>,
    pub table: String,
}

impl Location {
    /// Reads `store://host:port/table`, `store:/table` or `store:table`.
    pub fn parse(text: &str) -> Result<Location, Error> {
        let error = |reason: &str| Error::Location { location: text.into(), reason: reason.into() };
        let rest = text.strip_prefix("store:").ok_or_else(|| error("begins with none of: store:"))?;
        let (authority, table) = match rest.strip_prefix("//") {
            Some(rest) => {
                let (authority, table) =
                    rest.split_once('/').ok_or_else(|| error("names no table; append '/TABLE'"))?;
                (Some(authority.to_string()).filter(|authority| !authority.is_empty()), table)
            }
            None => (None, rest.strip_prefix('/').unwrap_or(rest)),
        };
        check_table(table)?;
        Ok(Location { authority, table: table.into() })
    }

    /// The address to [`connect`] to; `embedded` (`host:port`) stands in where none was written.
    pub fn address(&self, embedded: Option<&str>) -> Result<String, Error> {
        let authority = self.authority.as_deref().or(embedded).ok_or_else(|| Error::Location {
            location: self.to_string(),
            reason: "no store runs in this cluster; write store://HOST:PORT/TABLE".into(),
        })?;
        Ok(format!("store://{authority}"))
    }
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.authority {
            Some(authority) => write!(f, "store://{authority}/{}", self.table),
            None => write!(f, "store:/{}", self.table),
        }
    }
}

/// A table's name: letters, digits, `_`, `-` and `.`, at most 200 of them.
pub(crate) fn check_table(table: &str) -> Result<(), Error> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
    match !table.is_empty() && table.len() <= 200 && table.chars().all(allowed) {
        true => Ok(()),
        false => Err(Error::Refused {
            table: table.into(),
            reason: "a table's name has 1 to 200 letters, digits, '_', '-' or '.'".into(),
        }),
    }
}

// One client per address and process: a plan that arrives at an executor carries an address, no connection.
static BACKENDS: LazyLock<DashMap<String, Arc<dyn Backend>>> = LazyLock::new(DashMap::new);

/// The client of a store (`store://host:port`), shared by the whole process. Nothing is sent until it is used.
pub fn connect(address: &str) -> Result<Arc<dyn Backend>, Error> {
    if let Some(backend) = BACKENDS.get(address) {
        return Ok(backend.clone());
    }
    let client: Arc<dyn Backend> = Arc::new(local::Client::new(address)?);
    Ok(BACKENDS.entry(address.into()).or_insert(client).clone())
}

/// Makes [`connect`] answer with this backend in this process.
pub fn register(address: &str, backend: Arc<dyn Backend>) {
    BACKENDS.insert(address.into(), backend);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_location_with_and_without_a_host_is_read() {
        for text in ["store://h:9/ztf.jd", "store:/ztf"] {
            assert_eq!(Location::parse(text).unwrap().to_string(), text);
        }
        assert_eq!(Location::parse("store:ztf").unwrap(), Location::parse("store:/ztf").unwrap());
        assert_eq!(Location::parse("store:/ztf").unwrap().address(Some("h:1")).unwrap(), "store://h:1");
    }

    #[test]
    fn a_location_that_is_none_says_why() {
        let check = |text: &str, expected: &str| {
            assert_eq!(Location::parse(text).unwrap_err().to_string(), expected);
        };
        check("kafka://x/y", "location 'kafka://x/y': begins with none of: store:");
        check("store://h:9", "location 'store://h:9': names no table; append '/TABLE'");
        check("store:/a/b", "table 'a/b': a table's name has 1 to 200 letters, digits, '_', '-' or '.'");
    }
}
