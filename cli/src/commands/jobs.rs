//! `redpoll jobs`, `describe` and `stop`: which jobs there are and how they do.

use std::fmt::Write;
use std::time::Duration;

use anyhow::{Result, bail};
use chrono::Utc;
use redpoll_core::ledger::Line;
use redpoll_core::revision::Revised;
use redpoll_scheduler::coordinator::Status;
use serde_json::{Value, json};
use url::Url;

use crate::args::{ListFormat, Place};
use crate::client::Client;
use crate::exit::Usage;
use crate::output::ledger::{Totals, revisions, sums};
use crate::output::table::{self, Align, Table};
use crate::output::{self, paint};
use crate::values::{counted, grouped, moment};
use crate::warehouse::{self, Warehouse};

const LIST_EXAMPLES: &str = "\
Examples:
  redpoll jobs                                    of ./warehouse
  redpoll jobs --scheduler http://scheduler:50050
  redpoll jobs --format json | jq -r '.[] | select(.state == \"open\") | .name'

Without --scheduler the logs in the warehouse are read: state `open` is a job that has not ended there, whether it runs \
somewhere or was interrupted.";

const DESCRIBE_EXAMPLES: &str = "\
Examples:
  redpoll describe ztf-night --scheduler http://scheduler:50050
  redpoll describe --scheduler http://scheduler:50050   all jobs, and executors
  redpoll describe ztf-night --format json | jq .offsets

Without --scheduler the logs in the warehouse are read: state `open` is a job that has not ended there, whether it runs \
somewhere or was interrupted. Offsets are told from a log only.";

const STOP_EXAMPLES: &str = "\
Examples:
  redpoll stop ztf-night --scheduler http://scheduler:50050

The epoch under way is done and published first; `redpoll run` of the same name goes on after it. A job that runs in the \
process of `redpoll run` is stopped there, with Ctrl-C.";

#[derive(Debug, clap::Args)]
#[command(after_help = LIST_EXAMPLES)]
pub struct ListArgs {
    /// Form of the list on stdout
    #[arg(long, env = "REDPOLL_FORMAT", value_enum, default_value = "table")]
    pub format: ListFormat,
    #[command(flatten)]
    pub place: Place,
}

#[derive(Debug, clap::Args)]
#[command(after_help = DESCRIBE_EXAMPLES)]
pub struct DescribeArgs {
    /// The job; by default every job
    pub job: Option<String>,
    /// Form of the answer on stdout
    #[arg(long, env = "REDPOLL_FORMAT", value_enum, default_value = "table")]
    pub format: ListFormat,
    #[command(flatten)]
    pub place: Place,
}

#[derive(Debug, clap::Args)]
#[command(after_help = STOP_EXAMPLES)]
pub struct StopArgs {
    /// The job
    pub job: String,
    /// Form of the answer on stdout
    #[arg(long, env = "REDPOLL_FORMAT", value_enum, default_value = "table")]
    pub format: ListFormat,
    #[command(flatten)]
    pub place: Place,
}

pub async fn list(args: ListArgs) -> Result<()> {
    let jobs = match &args.place.scheduler {
        Some(url) => Client::new(url.clone())?.jobs().await?,
        None => {
            let warehouse = Warehouse::existing(&args.place.warehouse)?;
            let mut jobs = Vec::new();
            for name in warehouse.jobs().await? {
                jobs.push(Status::of_log(&name, &warehouse.fold(&name).await?));
            }
            jobs
        }
    };
    match args.format {
        ListFormat::Json => output::line(serde_json::to_string(&jobs)?)?,
        ListFormat::Table => output::text(table_of(&jobs, table::terminal_width()))?,
    }
    Ok(())
}

fn table_of(jobs: &[Status], width: Option<usize>) -> String {
    if jobs.is_empty() {
        return "no jobs; start one with: redpoll run PIPELINE.sql\n".to_owned();
    }
    use Align::{Left, Right};
    let mut table = Table::new([
        ("job", Left),
        ("state", Left),
        ("epochs", Right),
        ("alerts", Right),
        ("kept", Right),
        ("quarantined", Right),
        ("waiting", Right),
        ("now", Left),
    ]);
    for job in jobs {
        let counts = [job.committed, job.decoded, job.kept, job.quarantined, job.backlog].map(grouped);
        let now = job.reason.clone().unwrap_or_else(|| job.doing.clone());
        table.row([job.name.clone(), job.state.clone()].into_iter().chain(counts).chain([now]));
    }
    table.render(width)
}

/// What a job does for longer than this, in milliseconds, is told with its beginning.
const LONG: i64 = 5_000;
/// How a job does is told without its ledger when that takes longer.
const LEDGER_TIMEOUT: Duration = Duration::from_secs(3);

/// All that is known of one job.
struct Described {
    status: Status,
    lines: Vec<Line>,
    revisions: Vec<Revised>,
    /// Why there are no lines: the warehouse may be what does not answer.
    unread: Option<String>,
    /// Where it reads on, if its log could be read.
    offsets: Option<Value>,
}

pub async fn describe(args: DescribeArgs) -> Result<()> {
    let (jobs, executors) = match &args.place.scheduler {
        Some(url) => ask(&Client::new(url.clone())?, args.job.as_deref()).await?,
        None => (read(&args.place.warehouse, args.job.as_deref()).await?, Vec::new()),
    };
    if args.format == ListFormat::Json {
        let rows: Vec<Value> = jobs.iter().map(Described::json).collect();
        let one = rows.first().filter(|_| args.job.is_some());
        return Ok(output::line(one.map_or_else(|| json!(rows), Value::clone).to_string())?);
    }
    let width = table::terminal_width();
    let mut texts: Vec<String> = jobs.iter().map(|job| job.text(width)).collect();
    if jobs.is_empty() {
        texts.push("no jobs; start one with: redpoll run PIPELINE.sql\n".to_owned());
    }
    if !executors.is_empty() {
        texts.push(executor_table(&executors).render(width));
    }
    Ok(output::text(texts.join("\n"))?)
}

async fn ask(client: &Client, job: Option<&str>) -> Result<(Vec<Described>, Vec<Value>)> {
    let (statuses, executors) = match job {
        Some(name) => (vec![client.job(name).await?], Vec::new()),
        None => (client.jobs().await?, client.executors().await?),
    };
    let mut jobs = Vec::new();
    for status in statuses {
        let read = tokio::time::timeout(LEDGER_TIMEOUT, client.ledger(&status.name)).await;
        let (lines, unread) = match read {
            Ok(Ok(lines)) => (lines, None),
            Ok(Err(error)) => (Vec::new(), Some(error.to_string())),
            Err(_) => (Vec::new(), Some(format!("the warehouse did not answer within {LEDGER_TIMEOUT:?}"))),
        };
        let revisions = match unread {
            None => client.revisions(&status.name).await?,
            Some(_) => Vec::new(),
        };
        jobs.push(Described { status, lines, revisions, unread, offsets: None });
    }
    Ok((jobs, executors))
}

async fn read(warehouse: &str, job: Option<&str>) -> Result<Vec<Described>> {
    let warehouse = Warehouse::existing(warehouse)?;
    let mut jobs = Vec::new();
    for name in warehouse.select(job).await? {
        let fold = warehouse.fold(&name).await?;
        let (status, offsets) = (Status::of_log(&name, &fold), json!(warehouse::offsets(&fold)));
        let (lines, revisions) = (warehouse.ledger(&name).await?, fold.revisions);
        jobs.push(Described { status, lines, revisions, unread: None, offsets: Some(offsets) });
    }
    Ok(jobs)
}

impl Described {
    fn json(&self) -> Value {
        let totals = Totals::of(&self.lines);
        let mut value = json!(self.status);
        value["cut"] = json!(totals.cut);
        value["unknown"] = json!(totals.unknown);
        value["failures"] = json!(totals.failures);
        value["revisions"] = json!(self.revisions);
        if let Some(offsets) = &self.offsets {
            value["offsets"] = offsets.clone();
        }
        value
    }

    fn text(&self, width: Option<usize>) -> String {
        let status = &self.status;
        let mut text = format!("{}  {}\n", paint::bold(&status.name), state(&status.state));
        let mut say = |name: &str, value: String| {
            if !value.is_empty() {
                let _ = writeln!(text, "  {name:<9} {value}");
            }
        };
        let long = status.doing_since > 0 && Utc::now().timestamp_millis() - status.doing_since > LONG;
        let since = if long { format!(", since {} UTC", moment(status.doing_since)) } else { String::new() };
        say("now", format!("{}{since}", status.doing));
        say("reason", status.reason.clone().unwrap_or_default());
        if let Some(trouble) = &status.trouble {
            say("failing", trouble.step.to_string());
            if status.reason.as_ref() != Some(&trouble.reason) {
                say("because", trouble.reason.clone());
            }
            let tries = match trouble.tries {
                1 => "1 try".to_owned(),
                n => format!("{} tries", grouped(u64::from(n))),
            };
            say("since", format!("{} UTC, {tries}, the next at {} UTC", moment(trouble.since), moment(trouble.next)));
            say("remedy", trouble.remedy.replace("JOB", &status.name));
        }
        for range in &status.expired {
            say("expired", range.to_string());
        }
        say("deployed", status.refused.as_ref().map(|why| format!("not taken over: {why}")).unwrap_or_default());
        say("epochs", format!("{} committed, {} prepared", grouped(status.committed), grouped(status.prepared)));
        if status.started > 0 {
            let ended = status.ended.map(|ended| format!(", ended {}", moment(ended))).unwrap_or_default();
            say("started", format!("{} UTC{ended}", moment(status.started)));
        }
        say("alerts", format!("{} decoded, {} kept", grouped(status.decoded), grouped(status.kept)));
        if status.quarantined > 0 {
            say("set aside", counted(status.quarantined, "record"));
        }
        if status.replaying > 0 {
            say("replaying", counted(status.replaying, "record"));
        }
        if !status.doing.is_empty() {
            say("waiting", counted(status.backlog, "record"));
        }
        say("ledger", self.unread.as_ref().map(|reason| format!("not read: {reason}")).unwrap_or_default());
        if let Some(last) = self.lines.last() {
            say("last", format!("epoch {}, planned {} UTC", last.epoch, moment(last.planned)));
        }
        let revisions = revisions(&self.revisions);
        if !revisions.is_empty() {
            let _ = write!(text, "\n{revisions}");
        }
        let sums = sums(&Totals::of(&self.lines), width);
        if !sums.is_empty() {
            let _ = write!(text, "\n{sums}");
        }
        text
    }
}

fn state(state: &str) -> String {
    match state {
        "running" => paint::good(state),
        "degraded" | "failed" => paint::warning(state),
        _ => state.to_owned(),
    }
}

const EXECUTOR_COLUMNS: [&str; 7] = ["id", "group", "host", "port", "vcores", "used", "draining"];

fn executor_table(executors: &[Value]) -> Table {
    let align = |name| if matches!(name, "port" | "vcores" | "used") { Align::Right } else { Align::Left };
    let mut table = Table::new(EXECUTOR_COLUMNS.map(|name| (name, align(name))));
    for executor in executors {
        table.row(EXECUTOR_COLUMNS.map(|name| match &executor[name] {
            Value::String(text) => text.clone(),
            Value::Null => "-".to_owned(),
            other => other.to_string(),
        }));
    }
    table
}

pub async fn stop(args: StopArgs) -> Result<()> {
    let url = match &args.place.scheduler {
        Some(url) => url.clone(),
        None => runs_at(&args.place.warehouse, &args.job).await?,
    };
    let status = Client::new(url)?.stop(&args.job).await?;
    match args.format {
        ListFormat::Json => output::line(serde_json::to_string(&status)?)?,
        ListFormat::Table => output::line(format!("{} stops once its epoch under way is done", status.name))?,
    }
    Ok(())
}

/// Where a job's log says that it runs.
async fn runs_at(warehouse: &str, job: &str) -> Result<Url> {
    let warehouse = Warehouse::existing(warehouse)?;
    warehouse.select(Some(job)).await?;
    let fold = warehouse.fold(job).await?;
    if let Some(reason) = fold.stopped {
        bail!("job {job} has stopped: {reason}");
    }
    match fold.address {
        Some(address) => Ok(Url::parse(&address)?),
        None => Err(Usage(format!("the log of job {job} does not say where it runs; name its --scheduler")).into()),
    }
}

#[cfg(test)]
mod tests {
    use redpoll_core::source::OffsetRange;
    use redpoll_scheduler::coordinator::Trouble;
    use redpoll_scheduler::coordinator::trouble::Step;

    use super::*;
    use crate::output::ledger::tests::line;

    fn status() -> Status {
        let mut status = Status {
            name: "ztf-night".into(),
            state: "degraded".into(),
            reason: Some("the broker is away".into()),
            doing: "waiting".into(),
            committed: 1,
            prepared: 1,
            ..Status::default()
        };
        status.add(&line(0, 2));
        status
    }

    #[test]
    fn the_list_says_why_a_job_is_degraded() {
        let text = table_of(&[status()], None);
        let last = text.lines().last().unwrap();
        assert_eq!(
            last.split_whitespace().collect::<Vec<_>>().join(" "),
            "ztf-night degraded 1 998 898 2 0 the broker is away"
        );
        assert!(table_of(&[], None).contains("redpoll run"));
    }

    #[test]
    fn a_described_job_tells_state_counts_and_rules() {
        let described =
            Described { status: status(), lines: vec![line(0, 2)], revisions: vec![], unread: None, offsets: None };
        let text = described.text(None);
        assert!(
            text.starts_with("ztf-night  degraded\n  now       waiting\n  reason    the broker is away\n"),
            "{text}"
        );
        assert!(text.contains("set aside 2 records"), "{text}");
        assert!(text.contains("candidate.nbad = 0     60        0"), "{text}");
        assert_eq!(described.json()["unknown"]["candidate.rb >= 0.55"], 10);
    }

    #[test]
    fn a_job_in_trouble_tells_step_time_tries_and_remedy() {
        let trouble = Trouble {
            step: Step::Expired,
            reason: "deleted".into(),
            since: 1_767_331_800_000,
            tries: 3,
            next: 1_767_331_860_000,
            remedy: Step::Expired.remedy("deleted").into(),
        };
        let range = OffsetRange { topic: "ztf".into(), partition: 2, start: 5, end: 9, ..Default::default() };
        let status = Status { trouble: Some(trouble), expired: vec![range], doing_since: 1, ..status() };
        let text = Described { status, lines: vec![], revisions: vec![], unread: Some("503".into()), offsets: None };
        let text = text.text(None);
        for line in [
            "  now       waiting, since 1970-01-01 00:00:00 UTC\n",
            "  failing   reading what has expired\n",
            "  because   deleted\n",
            "  since     2026-01-02 05:30:00 UTC, 3 tries, the next at 2026-01-02 05:31:00 UTC\n",
            "  remedy    `redpoll resume ztf-night --skip` goes on without them",
            "  expired   ztf[2] offsets 5..9\n",
            "  ledger    not read: 503\n",
        ] {
            assert!(text.contains(line), "{line}{text}");
        }
    }

    #[test]
    fn executors_are_listed_with_what_they_do() {
        let one =
            json!({ "id": "one", "group": "live", "host": "a", "port": 1, "vcores": 4, "used": 2, "draining": false });
        let text = executor_table(&[one]).render(None);
        assert_eq!(text.lines().last(), Some("one  live   a        1       4     2  false"));
    }
}
