use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

use arrow::array::{ArrayRef, Float64Array, Int64Array, new_null_array};
use async_trait::async_trait;
use datafusion::execution::TaskContext;
use datafusion::physical_expr::expressions::{Column, binary, lit};
use object_store::ObjectStore;
use tokio::sync::Semaphore;

use super::*;
use crate::catalog::{Catalog, Cone};
use crate::runtime::{Decode, Evaluated, Marker, Runtime, SourceSpec};
use crate::sink::{self, Attempt, OpenSink, SinkSet};
use crate::source::{self, Source};
use crate::steps::{SplitRun, notes_field, split_run};

/// A module that gives back what it gets, fails on multiples of 5, and waits for a permit in each call.
#[derive(Debug)]
struct Echo {
    permits: Semaphore,
    calls: Mutex<Vec<(i64, usize)>>,
    under_way: AtomicUsize,
    most: AtomicUsize,
}

#[async_trait]
impl Runtime for Echo {
    fn executor(&self) -> &str {
        "one"
    }

    async fn source(&self, _: &SourceSpec) -> Result<Arc<dyn Source>, source::Error> {
        unreachable!("nothing is fetched")
    }

    fn decoder(&self, _: &SourceSpec, _: &SchemaRef, _: &SchemaRef) -> Result<Box<dyn Decode>, source::Error> {
        unreachable!("nothing is decoded")
    }

    async fn sinks(&self, _: &Attempt, _: &[OpenSink]) -> Result<Box<dyn SinkSet>, sink::Error> {
        unreachable!("nothing is written")
    }

    fn marker(&self, _: &OpenSink, _: Option<&str>) -> Result<Option<Box<dyn Marker>>, sink::Error> {
        unreachable!("nothing is written")
    }

    async fn evaluate(&self, _: &Version, epoch: i64, args: RecordBatch) -> Result<Evaluated, String> {
        self.calls.lock().unwrap().push((epoch, args.num_rows()));
        self.most.fetch_max(self.under_way.fetch_add(1, SeqCst) + 1, SeqCst);
        self.permits.acquire().await.unwrap().forget();
        self.under_way.fetch_sub(1, SeqCst);
        let given = args.column(0).as_primitive::<Int64Type>();
        let values: ArrayRef = Arc::new(given.iter().map(|x| x.filter(|x| x % 5 != 0)).collect::<Int64Array>());
        let failures = given.values().iter().enumerate().filter(|(_, x)| *x % 5 == 0);
        let failures = failures.map(|(row, x)| (row, format!("{x}"))).collect();
        Ok(Evaluated { values, failures, took: ModuleCounts { restarts: 1, ..ModuleCounts::default() } })
    }

    async fn crossmatch(
        &self,
        _: &Catalog,
        _: Cone,
        _: &DataType,
        _: &Float64Array,
        _: &Float64Array,
    ) -> Result<ArrayRef, String> {
        unreachable!("nothing is looked up")
    }

    fn objects(&self, _: &str) -> Result<(Arc<dyn ObjectStore>, object_store::path::Path), String> {
        unreachable!("nothing is put")
    }
}

/// Batches of `n_rows` rows each, counted from 1, and how many of them were taken.
fn input(n_batches: i64, n_rows: i64) -> (SendableRecordBatchStream, Arc<AtomicUsize>) {
    let fields = [Field::new("x", DataType::Int64, false), Field::new("_epoch", DataType::Int64, true), notes_field()];
    let schema = Arc::new(Schema::new(fields.to_vec()));
    let taken = Arc::new(AtomicUsize::new(0));
    let (of_schema, count) = (schema.clone(), taken.clone());
    let batches = stream::iter(0..n_batches).map(move |batch| {
        count.fetch_add(1, SeqCst);
        let x = Arc::new((batch * n_rows + 1..=(batch + 1) * n_rows).collect::<Int64Array>());
        let epoch = Arc::new(Int64Array::from(vec![7; x.len()]));
        let notes = new_null_array(notes_field().data_type(), x.len());
        Ok(RecordBatch::try_new(of_schema.clone(), vec![x, epoch, notes])?)
    });
    (Box::pin(RecordBatchStreamAdapter::new(schema, batches)), taken)
}

struct Running {
    echo: Arc<Echo>,
    run: Arc<SplitRun>,
    taken: Arc<AtomicUsize>,
    output: SendableRecordBatchStream,
}

/// Calls of at most 4 rows for what is greater than 3.
fn running(n_batches: i64, n_rows: i64, n_permits: usize) -> Running {
    let echo = Echo {
        permits: Semaphore::new(n_permits),
        calls: Mutex::default(),
        under_way: AtomicUsize::default(),
        most: AtomicUsize::default(),
    };
    let (echo, (input, taken)) = (Arc::new(echo), input(n_batches, n_rows));
    let x: Arc<dyn PhysicalExpr> = Arc::new(Column::new("x", 0));
    let gate = binary(x.clone(), datafusion::logical_expr::Operator::Gt, lit(3_i64), &input.schema()).unwrap();
    let call = Call {
        version: Version { module: "echo".into(), lock: "1".into(), bundles: None },
        shadow: None,
        column: "value".into(),
        arguments: vec![("x".into(), x)],
        gate: Some(gate),
        returns: DataType::Int64,
        sets_aside: false,
        batch_rows: 4,
        batch_bytes: 1 << 30,
    };
    let step = Enrich::new(call, None, &input.schema());
    let (run, _) = split_run::begin(&TaskContext::default());
    let context = StepContext { runtime: echo.clone(), run: run.clone() };
    Running { echo, run, taken, output: step.run(input, context).unwrap() }
}

fn column(batches: &[RecordBatch], name: &str) -> Vec<Option<i64>> {
    let columns = batches.iter().map(|batch| batch[name].as_primitive::<Int64Type>().iter().collect::<Vec<_>>());
    columns.flatten().collect()
}

#[tokio::test]
async fn calls_are_filled_over_batches_and_rows_stay_in_order() {
    let running = running(4, 5, 100);
    let batches: Vec<RecordBatch> = running.output.try_collect().await.unwrap();
    assert_eq!(column(&batches, "x"), (1..=20).map(Some).collect::<Vec<_>>());
    let expected = (1..=20).map(|x| (x > 3 && x % 5 != 0).then_some(x));
    assert_eq!(column(&batches, "value"), expected.collect::<Vec<_>>());
    let mut calls = running.echo.calls.lock().unwrap().clone();
    calls.sort_unstable();
    assert_eq!(calls, [(7, 1), (7, 4), (7, 4), (7, 4), (7, 4)]);
    let counts = running.run.counts().modules["echo"].clone();
    let expected = ModuleCounts { rows: 20, gated: 3, failed: 4, restarts: 5, ..ModuleCounts::default() };
    assert_eq!(counts, expected);
    let notes: Vec<_> =
        batches.iter().flat_map(|b| (0..b.num_rows()).map(|row| b["redpoll_notes"].is_valid(row))).collect();
    assert_eq!(notes, (1..=20).map(|x| x % 5 == 0).collect::<Vec<_>>());
}

#[tokio::test]
async fn input_is_read_while_calls_are_under_way_but_not_without_end() {
    let Running { echo, taken, output, .. } = running(100, 4, 0);
    let collected = SpawnedTask::spawn(output.try_collect::<Vec<_>>());
    let deadline = std::time::Instant::now() + Duration::from_secs(30);
    while echo.under_way.load(SeqCst) < IN_FLIGHT {
        assert!(std::time::Instant::now() < deadline, "{echo:?}");
        tokio::task::yield_now().await;
    }
    assert!(taken.load(SeqCst) <= IN_FLIGHT + 1, "{taken:?}");
    echo.permits.add_permits(100);
    let batches = collected.await.unwrap().unwrap();
    assert_eq!(column(&batches, "x").len(), 400);
    assert_eq!(echo.most.load(SeqCst), IN_FLIGHT);
}
