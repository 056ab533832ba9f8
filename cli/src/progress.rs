//! Progress on stderr: a bar on a terminal, a plain line now and then in a file.

use std::fmt::Write;
use std::io::IsTerminal;
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use indicatif::{MultiProgress, ProgressBar, ProgressState, ProgressStyle};
use redpoll_scheduler::coordinator::Status;

use crate::under_way::{Ahead, Done};
use crate::values::{counted, grouped};

static BARS: LazyLock<MultiProgress> = LazyLock::new(MultiProgress::new);

/// Between two plain lines.
const PLAIN_INTERVAL: Duration = Duration::from_secs(5);

/// Does something on stderr while no bar is drawn there.
pub fn aside<R>(f: impl FnOnce() -> R) -> R {
    BARS.suspend(f)
}

/// A line on stderr, above a bar if there is one.
pub fn say(line: impl AsRef<str>) {
    aside(|| eprintln!("{}", line.as_ref()));
}

fn bar(template: &str) -> ProgressBar {
    let style = ProgressStyle::with_template(template).expect("the template is well-formed");
    let rate = |state: &ProgressState, text: &mut dyn Write| {
        // A bar that cannot be drawn is no reason to stop.
        let _ = text.write_str(&grouped(state.per_sec().round() as u64));
    };
    let style = style.with_key("rate", rate).tick_chars("⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏ ").progress_chars("━╸─");
    let bar = BARS.add(ProgressBar::no_length().with_style(style));
    bar.enable_steady_tick(Duration::from_millis(120));
    bar
}

/// Something that takes a while and cannot be counted.
pub fn spinner(what: impl Into<String>) -> ProgressBar {
    let bar = bar("{spinner} {msg} {elapsed:.dim}");
    bar.set_message(what.into());
    bar
}

/// Something of a known number.
pub fn counter(n: u64, what: &'static str) -> ProgressBar {
    let bar = bar(&format!("{{spinner}} {{bar:30.cyan/dim}} {{human_pos}} of {{human_len}} {what}, {{rate}}/s"));
    bar.set_length(n);
    bar
}

/// Shows a job from one status to the next.
pub struct JobProgress {
    bar: Option<ProgressBar>,
    /// The job had so many alerts before this run.
    before: u64,
    started: Instant,
    said: Option<Instant>,
}

impl JobProgress {
    pub fn new(first: &Status) -> Self {
        let bar = std::io::stderr().is_terminal().then(|| bar("{spinner} {bar:24.cyan/dim} {wide_msg}"));
        Self { bar, before: first.decoded, started: Instant::now(), said: Some(Instant::now()) }
    }

    /// `ahead` is what is done beyond the commits that `status` counts.
    pub fn show(&mut self, status: &Status, ahead: &Ahead) {
        let line = self.line(status, ahead);
        match &self.bar {
            Some(bar) => {
                let planned = status.fetched + ahead.prepared.fetched;
                bar.set_length((planned + status.backlog).max(1));
                bar.set_position(planned + ahead.running.fetched);
                bar.set_message(line);
            }
            None if self.said.is_none_or(|at| at.elapsed() >= PLAIN_INTERVAL) => {
                self.said = Some(Instant::now());
                eprintln!("{}: {line}", status.name);
            }
            None => {}
        }
    }

    pub fn finish(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }

    fn line(&self, status: &Status, ahead: &Ahead) -> String {
        let sum = |of: fn(&Done) -> u64| of(&ahead.prepared) + of(&ahead.running);
        let decoded = status.decoded + sum(|done| done.decoded);
        let quarantined = status.quarantined + sum(|done| done.quarantined);
        let waiting = status.backlog.saturating_sub(ahead.running.fetched);
        let seconds = self.started.elapsed().as_secs_f64().max(0.001);
        let rate = decoded.saturating_sub(self.before) as f64 / seconds;
        let mut parts = vec![
            counted(decoded, "alert"),
            format!("{}/s", grouped(rate.round() as u64)),
            format!("{} kept", grouped(status.kept + sum(|done| done.kept))),
        ];
        if quarantined > 0 {
            parts.push(format!("{} quarantined", grouped(quarantined)));
        }
        if waiting > 0 {
            parts.push(format!("{} waiting", grouped(waiting)));
        }
        parts.push(status.doing.clone());
        if let Some(reason) = status.reason.as_ref().filter(|_| status.state == "degraded") {
            parts.push(format!("degraded: {reason}"));
        }
        parts.retain(|part| !part.is_empty());
        parts.join(" · ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn splits_that_are_done_count_before_their_epoch_is_committed() {
        let status = Status { decoded: 100, kept: 90, backlog: 50, ..Status::default() };
        let done = Done { fetched: 20, decoded: 19, kept: 10, quarantined: 1 };
        let progress = JobProgress { bar: None, before: 119, started: Instant::now(), said: None };
        let line = progress.line(&status, &Ahead { prepared: Done::default(), running: done });
        assert_eq!(line, "119 alerts · 0/s · 100 kept · 1 quarantined · 30 waiting");
    }

    #[test]
    fn a_degraded_job_says_why_while_it_runs() {
        let status = Status {
            decoded: 12_400,
            kept: 11_000,
            quarantined: 2,
            backlog: 3_000,
            state: "degraded".into(),
            reason: Some("the broker is away".into()),
            doing: "waiting".into(),
            ..Status::default()
        };
        let progress = JobProgress { bar: None, before: 12_400, started: Instant::now(), said: None };
        assert_eq!(
            progress.line(&status, &Ahead::default()),
            "12,400 alerts · 0/s · 11,000 kept · 2 quarantined · 3,000 waiting · waiting · degraded: the broker is away"
        );
    }
}
