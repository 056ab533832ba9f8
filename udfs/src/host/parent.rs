//! The warm parent of an environment: a Python process that imports modules and forks their workers.
//!
//! A module is imported once however many workers it has, and a worker that died is replaced within milliseconds.
//! The parent has no threads, so that a fork is whole; requests to it are answered one after another. If it dies, all
//! its workers do, and the next call starts another.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::net::unix::pipe::Receiver;
use tokio::net::{UnixListener, UnixStream};
use tokio::process::{Child, Command};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::timeout;
use uuid::Uuid;

use super::Error;
use super::frames::{self, CallKind, Declared, Ended, Reply};
use super::output::{self, Tail};
use super::spawner::Spawner;
use crate::environment;
use crate::manifest::Module;

/// Time for what a process that ended has printed to arrive.
const LAST_WORDS: Duration = Duration::from_secs(2);
/// Time beside that of the import: for a machine with more to do.
const SLACK: Duration = Duration::from_secs(15);

/// Modules of equal keys are imported by one parent.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ParentKey {
    environment: String,
    network: bool,
}

impl ParentKey {
    pub fn of(module: &Module) -> Self {
        Self { environment: environment::key(&module.environment), network: module.network }
    }
}

/// What starting processes takes.
#[derive(Debug, Clone)]
pub struct Start {
    pub interpreter: PathBuf,
    pub python_path: PathBuf,
    pub socket_dir: PathBuf,
    pub network: bool,
    /// Longest time until a process has connected, and for an import.
    pub timeout: Duration,
    pub spawner: Spawner,
}

/// Why there is no worker.
#[derive(Debug)]
pub enum NoWorker {
    /// The module cannot be used: trying again would not help.
    Refused(Error),
    /// A process did not come up, or died on the way.
    Died(String),
}

/// A worker that a parent has forked, which connects by itself.
#[derive(Debug)]
pub struct Forked {
    pub pid: u32,
    /// The parent process, which alone knows how the worker will have ended.
    parent: u32,
    /// Whether the worker had to import the module itself, since its import starts threads.
    pub imports: bool,
    pub took: Duration,
}

/// A handle to the parent of one environment; it ends with the last of them.
#[derive(Debug, Clone)]
pub struct Parent {
    socket_dir: PathBuf,
    // Without a bound: a worker, or a call that waits for one, has at most one request in it.
    requests: mpsc::UnboundedSender<Request>,
}

#[derive(Debug)]
enum Request {
    Fork { module: Arc<Module>, socket: PathBuf, reply: oneshot::Sender<Result<Forked, NoWorker>> },
    End { worker: Forked, grace: Duration, reply: oneshot::Sender<Option<Ended>> },
}

impl Parent {
    /// Of a process that is started when the first worker is asked for.
    pub fn new(start: Start) -> Self {
        let (requests, received) = mpsc::unbounded_channel();
        let socket_dir = start.socket_dir.clone();
        tokio::spawn(Keeper { start, process: None }.answer(received));
        Self { socket_dir, requests }
    }

    pub fn socket_dir(&self) -> &Path {
        &self.socket_dir
    }

    /// Forks a worker of the module, which connects to `socket`. Starts the parent and imports the module if that was
    /// not done. Dropped before it ends, it leaves no worker.
    pub async fn fork(&self, module: &Arc<Module>, socket: &Path) -> Result<Forked, NoWorker> {
        let (reply, forked) = oneshot::channel();
        _ = self.requests.send(Request::Fork { module: module.clone(), socket: socket.to_path_buf(), reply });
        forked.await.unwrap_or_else(|_| Err(NoWorker::Died("the host has ended".into())))
    }

    /// Ends a worker that this parent has forked and all that it started, after up to `grace` to end by itself. Gives
    /// how it ended, unless the parent died itself. It goes on when it is dropped.
    pub fn end(&self, worker: Forked, grace: Duration) -> impl Future<Output = Option<Ended>> + use<> {
        let (reply, ended) = oneshot::channel();
        _ = self.requests.send(Request::End { worker, grace, reply });
        async move { ended.await.ok().flatten() }
    }
}

/// Owns the process. Requests to it are never left half-answered, whoever stops waiting.
struct Keeper {
    start: Start,
    process: Option<Process>,
}

/// Dropping it kills the parent, and thereby its workers.
#[derive(Debug)]
struct Process {
    child: Child,
    pid: u32,
    stream: UnixStream,
    /// By key: whether the parent has the module, rather than each worker.
    loaded: HashMap<String, bool>,
}

impl Keeper {
    async fn answer(mut self, mut requests: mpsc::UnboundedReceiver<Request>) {
        while let Some(request) = requests.recv().await {
            match request {
                Request::Fork { module, socket, reply } if !reply.is_closed() => {
                    if let Err(Ok(unwanted)) = reply.send(self.fork(&module, &socket).await) {
                        self.end(&unwanted, Duration::ZERO).await;
                    }
                }
                Request::Fork { .. } => {}
                Request::End { worker, grace, reply } => _ = reply.send(self.end(&worker, grace).await),
            }
        }
    }

    async fn fork(&mut self, module: &Module, socket: &Path) -> Result<Forked, NoWorker> {
        let mut process = match self.process.take() {
            Some(process) => process,
            None => Process::start(&self.start).await.map_err(NoWorker::Died)?,
        };
        let forked = process.fork(module, socket, self.start.timeout).await;
        // A parent that does not answer is of no use to anybody: it is dropped here.
        if !matches!(forked, Err((_, Broken(true)))) {
            self.process = Some(process);
        }
        forked.map_err(|(reason, _)| reason)
    }

    async fn end(&mut self, worker: &Forked, grace: Duration) -> Option<Ended> {
        let process = self.process.as_mut().filter(|process| process.pid == worker.parent)?;
        let call = CallKind::End { pid: worker.pid, grace: grace.as_secs_f64() };
        match process.ask(call, grace + SLACK).await {
            Ok(reply) => Some(reply.ended),
            Err(reason) => {
                tracing::warn!(parent = process.pid, reason, "the parent of workers is started again");
                self.process = None;
                None
            }
        }
    }
}

/// Whether the parent itself no longer answers.
#[derive(Debug)]
struct Broken(bool);

impl Process {
    /// Starts a process and waits until it has connected; the error is what it printed, or why it did not come.
    async fn start(start: &Start) -> Result<Self, String> {
        let (socket, listener) = listen(&start.socket_dir)?;
        let tail = Tail::default();
        let begun = spawn(start, &socket, tail.clone()).await;
        let connected = match begun {
            Ok((child, log)) => connect(child, log, listener, start.timeout, tail).await,
            Err(error) => Err(format!("{}: {error}", start.interpreter.display())),
        };
        // One process connects to it: the file is of no use after that.
        let _ = std::fs::remove_file(&socket);
        connected
    }

    async fn fork(&mut self, module: &Module, socket: &Path, limit: Duration) -> Result<Forked, (NoWorker, Broken)> {
        let begun = Instant::now();
        let key = super::key(module);
        let imported = self.load(&key, module, limit).await?;
        let call = CallKind::Fork {
            key: &key,
            path: socket,
            seconds: limit.as_secs_f64(),
            memory_limit_mb: module.memory_limit_mb,
            cpu_limit_s: module.cpu_limit.map(|limit| limit.as_secs()),
        };
        match self.ask(call, limit + SLACK).await {
            Err(reason) => Err((NoWorker::Died(reason), Broken(true))),
            Ok(reply) if !reply.ok => Err((NoWorker::Died(reply.error), Broken(false))),
            Ok(reply) => Ok(Forked { pid: reply.pid, parent: self.pid, imports: !imported, took: begun.elapsed() }),
        }
    }

    /// Whether the module is imported by the parent, rather than by each worker.
    async fn load(&mut self, key: &str, module: &Module, limit: Duration) -> Result<bool, (NoWorker, Broken)> {
        if let Some(imported) = self.loaded.get(key) {
            return Ok(*imported);
        }
        let call = CallKind::Load {
            key,
            module: Declared::of(module),
            seconds: limit.as_secs_f64(),
            memory_limit_mb: module.memory_limit_mb,
        };
        let reply = self.ask(call, 2 * limit + SLACK).await.map_err(|reason| (NoWorker::Died(reason), Broken(true)))?;
        if !reply.ok {
            let (module, function) = (module.name.clone(), module.function.clone());
            return Err((NoWorker::Refused(Error::Load { module, function, reason: reply.error }), Broken(false)));
        }
        if !reply.imported {
            tracing::info!(
                module = module.name,
                "a module starts threads when it is imported: each of its workers imports it"
            );
        }
        self.loaded.insert(key.to_string(), reply.imported);
        Ok(reply.imported)
    }

    async fn ask(&mut self, call: CallKind<'_>, limit: Duration) -> Result<Reply, String> {
        let asked = timeout(limit, async {
            frames::write(&mut self.stream, call, &[]).await?;
            frames::read(&mut self.stream).await
        });
        match asked.await {
            Ok(Ok((reply, _))) => Ok(reply),
            Ok(Err(error)) => match timeout(LAST_WORDS, self.child.wait()).await {
                Ok(Ok(status)) => Err(format!("the parent of its workers died: {status}")),
                _ => Err(format!("the parent of its workers: {error}")),
            },
            Err(_) => Err(format!("the parent of its workers did not answer within {limit:?}")),
        }
    }
}

/// A new socket, which only this user reaches, and its path.
pub fn listen(dir: &Path) -> Result<(PathBuf, UnixListener), String> {
    let name = Uuid::new_v4().simple().to_string();
    let socket = dir.join(format!("{}.sock", &name[..12]));
    let listener = UnixListener::bind(&socket).map_err(|error| format!("{}: {error}", socket.display()))?;
    Ok((socket, listener))
}

async fn spawn(start: &Start, socket: &Path, tail: Tail) -> std::io::Result<(Child, JoinHandle<()>)> {
    let (read, write) = std::io::pipe()?;
    let mut command = Command::new(&start.interpreter);
    command.args(["-u", "-m", "redpoll.worker", "--socket"]).arg(socket);
    command.args(["--parent", &std::process::id().to_string()]);
    if start.network {
        command.arg("--network");
    }
    // `python -m` looks for packages where it stands first: not in whatever folder the executor was started.
    command.current_dir(&start.python_path);
    command.env("PYTHONPATH", &start.python_path).env("PYTHONNOUSERSITE", "1").env_remove("PYTHONHOME");
    command.stdin(Stdio::null()).stdout(write.try_clone()?).stderr(write).kill_on_drop(true);
    let child = start.spawner.spawn(command).await?;
    let log = tokio::spawn(output::log(Receiver::from_owned_fd(read.into())?, tail, String::new()));
    Ok((child, log))
}

async fn connect(
    mut child: Child,
    log: JoinHandle<()>,
    listener: UnixListener,
    limit: Duration,
    tail: Tail,
) -> Result<Process, String> {
    let pid = child.id().unwrap_or_default();
    let connected = timeout(limit, async {
        tokio::select! {
            accepted = listener.accept() => accepted.map(|(stream, _)| Some(stream)),
            status = child.wait() => status.map(|_| None),
        }
    });
    let mut stream = match connected.await {
        Err(_) => return Err(format!("no connection within {limit:?}; it printed:\n{}", tail.text())),
        Ok(Err(error)) => return Err(error.to_string()),
        Ok(Ok(Some(stream))) => stream,
        Ok(Ok(None)) => {
            // Its last words may still be in the pipe, which has ended with it.
            let _ = timeout(LAST_WORDS, log).await;
            return Err(format!("it ended with:\n{}", tail.text()));
        }
    };
    let (hello, _) =
        frames::read(&mut stream).await.map_err(|error| format!("its greeting cannot be read: {error}"))?;
    told_once(&hello.network);
    Ok(Process { child, pid, stream, loaded: HashMap::new() })
}

/// Says, once, that the kernel does not keep modules from the network.
fn told_once(reason: &str) {
    static TOLD: std::sync::Once = std::sync::Once::new();
    if !reason.is_empty() {
        TOLD.call_once(|| tracing::warn!(reason, "science modules are kept from the network by Python alone"));
    }
}
