//! `redpoll module remove`: a module out of the warehouse.

use anyhow::Result;
use serde_json::json;

use crate::args::{Local, Place};
use crate::cluster::Cluster;
use crate::commands::run::Format;
use crate::output::{self, paint};

const EXAMPLES: &str = "\
Examples:
  redpoll module remove my_score
  redpoll module remove my_score --scheduler http://scheduler:50050

Its versions stay in the warehouse, for epochs that were planned with them. A module of that name which comes with \
redpoll is called again. A running job that needs it is in the way.";

#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// The module
    pub name: String,
    /// Form of the answer on stdout
    #[arg(long, env = "REDPOLL_FORMAT", value_enum, default_value = "text")]
    pub format: Format,
    #[command(flatten)]
    pub place: Place,
    #[command(flatten)]
    pub local: Local,
}

pub async fn run(args: Args) -> Result<()> {
    let cluster = Cluster::of(&args.place, &args.local).await?;
    let removed = cluster.client.remove_module(&args.name).await;
    cluster.close().await;
    let jobs = removed?;
    match args.format {
        Format::Json => output::line(json!({ "module": args.name, "jobs": jobs }).to_string())?,
        Format::Text => {
            output::line(format!("{} {} is removed", paint::good("✓"), args.name))?;
            output::text(super::outcomes(&jobs))?;
        }
    }
    Ok(())
}
