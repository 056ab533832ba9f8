//! `redpoll sql`: asks the tables of the warehouse.

use std::io::{BufWriter, IsTerminal, Read, stdout};

use anyhow::{Context, Result};

use crate::args::{Local, Place};
use crate::client::Client;
use crate::cluster::Cluster;
use crate::output::rows::{Format, Printer};
use crate::output::table;
use crate::progress;
use crate::warehouse::Warehouse;

const EXAMPLES: &str = "\
Examples:
  redpoll sql \"SELECT count(*) FROM ztf.science\"
  redpoll sql \"SELECT objectId, count(*) AS n FROM ztf.raw GROUP BY objectId\"
  redpoll sql \"SELECT * FROM redpoll.ledger\" --format csv > ledger.csv
  redpoll sql \"SELECT topic, error FROM redpoll.quarantine\"
  redpoll sql - < query.sql

Tables are named as the pipelines name them; redpoll.ledger and redpoll.quarantine are always there. Names keep their \
case, and a.b reaches into a struct.";

#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// The query; - reads it from stdin
    pub query: String,
    /// Form of the rows on stdout
    #[arg(long, env = "REDPOLL_FORMAT", value_enum, default_value = "table")]
    pub format: Format,
    #[command(flatten)]
    pub place: Place,
    #[command(flatten)]
    pub local: Local,
}

pub async fn run(args: Args) -> Result<()> {
    let query = match args.query.as_str() {
        "-" => {
            let mut text = String::new();
            std::io::stdin().read_to_string(&mut text).context("the query cannot be read from stdin")?;
            text
        }
        query => query.to_owned(),
    };
    if args.place.scheduler.is_none() {
        Warehouse::existing(&args.place.warehouse)?;
    }
    let cluster = Cluster::to_look(&args.place, &args.local).await?;
    let done = ask(&cluster.client, &query, args.format).await;
    cluster.close().await;
    done
}

pub async fn ask(client: &Client, query: &str, format: Format) -> Result<()> {
    let spinner = std::io::stderr().is_terminal().then(|| progress::spinner("asking"));
    let asked = client.sql(query).await;
    if let Some(spinner) = spinner {
        spinner.finish_and_clear();
    }
    let mut rows = asked?;
    let mut printer = Printer::new(format, rows.schema(), table::terminal_width(), BufWriter::new(stdout()))?;
    while let Some(batch) = rows.next().await? {
        printer.write(batch)?;
    }
    Ok(printer.finish()?)
}
