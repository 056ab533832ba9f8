//! A cluster in this process: a scheduler and one executor that speak over loopback, as they would between machines. An
//! executor that the scheduler gave up, which a process on a busy machine may be, is replaced by another.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use anyhow::{Context, Result};
use axum::Router;
use redpoll_executor::Attached;
use redpoll_scheduler::engine::{self, Engine};

use crate::parts::Parts;

pub struct Embedded {
    pub engine: Engine,
    executor: Attached,
}

/// Starts both on free ports, whatever addresses the configurations name. `routes` are served beside the engine's.
pub async fn start(
    scheduler: engine::Config,
    executor: redpoll_executor::Config,
    parts: &Parts,
    routes: Router,
) -> Result<Embedded> {
    let loopback = IpAddr::V4(Ipv4Addr::LOCALHOST);
    let host = loopback.to_string();
    let scheduler = engine::Config { bind: SocketAddr::new(loopback, 0), advertise_host: host.clone(), ..scheduler };
    let engine = Engine::start(scheduler, parts.engine()?, routes).await?;
    let executor = redpoll_executor::Config {
        scheduler_host: host.clone(),
        scheduler_port: engine.address().port(),
        bind: loopback,
        port: 0,
        grpc_port: 0,
        advertise_host: Some(host),
        ..executor
    };
    let executor = Attached::start(executor, parts.executor()?).await.context("the embedded executor did not start")?;
    Ok(Embedded { engine, executor })
}

impl Embedded {
    /// Stops both at once.
    pub async fn shutdown(self) {
        self.executor.shutdown().await;
        self.engine.shutdown().await;
    }
}
