//! `redpoll filter list`.

use std::collections::BTreeMap;

use anyhow::Result;
use redpoll_udfs::registry::Filter;

use crate::args::{ListFormat, Local, Place};
use crate::cluster::Cluster;
use crate::output;
use crate::output::table::{self, Align, Table};

const EXAMPLES: &str = "\
Examples:
  redpoll filter list
  redpoll filter list --job ztf-night --format json | jq -r 'keys[]'";

#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// Only this job's
    #[arg(long, env = "REDPOLL_JOB", value_name = "NAME")]
    pub job: Option<String>,
    /// Form of the list on stdout
    #[arg(long, env = "REDPOLL_FORMAT", value_enum, default_value = "table")]
    pub format: ListFormat,
    #[command(flatten)]
    pub place: Place,
    #[command(flatten)]
    pub local: Local,
}

pub async fn run(args: Args) -> Result<()> {
    let cluster = Cluster::to_look(&args.place, &args.local).await?;
    let filters = cluster.client.filters().await;
    cluster.close().await;
    let mut filters = filters?;
    filters.retain(|_, filter| args.job.as_ref().is_none_or(|job| *job == filter.job));
    match args.format {
        ListFormat::Json => output::line(serde_json::to_string(&filters)?)?,
        ListFormat::Table => output::text(table_of(&filters, table::terminal_width()))?,
    }
    Ok(())
}

fn table_of(filters: &BTreeMap<String, Filter>, width: Option<usize>) -> String {
    if filters.is_empty() {
        return "there are no filters; add one with `redpoll filter add`\n".to_owned();
    }
    let columns = ["filter", "job", "over", "where", "topic"];
    let mut table = Table::new(columns.map(|name| (name, Align::Left)));
    for (name, filter) in filters {
        let condition = filter.condition.split_whitespace().collect::<Vec<_>>().join(" ");
        table.row([name.clone(), filter.job.clone(), filter.over.clone(), condition, filter.location.clone()]);
    }
    table.render(width)
}
