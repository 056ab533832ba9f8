//! `redpoll catalog`: the catalogues that pipelines match alerts with.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Result, bail};
use clap::Subcommand;
use redpoll_connectors::catalog::{Limits, build, open};
use redpoll_core::catalog::CatalogSpec;
use redpoll_core::objects::Stores;

use crate::args::Catalogs;
use crate::values::{counted, span};
use crate::{output, progress};

const EXAMPLES: &str = "\
Examples:
  redpoll catalog build --from gaia.parquet --to s3://catalogues/gaia

A pipeline declares a catalogue with CREATE EXTERNAL TABLE … STORED AS CATALOG and
asks it with crossmatch('gaia', candidate.ra, candidate.dec, 1.5).";

const BUILD_EXAMPLES: &str = "\
Examples:
  redpoll catalog build --from ./gaia --to s3://catalogues/gaia
  redpoll catalog build --from ned.parquet --to ./ned \\
      --ra RAJ2000 --dec DEJ2000 --columns name,z,RAJ2000,DEJ2000

Rows are sorted by their HEALPix cell, within --catalog-memory and what --spill
has room for. Without this, each executor does so by itself when it first needs it.";

#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Sort a catalogue by place on the sky, for all executors
    #[command(after_help = BUILD_EXAMPLES)]
    Build(BuildArgs),
}

#[derive(Debug, clap::Args)]
pub struct BuildArgs {
    /// A Parquet file, a folder of them, or a Delta table; also s3://bucket/folder
    #[arg(long, env = "REDPOLL_FROM", value_name = "URL")]
    pub from: String,
    /// Folder to build in; also s3://bucket/folder
    #[arg(long, env = "REDPOLL_TO", value_name = "URL")]
    pub to: String,
    /// Column of the right ascension, in degrees
    #[arg(long, env = "REDPOLL_RA", default_value = "ra", value_name = "COLUMN")]
    pub ra: String,
    /// Column of the declination, in degrees
    #[arg(long, env = "REDPOLL_DEC", default_value = "dec", value_name = "COLUMN")]
    pub dec: String,
    /// The columns that matches have; by default all
    #[arg(long, env = "REDPOLL_COLUMNS", value_delimiter = ',', value_name = "COLUMN")]
    pub columns: Vec<String>,
    /// Folder for rows beyond the memory; by default the system's temporary folder
    #[arg(long, env = "REDPOLL_SPILL", value_name = "FOLDER")]
    pub spill: Option<PathBuf>,
    #[command(flatten)]
    pub catalogs: Catalogs,
}

pub async fn run(args: Args) -> Result<()> {
    match args.command {
        Command::Build(args) => build_index(args).await,
    }
}

async fn build_index(args: BuildArgs) -> Result<()> {
    let begun = Instant::now();
    let stores = Arc::new(Stores::new(std::env::vars()));
    let (from, to) = (stores.locate(&args.from)?, stores.locate(&args.to)?);
    if from.url == to.url {
        bail!("--to {} is the catalogue itself; name another folder", args.to);
    }
    let (ra, dec) = (Some(args.ra), Some(args.dec));
    let spec = CatalogSpec { name: "catalogue".into(), url: from.url.to_string(), ra, dec, columns: args.columns };
    let source = open(&spec, &stores, None).await?;
    let memory = usize::try_from(args.catalogs.catalog_memory).unwrap_or(usize::MAX);
    let limits = Limits { memory, spill: args.spill.unwrap_or_else(std::env::temp_dir) };
    let working = progress::spinner("sorting");
    let built = build(&source, &stores, &to, &limits).await;
    working.finish_and_clear();
    let built = built?;
    let (rows, files) = (counted(built.rows, "row"), counted(built.files as u64, "file"));
    output::line(format!("{rows} in {files}, {} MB, {}", built.bytes / 1_000_000, span(begun.elapsed())))?;
    if built.left_out > 0 {
        output::line(format!("{} without a position left out", counted(built.left_out, "row")))?;
    }
    Ok(())
}
