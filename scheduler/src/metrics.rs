//! Numbers for Prometheus, in one registry for the process.

mod modules;

use std::sync::LazyLock;

use prometheus::{Encoder, HistogramVec, IntCounter, IntCounterVec, IntGaugeVec, Registry, TextEncoder};
use prometheus::{histogram_opts, opts};
use redpoll_core::ledger::Line;

use crate::coordinator::trouble::{Step, Trouble};
use crate::outbox::Lag;

struct Metrics {
    registry: Registry,
    alerts: IntCounterVec,
    rows: IntCounterVec,
    backlog: IntGaugeVec,
    trouble: IntGaugeVec,
    trouble_since: IntGaugeVec,
    expired: IntCounterVec,
    latency: HistogramVec,
    executors_left: IntCounter,
    reclaimed: IntCounter,
    messages: IntGaugeVec,
    failed_sends: IntGaugeVec,
}

static METRICS: LazyLock<Metrics> = LazyLock::new(|| {
    let registry = Registry::new();
    let alerts = IntCounterVec::new(
        opts!("redpoll_alerts_total", "Alerts by what became of them: decoded, kept, cut, unknown, quarantined"),
        &["job", "fate"],
    );
    let rows = IntCounterVec::new(opts!("redpoll_sink_rows_total", "Rows written by sink"), &["job", "sink"]);
    let backlog = IntGaugeVec::new(
        opts!("redpoll_backlog_records", "Records that wait at the source of a running job"),
        &["job"],
    );
    let buckets = vec![0.1, 0.25, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 300.0];
    let latency = HistogramVec::new(
        histogram_opts!("redpoll_epoch_seconds", "From planning an epoch to its commit", buckets),
        &["job"],
    );
    let trouble = IntGaugeVec::new(
        opts!("redpoll_job_failed_tries", "Tries in a row of a step that does not work; 0: it works"),
        &["job", "step"],
    );
    let trouble_since = IntGaugeVec::new(
        opts!("redpoll_job_failing_since_seconds", "Unix time since which a step does not work; 0: all do"),
        &["job"],
    );
    let expired = IntCounterVec::new(
        opts!("redpoll_expired_offsets_total", "Offsets that the source had deleted before they were read"),
        &["job"],
    );
    let (trouble, trouble_since) = (trouble.expect("a valid metric"), trouble_since.expect("a valid metric"));
    let expired = expired.expect("a valid metric");
    let (alerts, rows) = (alerts.expect("a valid metric"), rows.expect("a valid metric"));
    let (backlog, latency) = (backlog.expect("a valid metric"), latency.expect("a valid metric"));
    let executors_left =
        IntCounter::new("redpoll_executors_left_total", "Executors that died, drained or were given up");
    let reclaimed = IntCounter::new("redpoll_vcores_reclaimed_total", "Vcores given back that no task held");
    let (executors_left, reclaimed) = (executors_left.expect("a valid metric"), reclaimed.expect("a valid metric"));
    let messages = IntGaugeVec::new(
        opts!("redpoll_outbox_messages", "Messages of an OUTBOX table by state: waiting, sent, set_aside, repeated"),
        &["job", "table", "state"],
    );
    let failed_sends = IntGaugeVec::new(
        opts!("redpoll_outbox_failed_tries", "Tries in a row of the message at hand that did not work; 0: they work"),
        &["job", "table"],
    );
    let (messages, failed_sends) = (messages.expect("a valid metric"), failed_sends.expect("a valid metric"));
    let all: [Box<dyn prometheus::core::Collector>; 11] = [
        Box::new(messages.clone()),
        Box::new(failed_sends.clone()),
        Box::new(alerts.clone()),
        Box::new(rows.clone()),
        Box::new(backlog.clone()),
        Box::new(trouble.clone()),
        Box::new(trouble_since.clone()),
        Box::new(expired.clone()),
        Box::new(latency.clone()),
        Box::new(executors_left.clone()),
        Box::new(reclaimed.clone()),
    ];
    for metric in all {
        registry.register(metric).expect("names of metrics differ");
    }
    modules::register(&registry);
    Metrics {
        registry,
        alerts,
        rows,
        backlog,
        trouble,
        trouble_since,
        expired,
        latency,
        executors_left,
        reclaimed,
        messages,
        failed_sends,
    }
});

/// An epoch was committed.
pub(crate) fn committed(job: &str, line: &Line) {
    let fates = [
        ("decoded", line.decoded),
        ("kept", line.kept),
        ("cut", line.cut.values().sum()),
        ("unknown", line.unknown.values().sum()),
        ("quarantined", line.quarantined),
    ];
    for (fate, n) in fates {
        METRICS.alerts.with_label_values(&[job, fate]).inc_by(n);
    }
    for (sink, n) in &line.sinks {
        METRICS.rows.with_label_values(&[job, sink]).inc_by(*n);
    }
    METRICS.expired.with_label_values(&[job]).inc_by(line.expired());
    modules::committed(job, &line.modules);
    let seconds = (chrono::Utc::now().timestamp_millis() - line.planned) as f64 / 1000.0;
    METRICS.latency.with_label_values(&[job]).observe(seconds);
}

pub(crate) fn backlog(job: &str, records: u64) {
    METRICS.backlog.with_label_values(&[job]).set(i64::try_from(records).unwrap_or(i64::MAX));
}

/// Nobody here knows any more what waits for a job.
pub(crate) fn left(job: &str) {
    // A job that ended before its first look at the source has no such number.
    let _ = METRICS.backlog.remove_label_values(&[job]);
}

/// The step of a job that does not work, if there is one.
pub(crate) fn trouble(job: &str, trouble: Option<&Trouble>) {
    for step in Step::ALL {
        let tries = trouble.filter(|trouble| trouble.step == step).map_or(0, |trouble| trouble.tries);
        METRICS.trouble.with_label_values(&[job, step.name()]).set(i64::from(tries));
    }
    METRICS.trouble_since.with_label_values(&[job]).set(trouble.map_or(0, |trouble| trouble.since / 1000));
}

/// How a table of messages does.
pub(crate) fn outbox(job: &str, table: &str, lag: &Lag) {
    let states =
        [("waiting", lag.waiting), ("sent", lag.sent), ("set_aside", lag.set_aside), ("repeated", lag.repeated)];
    for (state, n) in states {
        METRICS.messages.with_label_values(&[job, table, state]).set(i64::try_from(n).unwrap_or(i64::MAX));
    }
    let tries = lag.failing.as_ref().map_or(0, |failing| failing.tries);
    METRICS.failed_sends.with_label_values(&[job, table]).set(i64::from(tries));
}

pub(crate) fn executor_left() {
    METRICS.executors_left.inc();
}

/// Vcores that no task held were given back.
pub(crate) fn reclaimed(vcores: u32) {
    METRICS.reclaimed.inc_by(u64::from(vcores));
}

/// The text format of Prometheus.
pub fn text() -> String {
    let mut out = Vec::new();
    match TextEncoder::new().encode(&METRICS.registry.gather(), &mut out) {
        Ok(()) => String::from_utf8_lossy(&out).into_owned(),
        Err(error) => format!("# {error}\n"),
    }
}
