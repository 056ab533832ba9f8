//! `redpoll outbox`: which messages were sent, which were not taken and why; and how those are sent again.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Result, bail};
use clap::Subcommand;
use redpoll_scheduler::coordinator::Status;
use redpoll_scheduler::outbox::{Lag, View};
use serde_json::json;
use tokio::time::Instant;

use crate::args::{ListFormat, Local, Place};
use crate::client::Client;
use crate::cluster::Cluster;
use crate::output::table::{self, Align, Table};
use crate::output::{self, paint};
use crate::progress;
use crate::values::{counted, grouped};
use crate::warehouse::Warehouse;
use crate::watch;

const EXAMPLES: &str = "\
Examples:
  redpoll outbox list
  redpoll outbox resend --job ztf-night";

const LIST_EXAMPLES: &str = "\
Examples:
  redpoll outbox list
  redpoll outbox list --job ztf-night --scheduler http://scheduler:50050
  redpoll outbox list --format json | jq -r '.[].set_aside[].reason'";

const RESEND_EXAMPLES: &str = "\
Examples:
  redpoll outbox resend --job ztf-night
  redpoll outbox resend --job ztf --table bot --scheduler http://host:50050

Remove the reason first: a token that the receiver refused, an address that is another by now. The texts stay as they were \
made; to change those, change the pipeline.";

const POLL: Duration = Duration::from_millis(200);
/// A process that would end waits this long for a receiver that takes nothing.
const PATIENCE: Duration = Duration::from_secs(30);

#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// List the tables of messages, and the messages that were set aside
    #[command(after_help = LIST_EXAMPLES)]
    List(ListArgs),
    /// Send again what was set aside
    #[command(after_help = RESEND_EXAMPLES)]
    Resend(ResendArgs),
}

#[derive(Debug, clap::Args)]
pub struct ListArgs {
    /// Only this job's
    #[arg(long, env = "REDPOLL_JOB", value_name = "NAME")]
    pub job: Option<String>,
    /// Form of the list on stdout
    #[arg(long, env = "REDPOLL_FORMAT", value_enum, default_value = "table")]
    pub format: ListFormat,
    #[command(flatten)]
    pub place: Place,
}

#[derive(Debug, clap::Args)]
pub struct ResendArgs {
    /// The job whose messages they are
    #[arg(long, env = "REDPOLL_JOB", value_name = "NAME")]
    pub job: String,
    /// Only those of this table
    #[arg(long, env = "REDPOLL_TABLE", value_name = "NAME")]
    pub table: Option<String>,
    /// Form of the answer on stdout
    #[arg(long, env = "REDPOLL_FORMAT", value_enum, default_value = "table")]
    pub format: ListFormat,
    #[command(flatten)]
    pub place: Place,
    #[command(flatten)]
    pub local: Local,
}

pub async fn run(args: Args) -> Result<()> {
    match args.command {
        Command::List(args) => list(args).await,
        Command::Resend(args) => resend(args).await,
    }
}

async fn list(args: ListArgs) -> Result<()> {
    let mut views = Vec::new();
    match &args.place.scheduler {
        Some(url) => {
            let client = Client::new(url.clone())?;
            let jobs = match args.job {
                Some(job) => vec![job],
                None => client.jobs().await?.into_iter().map(|status| status.name).collect(),
            };
            for job in jobs {
                views.extend(client.outboxes(&job).await?);
            }
        }
        None => {
            let warehouse = Warehouse::existing(&args.place.warehouse)?;
            for job in warehouse.select(args.job.as_deref()).await? {
                views.extend(warehouse.outboxes(&job).await?);
            }
        }
    }
    match args.format {
        ListFormat::Json => output::line(serde_json::to_string(&views)?)?,
        ListFormat::Table => output::text(text(&views, table::terminal_width()))?,
    }
    Ok(())
}

fn text(views: &[View], width: Option<usize>) -> String {
    use Align::{Left, Right};
    if views.is_empty() {
        return "no messages: no job here has an OUTBOX table\n".to_owned();
    }
    let names =
        [("job", Left), ("table", Left), ("to", Left), ("queued", Right), ("sent", Right), ("set aside", Right)];
    let mut tables = Table::new(names);
    let mut aside = Table::new([("table", Left), ("key", Left), ("epoch", Right), ("tries", Right), ("answer", Left)]);
    for view in views {
        let counts = [view.queued, view.sent, view.set_aside.len() as u64].map(grouped);
        tables.row([view.job.clone(), view.table.clone(), view.to.clone()].into_iter().chain(counts));
        for item in &view.set_aside {
            let (epoch, tries) = (item.epoch.to_string(), item.tries.to_string());
            aside.row([view.table.clone(), item.message.key.clone(), epoch, tries, item.reason.clone()]);
        }
    }
    let mut text = tables.render(width);
    if !aside.is_empty() {
        let note = "send them again with: redpoll outbox resend --job JOB";
        text += &format!("\n{}{}\n", aside.render(width), paint::dim(note));
    }
    text
}

async fn resend(args: ResendArgs) -> Result<()> {
    let cluster = Cluster::of(&args.place, &args.local).await?;
    let sent = send_again(&cluster, &args).await;
    cluster.close().await;
    let status = sent?;
    let left: u64 = status.outboxes.values().map(|lag| lag.set_aside + lag.waiting).sum();
    match args.format {
        ListFormat::Json => output::line(json!({ "job": args.job, "outboxes": status.outboxes }).to_string())?,
        ListFormat::Table => output::text(in_words(&status.outboxes))?,
    }
    match left {
        0 => Ok(()),
        left => {
            bail!("{} not taken; `redpoll outbox list --job {}` has the answers", counted(left, "message"), args.job)
        }
    }
}

async fn send_again(cluster: &Cluster, args: &ResendArgs) -> Result<Status> {
    cluster.client.resend(&args.job, args.table.as_deref()).await?;
    until_sent(cluster, &args.job).await
}

/// Waits until the messages of a job are sent or set aside, for as long as receivers take some or its user bears it.
pub async fn until_sent(cluster: &Cluster, job: &str) -> Result<Status> {
    let stop = watch::asked_to_stop()?;
    tokio::pin!(stop);
    let mut last = (None, Instant::now());
    loop {
        let status = cluster.client.job(job).await?;
        if is_sent(&status) {
            return Ok(status);
        }
        let decided: Vec<u64> = status.outboxes.values().map(|lag| lag.sent + lag.set_aside + lag.repeated).collect();
        if last.0.as_ref() != Some(&decided) {
            last = (Some(decided), Instant::now());
        }
        tokio::select! {
            () = tokio::time::sleep(POLL) => {}
            () = &mut stop => return Ok(status),
        }
        if last.1.elapsed() > PATIENCE {
            return Ok(status);
        }
    }
}

/// Stays with messages that would wait for the next run, as nobody else sends them.
pub async fn see_off(cluster: &Cluster, job: &str) -> Result<()> {
    if is_sent(&cluster.client.job(job).await?) {
        return Ok(());
    }
    progress::say(format!("{job}: messages are on their way; Ctrl-C leaves them for the next run"));
    let status = until_sent(cluster, job).await?;
    let left = status.outboxes.iter().filter(|(table, lag)| !lag.is_done(rows(&status, table)));
    for (table, lag) in left {
        let why = lag.failing.as_ref().map(|failing| format!(": {}", failing.reason)).unwrap_or_default();
        let n = counted(lag.waiting, "message");
        progress::say(format!("{} {n} of {table} left for the next run of {job}{why}", paint::warning("!")));
    }
    Ok(())
}

/// Whether all that the job has committed is sent or set aside.
fn is_sent(status: &Status) -> bool {
    status.outboxes.iter().all(|(table, lag)| lag.is_done(rows(status, table)))
}

fn rows(status: &Status, table: &str) -> u64 {
    status.sinks.get(table).copied().unwrap_or_default()
}

fn in_words(outboxes: &BTreeMap<String, Lag>) -> String {
    outboxes.iter().map(|(table, lag)| format!("{table}: {}\n", of_lag(lag))).collect()
}

/// How a table of messages does.
pub fn of_lag(lag: &Lag) -> String {
    let counts =
        [("sent", lag.sent), ("waiting", lag.waiting), ("set aside", lag.set_aside), ("repeated", lag.repeated)];
    let counts = counts.into_iter().filter(|(what, n)| *n > 0 || *what == "sent");
    let text = counts.map(|(what, n)| format!("{} {what}", grouped(n))).collect::<Vec<_>>().join(", ");
    match &lag.failing {
        None => text,
        Some(failing) => {
            let tries = if failing.tries == 1 { "1 try".to_owned() } else { format!("{} tries", failing.tries) };
            format!("{text}; failing after {tries}: {}", failing.reason)
        }
    }
}

#[cfg(test)]
mod tests {
    use redpoll_connectors::outbox::{Aside, Message};
    use redpoll_core::ids::Epoch;
    use redpoll_scheduler::outbox::Failing;

    use super::*;

    #[test]
    fn the_list_tells_what_was_sent_and_the_answers_of_those_who_refused() {
        let message =
            Message { key: "42".into(), row: "{}".into(), topic: "ztf".into(), partition: 0, offset: 7, alert: 0 };
        let aside = Aside { message, epoch: Epoch(3), reason: "HTTP 400: no text".into(), tries: 1, at: 0 };
        let view = View {
            job: "night".into(),
            table: "bot".into(),
            to: "https://host/{env:TOKEN}".into(),
            queued: 12,
            sent: 11,
            set_aside: vec![aside],
        };
        let text = text(&[view], None);
        let lines: Vec<String> =
            text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
        assert!(lines.contains(&"night bot https://host/{env:TOKEN} 12 11 1".to_owned()), "{text}");
        assert!(lines.contains(&"bot 42 3 1 HTTP 400: no text".to_owned()), "{text}");
    }

    #[test]
    fn a_lag_says_what_waits_and_why() {
        let failing = Failing { reason: "HTTP 503".into(), since: 0, tries: 2, next: 0 };
        let lag = Lag { queued: 1_204, sent: 1_200, waiting: 4, failing: Some(failing), ..Lag::default() };
        assert_eq!(of_lag(&lag), "1,200 sent, 4 waiting; failing after 2 tries: HTTP 503");
        assert_eq!(of_lag(&Lag::default()), "0 sent");
    }
}
