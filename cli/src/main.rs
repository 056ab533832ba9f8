use std::io;
use std::process::ExitCode;

use clap::Parser;
use redpoll_cli::args::Cli;
use redpoll_cli::{exit, log};
use redpoll_core::fault;

#[tokio::main]
async fn main() -> ExitCode {
    let cli = Cli::parse();
    cli.objects.apply();
    let armed = fault::arm().map_err(|error| exit::Usage(error.to_string()).into());
    let done = match armed.and_then(|()| log::start(&cli.logging, cli.command.log_level())) {
        Ok(traces) => {
            let done = cli.command.run().await;
            // The last spans leave here.
            drop(traces);
            done
        }
        Err(error) => Err(error),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        // The reader has enough, as in `redpoll sql … | head`.
        Err(error) if error.chain().any(is_closed_pipe) => ExitCode::SUCCESS,
        Err(error) => {
            let text = exit::Plain(&error).to_string();
            if !text.is_empty() {
                eprintln!("error: {text}");
            }
            ExitCode::from(exit::code(&error))
        }
    }
}

fn is_closed_pipe(cause: &(dyn std::error::Error + 'static)) -> bool {
    cause.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
}
