//! `redpoll filter add` and `redpoll filter test`.

use std::collections::BTreeMap;
use std::io::{IsTerminal, stdin};

use anyhow::{Context, Result};
use redpoll_scheduler::service::{FilterRequest, Yield};
use redpoll_udfs::registry::Filter;
use serde_json::json;

use super::told;
use crate::args::{ListFormat, Local, Place};
use crate::client::{Client, Error};
use crate::cluster::Cluster;
use crate::exit::{Told, Usage};
use crate::output::{self, paint};
use crate::pipeline_file;
use crate::values::{counted, grouped};

const ADD_EXAMPLES: &str = "\
Examples:
  redpoll filter add bright --where 'candidate.magpsf < 16' --topic fink_bright
  redpoll filter add young --job ztf-night --over scored --topic young \\
      --where 'nalerthist <= 3' --night 20240105
  redpoll filter add sso --where 'is_sso(roid)' --topic kafka://host:9092/sso -y

A condition may call science modules: a filter in Python is a module that returns a boolean.";

const TEST_EXAMPLES: &str = "\
Examples:
  redpoll filter test bright --where 'candidate.magpsf < 16'
  redpoll filter test young --where 'nalerthist <= 3' --night 20240105

Nothing is changed. Exit code 1 if the filter is not right.";

/// A filter as the command line says it.
#[derive(Debug, clap::Args)]
pub struct Filtering {
    /// Name of the filter, and of its table in the job
    pub name: String,
    /// Condition in SQL on the columns of the view
    #[arg(long = "where", env = "REDPOLL_WHERE", value_name = "SQL")]
    pub condition: String,
    /// Job that it belongs to; by default the only one
    #[arg(long, env = "REDPOLL_JOB", value_name = "NAME")]
    pub job: Option<String>,
    /// View whose rows it picks from; by default the one that the job's topics are written from
    #[arg(long, env = "REDPOLL_OVER", value_name = "VIEW")]
    pub over: Option<String>,
    /// What a row of the topic has, as after SELECT; by default every column of the view
    #[arg(long, env = "REDPOLL_COLUMNS", value_name = "SQL")]
    pub columns: Option<String>,
    /// Option of the topic, as in format=fink; may be given several times
    #[arg(long, env = "REDPOLL_OPTION", value_name = "NAME=VALUE", value_parser = option, value_delimiter = ',')]
    pub option: Vec<(String, String)>,
    /// Night of the archive to try it on, as its column `night` has it; by default the last one
    #[arg(long, env = "REDPOLL_NIGHT", value_name = "NIGHT")]
    pub night: Option<String>,
}

#[derive(Debug, clap::Args)]
#[command(after_help = ADD_EXAMPLES)]
pub struct Args {
    #[command(flatten)]
    pub filter: Filtering,
    /// Topic that gets the alerts: kafka://HOST:PORT/NAME, a folder, or a name beside the job's other topics
    #[arg(long, env = "REDPOLL_TOPIC", value_name = "TOPIC")]
    pub topic: String,
    /// In the place of a filter of that name
    #[arg(long, env = "REDPOLL_REPLACE")]
    pub replace: bool,
    /// Check it and show what it would have picked; add nothing
    #[arg(long, env = "REDPOLL_DRY_RUN")]
    pub dry_run: bool,
    /// Do not ask before it is added
    #[arg(long, short, env = "REDPOLL_YES")]
    pub yes: bool,
    /// Form of the answer on stdout
    #[arg(long, env = "REDPOLL_FORMAT", value_enum, default_value = "table")]
    pub format: ListFormat,
    #[command(flatten)]
    pub place: Place,
    #[command(flatten)]
    pub local: Local,
}

#[derive(Debug, clap::Args)]
#[command(after_help = TEST_EXAMPLES)]
pub struct TestArgs {
    #[command(flatten)]
    pub filter: Filtering,
    /// Form of the answer on stdout
    #[arg(long, env = "REDPOLL_FORMAT", value_enum, default_value = "table")]
    pub format: ListFormat,
    #[command(flatten)]
    pub place: Place,
    #[command(flatten)]
    pub local: Local,
}

fn option(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or_else(|| format!("'{text}' is not NAME=VALUE"))?;
    Ok((name.trim().to_owned(), value.trim().to_owned()))
}

impl Filtering {
    fn request(&self, topic: &str, dry_run: bool, replace: bool) -> Result<FilterRequest> {
        let filter = Filter {
            job: self.job.clone().unwrap_or_default(),
            over: self.over.clone().unwrap_or_default(),
            condition: self.condition.clone(),
            columns: self.columns.clone(),
            location: located(topic)?,
            options: self.option.iter().cloned().collect::<BTreeMap<_, _>>(),
            added_at: 0,
        };
        Ok(FilterRequest { name: self.name.clone(), filter, dry_run, replace })
    }
}

/// A folder is meant from here; a plain name is for the scheduler to place.
fn located(topic: &str) -> Result<String> {
    match topic.contains("://") || !topic.contains('/') {
        true => Ok(topic.to_owned()),
        false => Ok(std::path::absolute(topic).context("the working directory is gone")?.display().to_string()),
    }
}

pub async fn test(args: TestArgs) -> Result<()> {
    // It is never written: any name does.
    let request = args.filter.request(&args.filter.name, true, true)?;
    let cluster = Cluster::to_look(&args.place, &args.local).await?;
    let done = tried(&cluster.client, &request, args.filter.night.as_deref(), args.format).await;
    cluster.close().await;
    done.map(drop)
}

pub async fn add(args: Args) -> Result<()> {
    let request = args.filter.request(&args.topic, args.dry_run, args.replace)?;
    let cluster = match args.dry_run {
        true => Cluster::to_look(&args.place, &args.local).await?,
        false => Cluster::of(&args.place, &args.local).await?,
    };
    let done = add_by(&cluster.client, &args, &request).await;
    cluster.close().await;
    done
}

async fn add_by(client: &Client, args: &Args, request: &FilterRequest) -> Result<()> {
    let quiet = args.format == ListFormat::Json;
    let found = tried(client, request, args.filter.night.as_deref(), args.format).await?;
    if args.dry_run {
        return Ok(());
    }
    if !args.yes && !quiet && stdin().is_terminal() && !agreed(&args.filter.name)? {
        return Err(Usage("nothing was added".to_owned()).into());
    }
    let outcomes = shown(client.add_filter(request).await, &request.filter.condition)?;
    if quiet {
        let answer = json!({ "filter": request.name, "yield": found, "jobs": outcomes });
        return Ok(output::line(answer.to_string())?);
    }
    output::line(format!("{} filter {} is added", paint::good("✓"), paint::bold(&request.name)))?;
    Ok(output::text(told(&outcomes))?)
}

fn agreed(name: &str) -> Result<bool> {
    eprint!("add filter {name}? [y/N] ");
    let mut line = String::new();
    stdin().read_line(&mut line).context("the answer cannot be read")?;
    Ok(matches!(line.trim().to_lowercase().as_str(), "y" | "yes"))
}

/// Checks the filter, and shows what it would have picked.
async fn tried(
    client: &Client,
    request: &FilterRequest,
    night: Option<&str>,
    format: ListFormat,
) -> Result<Option<Yield>> {
    let found = shown(client.filter_yield(request, night).await, &request.filter.condition)?;
    match format {
        ListFormat::Json if request.dry_run => {
            output::line(json!({ "filter": request.name, "yield": found }).to_string())?;
        }
        ListFormat::Json => {}
        ListFormat::Table => output::line(text_of(found.as_ref()))?,
    }
    Ok(found)
}

fn text_of(found: Option<&Yield>) -> String {
    let Some(Yield { table, night, rows, picked }) = found else {
        return "what it would have picked is not known: no archive table has all rows and columns that it asks for"
            .to_owned();
    };
    let within = night.as_ref().map_or(String::new(), |night| format!(" in night {night}"));
    let share = if *rows == 0 { 0.0 } else { 100.0 * *picked as f64 / *rows as f64 };
    format!(
        "it would have picked {} of {}{within} ({share:.2} %), by {table}",
        grouped(*picked),
        counted(*rows, "alert"),
    )
}

/// Problems of the condition are shown below the place that they are about.
fn shown<T>(answer: Result<T, Error>, condition: &str) -> Result<T> {
    match answer {
        Ok(answer) => Ok(answer),
        Err(Error::Pipeline(problems)) => {
            output::text(pipeline_file::show(&problems, condition))?;
            Err(Told(1).into())
        }
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_yield_is_told_with_its_share() {
        let found = Yield { table: "ztf.science".into(), night: Some("20240105".into()), rows: 4000, picked: 10 };
        let expected = "it would have picked 10 of 4,000 alerts in night 20240105 (0.25 %), by ztf.science";
        assert_eq!(text_of(Some(&found)), expected);
        assert!(text_of(None).contains("is not known"));
    }

    #[test]
    fn a_folder_is_meant_from_here_and_a_name_stays_one() {
        assert_eq!(located("bright").unwrap(), "bright");
        assert_eq!(located("kafka://host:9092/bright").unwrap(), "kafka://host:9092/bright");
        assert!(located("./out/bright").unwrap().starts_with('/'));
    }
}
