//! `redpoll check`: finds every problem of a pipeline, and changes nothing.

use anyhow::Result;
use redpoll_core::protocol::Pipeline;
use serde_json::json;

use crate::args::{Local, Place};
use crate::client::{Checked, Client, Error};
use crate::cluster::Cluster;
use crate::commands::run::Format;
use crate::exit::Told;
use crate::output::{self, modules, paint};
use crate::pipeline_file::{self, PipelineArgs};
use crate::values::counted;

const EXAMPLES: &str = "\
Examples:
  redpoll check pipelines/ztf/night.sql --set source=./night
  redpoll check my.sql --explain              the plan, and what modules take
  redpoll check my.sql --format json | jq .problems

Names, types, modules and their files, sources and sinks are checked; nothing is written. Exit code 1 if there is a problem.";

#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    #[command(flatten)]
    pub pipeline: PipelineArgs,
    /// Show the plan of its epochs too, with what each science module takes
    #[arg(long, env = "REDPOLL_EXPLAIN")]
    pub explain: bool,
    /// Form of the answer on stdout
    #[arg(long, env = "REDPOLL_FORMAT", value_enum, default_value = "text")]
    pub format: Format,
    #[command(flatten)]
    pub place: Place,
    #[command(flatten)]
    pub local: Local,
}

pub async fn run(args: Args) -> Result<()> {
    let pipeline = args.pipeline.read()?;
    let cluster = Cluster::to_look(&args.place, &args.local).await?;
    let done = check(&cluster.client, &pipeline, args.format, args.explain).await;
    cluster.close().await;
    done
}

async fn check(client: &Client, pipeline: &Pipeline, format: Format, explain: bool) -> Result<()> {
    let (checked, problems) = match client.check(pipeline).await {
        Ok(checked) => (checked, None),
        Err(Error::Pipeline(problems)) => (Checked::default(), Some(problems)),
        Err(error) => return Err(error.into()),
    };
    let n_problems = problems.as_ref().map_or(0, |problems| problems.problems.len());
    match format {
        Format::Json => {
            let problems = problems.as_ref().map_or(&[][..], |problems| &problems.problems);
            let (warnings, modules) = (&checked.warnings.problems, &checked.calls);
            let mut answer =
                json!({ "file": pipeline.file, "problems": problems, "warnings": warnings, "modules": modules });
            if explain {
                answer["plan"] = json!(checked.plan);
            }
            output::line(answer.to_string())?;
        }
        Format::Text => {
            output::text(pipeline_file::warn(&checked.warnings, &pipeline.text))?;
            match &problems {
                Some(problems) => {
                    output::text(pipeline_file::show(problems, &pipeline.text))?;
                    output::line(format!("{} {}", paint::warning("✗"), counted(n_problems as u64, "problem")))?;
                }
                None => output::line(format!("{} {} is right", paint::good("✓"), pipeline.file))?,
            }
            output::text(modules::table(&checked.calls))?;
            if explain && problems.is_none() {
                output::text(format!("\n{}", modules::explained(&checked.plan, &checked.calls)))?;
            }
        }
    }
    match n_problems {
        0 => Ok(()),
        _ => Err(Told(1).into()),
    }
}
