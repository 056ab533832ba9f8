//! One file for each command: its options, and what it does.

pub mod run;

pub mod check;
pub mod sql;

pub mod jobs;
pub mod ledger;
pub mod quarantine;
pub mod resume;

pub mod demo;
pub mod filter;
pub mod module;
pub mod simulate;
pub mod topics;

pub mod executor;
pub mod scheduler;
pub mod store;

pub mod completion;

use anyhow::Result;

use crate::args::Command;

/// What serves tells what it does; the libraries below it only what worries them.
const SERVING: &str = "warn,redpoll=info";
/// Commands say themselves what failed and why; the engine's own view of it would only repeat that.
const ANSWERING: &str = "error,ballista=off";

impl Command {
    /// Processes that serve tell more than commands that answer.
    pub fn log_level(&self) -> &'static str {
        match self {
            Command::Scheduler(_) | Command::Executor(_) | Command::Store(_) => SERVING,
            _ => ANSWERING,
        }
    }

    pub async fn run(self) -> Result<()> {
        match self {
            Command::Run(args) => run::run(args).await,
            Command::Check(args) => check::run(args).await,
            Command::Sql(args) => sql::run(args).await,
            Command::Jobs(args) => jobs::list(args).await,
            Command::Describe(args) => jobs::describe(args).await,
            Command::Stop(args) => jobs::stop(args).await,
            Command::Resume(args) => resume::run(args).await,
            Command::Ledger(args) => ledger::run(args).await,
            Command::Quarantine(args) => quarantine::run(args).await,
            Command::Topics(args) => topics::run(args).await,
            Command::Module(args) => module::run(args).await,
            Command::Filter(args) => filter::run(args).await,
            Command::Simulate(args) => simulate::run(args).await,
            Command::Demo(args) => demo::run(args).await,
            Command::Scheduler(args) => scheduler::run(args).await,
            Command::Executor(args) => executor::run(args).await,
            Command::Store(args) => store::run(args).await,
            Command::Completion(args) => completion::run(&args),
        }
    }
}
