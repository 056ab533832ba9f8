//! `redpoll scheduler`: serves jobs, queries and their executors.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Result;
use redpoll_scheduler::coordinator::sweep;
use redpoll_scheduler::engine;

use crate::args::Modules;
use crate::roles::{self, SchedulerConfig};
use crate::{allocator, shipped, values, watch};

const EXAMPLES: &str = "\
Examples:
  redpoll scheduler --warehouse s3://archive/redpoll \\
      --bind 0.0.0.0:50050 --advertise-host scheduler
  redpoll executor --scheduler http://scheduler:50050

One port serves executors, REST under /v1/, /metrics, /healthz and /readyz. Everything durable is in the warehouse: a \
new scheduler goes on with every job.";

#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// Folder or s3://bucket/prefix that holds tables and logs of jobs
    #[arg(long, env = "REDPOLL_WAREHOUSE", default_value = "./warehouse", value_name = "URL")]
    pub warehouse: String,
    /// Address and port to listen on
    #[arg(long, env = "REDPOLL_BIND", default_value = "127.0.0.1:50050", value_name = "ADDRESS")]
    pub bind: SocketAddr,
    /// Host by which executors reach this scheduler
    #[arg(long, env = "REDPOLL_ADVERTISE_HOST", default_value = "localhost", value_name = "HOST")]
    pub advertise_host: String,
    /// host:port of a `redpoll store`; by default the scheduler serves the store itself
    #[arg(long, env = "REDPOLL_STORE", value_name = "ADDRESS")]
    pub store: Option<String>,
    /// /readyz says no until this many executors are there
    #[arg(long, env = "REDPOLL_MIN_EXECUTORS", default_value = "1", value_name = "N")]
    pub min_executors: usize,
    /// Without a heartbeat for this long an executor is given up
    #[arg(long, env = "REDPOLL_EXECUTOR_TIMEOUT", default_value = "15s", value_parser = values::duration, value_name = "SPAN")]
    pub executor_timeout: Duration,
    /// Bytes of the answer to a question that are held in memory; what goes beyond waits in the temporary folder
    #[arg(long, env = "REDPOLL_RESULT_MEMORY", default_value = "16MiB", value_parser = values::bytes, value_name = "SIZE")]
    pub result_memory: u64,
    /// The largest answer to a question
    #[arg(long, env = "REDPOLL_RESULT_LIMIT", default_value = "8GiB", value_parser = values::bytes, value_name = "SIZE")]
    pub result_limit: u64,
    /// Entries of a job's log between two checkpoints, which bound what opening a job reads
    #[arg(long, env = "REDPOLL_CHECKPOINT_EVERY", default_value = "1000", value_name = "N", value_parser = clap::value_parser!(u64).range(1..), help_heading = "Sweeping")]
    pub checkpoint_every: u64,
    /// Time between two sweeps of old log entries and receipts
    #[arg(long, env = "REDPOLL_SWEEP_INTERVAL", default_value = "10m", value_parser = values::duration, value_name = "SPAN", help_heading = "Sweeping")]
    pub sweep_interval: Duration,
    /// Time between two sweeps of data files that no attempt of a committed epoch left on purpose
    #[arg(long, env = "REDPOLL_ORPHAN_INTERVAL", default_value = "24h", value_parser = values::duration, value_name = "SPAN", help_heading = "Sweeping")]
    pub orphan_interval: Duration,
    /// Nothing younger is swept
    #[arg(long, env = "REDPOLL_SWEEP_AGE", default_value = "1h", value_parser = values::duration, value_name = "SPAN", help_heading = "Sweeping")]
    pub sweep_age: Duration,
    #[command(flatten)]
    pub modules: Modules,
}

pub async fn run(args: Args) -> Result<()> {
    allocator::give_back();
    let results = engine::Limits {
        memory_bytes: usize::try_from(args.result_memory).unwrap_or(usize::MAX),
        max_bytes: args.result_limit,
        ..engine::Limits::default()
    };
    let config = SchedulerConfig {
        warehouse: args.warehouse,
        engine: engine::Config {
            bind: args.bind,
            advertise_host: args.advertise_host,
            min_executors: args.min_executors,
            executor_timeout: args.executor_timeout,
            results,
            ..engine::Config::default()
        },
        upkeep: sweep::Config {
            checkpoint_every: args.checkpoint_every,
            interval: args.sweep_interval,
            orphan_interval: args.orphan_interval,
            min_age: args.sweep_age,
        },
        store: args.store,
        modules: shipped::modules(&args.modules.modules)?,
        cache: shipped::cache(args.modules.cache.as_deref()),
    };
    roles::scheduler(config, watch::asked_to_stop()?).await
}
