//! A broker of the test's own goes away and comes back. It takes half a minute: set `REDPOLL_FAULTS` to run it.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::*;

/// A broker beside the shared one, stopped when dropped.
pub(super) struct Own {
    folder: tempfile::TempDir,
    port: u16,
    certificates: Option<PathBuf>,
}

const BROKER: &str = "127.0.0.1:29092";

impl Own {
    /// On `port`, and on those after it as the script orders them.
    pub(super) fn start_at(port: u16, certificates: Option<&Path>) -> Own {
        let own = Own { folder: tempfile::tempdir().unwrap(), port, certificates: certificates.map(Path::to_owned) };
        own.run("start");
        own
    }

    fn run(&self, command: &str) {
        let script = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../tests/services/kafka.sh");
        let status = Command::new(script)
            .arg(command)
            .env("REDPOLL_RUN_DIR", self.folder.path())
            .env("KAFKA_PORT", self.port.to_string())
            .env("KAFKA_CONTROLLER_PORT", (self.port + 1).to_string())
            .env("KAFKA_SASL_PORT", (self.port + 3).to_string())
            .env("KAFKA_TLS_PORT", (self.port + 4).to_string())
            .envs(self.certificates.as_ref().map(|folder| ("KAFKA_TLS", folder)))
            .status()
            .unwrap();
        assert!(status.success(), "kafka.sh {command}");
    }
}

impl Drop for Own {
    fn drop(&mut self) {
        self.run("stop");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_restarts_loses_and_doubles_nothing() {
    if std::env::var("REDPOLL_FAULTS").is_err() {
        eprintln!("skipped: REDPOLL_FAULTS is not set; it starts a Kafka of its own");
        return;
    }
    let own = Own::start_at(29092, None);
    let input = topic(BROKER, 1, &[]).await;
    let output = topic(BROKER, 1, &[]).await;
    // More than is fetched ahead, so that the reading is cut in the middle.
    let values: Vec<_> = (0..2000).map(|i: usize| i.to_string().into_bytes().repeat(5_000)).collect();
    write(BROKER, &input, 1, &values).await;
    let config =
        config(BROKER, &input, &[("compression", "none"), ("prefetch.bytes", "1MiB"), ("stall.timeout", "60s")]);
    prepare(&config, &[], 1).await.unwrap();

    let source = Source::new(config.clone()).unwrap();
    let range = source.available(&Offsets::new(), Start::Earliest, u64::MAX).await.unwrap().remove(0);
    let transaction = producing(&config, &input, 0, 0).await;
    let mut records = source.read(range);
    for i in 0..values.len() {
        if i == values.len() / 2 {
            tokio::task::block_in_place(|| own.run("restart"));
        }
        let record = records.try_next().await.unwrap().expect("a record for each value");
        assert_eq!((record.offset, &record.value[..]), (i as i64, &values[i][..]));
        send(&transaction, &output, &[&i.to_string()]).await;
    }
    assert!(records.try_next().await.unwrap().is_none());
    transaction.commit("all".into()).await.unwrap();
    let expected: Vec<_> = (0..values.len()).map(|i| i.to_string()).collect();
    assert_eq!(settled_values(&config.with_topics(Topics::Names(vec![output]))).await, expected);
}
