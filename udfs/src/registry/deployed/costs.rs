//! What modules cost, as `redpoll module bench` measured it, by fingerprint: another version costs anew.
//!
//! ```text
//! <warehouse>/_redpoll/modules/costs/<fingerprint>.json
//! ```

use object_store::path::Path;
use object_store::{ObjectStoreExt, PutPayload};
use serde::{Deserialize, Serialize};

use super::{Deployed, Error};

/// What one version of a module takes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Cost {
    /// In calls of as many rows as its manifest allows, from the request to the column, half of the calls [µs].
    pub micros_per_alert: f64,
    /// Arrow IPC of its arguments [bytes].
    pub bytes_per_alert: f64,
    /// Most memory of a worker [MiB].
    pub memory_mib: Option<u64>,
    /// By rows of a call, in order.
    pub by_rows: Vec<Step>,
    /// Alerts that it was measured on.
    pub n_alerts: usize,
    /// Milliseconds since 1970-01-01 UTC.
    pub measured_at: i64,
}

/// What an alert takes in calls of so many rows.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Step {
    pub rows: usize,
    /// Half of the calls [µs].
    pub p50: f64,
    /// 99% of the calls [µs].
    pub p99: f64,
}

impl Deployed {
    /// What was measured of this version last; nothing if nobody did.
    pub async fn cost(&self, fingerprint: &str) -> Result<Option<Cost>, Error> {
        let path = self.cost_path(fingerprint);
        let read = async { self.place.store.get(&path).await?.bytes().await };
        match read.await {
            Ok(bytes) => serde_json::from_slice(&bytes).map(Some).map_err(|source| Error::Malformed { path, source }),
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(source) => Err(Error::Store { path, source }),
        }
    }

    /// Keeps what was measured, in the place of what was measured before.
    pub async fn put_cost(&self, fingerprint: &str, cost: &Cost) -> Result<(), Error> {
        let path = self.cost_path(fingerprint);
        let body = serde_json::to_vec(cost).map_err(|source| Error::Malformed { path: path.clone(), source })?;
        let put = self.place.store.put(&path, PutPayload::from(body)).await;
        put.map(|_| ()).map_err(|source| Error::Store { path, source })
    }

    fn cost_path(&self, fingerprint: &str) -> Path {
        self.place.path.clone().join("costs").join(format!("{fingerprint}.json"))
    }
}

#[cfg(test)]
mod tests {
    use redpoll_core::objects::Stores;

    use super::*;

    #[tokio::test]
    async fn a_cost_is_that_of_one_version_and_the_last_one_counts() {
        let folder = tempfile::tempdir().unwrap();
        let deployed = Deployed::of(&Stores::default(), folder.path().to_str().unwrap()).unwrap();
        assert_eq!(deployed.cost("a").await.unwrap(), None);
        let cost = |micros_per_alert| Cost {
            micros_per_alert,
            bytes_per_alert: 100.0,
            memory_mib: Some(90),
            by_rows: vec![Step { rows: 100, p50: 5.0, p99: 9.0 }],
            n_alerts: 1000,
            measured_at: 0,
        };
        for micros in [5.0, 4.0] {
            deployed.put_cost("a", &cost(micros)).await.unwrap();
        }
        assert_eq!(deployed.cost("a").await.unwrap(), Some(cost(4.0)));
        assert_eq!(deployed.cost("b").await.unwrap(), None);
    }
}
