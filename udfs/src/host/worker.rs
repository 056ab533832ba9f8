//! One process that evaluates one module, and the socket to it.

use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{UnixListener, UnixStream};
use tokio::time::timeout;

use super::frames::{self, CallKind, Ended, Reply};
use super::output::{self, Tail};
use super::parent::{self, Forked, NoWorker, Parent};
use crate::manifest::Module;

/// Time for a process that closed its socket to end by itself, so that its own exit status can be told.
const END_TIMEOUT: Duration = Duration::from_secs(2);
/// Time for a worker that has connected to be accepted.
const ACCEPT_TIMEOUT: Duration = Duration::from_secs(10);
/// The signal of a process that took more processor time than it may.
const SIGXCPU: i32 = 24;

/// A worker that has connected. Dropping it ends the process and what that started.
#[derive(Debug)]
pub struct Worker {
    parent: Parent,
    /// None once it was seen to its end.
    forked: Option<Forked>,
    stream: UnixStream,
    /// Whether it had to import the module, and no call has told so yet.
    imported: bool,
}

/// What became of a request.
pub enum Asked {
    Answered(Reply, Vec<u8>),
    Died(Death),
}

/// How a worker ended.
#[derive(Debug)]
pub struct Death {
    /// As rows that cause it are told.
    pub reason: String,
    /// Most memory that it had in RAM, in KiB.
    pub peak_kib: u64,
}

/// Makes the directory of sockets, for this user alone, and gives its absolute path.
pub fn create_socket_dir(path: &Path) -> io::Result<PathBuf> {
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(path)?;
    std::path::absolute(path)
}

impl Worker {
    /// Forks a worker of the module and waits until it has connected.
    pub async fn start(parent: &Parent, module: &Arc<Module>) -> Result<Self, NoWorker> {
        let (socket, listener) = parent::listen(parent.socket_dir()).map_err(NoWorker::Died)?;
        let forked = parent.fork(module, &socket).await;
        let started = match forked {
            Ok(forked) => Self::accept(parent, module, forked, listener).await,
            Err(reason) => Err(reason),
        };
        // One worker connects to it once: the file is of no use after that.
        let _ = std::fs::remove_file(&socket);
        started
    }

    async fn accept(
        parent: &Parent,
        module: &Module,
        forked: Forked,
        listener: UnixListener,
    ) -> Result<Self, NoWorker> {
        let connected = timeout(ACCEPT_TIMEOUT, async {
            let (printed, _) = listener.accept().await?;
            let (stream, _) = listener.accept().await?;
            io::Result::Ok((printed, stream))
        });
        let reason = match connected.await {
            Ok(Ok((printed, stream))) => {
                tokio::spawn(output::log(printed, Tail::default(), module.name.clone()));
                let (pid, imports, took) = (forked.pid, forked.imports, forked.took);
                tracing::info!(module = module.name, pid, imports, ?took, "a module has another worker");
                return Ok(Self { parent: parent.clone(), forked: Some(forked), stream, imported: imports });
            }
            Ok(Err(error)) => error.to_string(),
            Err(_) => format!("no connection within {ACCEPT_TIMEOUT:?}"),
        };
        parent.end(forked, Duration::ZERO).await;
        Err(NoWorker::Died(reason))
    }

    pub fn pid(&self) -> u32 {
        self.forked.as_ref().map_or(0, |forked| forked.pid)
    }

    /// Whether it had to import the module itself; true once.
    pub fn take_imported(&mut self) -> bool {
        std::mem::take(&mut self.imported)
    }

    /// Sends rows and waits for their values; a worker that takes longer than the module may is killed.
    pub async fn evaluate(&mut self, module: &Module, body: &[u8]) -> Asked {
        let limit = module.timeout;
        let asked = timeout(limit, async {
            frames::write(&mut self.stream, CallKind::Evaluate, body).await?;
            frames::read(&mut self.stream).await
        });
        match asked.await {
            Ok(Ok((reply, body))) => Asked::Answered(reply, body),
            Ok(Err(error)) => {
                let ended = self.end(END_TIMEOUT).await;
                let peak_kib = ended.as_ref().map_or(0, |ended| ended.peak_kib);
                let reason = ended.map_or_else(|| format!("worker died: {error}"), |ended| told(&ended, module));
                Asked::Died(Death { reason, peak_kib })
            }
            Err(_) => {
                let peak_kib = self.end(Duration::ZERO).await.map_or(0, |ended| ended.peak_kib);
                Asked::Died(Death { reason: format!("worker timed out after {limit:?}"), peak_kib })
            }
        }
    }

    /// Ends the process and what it started, after up to `grace` to end by itself.
    pub async fn end(&mut self, grace: Duration) -> Option<Ended> {
        let forked = self.forked.take()?;
        self.parent.end(forked, grace).await
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        if let Some(forked) = self.forked.take() {
            drop(self.parent.end(forked, Duration::ZERO));
        }
    }
}

/// The reason that rows get.
fn told(ended: &Ended, module: &Module) -> String {
    match (ended.signal, module.cpu_limit) {
        (Some(SIGXCPU), Some(limit)) => format!("worker took more than {limit:?} of processor time"),
        (Some(signal), _) => format!("worker died: signal {signal}{}", name(signal)),
        (None, _) => format!("worker died: exit code {}", ended.code.unwrap_or_default()),
    }
}

fn name(signal: i32) -> &'static str {
    match signal {
        6 => " (abort)",
        7 => " (bus error)",
        11 => " (segmentation fault)",
        _ => "",
    }
}
