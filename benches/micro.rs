//! What single steps cost: decode, encode, the hop to a worker of Python, an epoch.
//!
//! `benches/micro` runs this and writes the figures down. By hand, in the profile of everything else:
//! `cargo bench --profile dev --workspace --bench micro`. Alerts are those of the folder `$REDPOLL_BENCH_ALERTS`, else the
//! few in `tests/fixtures`.

#![allow(clippy::unwrap_used, reason = "a bench that cannot run has nothing to say")]

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use arrow::array::{ArrayRef, Float64Builder, ListBuilder, RecordBatch};
use criterion::{BatchSize, BenchmarkGroup, Criterion, SamplingMode, Throughput, measurement::WallTime};
use criterion::{criterion_group, criterion_main};
use redpoll_cli::client::Client;
use redpoll_cli::roles::{self, EmbeddedConfig};
use redpoll_cli::shipped;
use redpoll_connectors::avro::{Decoder, Encoder, Format, ReaderSchema, Timestamps};
use redpoll_core::protocol::Pipeline;
use redpoll_core::source::Record;
use redpoll_scheduler::coordinator::{JobConfig, Mode};
use redpoll_udfs::host::{Host, HostConfig};
use redpoll_udfs::manifest::Module;
use tokio::runtime::Runtime;

/// Bytes of alerts decoded at a time: what a batch of `Fetch` has.
const BATCH_BYTES: usize = 8 << 20;
/// Rows and points a row sent to a worker: 8 MiB of doubles.
const HOP_ROWS: usize = 8192;
const HOP_POINTS: usize = 128;

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_path_buf()
}

fn alert_files() -> Vec<PathBuf> {
    let given = std::env::var_os("REDPOLL_BENCH_ALERTS").map(PathBuf::from);
    let folder = given.unwrap_or_else(|| repository().join("tests/fixtures/ztf"));
    let mut files: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| path.extension().is_some_and(|extension| extension == "avro"));
    files.sort();
    files
}

fn record(value: Vec<u8>) -> Record {
    Record { topic: Arc::from("f"), partition: 0, offset: 0, timestamp: None, key: None, value: value.into() }
}

fn avro(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("avro");
    survey(&mut group, "ztf", &alert_files(), "candid");
    let lsst = repository().join("tests/fixtures/lsst/fink_out_lsst_7.avro");
    survey(&mut group, "lsst", &[lsst], "diaSourceId");
}

fn survey(group: &mut BenchmarkGroup<'_, WallTime>, survey: &str, files: &[PathBuf], id: &str) {
    let schema = repository().join(format!("pipelines/{survey}/schemas/alert.avsc"));
    let reader = ReaderSchema::from_avsc(&std::fs::read_to_string(schema).unwrap()).unwrap();
    let files: Vec<_> = files.iter().map(|path| record(std::fs::read(path).unwrap())).collect();
    let bytes: usize = files.iter().map(|file| file.value.len()).sum();
    let rounds = (BATCH_BYTES / bytes.max(1)).max(1);
    let records: Vec<_> = files.iter().cycle().take(rounds * files.len()).cloned().collect();
    let names = reader.fields().iter().map(|field| field.name().clone());
    let without: Vec<_> = names.filter(|name| !name.starts_with("cutout")).collect();
    let id = [id.to_owned()];
    for (what, projection) in
        [("decode all columns", None), ("decode without cutouts", Some(&without[..])), ("decode the id", Some(&id[..]))]
    {
        let mut decoder = Decoder::new(Format::Container, &reader, projection).unwrap();
        group.throughput(Throughput::Elements(decoder.decode(&records).batch.num_rows() as u64));
        group.bench_function(format!("{survey}, {what}"), |bencher| bencher.iter(|| decoder.decode(&records)));
    }
    let batch = Decoder::new(Format::Container, &reader, None).unwrap().decode(&records).batch;
    let encoder = Encoder::new(batch.schema(), "alert", Timestamps::Logical).unwrap();
    group.throughput(Throughput::Elements(batch.num_rows() as u64));
    group.bench_function(format!("{survey}, encode all columns"), |bencher| {
        bencher.iter(|| encoder.datums(&batch).unwrap());
    });
}

/// A function that does nothing, so that what is left is the way to it and back.
fn hop(criterion: &mut Criterion) {
    let runtime = Runtime::new().unwrap();
    let mut group = criterion.benchmark_group("hop");
    group.throughput(Throughput::Elements(HOP_ROWS as u64));
    for kind in ["arrow", "pandas"] {
        let folder = tempfile::tempdir().unwrap();
        let module = Arc::new(identity(folder.path(), kind));
        let _inside = runtime.enter();
        let host = Host::start(HostConfig::new(shipped::cache(None))).unwrap();
        if let Err(error) = runtime.block_on(host.prepare(std::slice::from_ref(&module))) {
            println!("skipped: the hop with {kind}: {error}");
            continue;
        }
        let rows = histories();
        group.bench_function(format!("8192 rows of 128 doubles, {kind}"), |bencher| {
            bencher.to_async(&runtime).iter_batched(
                || (host.clone(), module.clone(), rows.clone()),
                |(host, module, rows)| async move { host.evaluate(&module, &rows).await.unwrap() },
                BatchSize::SmallInput,
            );
        });
    }
}

fn identity(folder: &Path, kind: &str) -> Module {
    let requirements = repository().join("udfs/modules/redpoll.txt");
    let manifest = format!(
        "name = \"it\"\nsurvey = \"ztf\"\nfunction = \"code:it\"\nkind = \"{kind}\"\nreturns = \"list<double>\"\n\
         inputs = [{{ name = \"x\", type = \"list<double>\" }}]\nbatch_rows = {HOP_ROWS}\n\
         [environment]\npython = \"3.11\"\nrequirements = \"{}\"\n",
        requirements.display()
    );
    std::fs::write(folder.join("code.py"), "def it(x):\n    return x\n").unwrap();
    std::fs::write(folder.join("module.toml"), manifest).unwrap();
    Module::load(&folder.join("module.toml")).unwrap()
}

fn histories() -> RecordBatch {
    let mut lists = ListBuilder::new(Float64Builder::new());
    for row in 0..HOP_ROWS {
        (0..HOP_POINTS).for_each(|point| lists.values().append_value((row + point) as f64));
        lists.append(true);
    }
    let column: ArrayRef = Arc::new(lists.finish());
    RecordBatch::try_from_iter([("x", column)]).unwrap()
}

/// Epochs of two splits of one alert each, one column to one archive table: from intent to intent, as the log says.
fn epoch(criterion: &mut Criterion) {
    let runtime = Runtime::new().unwrap();
    let mut group = criterion.benchmark_group("epoch");
    group.sample_size(10).sampling_mode(SamplingMode::Flat);
    group.bench_function("two splits and one archive table", |bencher| {
        bencher.iter_custom(|n| runtime.block_on(epochs(n)));
    });
}

/// How long `n` epochs take, one after the other.
async fn epochs(n: u64) -> Duration {
    let folder = tempfile::tempdir().unwrap();
    let night = folder.path().join("night");
    std::fs::create_dir(&night).unwrap();
    let alert = alert_files().swap_remove(0);
    let split_bytes = std::fs::metadata(&alert).unwrap().len();
    for i in 0..2 * (n + 1) {
        std::fs::copy(&alert, night.join(format!("{i}.avro"))).unwrap();
    }
    let warehouse = folder.path().join("warehouse");
    let cluster = roles::embedded(EmbeddedConfig {
        warehouse: warehouse.display().to_string(),
        purpose: roles::Purpose::Work,
        vcores: 2,
        memory: None,
        modules: vec![],
        cache: shipped::cache(None),
    });
    let cluster = cluster.await.unwrap();
    let client = Client::new(format!("http://{}", cluster.address).parse().unwrap()).unwrap();
    let config = JobConfig { split_bytes, lanes: 2, ..JobConfig::new("bench", Mode::AvailableNow) };
    client.submit(&config, &pipeline(&night), None).await.unwrap();
    while client.job("bench").await.unwrap().ended.is_none() {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    cluster.shutdown().await;
    let clocks = clocks(&warehouse.join("_redpoll/jobs/bench/log"));
    assert_eq!(clocks.len() as u64, n + 1, "epochs of the job");
    Duration::from_millis((clocks[clocks.len() - 1] - clocks[0]) as u64)
}

fn pipeline(night: &Path) -> Pipeline {
    let folder = repository().join("benches");
    let file = folder.join("epoch.sql");
    Pipeline {
        text: std::fs::read_to_string(&file).unwrap(),
        file: file.display().to_string(),
        folder: folder.display().to_string(),
        working_folder: folder.display().to_string(),
        variables: [("source".to_owned(), night.display().to_string())].into(),
        ..Pipeline::default()
    }
}

/// When each epoch's intent was logged, milliseconds since 1970-01-01 UTC, in order.
fn clocks(log: &Path) -> Vec<i64> {
    let entries = std::fs::read_dir(log).unwrap().map(|entry| std::fs::read_to_string(entry.unwrap().path()).unwrap());
    let entries = entries.map(|text| serde_json::from_str::<serde_json::Value>(&text).unwrap());
    let mut clocks: Vec<i64> = entries.filter_map(|entry| entry["intent"]["clock"].as_i64()).collect();
    clocks.sort_unstable();
    clocks
}

criterion_group! {
    name = benches;
    config = Criterion::default().warm_up_time(Duration::from_secs(1));
    targets = avro, hop, epoch
}
criterion_main!(benches);
