//! Numbers for Prometheus, in one registry for the process.

use std::sync::LazyLock;

use prometheus::{Encoder, HistogramVec, IntCounter, IntCounterVec, IntGaugeVec, Registry, TextEncoder};
use prometheus::{histogram_opts, opts};
use redpoll_core::ledger::Line;

struct Metrics {
    registry: Registry,
    alerts: IntCounterVec,
    rows: IntCounterVec,
    backlog: IntGaugeVec,
    latency: HistogramVec,
    executors_left: IntCounter,
    reclaimed: IntCounter,
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
    let (alerts, rows) = (alerts.expect("a valid metric"), rows.expect("a valid metric"));
    let (backlog, latency) = (backlog.expect("a valid metric"), latency.expect("a valid metric"));
    let executors_left =
        IntCounter::new("redpoll_executors_left_total", "Executors that died, drained or were given up");
    let reclaimed = IntCounter::new("redpoll_vcores_reclaimed_total", "Vcores given back that no task held");
    let (executors_left, reclaimed) = (executors_left.expect("a valid metric"), reclaimed.expect("a valid metric"));
    let all: [Box<dyn prometheus::core::Collector>; 6] = [
        Box::new(alerts.clone()),
        Box::new(rows.clone()),
        Box::new(backlog.clone()),
        Box::new(latency.clone()),
        Box::new(executors_left.clone()),
        Box::new(reclaimed.clone()),
    ];
    for metric in all {
        registry.register(metric).expect("names of metrics differ");
    }
    Metrics { registry, alerts, rows, backlog, latency, executors_left, reclaimed }
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
