//! Replays real alerts into a folder or tarball, and at once into a Kafka topic, with a little of everything mixed in:
//! `replay SOURCE COUNT OUT_DIR_OR_TAR [--kafka HOST:PORT TOPIC PARTITIONS]`

use std::path::PathBuf;

use anyhow::{Context, bail};
use redpoll_simulator::{Config, Kafka, Origin, Partitioning, Shares, Sink, run};

fn main() -> anyhow::Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let [source, count, output, ref kafka @ ..] = args[..] else {
        bail!("usage: replay SOURCE COUNT OUT_DIR_OR_TAR [--kafka HOST:PORT TOPIC PARTITIONS]");
    };
    let file = PathBuf::from(output);
    let is_tarball = [".tar", ".tar.gz", ".tgz"].iter().any(|ending| output.ends_with(ending));
    let mut sinks = vec![if is_tarball { Sink::Tarball(file) } else { Sink::Folder(file) }];
    match kafka {
        [] => {}
        ["--kafka", servers, topic, partitions] => sinks.push(Sink::Kafka(Kafka {
            servers: servers.to_string(),
            topic: topic.to_string(),
            n_partitions: partitions.parse().context("PARTITIONS is not a number")?,
            partitioning: Partitioning::Random,
            options: Default::default(),
        })),
        other => bail!("unexpected {other:?}"),
    }
    let config = Config {
        origin: Origin::Replayed { path: source.into() },
        count: count.parse().context("COUNT is not a number")?,
        shares: Shares::MIXED,
        sinks,
        ..Config::default()
    };
    println!("{:#?}", run(&config, |_, _| {})?);
    Ok(())
}
