//! The command line: what may be said, and what each part means. Every option can come from the environment too.

use std::path::PathBuf;
use std::time::Duration;

use clap::builder::{Styles, styling::AnsiColor};
use clap::{Parser, Subcommand, ValueEnum};
use redpoll_core::objects::Patience;
use url::Url;

use crate::commands;
use crate::values;

const EXAMPLES: &str = "\
Examples:
  redpoll demo                                   a small night, start to end
  redpoll check pipelines/ztf/night.sql          is the pipeline right?
  redpoll run pipelines/ztf/night.sql --set source=./night --available-now
  redpoll sql \"SELECT count(*) FROM ztf.science\"
  redpoll ledger                                 what became of every alert
  redpoll quarantine list                        what was set aside

Every option has an environment variable, REDPOLL_ and its name: --warehouse is REDPOLL_WAREHOUSE.
Exit codes: 0 fine, 1 failed, 2 wrong use, 130 ended by Ctrl-C before it was done.";

/// Streams of astronomical alerts through SQL pipelines, exactly once.
///
/// A pipeline is a SQL file: it reads alerts, cuts, scores and filters them, and writes archive tables, topics and
/// wide-column tables. Without --scheduler a command starts a small cluster in its own process.
#[derive(Debug, Parser)]
#[command(name = "redpoll", version, after_help = EXAMPLES, styles = STYLES, max_term_width = 110)]
pub struct Cli {
    #[command(flatten)]
    pub logging: Logging,
    #[command(flatten)]
    pub objects: Objects,
    #[command(subcommand)]
    pub command: Command,
}

const STYLES: Styles = Styles::styled()
    .header(AnsiColor::Green.on_default().bold())
    .usage(AnsiColor::Green.on_default().bold())
    .literal(AnsiColor::Cyan.on_default().bold())
    .placeholder(AnsiColor::Cyan.on_default());

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run a pipeline
    Run(commands::run::Args),
    /// Check a pipeline without running it
    Check(commands::check::Args),
    /// Ask the archive, the stores, the ledger and the quarantine
    Sql(commands::sql::Args),
    /// List the jobs
    Jobs(commands::jobs::ListArgs),
    /// Say how a job is doing
    Describe(commands::jobs::DescribeArgs),
    /// Stop a job once its epoch under way is done
    Stop(commands::jobs::StopArgs),
    /// Tell a job that waits what to do about offsets that expired before they were read
    Resume(commands::resume::Args),
    /// Show what became of every alert, epoch by epoch
    Ledger(commands::ledger::Args),
    /// Look at what was set aside, and send it again
    Quarantine(commands::quarantine::Args),
    /// List topics, of Kafka or in a folder
    Topics(commands::topics::Args),
    /// List, describe and prepare science modules
    Module(commands::module::Args),
    /// Add filters to a job while it runs, and take them from it
    Filter(commands::filter::Args),
    /// Make a night of alerts, or replay one
    Simulate(commands::simulate::Args),
    /// Simulate a small night, run it and look at it
    Demo(commands::demo::Args),
    /// Serve jobs and queries to executors and users
    Scheduler(commands::scheduler::Args),
    /// Run the tasks that a scheduler hands out
    Executor(commands::executor::Args),
    /// Serve the embedded wide-column store
    Store(commands::store::Args),
    /// Print a completion script for a shell
    Completion(commands::completion::Args),
}

/// How this process tells what it does. Logs go to stderr, so stdout is clean.
#[derive(Debug, Clone, clap::Args)]
pub struct Logging {
    /// Form of the logs on stderr
    #[arg(
        long,
        global = true,
        env = "REDPOLL_LOG",
        value_enum,
        default_value = "text",
        value_name = "FORM",
        help_heading = "Logs"
    )]
    pub log: LogForm,
    /// Which logs: error, warn, info, debug, or by crate as in `warn,redpoll=debug`
    ///
    /// By default scheduler, executor and store tell what they do, as with `warn,redpoll=info`; the other commands tell
    /// of errors only.
    #[arg(long, global = true, env = "REDPOLL_LOG_LEVEL", value_name = "LEVEL", help_heading = "Logs")]
    pub log_level: Option<String>,
}

/// How long this process bears with an object store that errs or does not answer.
#[derive(Debug, Clone, clap::Args)]
pub struct Objects {
    /// Times that a request to an object store is sent again, with growing pauses
    #[arg(
        long,
        global = true,
        env = "REDPOLL_OBJECT_RETRIES",
        value_name = "N",
        default_value = "10",
        hide_short_help = true,
        help_heading = "Object stores"
    )]
    pub object_retries: usize,
    /// After this long a request to an object store is not sent again
    #[arg(
        long,
        global = true,
        env = "REDPOLL_OBJECT_RETRY_TIME",
        value_name = "SPAN",
        value_parser = values::duration,
        default_value = "30s",
        hide_short_help = true,
        help_heading = "Object stores"
    )]
    pub object_retry_time: Duration,
    /// How long one request to an object store may take
    #[arg(
        long,
        global = true,
        env = "REDPOLL_OBJECT_TIMEOUT",
        value_name = "SPAN",
        value_parser = values::duration,
        default_value = "30s",
        hide_short_help = true,
        help_heading = "Object stores"
    )]
    pub object_timeout: Duration,
}

impl Objects {
    /// Holds for all stores that this process opens.
    pub fn apply(&self) {
        let (retries, retry_time, timeout) = (self.object_retries, self.object_retry_time, self.object_timeout);
        Patience { retries, retry_time, timeout }.set();
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LogForm {
    Text,
    Json,
}

/// Where tables and jobs are, and who runs them.
#[derive(Debug, Clone, clap::Args)]
pub struct Place {
    /// Folder or s3://bucket/prefix that holds tables and logs of jobs
    #[arg(long, env = "REDPOLL_WAREHOUSE", default_value = "./warehouse", value_name = "URL", help_heading = "Where")]
    pub warehouse: String,
    /// Scheduler to ask, such as http://host:50050; without it this process does the work
    #[arg(long, env = "REDPOLL_SCHEDULER", value_name = "URL", value_parser = scheduler_url, help_heading = "Where")]
    pub scheduler: Option<Url>,
}

/// The cluster that a command starts when no scheduler is named.
#[derive(Debug, Clone, clap::Args)]
pub struct Local {
    /// Tasks at a time; by default as many as there are cores
    #[arg(long, env = "REDPOLL_VCORES", value_name = "N", help_heading = "Cluster in this process")]
    pub vcores: Option<usize>,
    /// Bound on the memory of this process, such as 4GiB: splits wait for their bytes, sorts and joins spill
    #[arg(long, env = "REDPOLL_MEMORY", value_name = "SIZE", value_parser = values::bytes, help_heading = "Cluster in this process")]
    pub memory: Option<u64>,
    #[command(flatten)]
    pub modules: Modules,
}

/// Where science modules are found.
#[derive(Debug, Clone, clap::Args)]
pub struct Modules {
    /// Folder of science modules; may be given several times. By default those that come with redpoll
    #[arg(
        long,
        env = "REDPOLL_MODULES",
        value_name = "FOLDER",
        value_delimiter = ':',
        help_heading = "Science modules"
    )]
    pub modules: Vec<PathBuf>,
    /// Folder that keeps the Python environments of modules; by default in the user's cache
    #[arg(long, env = "REDPOLL_CACHE", value_name = "FOLDER", help_heading = "Science modules")]
    pub cache: Option<PathBuf>,
}

impl Place {
    /// The options that name the same place in another command.
    pub fn as_options(&self) -> String {
        match &self.scheduler {
            Some(url) => format!("--scheduler {}", url.as_str().trim_end_matches('/')),
            None => format!("--warehouse {}", self.warehouse),
        }
    }
}

/// How lists are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ListFormat {
    Table,
    Json,
}

pub fn scheduler_url(text: &str) -> Result<Url, String> {
    let wrong = || format!("'{text}' is no scheduler's address; write http://host:50050");
    let url = Url::parse(text).map_err(|_| wrong())?;
    match url.scheme() {
        "http" | "https" if url.has_host() => Ok(url),
        _ => Err(wrong()),
    }
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory, error::ErrorKind};

    use super::*;

    fn every_command(command: &clap::Command, visit: &mut dyn FnMut(&clap::Command)) {
        visit(command);
        command.get_subcommands().for_each(|sub| every_command(sub, visit));
    }

    #[test]
    fn the_command_line_is_well_formed() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_option_can_come_from_the_environment() {
        every_command(&Cli::command(), &mut |command| {
            for option in command.get_arguments().filter(|arg| !arg.is_positional()) {
                let id = option.get_id().as_str();
                if matches!(id, "help" | "version") {
                    continue;
                }
                let long = option.get_long().unwrap_or(id);
                let expected = format!("REDPOLL_{}", long.replace('-', "_").to_uppercase());
                let env = option.get_env().and_then(|env| env.to_str()).map(str::to_owned);
                assert_eq!(env, Some(expected), "--{long} of {}", command.get_name());
            }
        });
    }

    #[test]
    fn every_option_and_command_is_explained() {
        every_command(&Cli::command(), &mut |command| {
            assert!(command.get_about().is_some(), "{}", command.get_name());
            for arg in command.get_arguments() {
                assert!(arg.get_help().is_some(), "{} of {}", arg.get_id(), command.get_name());
            }
        });
    }

    #[test]
    fn every_command_that_does_something_shows_examples() {
        every_command(&Cli::command(), &mut |command| {
            let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            let name = command.get_name();
            assert!(help.contains("Examples:\n  redpoll "), "{name}");
            // A line that is broken by the terminal's width cannot be pasted.
            let examples = help.lines().filter(|line| line.starts_with("  "));
            assert_eq!(examples.max_by_key(|line| line.len()).filter(|line| line.len() > 80), None);
            assert!(command.has_subcommands() || help.contains(name), "{name}: {help}");
        });
    }

    #[test]
    fn wrong_use_is_told_apart() {
        let parse = |args: &[&str]| Cli::try_parse_from(args).unwrap_err();
        assert_eq!(parse(&["redpoll", "sql"]).exit_code(), 2);
        let conflict = parse(&["redpoll", "run", "a.sql", "--available-now", "--until", "+1h"]);
        assert_eq!(conflict.kind(), ErrorKind::ArgumentConflict);
        let error = parse(&["redpoll", "jobs", "--scheduler", "host:50050"]).to_string();
        assert!(error.contains("http://host:50050"), "{error}");
    }
}
