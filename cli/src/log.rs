//! Logs go to stderr, and step aside for a progress bar.

use std::io::{self, IsTerminal, Write};

use anyhow::Result;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::fmt::format::FmtSpan;

use crate::args::{LogForm, Logging};
use crate::exit::Usage;
use crate::progress;

/// `default` is the level if the user names none.
pub fn start(logging: &Logging, default: &str) -> Result<()> {
    let level = logging.log_level.as_deref().unwrap_or(default);
    let filter = EnvFilter::try_new(level).map_err(|error| Usage(format!("--log-level {level}: {error}")))?;
    // The spans of an epoch's actions, each told with its times when it closes, are the epoch's trace.
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(Aside).with_span_events(FmtSpan::CLOSE);
    match logging.log {
        LogForm::Json => log.json().flatten_event(true).with_span_list(false).init(),
        LogForm::Text => log.with_ansi(std::io::stderr().is_terminal()).with_target(false).compact().init(),
    }
    Ok(())
}

struct Aside;

impl<'a> MakeWriter<'a> for Aside {
    type Writer = Line;

    fn make_writer(&'a self) -> Line {
        Line(Vec::new())
    }
}

/// One event, written as a whole while the bar is away.
struct Line(Vec<u8>);

impl Write for Line {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        let bytes = std::mem::take(&mut self.0);
        progress::aside(|| io::stderr().write_all(&bytes))
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        // Nobody is left to tell if stderr is gone.
        let _ = self.flush();
    }
}
