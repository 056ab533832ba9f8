//! `redpoll executor`: runs the tasks that a scheduler hands out.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Result;
use url::Url;

use crate::args::{Catalogs, Modules, scheduler_url};
use crate::exit::Usage;
use crate::roles::{self, ExecutorConfig};
use crate::{allocator, shipped, values, watch};

const EXAMPLES: &str = "\
Examples:
  redpoll executor --scheduler http://scheduler:50050
  redpoll executor --scheduler http://scheduler:50050 --group batch \\
      --vcores 8 --memory 16GiB --metrics 0.0.0.0:9464

An executor that is told to stop ends the tasks under way first, for at most --patience.";

#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// The scheduler
    #[arg(long, env = "REDPOLL_SCHEDULER", default_value = "http://localhost:50050", value_parser = scheduler_url, value_name = "URL")]
    pub scheduler: Url,
    /// Only jobs of this group, or of none, run here
    #[arg(long, env = "REDPOLL_GROUP", default_value = "live", value_name = "GROUP")]
    pub group: String,
    /// Tasks at a time; by default as many as there are cores
    #[arg(long, env = "REDPOLL_VCORES", value_name = "N")]
    pub vcores: Option<usize>,
    /// Memory that the process may take, such as 4GiB: splits wait for their share, operators spill
    #[arg(long, env = "REDPOLL_MEMORY", value_name = "SIZE", value_parser = values::bytes)]
    pub memory: Option<u64>,
    /// Folder for results until they are fetched; by default below the system's temporary folder
    #[arg(long, env = "REDPOLL_WORK_DIR", value_name = "FOLDER")]
    pub work_dir: Option<PathBuf>,
    /// Address of the interface to listen on
    #[arg(long, env = "REDPOLL_BIND", default_value = "127.0.0.1", value_name = "ADDRESS")]
    pub bind: IpAddr,
    /// Port that serves results; 0 takes a free one
    #[arg(long, env = "REDPOLL_PORT", default_value = "0", value_name = "PORT")]
    pub port: u16,
    /// Port that takes tasks; 0 takes a free one
    #[arg(long, env = "REDPOLL_GRPC_PORT", default_value = "0", value_name = "PORT")]
    pub grpc_port: u16,
    /// Host by which others reach this executor; by default the one that the scheduler sees
    #[arg(long, env = "REDPOLL_ADVERTISE_HOST", value_name = "HOST")]
    pub advertise_host: Option<String>,
    /// host:port of a `redpoll store`; by default the scheduler's
    #[arg(long, env = "REDPOLL_STORE", value_name = "ADDRESS")]
    pub store: Option<String>,
    /// How long tasks under way may take once it is told to stop
    #[arg(long, env = "REDPOLL_PATIENCE", default_value = "30s", value_parser = values::duration, value_name = "SPAN")]
    pub patience: Duration,
    /// Address and port to serve `/metrics` of its science modules on, such as 0.0.0.0:9464
    #[arg(long, env = "REDPOLL_METRICS", value_name = "ADDRESS")]
    pub metrics: Option<SocketAddr>,
    #[command(flatten)]
    pub modules: Modules,
    #[command(flatten)]
    pub catalogs: Catalogs,
}

pub async fn run(args: Args) -> Result<()> {
    if args.memory.is_some() {
        allocator::give_back();
    }
    roles::executor(config(args)?, watch::asked_to_stop()?).await
}

fn config(args: Args) -> Result<ExecutorConfig> {
    let (Some(host), Some(port)) = (args.scheduler.host_str(), args.scheduler.port_or_known_default()) else {
        return Err(Usage(format!("--scheduler {}: names no host", args.scheduler)).into());
    };
    let defaults = redpoll_executor::Config::default();
    let executor = redpoll_executor::Config {
        scheduler_host: host.to_owned(),
        scheduler_port: port,
        bind: args.bind,
        port: args.port,
        grpc_port: args.grpc_port,
        advertise_host: args.advertise_host,
        group: args.group,
        vcores: args.vcores.unwrap_or_default(),
        work_dir: args.work_dir.unwrap_or(defaults.work_dir),
        memory_bytes: args.memory.map(roles::of_operators),
        scheduler_timeout: defaults.scheduler_timeout,
        heartbeat: defaults.heartbeat,
        max_message_bytes: defaults.max_message_bytes,
    };
    let cache = shipped::cache(args.modules.cache.as_deref());
    Ok(ExecutorConfig {
        executor,
        memory: args.memory,
        store: args.store,
        modules: shipped::modules(&args.modules.modules)?,
        catalogs: shipped::catalogs(&cache, &args.catalogs),
        cache,
        patience: args.patience,
        metrics: args.metrics,
    })
}
