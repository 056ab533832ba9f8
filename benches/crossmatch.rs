//! 10,000 alerts of the whole sky against a catalogue of ten million rows, in batches as a plan has them.

use std::path::Path;
use std::sync::Arc;

use arrow::array::{ArrayRef, Float32Array, Float64Array, Int64Array, RecordBatch};
use criterion::{BenchmarkGroup, Criterion, SamplingMode, Throughput, measurement::WallTime};
use parquet::arrow::ArrowWriter;
use redpoll_connectors::catalog::{Catalogs, Config, Limits, Source, build, open};
use redpoll_core::catalog::{CatalogSpec, Cone};
use redpoll_core::objects::Stores;
use tokio::runtime::Runtime;

const ROWS: usize = 10_000_000;
const ALERTS: usize = 10_000;
/// Alerts of ZTF in a batch of 8 MiB, about.
const BATCH: usize = 200;

pub fn crossmatch(criterion: &mut Criterion) {
    let (runtime, folder) = (Runtime::new().unwrap(), tempfile::tempdir().unwrap());
    let stores = Arc::new(Stores::default());
    let source = runtime.block_on(index(folder.path(), &stores));
    let alerts = sky(ALERTS, 1 << 32);
    let mut group = criterion.benchmark_group("crossmatch");
    group.sample_size(10).sampling_mode(SamplingMode::Flat).throughput(Throughput::Elements(ALERTS as u64));
    for (what, memory) in [("nothing kept", 0), ("all kept", 1 << 30)] {
        let config = Config { memory, ..Config::new(folder.path()) };
        let catalogs = Catalogs::new(config, stores.clone());
        measure(&mut group, &runtime, what, &catalogs, &source, &alerts);
    }
}

fn measure(
    group: &mut BenchmarkGroup<'_, WallTime>,
    runtime: &Runtime,
    what: &str,
    catalogs: &Catalogs,
    source: &Source,
    (ra, dec): &(Float64Array, Float64Array),
) {
    let cone = Cone { radius: 1.5, all: false };
    let returns = cone.returns(source.schema.fields());
    group.bench_function(format!("nearest within 1.5\", batches of {BATCH}, {what}"), |bencher| {
        bencher.to_async(runtime).iter(async || {
            for first in (0..ALERTS).step_by(BATCH) {
                let (ra, dec) = (ra.slice(first, BATCH), dec.slice(first, BATCH));
                catalogs.crossmatch(&source.catalog, cone, &returns, &ra, &dec).await.unwrap();
            }
        });
    });
}

/// Right ascension and declination, by a golden-ratio sequence from a start of its own.
fn sky(n: usize, start: u64) -> (Float64Array, Float64Array) {
    let share = |i: u64, step: u64| (i.wrapping_mul(step) >> 11) as f64 / (1u64 << 53) as f64;
    let place = |i: u64| {
        let (turn, height) = (share(i, 0xC13F_A9A9_02A6_328F), share(i, 0x91E1_0DA5_C79E_7B1D));
        (turn * 360.0, (2.0 * height - 1.0).asin().to_degrees())
    };
    let (ra, dec): (Vec<f64>, Vec<f64>) = (start..start + n as u64).map(place).unzip();
    (Float64Array::from(ra), Float64Array::from(dec))
}

async fn index(folder: &Path, stores: &Arc<Stores>) -> Source {
    let (ra, dec) = sky(ROWS, 0);
    let columns: [(&str, ArrayRef); 4] = [
        ("source_id", Arc::new(Int64Array::from_iter_values(0..ROWS as i64))),
        ("ra", Arc::new(ra)),
        ("dec", Arc::new(dec)),
        ("mag", Arc::new(Float32Array::from_iter_values((0..ROWS).map(|id| id as f32 / ROWS as f32)))),
    ];
    let batch = RecordBatch::try_from_iter(columns).unwrap();
    let path = folder.join("gaia.parquet");
    let mut writer = ArrowWriter::try_new(std::fs::File::create(&path).unwrap(), batch.schema(), None).unwrap();
    writer.write(&batch).unwrap();
    writer.close().unwrap();
    let spec = |path: &Path| {
        let url = path.display().to_string();
        CatalogSpec { name: "gaia".into(), url, ra: None, dec: None, columns: Vec::new() }
    };
    let source = open(&spec(&path), stores, None).await.unwrap();
    let to = folder.join("index");
    let limits = Limits { memory: 512 << 20, spill: folder.join("spill") };
    build(&source, stores, &stores.locate(to.to_str().unwrap()).unwrap(), &limits).await.unwrap();
    open(&spec(&to), stores, None).await.unwrap()
}
