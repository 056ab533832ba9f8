mod misbehaviour;

use std::path::Path;
use std::time::Instant;

use arrow::array::{Array, AsArray, Int32Array, RecordBatch};
use arrow::datatypes::{Float64Type, Int32Type};
use serde_json::value::RawValue;

use super::*;
use crate::registry::Registry;

const MODULES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/modules");

/// A host, or nothing where its environment cannot be built: without a network and without a cache.
async fn host(modules: &[Arc<Module>], n_workers: usize) -> Option<Host> {
    // Environments outlive the test run, or each would be fetched again.
    let target = std::env::current_exe().unwrap().ancestors().nth(3).unwrap().to_path_buf();
    let mut config = HostConfig::new(target.join("redpoll-test-cache"));
    config.workers_per_module = n_workers;
    let host = Host::start(config).unwrap();
    match host.prepare(modules).await {
        Err(error @ Error::Environment { .. }) => {
            eprintln!("skipped: {error}");
            None
        }
        prepared => prepared.map(|()| Some(host)).unwrap(),
    }
}

/// A module `it(x)` of an int, written to a folder of its own.
struct Written {
    _dir: tempfile::TempDir,
    module: Arc<Module>,
}

fn written(code: &str, more: &str) -> Written {
    let dir = tempfile::tempdir().unwrap();
    let here = dir.path().display();
    let manifest = format!(
        "name = \"it\"\nsurvey = \"ztf\"\nfunction = \"code:it\"\nkind = \"arrow\"\nreturns = \"int\"\n\
         inputs = [{{ name = \"x\", type = \"int\" }}]\n{more}\n\
         [environment]\npython = \"3.11\"\nrequirements = \"{MODULES}/redpoll.txt\"\n"
    );
    let head = format!("import os, signal, pathlib, pyarrow.compute as pc\nhere = pathlib.Path('{here}')\n");
    std::fs::write(dir.path().join("code.py"), head + code).unwrap();
    std::fs::write(dir.path().join("module.toml"), manifest).unwrap();
    let module = Arc::new(Module::load(&dir.path().join("module.toml")).unwrap());
    Written { _dir: dir, module }
}

fn ints(values: impl IntoIterator<Item = i32>) -> RecordBatch {
    let column: ArrayRef = Arc::new(Int32Array::from_iter_values(values));
    RecordBatch::try_from_iter([("x", column)]).unwrap()
}

fn values(evaluated: &Evaluated) -> Vec<Option<i32>> {
    evaluated.values.as_primitive::<Int32Type>().iter().collect()
}

fn is_running(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit(") ").next().is_some_and(|rest| !rest.is_empty() && !rest.starts_with(['Z', 'X']))
}

async fn until_ended(pid: u32) {
    until(&format!("the end of worker {pid}"), || !is_running(pid)).await;
}

#[tokio::test]
async fn only_the_rows_that_raise_are_null() {
    let code = "def it(x):\n    if 7 in x.to_pylist(): raise ValueError('seven')\n    return pc.add(x, 1)\n";
    let it = written(code, "batch_rows = 40");
    let Some(host) = host(std::slice::from_ref(&it.module), 1).await else { return };
    let evaluated = host.evaluate(&it.module, &ints((0..100).map(|x| x % 50)), 0).await.unwrap();
    let expected: Vec<_> = (0..100).map(|x| (x % 50 != 7).then_some(x % 50 + 1)).collect();
    assert_eq!(values(&evaluated), expected);
    let reason = "ValueError: seven".to_string();
    assert_eq!(evaluated.failures, [(7, reason.clone()), (57, reason)]);
    let metrics = host.metrics()["it"].clone();
    assert_eq!((metrics.calls, metrics.rows, metrics.failures, metrics.restarts), (1, 100, 2, 0));
    assert!(metrics.busy_micros > 0);
}

#[tokio::test]
async fn a_worker_killed_in_mid_batch_heals() {
    let code = "def it(x):\n    seen = here / 'seen'\n    if not seen.exists():\n        seen.touch()\n        os.kill(os.getpid(), signal.SIGKILL)\n    return x\n";
    let it = written(code, "");
    let Some(host) = host(std::slice::from_ref(&it.module), 1).await else { return };
    let before = host.idle_workers();
    let evaluated = host.evaluate(&it.module, &ints(0..10), 0).await.unwrap();
    assert_eq!(values(&evaluated), (0..10).map(Some).collect::<Vec<_>>());
    assert!(evaluated.failures.is_empty());
    assert_eq!(host.metrics()["it"].restarts, 1);
    assert_ne!(host.idle_workers(), before);
}

#[tokio::test]
async fn only_the_row_that_kills_workers_fails() {
    let code = "def it(x):\n    if 5 in x.to_pylist(): os.kill(os.getpid(), signal.SIGKILL)\n    return x\n";
    let it = written(code, "");
    let Some(host) = host(std::slice::from_ref(&it.module), 1).await else { return };
    let evaluated = host.evaluate(&it.module, &ints(0..9), 0).await.unwrap();
    assert_eq!(values(&evaluated), (0..9).map(|x| (x != 5).then_some(x)).collect::<Vec<_>>());
    assert_eq!(evaluated.failures, [(5, "worker died: signal 9".to_string())]);
}

#[tokio::test]
async fn a_module_that_kills_every_worker_rests() {
    let it = written("def it(x):\n    os._exit(3)\n", "batch_rows = 4\nmax_restarts = 2");
    let Some(host) = host(std::slice::from_ref(&it.module), 1).await else { return };
    let evaluated = host.evaluate(&it.module, &ints(0..12), 0).await.unwrap();
    assert_eq!(evaluated.values.null_count(), 12);
    assert_eq!(evaluated.failures[0], (0, "worker died: exit code 3".to_string()));
    assert_eq!(evaluated.failures[11], (11, "the module rests: worker died: exit code 3".to_string()));
    assert_eq!((evaluated.usage.restarts, evaluated.usage.rested), (3, 8));
    assert_eq!(host.metrics()["it"].resting.as_deref(), Some("worker died: exit code 3"));
}

#[tokio::test]
async fn a_module_that_fails_on_much_of_three_epochs_rests_and_comes_back() {
    let code = "def it(x):\n    if not (here / 'mended').exists(): raise ValueError('broken')\n    return x\n";
    let it = written(code, "");
    let Some(prepared) = host(std::slice::from_ref(&it.module), 1).await else { return };
    let mut config = prepared.inner.config.clone();
    config.rest = Duration::from_secs(3);
    let host = Host::start(config).unwrap();
    for epoch in 0..3 {
        let evaluated = host.evaluate(&it.module, &ints(0..20), epoch).await.unwrap();
        assert_eq!(evaluated.failures[0].1, "ValueError: broken", "epoch {epoch}");
    }
    let evaluated = host.evaluate(&it.module, &ints(0..20), 3).await.unwrap();
    let reason = "the module rests: it failed on 60 of 60 rows of 3 epochs, as with ValueError: broken";
    assert_eq!((evaluated.failures[19].1.as_str(), evaluated.usage.rested), (reason, 20));
    let (rest, begun) = (host.inner.config.rest, Instant::now());
    std::fs::write(it.module.dir.join("mended"), "").unwrap();
    until("the end of its rest", || begun.elapsed() >= rest).await;
    let evaluated = host.evaluate(&it.module, &ints(0..200), 4).await.unwrap();
    assert_eq!((evaluated.failures.len(), evaluated.values.null_count()), (0, 0));
    assert_eq!(host.metrics()["it"].resting, None);
}

#[tokio::test]
async fn what_a_worker_starts_ends_with_it() {
    let code = "import subprocess\ndef it(x):\n    child = subprocess.Popen(['sleep', '600'], start_new_session=True)\n    (here / 'child').write_text(str(child.pid))\n    os._exit(1)\n";
    let it = written(code, "max_restarts = 0");
    let Some(host) = host(std::slice::from_ref(&it.module), 1).await else { return };
    assert_eq!(host.evaluate(&it.module, &ints([1]), 0).await.unwrap().failures.len(), 1);
    until_ended(std::fs::read_to_string(it.module.dir.join("child")).unwrap().parse().unwrap()).await;
}

#[tokio::test]
async fn a_module_that_starts_threads_is_imported_by_its_workers() {
    let code = "import threading\nthreading.Thread(target=threading.Event().wait, daemon=True).start()\nloaded = os.getpid()\ndef it(x):\n    return pc.add(pc.multiply(x, 0), loaded)\n";
    let it = written(code, "");
    let Some(host) = host(std::slice::from_ref(&it.module), 1).await else { return };
    let workers = host.idle_workers();
    let evaluated = host.evaluate(&it.module, &ints([1]), 0).await.unwrap();
    assert_eq!((values(&evaluated), evaluated.usage.imports), (vec![Some(workers[0] as i32)], 1));
}

#[tokio::test]
async fn a_parent_that_is_killed_is_started_again() {
    let it = written("def it(x):\n    return pc.add(pc.multiply(x, 0), os.getpid())\n", "");
    let Some(host) = host(std::slice::from_ref(&it.module), 1).await else { return };
    let worker = values(&host.evaluate(&it.module, &ints([1]), 0).await.unwrap())[0].unwrap();
    let parent_of = |pid: i32| -> i32 {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
        stat.rsplit(") ").next().unwrap().split(' ').nth(1).unwrap().parse().unwrap()
    };
    let parent = parent_of(parent_of(worker));
    let killed = std::process::Command::new("kill").args(["-9", &parent.to_string()]).status().unwrap();
    assert!(killed.success());
    until_ended(worker as u32).await;
    let other = values(&host.evaluate(&it.module, &ints([1]), 0).await.unwrap())[0].unwrap();
    assert_ne!(other, worker);
}

#[tokio::test]
async fn a_large_call_is_shared_by_idle_workers() {
    let it = written("def it(x):\n    return pc.add(pc.multiply(x, 0), os.getpid())\n", "");
    let Some(host) = host(std::slice::from_ref(&it.module), 2).await else { return };
    let evaluated = host.evaluate(&it.module, &ints(0..2000), 0).await.unwrap();
    let workers: std::collections::BTreeSet<_> = values(&evaluated).into_iter().collect();
    assert_eq!((workers.len(), evaluated.usage.batches.len()), (2, 2));
}

#[tokio::test]
async fn workers_that_nobody_calls_are_ended() {
    let it = written("def it(x):\n    return x\n", "");
    let Some(prepared) = host(std::slice::from_ref(&it.module), 1).await else { return };
    let mut config = prepared.inner.config.clone();
    config.idle = Duration::from_millis(40);
    let host = Host::start(config).unwrap();
    host.evaluate(&it.module, &ints([1]), 0).await.unwrap();
    until("the end of its worker", || host.idle_workers().is_empty()).await;
    assert_eq!(values(&host.evaluate(&it.module, &ints([1]), 0).await.unwrap()), [Some(1)]);
}

#[tokio::test]
async fn a_row_that_takes_too_long_fails_alone() {
    let code = "def it(x):\n    while 1 in x.to_pylist(): pass\n    return x\n";
    let it = written(code, "timeout = \"300ms\"");
    let Some(host) = host(std::slice::from_ref(&it.module), 1).await else { return };
    let evaluated = host.evaluate(&it.module, &ints(0..3), 0).await.unwrap();
    assert_eq!(values(&evaluated), [Some(0), None, Some(2)]);
    assert_eq!(evaluated.failures, [(1, "worker timed out after 300ms".to_string())]);
}

#[tokio::test]
async fn what_a_module_prints_does_no_harm() {
    let code = "import sys\ndef it(x):\n    print('noise' * 100_000)\n    os.write(1, bytes(range(256)) * 1000)\n    sys.stderr.write('x' * 100_000)\n    return x\n";
    let it = written(code, "");
    let Some(host) = host(std::slice::from_ref(&it.module), 1).await else { return };
    for _ in 0..3 {
        assert_eq!(values(&host.evaluate(&it.module, &ints([1, 2]), 0).await.unwrap()), [Some(1), Some(2)]);
    }
}

#[tokio::test]
async fn a_call_that_is_dropped_leaves_the_pool_usable() {
    let code = "import time\ndef it(x):\n    started = here / 'started'\n    if not started.exists():\n        started.touch()\n        time.sleep(600)\n    return x\n";
    let it = written(code, "timeout = \"20m\"");
    let Some(host) = host(std::slice::from_ref(&it.module), 1).await else { return };
    let [pid] = host.idle_workers()[..] else { panic!("one worker") };
    let batch = ints([3]);
    tokio::select! {
        _ = host.evaluate(&it.module, &batch, 0) => panic!("it sleeps"),
        () = until("a call under way", || it.module.dir.join("started").exists()) => {}
    }
    assert_eq!(values(&host.evaluate(&it.module, &batch, 0).await.unwrap()), [Some(3)]);
    until_ended(pid).await;
}

/// Asks every 5 ms.
async fn until(what: &str, reached: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while !reached() {
        assert!(Instant::now() < deadline, "{what}: in vain");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn concurrent_calls_share_the_workers() {
    let it = written("def it(x):\n    return pc.multiply(x, 2)\n", "");
    let Some(host) = host(std::slice::from_ref(&it.module), 2).await else { return };
    let batches: Vec<_> = (0..20).map(|n| ints(n..n + 5)).collect();
    let calls = batches.iter().map(|batch| host.evaluate(&it.module, batch, 0));
    for (n, evaluated) in futures::future::join_all(calls).await.into_iter().enumerate() {
        assert_eq!(values(&evaluated.unwrap())[0], Some(2 * n as i32));
    }
    assert_eq!(host.idle_workers().len(), 2);
}

#[tokio::test]
async fn no_rows_give_no_values() {
    let it = written("def it(x):\n    return x\n", "");
    let Some(host) = host(std::slice::from_ref(&it.module), 1).await else { return };
    let evaluated = host.evaluate(&it.module, &ints([]), 0).await.unwrap();
    assert_eq!((evaluated.values.len(), evaluated.values.data_type()), (0, it.module.returns.data_type()));
}

#[tokio::test]
async fn a_module_that_cannot_run_is_told_before_the_night() {
    let good = written("def it(x):\n    return x\n", "");
    let Some(host) = host(&[good.module], 1).await else { return };
    for (code, expected) in [
        ("def itt(x): ...", "module it (code:it): `code` has no function `it`: did you mean `itt`?"),
        (
            "import no_such_package",
            "importing `code` failed with ModuleNotFoundError: No module named 'no_such_package'",
        ),
        ("def it(x, y): ...", "1 inputs do not fit `code:it(x, y)`"),
    ] {
        let broken = written(code, "");
        let error = host.prepare(&[broken.module]).await.unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }
}

#[tokio::test]
async fn a_module_that_changed_is_imported_again() {
    let old = written("def it(x):\n    return x\n", "");
    let Some(host) = host(std::slice::from_ref(&old.module), 1).await else { return };
    let new = written("def it(x):\n    return pc.add(x, 1)\n", "");
    for (it, expected) in [(&old, 1), (&new, 2), (&old, 1)] {
        assert_eq!(values(&host.evaluate(&it.module, &ints([1]), 0).await.unwrap()), [Some(expected)]);
    }
    assert_eq!(host.metrics()["it"].restarts, 0);
}

#[tokio::test]
async fn no_worker_outlives_its_host() {
    let it = written("def it(x):\n    return x\n", "");
    let Some(host) = host(std::slice::from_ref(&it.module), 2).await else { return };
    let workers = host.idle_workers();
    assert!(workers.len() == 1 && workers.iter().all(|pid| is_running(*pid)));
    drop(host);
    for pid in workers {
        until_ended(pid).await;
    }
}

/// Run by the next test in a process of its own, which is then killed.
#[tokio::test]
#[ignore = "waits to be killed"]
async fn an_executor_to_kill() {
    let it =
        written("import time\ndef it(x):\n    (here / 'busy').touch()\n    time.sleep(600)\n", "timeout = \"20m\"");
    let Some(host) = host(std::slice::from_ref(&it.module), 1).await else { return };
    let workers = host.idle_workers();
    let batch = ints([1]);
    let told = async {
        until("a busy worker", || it.module.dir.join("busy").exists()).await;
        eprintln!("worker {}", workers[0]);
    };
    let (busy, ()) = tokio::join!(host.evaluate(&it.module, &batch, 0), told);
    busy.unwrap();
}

#[tokio::test]
async fn no_worker_outlives_a_killed_executor() {
    let it = written("def it(x):\n    return x\n", "");
    if host(std::slice::from_ref(&it.module), 1).await.is_none() {
        return;
    }
    let mut executor = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "host::tests::an_executor_to_kill", "--ignored", "--nocapture"])
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let lines = std::io::BufRead::lines(std::io::BufReader::new(executor.stderr.take().unwrap()));
    let pid = lines.map_while(Result::ok).find_map(|line| line.strip_prefix("worker ")?.parse().ok()).unwrap();
    executor.kill().unwrap();
    executor.wait().unwrap();
    until_ended(pid).await;
}

fn samples() -> std::path::PathBuf {
    let default = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/data");
    std::env::var_os("REDPOLL_SAMPLES").map_or(default, Into::into)
}

async fn parquet(file: &str) -> RecordBatch {
    let path = samples().join("ztf").join(file);
    let context = datafusion::prelude::SessionContext::new();
    let frame = context.read_parquet(path.to_str().unwrap(), Default::default()).await.unwrap();
    let schema = Arc::new(frame.schema().as_arrow().clone());
    arrow::compute::concat_batches(&schema, &frame.collect().await.unwrap()).unwrap()
}

/// What Spark returned for each row, as JSON; `None` for null.
fn reference(answers: &RecordBatch, column: &str) -> Vec<Option<Box<RawValue>>> {
    let text =
        arrow::compute::cast(answers.column_by_name(column).unwrap(), &arrow::datatypes::DataType::Utf8).unwrap();
    text.as_string::<i32>().iter().map(|text| text.and_then(|text| serde_json::from_str(text).unwrap())).collect()
}

#[tokio::test]
async fn fink_science_modules_give_what_spark_gave() {
    if !samples().join("ztf/spark_reference_273.parquet").exists() {
        eprintln!("skipped: {} has no Spark reference; set REDPOLL_SAMPLES", samples().display());
        return;
    }
    let registry = Registry::load(&[MODULES]).unwrap();
    let modules = ["roid_catcher", "nalerthist", "standardized_flux"].map(|name| registry.get(name).unwrap().clone());
    let Some(host) = host(&modules, 1).await else { return };
    let (alerts, answers) =
        (parquet("spark_reference_input_273.parquet").await, parquet("spark_reference_273.parquet").await);
    assert_eq!((alerts.num_rows(), alerts.column_by_name("candid")), (273, answers.column_by_name("candid")));
    let of = |columns: &str| {
        let indexes: Vec<_> = columns.split(' ').map(|name| alerts.schema().index_of(name).unwrap()).collect();
        alerts.project(&indexes).unwrap()
    };
    let arguments = [
        of("cjd cmagpsf ndethist sgscore1 ssdistnr distpsnr1"),
        of("cmagpsf"),
        of("candid objectId cdistnr cmagpsf csigmapsf cmagnr csigmagnr cisdiffpos cfid cjd"),
    ];
    let mut evaluated = Vec::new();
    for (module, arguments) in modules.iter().zip(&arguments) {
        evaluated.push(host.evaluate(module, arguments, 0).await.unwrap());
        assert!(evaluated.last().unwrap().failures.is_empty());
    }
    let [roid, nalerthist, flux] = &evaluated[..] else { unreachable!() };
    for (got, column) in [(roid, "asteroids.roid_catcher"), (nalerthist, "nalerthist.nalerthist")] {
        let expected = reference(&answers, column);
        let expected: Vec<_> =
            expected.iter().map(|json| json.as_ref().map(|json| json.get().parse().unwrap())).collect();
        assert_eq!(values(got), expected, "{column}");
    }
    for (row, expected) in reference(&answers, "standardized_flux.standardized_flux").iter().enumerate() {
        assert_eq!(map_at(&flux.values, row), expected.as_deref().map(lists), "row {row}");
    }
}

#[tokio::test]
async fn our_modules_run_on_real_alerts() {
    if !samples().join("ztf/spark_reference_input_273.parquet").exists() {
        eprintln!("skipped: {} has no alerts; set REDPOLL_SAMPLES", samples().display());
        return;
    }
    let registry = Registry::load(&[MODULES]).unwrap();
    let modules = ["history_statistics", "rise_rate"].map(|name| registry.get(name).unwrap().clone());
    let Some(host) = host(&modules, 1).await else { return };
    let alerts = parquet("spark_reference_input_273.parquet").await;
    let mut columns: Vec<_> = ["cjd", "cmagpsf", "csigmapsf", "cfid", "fid"].map(|c| (c, alerts[c].clone())).into();
    let statistics =
        host.evaluate(&modules[0], &RecordBatch::try_from_iter(columns.clone()).unwrap(), 0).await.unwrap();
    let last: ArrayRef = Arc::new(Int32Array::from(vec![1000; alerts.num_rows()]));
    columns.push(("last", last));
    let rate = host.evaluate(&modules[1], &RecordBatch::try_from_iter(columns).unwrap(), 0).await.unwrap();
    assert!(statistics.failures.is_empty() && rate.failures.is_empty());
    assert_eq!(statistics.values.data_type(), modules[0].returns.data_type());
    // With no bound on the number of detections, both use the same ones.
    assert_eq!(statistics.values.as_struct().column(0), rate.values.as_struct().column(0));
    assert!(statistics.values.as_struct().column(0).as_primitive::<Int32Type>().values().iter().all(|n| *n > 0));
}

type Lists = BTreeMap<String, Vec<Option<u64>>>;

/// A map of lists with the bits of its doubles: equal is equal to the last digit.
fn map_at(values: &ArrayRef, row: usize) -> Option<Lists> {
    let map = values.as_map();
    let entries = map.is_valid(row).then(|| map.value(row))?;
    let (keys, lists) = (entries.column(0).as_string::<i32>(), entries.column(1).as_list::<i32>());
    let bits =
        |list: ArrayRef| list.as_primitive::<Float64Type>().iter().map(|value| value.map(f64::to_bits)).collect();
    Some(keys.iter().zip(lists.iter()).map(|(key, list)| (key.unwrap().to_string(), bits(list.unwrap()))).collect())
}

fn lists(json: &RawValue) -> Lists {
    let lists: BTreeMap<String, Vec<Option<Box<RawValue>>>> = serde_json::from_str(json.get()).unwrap();
    let bits = |value: Option<Box<RawValue>>| value.map(|value| value.get().parse::<f64>().unwrap().to_bits());
    lists.into_iter().map(|(key, values)| (key, values.into_iter().map(bits).collect())).collect()
}

#[tokio::test]
async fn two_versions_of_a_module_run_side_by_side_each_with_its_own_files() {
    let code = "import helper\ndef it(x): return pc.add(x, helper.MORE)\n";
    let versions = [10, 20, 30].map(|more| {
        let it = written(code, "");
        std::fs::write(it.module.dir.join("helper.py"), format!("MORE = {more}\n")).unwrap();
        it
    });
    let Some(host) = host(std::slice::from_ref(&versions[0].module), 1).await else { return };
    let broken = written("import no_such_package\n", "");
    for at in [0, 1, 0, 2, 1, 0] {
        host.evaluate(&broken.module, &ints([1]), 0).await.unwrap_err();
        let evaluated = host.evaluate(&versions[at].module, &ints([1]), 0).await.unwrap();
        assert_eq!(values(&evaluated), [Some(1 + [10, 20, 30][at])]);
    }
}

#[tokio::test]
async fn arguments_come_as_they_are_and_optional_ones_may_be_left_out() {
    let code = "def it(x, more=None):\n    return pc.add(pc.list_value_length(x), 0 if more is None else len(more[0].as_py()))\n";
    let mut it = written(code, "");
    let manifest = std::fs::read_to_string(it.module.dir.join("module.toml")).unwrap();
    let inputs = r#"{ name = "x" }, { name = "more", optional = true }"#;
    std::fs::write(it.module.dir.join("module.toml"), manifest.replace(r#"{ name = "x", type = "int" }"#, inputs))
        .unwrap();
    it.module = Arc::new(Module::load(&it.module.dir.join("module.toml")).unwrap());
    let Some(host) = host(std::slice::from_ref(&it.module), 1).await else { return };
    let list: ArrayRef = Arc::new(arrow::array::ListArray::from_iter_primitive::<Int32Type, _, _>([
        Some(vec![Some(1), None]),
        Some(vec![]),
    ]));
    let text: ArrayRef = Arc::new(arrow::array::StringViewArray::from(vec!["abc", "abc"]));
    let one = RecordBatch::try_from_iter([("x", list.clone())]).unwrap();
    assert_eq!(values(&host.evaluate(&it.module, &one, 0).await.unwrap()), [Some(2), Some(0)]);
    let both = RecordBatch::try_from_iter([("x", list), ("more", text)]).unwrap();
    assert_eq!(values(&host.evaluate(&it.module, &both, 0).await.unwrap()), [Some(5), Some(3)]);
}

#[tokio::test]
async fn rows_of_one_call_are_grouped_together_however_many() {
    let code = "def it(frame):\n    return [len(frame)]\n";
    let mut it = written(code, "batch_rows = 2");
    let manifest = std::fs::read_to_string(it.module.dir.join("module.toml")).unwrap();
    let grouped =
        manifest.replace("\"arrow\"", "\"grouped\"").replace("type = \"int\" }", "type = \"int\", key = true }");
    std::fs::write(it.module.dir.join("module.toml"), grouped).unwrap();
    it.module = Arc::new(Module::load(&it.module.dir.join("module.toml")).unwrap());
    let Some(host) = host(std::slice::from_ref(&it.module), 1).await else { return };
    let evaluated = host.evaluate(&it.module, &ints([1, 2, 1, 1, 2]), 0).await.unwrap();
    assert_eq!(values(&evaluated), [3, 2, 3, 3, 2].map(Some));
}
