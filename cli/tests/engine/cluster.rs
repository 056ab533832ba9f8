//! A scheduler in this process and executors in processes of their own: this test binary, started again.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use datafusion::logical_expr::LogicalPlan;
use datafusion::prelude::SessionContext;
use redpoll_cli::parts::Parts;
use redpoll_core::objects::Stores;
use redpoll_scheduler::engine::{Config, Engine, Query};
use tokio::signal::unix::{SignalKind, signal};

use crate::splits::{Codec, Splits, attempts};

const SCHEDULER: &str = "REDPOLL_TEST_SCHEDULER_PORT";
const WORK_DIR: &str = "REDPOLL_TEST_WORK_DIR";
const GROUP: &str = "REDPOLL_TEST_GROUP";
const PORTS: &str = "REDPOLL_TEST_PORTS";
pub const PATIENCE: Duration = Duration::from_secs(60);

pub fn parts() -> Parts {
    Parts { stores: Arc::new(Stores::default()), functions: vec![], nodes: Arc::new(Codec), tables: Arc::new(Codec) }
}

pub struct Cluster {
    pub engine: Engine,
    pub executors: Vec<Node>,
    folder: tempfile::TempDir,
}

impl Cluster {
    pub async fn start(n_executors: usize, config: Config) -> Self {
        let engine = start(Config { bind: "127.0.0.1:0".parse().unwrap(), ..config }).await;
        let mut cluster = Self { engine, executors: vec![], folder: tempfile::tempdir().unwrap() };
        for _ in 0..n_executors {
            cluster.add_executor().await;
        }
        cluster
    }

    pub async fn add_executor(&mut self) {
        self.add_executor_of("live").await;
    }

    pub async fn add_executor_of(&mut self, group: &str) {
        let before = self.engine.executors().await.len();
        self.executors.push(Node::start(self.engine.address().port(), self.folder.path(), group));
        let engine = self.engine.clone();
        until("the executor joins", async || engine.executors().await.len() > before).await;
    }

    /// A fresh folder for attempts.
    pub fn folder(&self, name: &str) -> PathBuf {
        let folder = self.folder.path().join(name);
        for state in ["started", "done"] {
            std::fs::create_dir_all(folder.join(state)).unwrap();
        }
        folder
    }

    pub async fn take(&self, folder: &Path, millis: u64, splits: impl IntoIterator<Item = u64>) -> Query {
        let (session, plan) = self.plan(Splits { millis, ..Splits::new(folder, splits) });
        self.engine.submit("test", None, &session, &plan).await.unwrap()
    }

    /// One stage that takes splits.
    pub fn plan(&self, splits: Splits) -> (SessionContext, LogicalPlan) {
        let session = self.engine.session().unwrap();
        let plan = session.read_table(Arc::new(splits)).unwrap().logical_plan().clone();
        (session, plan)
    }

    /// Two stages: the first takes splits, the second takes one row for each of them: the sums of its values and of
    /// its rows.
    pub async fn two_stages(&self, splits: Splits, sink: Splits) -> (SessionContext, LogicalPlan) {
        let session = self.engine.session().unwrap();
        session.register_table("splits", Arc::new(splits)).unwrap();
        session.register_table("sink", Arc::new(sink)).unwrap();
        let sql = "INSERT INTO sink SELECT split, sum(value), sum(n) FROM splits GROUP BY split";
        let plan = session.state().create_logical_plan(sql).await.unwrap();
        (session, plan)
    }

    /// The scheduler goes and another comes in its place.
    pub async fn restart_scheduler(&mut self) {
        let bind = self.engine.address();
        self.engine.shutdown().await;
        self.engine = start(Config { bind, ..Config::default() }).await;
    }

    /// The next query runs to its end, once per split: nothing of an earlier one is left in the way.
    pub async fn works(&self, name: &str) {
        let folder = self.folder(name);
        let query = self.take(&folder, 1, 0..8).await;
        tokio::time::timeout(PATIENCE, query.finished()).await.expect("no vcore is lost").unwrap();
        let splits: Vec<_> = attempts(&folder, "done").iter().map(|(split, _)| *split).collect();
        assert_eq!(splits, (0..8).collect::<Vec<_>>());
    }
}

async fn start(config: Config) -> Engine {
    let config = Config { advertise_host: "127.0.0.1".into(), ..config };
    Engine::start(config, parts().engine().unwrap(), axum::Router::new()).await.unwrap()
}

/// An executor in a process of its own, killed with this value.
pub struct Node {
    command: Command,
    child: Child,
}

impl Node {
    fn start(scheduler: u16, work_dir: &Path, group: &str) -> Self {
        // Both are held until both are known, so that they differ.
        let free = || TcpListener::bind("127.0.0.1:0").unwrap();
        let ports = [free(), free()].map(|listener| listener.local_addr().unwrap().port().to_string());
        let mut command = Command::new(std::env::current_exe().unwrap());
        command
            .args(["--exact", "node", "--ignored", "--nocapture"])
            .env(SCHEDULER, scheduler.to_string())
            .env(WORK_DIR, work_dir.join("work"))
            .env(GROUP, group)
            .env(PORTS, ports.join(" "))
            .stdin(Stdio::piped())
            .stdout(Stdio::null());
        let child = command.spawn().unwrap();
        Self { command, child }
    }

    /// Another process takes its place, with the same address and folder.
    pub fn start_again(&mut self) {
        self.child = self.command.spawn().unwrap();
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// SIGKILL.
    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    pub fn signal(&self, name: &str) {
        assert!(Command::new("kill").args([format!("-{name}"), self.pid().to_string()]).status().unwrap().success());
    }

    /// Tells it to drain; it then exits.
    pub fn drain(&mut self) {
        self.child.stdin.take().unwrap().write_all(b"drain").unwrap();
    }

    pub fn has_exited(&mut self) -> bool {
        self.child.try_wait().unwrap().is_some()
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        _ = self.child.kill();
        _ = self.child.wait();
    }
}

/// The child's side: works until its parent closes the pipe, and drains if it was told so.
pub async fn run_node() {
    let (Ok(port), Ok(work_dir)) = (std::env::var(SCHEDULER), std::env::var(WORK_DIR)) else { return };
    let group = std::env::var(GROUP).unwrap();
    let ports: Vec<u16> = std::env::var(PORTS).unwrap().split(' ').map(|port| port.parse().unwrap()).collect();
    let config = redpoll_executor::Config {
        scheduler_host: "127.0.0.1".into(),
        scheduler_port: port.parse().unwrap(),
        advertise_host: Some("127.0.0.1".into()),
        port: ports[0],
        grpc_port: ports[1],
        group,
        vcores: 2,
        work_dir: work_dir.into(),
        ..Default::default()
    };
    let mut terminated = signal(SignalKind::terminate()).unwrap();
    let told_to_drain = async {
        let told = tokio::task::spawn_blocking(|| {
            let mut told = String::new();
            _ = std::io::stdin().read_to_string(&mut told);
            told
        });
        tokio::select! {
            told = told => if told.unwrap() != "drain" {
                std::process::exit(0);
            },
            _ = terminated.recv() => {}
        }
    };
    redpoll_executor::run(config, parts().executor().unwrap(), told_to_drain, PATIENCE).await.unwrap();
    // A runtime that ends waits for the thread that still reads.
    std::process::exit(0);
}

/// Looks every 20 ms until it is so.
pub async fn until(what: &str, so: impl AsyncFn() -> bool) {
    let start = Instant::now();
    while !so().await {
        assert!(start.elapsed() < PATIENCE, "{what} in vain");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
