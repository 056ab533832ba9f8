//! One Python process and the socket to it.

use std::collections::HashMap;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::unix::pipe::Receiver;
use tokio::net::{UnixListener, UnixStream};
use tokio::process::{Child, ChildStdin, Command};
use tokio::task::JoinHandle;
use tokio::time::timeout;
use uuid::Uuid;

use super::Error;
use super::frames::{self, CallKind, Declared, Reply};
use super::output::{self, Tail};
use super::spawner::Spawner;
use crate::manifest::Module;

/// Time for a process that closed its socket to end by itself, so that its own exit status can be told.
const END_TIMEOUT: Duration = Duration::from_secs(2);
/// Versions of a module that a worker keeps: the one in use, and the one before it or beside it.
const VERSIONS: usize = 2;

/// What starting a worker takes.
#[derive(Debug, Clone)]
pub struct Start {
    pub interpreter: PathBuf,
    pub python_path: PathBuf,
    pub socket_dir: PathBuf,
    pub memory_limit_mb: Option<u64>,
    pub timeout: Duration,
    pub spawner: Spawner,
}

/// A worker that has connected. Dropping it kills the process.
#[derive(Debug)]
pub struct Worker {
    child: Child,
    pid: u32,
    stream: UnixStream,
    /// Names of the imported modules, with the fingerprints of their versions, the oldest first.
    loaded: HashMap<String, Vec<String>>,
    // The worker ends when this closes, on systems without a parent-death signal.
    _stdin: Option<ChildStdin>,
}

/// What became of a request.
pub enum Asked {
    Answered(Reply, Vec<u8>),
    Died(String),
}

/// What became of the import of a module.
pub enum Loaded {
    Ready,
    Refused(Error),
    Died(String),
}

/// Makes the directory of sockets, for this user alone, and gives its absolute path.
pub fn create_socket_dir(path: &Path) -> io::Result<PathBuf> {
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(path)?;
    std::path::absolute(path)
}

impl Worker {
    /// Starts a process and waits until it has connected; the error is what it printed, or why it did not come.
    pub async fn start(start: &Start) -> Result<Self, String> {
        let name = Uuid::new_v4().simple().to_string();
        let socket = start.socket_dir.join(format!("{}.sock", &name[..12]));
        let listener = UnixListener::bind(&socket).map_err(|error| format!("{}: {error}", socket.display()))?;
        let tail = Tail::default();
        let begun = spawn(start, &socket, tail.clone()).await;
        let connected = match begun {
            Ok((child, log)) => connect(child, log, listener, start.timeout, tail).await,
            Err(error) => Err(format!("{}: {error}", start.interpreter.display())),
        };
        // One worker connects to it once: the file is of no use after that.
        let _ = std::fs::remove_file(&socket);
        connected
    }

    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Imports a module, unless it is already, as it is now.
    pub async fn load(&mut self, module: &Arc<Module>, limit: Duration) -> Loaded {
        let versions = self.loaded.get(&module.name).map(Vec::as_slice).unwrap_or_default();
        if versions.contains(&module.fingerprint) {
            return Loaded::Ready;
        }
        let forget = versions[..(versions.len() + 1).saturating_sub(VERSIONS)].to_vec();
        let inputs = module.inputs.iter().map(|input| (input.name.as_str(), input.sql_type.text())).collect();
        let declared = Declared {
            key: &module.fingerprint,
            name: &module.name,
            function: &module.function,
            kind: module.kind,
            inputs,
            keys: module.inputs.iter().filter(|input| input.key).map(|input| input.name.as_str()).collect(),
            returns: module.returns.text(),
            dir: &module.dir,
        };
        let n_forgotten = forget.len();
        match self.ask(CallKind::Load { module: declared, forget }, &[], limit).await {
            Asked::Died(reason) => Loaded::Died(reason),
            Asked::Answered(reply, _) if reply.ok => {
                let versions = self.loaded.entry(module.name.clone()).or_default();
                versions.drain(..n_forgotten);
                versions.push(module.fingerprint.clone());
                Loaded::Ready
            }
            Asked::Answered(reply, _) => {
                let (module, function) = (module.name.clone(), module.function.clone());
                Loaded::Refused(Error::Load { module, function, reason: reply.error })
            }
        }
    }

    /// Sends a request and waits for its answer; a worker that takes longer than `limit` is killed.
    pub async fn ask(&mut self, call: CallKind<'_>, body: &[u8], limit: Duration) -> Asked {
        let asked = timeout(limit, async {
            frames::write(&mut self.stream, call, body).await?;
            frames::read(&mut self.stream).await
        });
        match asked.await {
            Ok(Ok((reply, body))) => Asked::Answered(reply, body),
            Ok(Err(error)) => Asked::Died(format!("worker died: {}", self.end(&error).await)),
            Err(_) => {
                let _ = self.child.kill().await;
                Asked::Died(format!("worker timed out after {limit:?}"))
            }
        }
    }

    async fn end(&mut self, error: &io::Error) -> String {
        match timeout(END_TIMEOUT, self.child.wait()).await {
            Ok(Ok(status)) => match (status.signal(), status.code()) {
                (Some(signal), _) => format!("signal {signal}"),
                (None, code) => format!("exit code {}", code.unwrap_or_default()),
            },
            _ => error.to_string(),
        }
    }
}

async fn spawn(start: &Start, socket: &Path, tail: Tail) -> io::Result<(Child, JoinHandle<()>)> {
    let (read, write) = io::pipe()?;
    let mut command = Command::new(&start.interpreter);
    command.args(["-u", "-m", "redpoll.worker", "--socket"]).arg(socket);
    command.args(["--parent", &std::process::id().to_string()]);
    if let Some(limit) = start.memory_limit_mb {
        command.args(["--memory-limit-mb", &limit.to_string()]);
    }
    // `python -m` looks for packages where it stands first: not in whatever folder the executor was started.
    command.current_dir(&start.python_path);
    command.env("PYTHONPATH", &start.python_path).env("PYTHONNOUSERSITE", "1").env_remove("PYTHONHOME");
    command.stdin(Stdio::piped()).stdout(write.try_clone()?).stderr(write).kill_on_drop(true);
    let child = start.spawner.spawn(command).await?;
    let log = tokio::spawn(output::log(Receiver::from_owned_fd(read.into())?, tail));
    Ok((child, log))
}

async fn connect(
    mut child: Child,
    log: JoinHandle<()>,
    listener: UnixListener,
    limit: Duration,
    tail: Tail,
) -> Result<Worker, String> {
    let pid = child.id().unwrap_or_default();
    let stdin = child.stdin.take();
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
            let _ = timeout(END_TIMEOUT, log).await;
            return Err(format!("it ended with:\n{}", tail.text()));
        }
    };
    frames::read(&mut stream).await.map_err(|error| format!("its greeting cannot be read: {error}"))?;
    Ok(Worker { child, pid, stream, loaded: HashMap::new(), _stdin: stdin })
}
