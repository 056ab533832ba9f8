//! Numbers of science modules, from the ledger lines of committed epochs: what their attempts' receipts say.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use prometheus::core::Collector;
use prometheus::{CounterVec, IntCounterVec, IntGaugeVec, Opts, Registry};
use redpoll_core::ledger::ModuleCounts;

struct Modules {
    alerts: IntCounterVec,
    restarts: IntCounterVec,
    bytes: IntCounterVec,
    queue: CounterVec,
    micros: IntGaugeVec,
    memory: IntGaugeVec,
    resting: IntGaugeVec,
}

static MODULES: LazyLock<Modules> = LazyLock::new(|| {
    let of = ["job", "module"];
    let counter =
        |name, help, labels: &[&str]| IntCounterVec::new(Opts::new(name, help), labels).expect("a valid metric");
    let gauge = |name, help, labels: &[&str]| IntGaugeVec::new(Opts::new(name, help), labels).expect("a valid metric");
    let fates = "Alerts that reached a module, by what became of them: value, null, gated, failed, rested";
    let queue = Opts::new("redpoll_module_queue_seconds_total", "Time that batches waited for a worker of the module");
    let micros = "Microseconds per alert in the last epoch, by quantile";
    Modules {
        alerts: counter("redpoll_module_alerts_total", fates, &["job", "module", "fate"]),
        restarts: counter("redpoll_module_restarts_total", "Workers of the module that died or took too long", &of),
        bytes: counter("redpoll_module_bytes_total", "Arguments and values that went to workers and back", &of),
        queue: CounterVec::new(queue, &of).expect("a valid metric"),
        micros: gauge("redpoll_module_micros", micros, &["job", "module", "quantile"]),
        memory: gauge("redpoll_module_memory_bytes", "Largest memory of a worker in the last epoch", &of),
        resting: gauge("redpoll_module_resting", "1: it was not called for some alerts of the last epoch", &of),
    }
});

pub(super) fn register(registry: &Registry) {
    let Modules { alerts, restarts, bytes, queue, micros, memory, resting } = &*MODULES;
    let all: [Box<dyn Collector>; 7] = [
        Box::new(alerts.clone()),
        Box::new(restarts.clone()),
        Box::new(bytes.clone()),
        Box::new(queue.clone()),
        Box::new(micros.clone()),
        Box::new(memory.clone()),
        Box::new(resting.clone()),
    ];
    for metric in all {
        registry.register(metric).expect("names of metrics differ");
    }
}

/// An epoch was committed.
pub(super) fn committed(job: &str, modules: &BTreeMap<String, ModuleCounts>) {
    for (module, counts) in modules {
        let of = [job, module.as_str()];
        for (fate, n) in fates(counts) {
            MODULES.alerts.with_label_values(&[job, module, fate]).inc_by(n);
        }
        MODULES.restarts.with_label_values(&of).inc_by(counts.restarts);
        MODULES.bytes.with_label_values(&of).inc_by(counts.bytes);
        MODULES.queue.with_label_values(&of).inc_by(counts.queue_micros as f64 / 1e6);
        for (name, share) in [("0.5", 0.5), ("0.99", 0.99)] {
            if let Some(micros) = counts.micros.quantile(share) {
                MODULES.micros.with_label_values(&[job, module, name]).set(gauge(micros));
            }
        }
        MODULES.memory.with_label_values(&of).set(gauge(counts.peak_kib << 10));
        MODULES.resting.with_label_values(&of).set(i64::from(counts.rested > 0));
    }
}

fn fates(counts: &ModuleCounts) -> [(&'static str, u64); 5] {
    let other = counts.gated + counts.null + counts.failed;
    [
        ("value", counts.rows.saturating_sub(other)),
        ("null", counts.null),
        ("gated", counts.gated),
        ("failed", counts.failed - counts.rested.min(counts.failed)),
        ("rested", counts.rested),
    ]
}

fn gauge(n: u64) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_alert_has_one_fate() {
        let counts = ModuleCounts { rows: 10, gated: 2, null: 1, failed: 4, rested: 3, ..Default::default() };
        assert_eq!(fates(&counts), [("value", 3), ("null", 1), ("gated", 2), ("failed", 1), ("rested", 3)]);
        assert_eq!(fates(&counts).iter().map(|(_, n)| n).sum::<u64>(), counts.rows);
    }

    #[test]
    fn an_epoch_moves_the_numbers() {
        let registry = Registry::new();
        register(&registry);
        let counts = ModuleCounts { rows: 10, restarts: 2, ..Default::default() };
        committed("night", &[("roid".to_owned(), counts)].into());
        assert_eq!(MODULES.alerts.with_label_values(&["night", "roid", "value"]).get(), 10);
        assert_eq!(MODULES.restarts.with_label_values(&["night", "roid"]).get(), 2);
    }
}
