//! `/metrics` of an executor: its science modules as its host counts them, whatever job calls them.

use std::fmt::Write;
use std::net::SocketAddr;

use anyhow::{Context, Result};
use axum::Router;
use axum::routing::get;
use redpoll_udfs::host::{Host, Metrics};
use tokio::net::TcpListener;

/// Serves the numbers of `host` from now on.
pub async fn serve(address: SocketAddr, host: Host) -> Result<()> {
    let listener = TcpListener::bind(address).await.with_context(|| format!("cannot listen on {address}"))?;
    println!("metrics at http://{}/metrics", listener.local_addr()?);
    let routes = Router::new().route("/metrics", get(move || async move { text(host.metrics()) }));
    tokio::spawn(async move { axum::serve(listener, routes).await });
    Ok(())
}

/// The text format of Prometheus.
fn text(modules: impl IntoIterator<Item = (String, Metrics)>) -> String {
    type Number = (&'static str, &'static str, fn(&Metrics) -> f64);
    const NUMBERS: [Number; 10] = [
        ("calls_total", "Calls of the module", |of| of.calls as f64),
        ("rows_total", "Rows that it was called for", |of| of.rows as f64),
        ("failures_total", "Rows on which it failed", |of| of.failures as f64),
        ("rested_total", "Of those, rows that failed because it rested", |of| of.rested as f64),
        ("restarts_total", "Workers that died or took too long", |of| of.restarts as f64),
        ("busy_seconds_total", "Time of its calls, with their waiting", |of| of.busy_micros as f64 / 1e6),
        ("queue_seconds_total", "Time that batches waited for a worker", |of| of.queue_micros as f64 / 1e6),
        ("bytes_total", "Arguments and values that went to workers and back", |of| of.bytes as f64),
        ("memory_bytes", "Largest memory of a worker so far", |of| (of.peak_kib << 10) as f64),
        ("resting", "1: it rests", |of| f64::from(u8::from(of.resting.is_some()))),
    ];
    let modules: Vec<_> = modules.into_iter().collect();
    let mut text = String::new();
    for (name, help, get) in NUMBERS {
        let kind = if name.ends_with("_total") { "counter" } else { "gauge" };
        let name = format!("redpoll_executor_module_{name}");
        let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} {kind}");
        for (module, metrics) in &modules {
            let _ = writeln!(text, "{name}{{module=\"{module}\"}} {}", get(metrics));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_module_has_its_numbers() {
        let roid = Metrics { calls: 2, queue_micros: 1_500_000, resting: Some("why".into()), ..Metrics::default() };
        let text = text([("roid".to_owned(), roid)]);
        for line in [
            "# TYPE redpoll_executor_module_calls_total counter",
            "redpoll_executor_module_calls_total{module=\"roid\"} 2",
            "redpoll_executor_module_queue_seconds_total{module=\"roid\"} 1.5",
            "# TYPE redpoll_executor_module_resting gauge",
            "redpoll_executor_module_resting{module=\"roid\"} 1",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} is not in\n{text}");
        }
    }
}
