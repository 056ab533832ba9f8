//! Starts worker processes from one thread that lives as long as the host.
//!
//! The kernel's signal to a child on its parent's death is sent when the *thread* that started it ends: a worker
//! started by a thread of a runtime's pool would be killed when that thread goes idle.

use std::io;
use std::sync::mpsc;

use tokio::process::{Child, Command};
use tokio::runtime::Handle;
use tokio::sync::oneshot;

type Request = (Command, oneshot::Sender<io::Result<Child>>);

/// A handle to the thread, which ends with the last handle.
#[derive(Debug, Clone)]
pub struct Spawner(mpsc::Sender<Request>);

impl Spawner {
    pub fn start(runtime: Handle) -> io::Result<Self> {
        let (sender, requests) = mpsc::channel::<Request>();
        std::thread::Builder::new().name("worker-parent".into()).spawn(move || {
            let _entered = runtime.enter();
            for (mut command, reply) in requests {
                // Nobody waits any more when the call was dropped; the child is killed with it.
                let _ = reply.send(command.spawn());
            }
        })?;
        Ok(Self(sender))
    }

    pub async fn spawn(&self, command: Command) -> io::Result<Child> {
        let (reply, child) = oneshot::channel();
        let ended = || io::Error::other("the thread that starts workers has ended");
        self.0.send((command, reply)).map_err(|_| ended())?;
        child.await.map_err(|_| ended())?
    }
}
