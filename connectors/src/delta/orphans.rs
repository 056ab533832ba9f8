//! Data files that no log entry names: what attempts left that died, or were not chosen.
//!
//! Nobody reads them, so they cost only space. Whoever knows which attempts were chosen may delete the others' files,
//! but not one that the table's log names after all.

use std::collections::BTreeSet;
use std::sync::Arc;

use object_store::ObjectStore;
use url::Url;

use super::{Error, Table, log_store};

/// The files of a table's folder, named or not, by paths below it.
pub fn folder(url: &Url) -> Result<Arc<dyn ObjectStore>, Error> {
    Ok(log_store(url)?.object_store(None))
}

impl Table {
    /// Which of these data files the newest version of the table holds, by their names without folders.
    pub async fn holds(&self, names: &BTreeSet<String>) -> Result<BTreeSet<String>, Error> {
        let mut table = self.inner.lock().await;
        table.update().await?;
        table.holds(names).await
    }
}
