//! `redpoll store`: serves the embedded wide-column store alone.

use std::net::SocketAddr;
use std::path::PathBuf;

use anyhow::Result;

use crate::{roles, watch};

const EXAMPLES: &str = "\
Examples:
  redpoll store --folder /data/store --bind 0.0.0.0:50060
  redpoll scheduler --store storehost:50060

One process opens the files of a store. A scheduler serves its own store unless it is given another.";

#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// Folder that holds the store's files
    #[arg(long, env = "REDPOLL_FOLDER", default_value = "./redpoll-store", value_name = "FOLDER")]
    pub folder: PathBuf,
    /// Address and port to listen on
    #[arg(long, env = "REDPOLL_BIND", default_value = "127.0.0.1:50060", value_name = "ADDRESS")]
    pub bind: SocketAddr,
}

pub async fn run(args: Args) -> Result<()> {
    roles::store_alone(&args.folder, args.bind, watch::asked_to_stop()?).await
}
