//! `redpoll completion`: a script that lets a shell complete commands and options.

use std::io::stdout;

use anyhow::Result;
use clap::CommandFactory;
use clap_complete::Shell;

use crate::args::Cli;

const EXAMPLES: &str = "\
Examples:
  redpoll completion bash > ~/.local/share/bash-completion/completions/redpoll
  redpoll completion zsh > ~/.zfunc/_redpoll
  redpoll completion fish > ~/.config/fish/completions/redpoll.fish";

#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// The shell
    pub shell: Shell,
}

pub fn run(args: &Args) -> Result<()> {
    clap_complete::generate(args.shell, &mut Cli::command(), "redpoll", &mut stdout());
    Ok(())
}
