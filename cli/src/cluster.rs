//! Who does the work: the scheduler that `--scheduler` names, or one started in this process.

use anyhow::{Context, Result};
use url::Url;

use crate::args::{Local, Place};
use crate::client::Client;
use crate::roles::{self, Embedded, EmbeddedConfig, Purpose};
use crate::shipped;
use crate::warehouse::Warehouse;

pub struct Cluster {
    pub client: Client,
    embedded: Option<(Embedded, Warehouse)>,
}

impl Cluster {
    pub async fn of(place: &Place, local: &Local) -> Result<Self> {
        Self::with_purpose(place, local, Purpose::Work).await
    }

    /// For those who only ask: a warehouse stays as it is.
    pub async fn to_look(place: &Place, local: &Local) -> Result<Self> {
        Self::with_purpose(place, local, Purpose::Look).await
    }

    async fn with_purpose(place: &Place, local: &Local, purpose: Purpose) -> Result<Self> {
        if let Some(url) = &place.scheduler {
            return Ok(Self { client: Client::new(url.clone())?, embedded: None });
        }
        let warehouse = Warehouse::open(&place.warehouse)?;
        let cache = shipped::cache(local.modules.cache.as_deref());
        let config = EmbeddedConfig {
            warehouse: place.warehouse.clone(),
            purpose,
            vcores: local.vcores.unwrap_or_default(),
            memory: local.memory,
            modules: shipped::modules(&local.modules.modules)?,
            catalogs: shipped::catalogs(&cache, &local.catalogs),
            cache,
        };
        let embedded = roles::embedded(config).await.context("the cluster in this process did not start")?;
        let url = Url::parse(&format!("http://{}", embedded.address))?;
        Ok(Self { client: Client::new(url)?, embedded: Some((embedded, warehouse)) })
    }

    /// It ends with this process.
    pub fn is_embedded(&self) -> bool {
        self.embedded.is_some()
    }

    /// The warehouse of a cluster in this process; another cluster's may be out of reach.
    pub fn warehouse(&self) -> Option<&Warehouse> {
        self.embedded.as_ref().map(|(_, warehouse)| warehouse)
    }

    pub async fn close(self) {
        if let Some((embedded, _)) = self.embedded {
            embedded.shutdown().await;
        }
    }
}
