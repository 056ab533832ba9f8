//! How fast alerts decode and encode: `cargo run --example avro_speed -- ztf FILE.avro…` prints microseconds per alert,
//! with all columns, without cutouts, and with the few columns a cut reads.

use std::sync::Arc;
use std::time::{Duration, Instant};

use redpoll_connectors::avro::{Decoder, Encoder, Format, ReaderSchema, Timestamps};
use redpoll_core::source::Record;

type Outcome<T> = Result<T, Box<dyn std::error::Error>>;

const SPLIT_BYTES: usize = 8 << 20;
const LEAST: Duration = Duration::from_secs(2);

fn main() -> Outcome<()> {
    let mut args = std::env::args().skip(1);
    let survey = args.next().ok_or("say ztf or lsst, then files")?;
    let schema = std::fs::read_to_string(format!("pipelines/{survey}/schemas/alert.avsc"))?;
    let reader = ReaderSchema::from_avsc(&schema)?;
    let files: Vec<_> = args.map(|path| Ok(record(std::fs::read(path)?))).collect::<std::io::Result<_>>()?;
    // As much as a split has, whatever the number of files.
    let bytes: usize = files.iter().map(|file| file.value.len()).sum();
    let rounds = (SPLIT_BYTES / bytes.max(1)).max(1);
    let records: Vec<_> = files.iter().cycle().take(rounds * files.len()).cloned().collect();
    let cutouts = |name: &str| name.starts_with("cutout");
    let names = reader.fields().iter().map(|field| field.name().clone());
    let without: Vec<_> = names.filter(|name| !cutouts(name)).collect();
    let first = reader.fields().iter().find(|field| field.name().starts_with("cand") || field.name() == "diaSourceId");
    let one: Vec<_> = first.map(|field| field.name().clone()).into_iter().collect();
    for (what, projection) in
        [("all columns", None), ("without cutouts", Some(&without[..])), ("the id", Some(&one[..]))]
    {
        let mut decoder = Decoder::new(Format::Container, &reader, projection)?;
        time(&format!("decode {what}"), || Ok(decoder.decode(&records).batch.num_rows()))?;
    }
    let batch = Decoder::new(Format::Container, &reader, None)?.decode(&records).batch;
    let encoder = Encoder::new(batch.schema(), "alert", Timestamps::Logical)?;
    time("encode all columns", || Ok(encoder.datums(&batch)?.len()))?;
    Ok(())
}

fn time(what: &str, mut work: impl FnMut() -> Outcome<usize>) -> Outcome<()> {
    let (mut n, begin, start) = (0, Instant::now(), cpu_nanos()?);
    while begin.elapsed() < LEAST {
        n += work()?;
    }
    println!("{what}: {:.1} us of CPU per alert, mean of {n}", (cpu_nanos()? - start) as f64 / 1e3 / n as f64);
    Ok(())
}

/// Time on a CPU, so that a busy machine does not matter (Linux: first number of `schedstat`).
fn cpu_nanos() -> Outcome<u64> {
    let stat = std::fs::read_to_string("/proc/thread-self/schedstat")?;
    Ok(stat.split(' ').next().ok_or("empty schedstat")?.parse()?)
}

fn record(value: Vec<u8>) -> Record {
    Record { topic: Arc::from("f"), partition: 0, offset: 0, timestamp: None, key: None, value: value.into() }
}
