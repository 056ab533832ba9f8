//! A store that nobody made yet, for processes that only look: it has no tables, and takes none.

use async_trait::async_trait;
use futures::stream::{self, BoxStream, StreamExt};

use crate::widecolumn::{Backend, Batch, Error, Scan, nearest};

#[derive(Debug, Clone, Copy)]
pub struct Unmade;

impl Unmade {
    fn refuse(table: &str) -> Error {
        Error::Refused { table: table.into(), reason: "this process only looks, and there is no store yet".into() }
    }
}

#[async_trait]
impl Backend for Unmade {
    async fn create(&self, table: &str, _: &[String]) -> Result<(), Error> {
        Err(Self::refuse(table))
    }

    async fn put(&self, table: &str, _: Batch) -> Result<(), Error> {
        Err(Self::refuse(table))
    }

    fn scan(&self, table: &str, _: Scan) -> BoxStream<'static, Result<Batch, Error>> {
        let missing = Error::MissingTable { table: table.into(), remedy: nearest(table, [""; 0]) };
        stream::once(async move { Err(missing) }).boxed()
    }

    async fn tables(&self) -> Result<Vec<String>, Error> {
        Ok(Vec::new())
    }
}
