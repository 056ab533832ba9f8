use std::io;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use redpoll_cli::args::Cli;
use redpoll_cli::{exit, log};
use redpoll_core::fault;
use tokio::runtime::Builder;

/// How long a thread for blocking calls waits for the next one. They come in bursts and go to idle threads in turn:
/// with tokio's 10 s, a scheduler that runs an epoch each second would keep every thread of its largest burst for ever, and
/// the memory that each had taken. A thread is made anew in some 20 µs.
const IDLE_THREAD: Duration = Duration::from_millis(200);

fn main() -> ExitCode {
    match Builder::new_multi_thread().enable_all().thread_keep_alive(IDLE_THREAD).build() {
        Ok(runtime) => runtime.block_on(run()),
        Err(error) => {
            eprintln!("error: the threads of this process could not be started: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn run() -> ExitCode {
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
