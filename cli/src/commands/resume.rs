//! `redpoll resume`: the operator's word to a job that waits for one.

use anyhow::Result;
use redpoll_scheduler::coordinator::Answer;

use crate::args::{ListFormat, Place};
use crate::client::Client;
use crate::exit::Usage;
use crate::output;

const EXAMPLES: &str = "\
Examples:
  redpoll describe ztf-night --scheduler http://scheduler:50050   what expired
  redpoll resume ztf-night --skip --scheduler http://scheduler:50050

A job waits when the source has deleted what was to be read. With --on-expired skip, `redpoll run` does not ask.";

#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES, group(clap::ArgGroup::new("answer").required(true)))]
pub struct Args {
    /// The job
    pub job: String,
    /// Go on without what has expired: the ledger names it, as absent
    #[arg(long, env = "REDPOLL_SKIP", group = "answer")]
    pub skip: bool,
    /// Try once more, where the records were put back
    #[arg(long, env = "REDPOLL_RERUN", group = "answer")]
    pub rerun: bool,
    /// Form of the answer on stdout
    #[arg(long, env = "REDPOLL_FORMAT", value_enum, default_value = "table")]
    pub format: ListFormat,
    #[command(flatten)]
    pub place: Place,
}

pub async fn run(args: Args) -> Result<()> {
    let Some(url) = &args.place.scheduler else {
        let message =
            "--scheduler is needed to resume a job; run one without a scheduler again with --on-expired skip instead";
        return Err(Usage(message.to_owned()).into());
    };
    let answer = if args.skip { Answer::Skip } else { Answer::Rerun };
    let status = Client::new(url.clone())?.resume(&args.job, answer).await?;
    if args.format == ListFormat::Json {
        return Ok(output::line(serde_json::to_string(&status)?)?);
    }
    let how = if args.skip { "goes on without" } else { "tries once more" };
    output::line(format!("{} {how}:", status.name))?;
    for range in &status.expired {
        output::line(format!("  {range}"))?;
    }
    Ok(())
}
