//! Logs go to stderr, and step aside for a progress bar; spans also go to a collector of traces, if there is one.

use std::io::{self, IsTerminal, Write};

use anyhow::Result;
use tracing_subscriber::filter::{EnvFilter, LevelFilter, Targets};
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::fmt::format::FmtSpan;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, fmt, registry};

use crate::args::{LogForm, Logging};
use crate::exit::Usage;
use crate::progress;
use crate::traces::Traces;

/// `default` is the level if the user names none. Traces are sent as long as what comes back is kept.
pub fn start(logging: &Logging, default: &str) -> Result<Option<Traces>> {
    let level = logging.log_level.as_deref().unwrap_or(default);
    let filter = EnvFilter::try_new(level).map_err(|error| Usage(format!("--log-level {level}: {error}")))?;
    // The spans of an epoch's actions, each told with its times when it closes, are the epoch's trace.
    let log = fmt::layer().with_writer(Aside).with_span_events(FmtSpan::CLOSE);
    let log = match logging.log {
        LogForm::Json => log.json().flatten_event(true).with_span_list(false).with_filter(filter).boxed(),
        LogForm::Text => {
            let colour = io::stderr().is_terminal();
            log.with_ansi(colour).with_target(false).compact().with_filter(filter).boxed()
        }
    };
    let traces = Traces::from_env()?;
    // What a trace holds does not depend on how much the logs are to say. Spans of libraries stay out.
    let ours = Targets::new().with_targets(OURS.map(|name| (name, LevelFilter::INFO)));
    let exported = traces.as_ref().map(|traces| {
        tracing_opentelemetry::layer()
            .with_tracer(traces.tracer())
            .with_location(false)
            .with_threads(false)
            .with_filter(ours)
    });
    registry().with(log).with(exported).init();
    Ok(traces)
}

/// Targets begin with the name of a crate.
const OURS: [&str; 4] = ["redpoll_scheduler", "redpoll_executor", "redpoll_connectors", "redpoll_core"];

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
