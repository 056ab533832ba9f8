//! Each way in which a worker may misbehave: it costs the row that did it, and nothing beside it.

use super::*;

/// What one call of a module comes to that does this on the row 5 of 9.
async fn misbehaves(what: &str, limits: &str, expected: &str) {
    let it = written(&format!("def it(x):\n    if 5 in x.to_pylist():\n        {what}\n    return x\n"), limits);
    let good = written("def it(x):\n    return pc.negate(x)\n", "");
    let Some(host) = host(&[it.module.clone(), good.module.clone()], 2).await else { return };
    let batch = ints(0..9);
    let (evaluated, beside) =
        tokio::join!(host.evaluate(&it.module, &batch, 0), host.evaluate(&good.module, &batch, 0));
    let (evaluated, beside) = (evaluated.unwrap(), beside.unwrap());
    let failed = !expected.is_empty();
    assert_eq!(values(&evaluated), (0..9).map(|x| (x != 5 || !failed).then_some(x)).collect::<Vec<_>>(), "{what}");
    assert_eq!(values(&beside), (0..9).map(|x| Some(-x)).collect::<Vec<_>>(), "beside {what}");
    match &evaluated.failures[..] {
        [] => assert!(!failed, "{what}"),
        [(5, reason)] => assert!(reason.contains(expected), "{what}: {reason}"),
        other => panic!("{what}: {other:?}"),
    }
}

#[tokio::test]
async fn a_worker_that_segfaults_costs_its_row() {
    let what = "import ctypes; ctypes.string_at(0)";
    misbehaves(what, "", "worker died: signal 11 (segmentation fault)").await;
}

#[tokio::test]
async fn a_worker_that_exits_costs_its_row() {
    misbehaves("os._exit(7)", "", "worker died: exit code 7").await;
    misbehaves("import sys; sys.exit(7)", "", "SystemExit: 7").await;
}

#[tokio::test]
async fn a_worker_that_hangs_costs_its_row() {
    misbehaves("import time; time.sleep(600)", "timeout = \"200ms\"", "worker timed out after 200ms").await;
}

#[tokio::test]
async fn a_worker_that_computes_for_ever_costs_its_row() {
    let expected = "worker took more than 1s of processor time";
    misbehaves("while True: pass", "cpu_limit = \"1s\"", expected).await;
}

#[tokio::test]
async fn a_worker_that_takes_4_gb_costs_its_row() {
    misbehaves("bytearray(4 << 30)", "memory_limit_mb = 1024", "MemoryError").await;
}

#[tokio::test]
async fn a_worker_that_prints_costs_nothing() {
    misbehaves("print('noise' * 100_000); os.write(1, b'\\xff\\x00' * 100_000)", "", "").await;
}

#[tokio::test]
async fn a_worker_that_forks_a_child_costs_nothing() {
    misbehaves("os.fork() or os._exit(0)", "", "").await;
    misbehaves("os.fork()", "", "").await;
}

#[tokio::test]
async fn a_worker_that_opens_a_socket_costs_its_row() {
    let what = "import socket; socket.create_connection(('127.0.0.1', 9))";
    misbehaves(what, "", "PermissionError: module it may not use the network: write `network = true`").await;
}
