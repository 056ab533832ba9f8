//! Stays with a job until it ends, and lets the user stop it: once to drain, twice to quit.

use std::time::Duration;

use anyhow::{Context, Result};
use redpoll_scheduler::coordinator::Status;
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::client::{Client, Error};
use crate::cluster::Cluster;
use crate::exit::{INTERRUPTED, Told};
use crate::progress::{self, JobProgress};
use crate::under_way::{Ahead, UnderWay};

const POLL: Duration = Duration::from_millis(200);

/// How a job ended, and whether its user ended it.
#[derive(Debug)]
pub struct Ended {
    pub status: Status,
    pub interrupted: bool,
}

pub async fn until_ended(cluster: &Cluster, first: Status) -> Result<Ended> {
    let client = &cluster.client;
    let name = first.name.clone();
    let mut progress = JobProgress::new(&first);
    let mut under_way = cluster.warehouse().map(|warehouse| UnderWay::new(warehouse.clone(), &name));
    let mut signals = Signals::new()?;
    let (mut status, mut interrupted) = (first, false);
    while !status.is_over() {
        let ahead = match &mut under_way {
            Some(under_way) => under_way.look(&status).await,
            None => Ahead::default(),
        };
        progress.show(&status, &ahead);
        tokio::select! {
            () = tokio::time::sleep(POLL) => {}
            () = signals.next() => {
                if interrupted {
                    progress.finish();
                    progress::say(left(cluster, &name).await);
                    return Err(Told(INTERRUPTED).into());
                }
                interrupted = true;
                progress::say(format!("stopping {name} once its epoch is done; Ctrl-C again quits at once"));
                client.stop(&name).await?;
            }
        }
        status = ask(client, &name).await?;
    }
    progress.finish();
    Ok(Ended { status, interrupted })
}

/// What a job leaves that is quit at once.
async fn left(cluster: &Cluster, name: &str) -> String {
    let Some(warehouse) = cluster.warehouse() else {
        return format!("{name} goes on at its scheduler, and stops there once its epoch is done");
    };
    match warehouse.fold(name).await.map(|fold| fold.leaves()) {
        Ok(Some(left)) => format!("{name} is left as it is: {left}"),
        Ok(None) => format!("{name} is left with everything published; the next run goes on from there"),
        Err(error) => format!("{name} is left as it is: {error:#}"),
    }
}

/// A scheduler that is busy for a moment is asked again.
async fn ask(client: &Client, name: &str) -> Result<Status> {
    let mut tries = 0;
    loop {
        match client.job(name).await {
            Err(Error::Unreachable { .. }) if tries < 25 => {
                tries += 1;
                tokio::time::sleep(POLL).await;
            }
            answer => return answer.with_context(|| format!("job {name} was lost from sight; it may still run")),
        }
    }
}

/// Ctrl-C, and what a service manager sends.
struct Signals {
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    fn new() -> Result<Self> {
        let of = |kind| signal(kind).context("signals cannot be heard");
        Ok(Self { interrupt: of(SignalKind::interrupt())?, terminate: of(SignalKind::terminate())? })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}

/// Ends with the first Ctrl-C or request of a service manager.
pub fn asked_to_stop() -> Result<impl Future<Output = ()>> {
    let mut signals = Signals::new()?;
    Ok(async move { signals.next().await })
}
