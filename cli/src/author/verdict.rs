//! All that a trial showed, as text and as JSON.

use std::collections::BTreeMap;

use anyhow::Result;
use arrow::array::Array;
use redpoll_udfs::author::{Checked, Problem};
use redpoll_udfs::manifest::Module;
use serde::Serialize;
use serde_json::{Value, json};

use super::comparison::Comparison;
use super::pytest::Tests;
use super::trial::{Arguments, Trial};
use crate::output::histogram::{self, Spread};
use crate::output::paint;
use crate::values::{counted, grouped};

/// Ids that are named with an exception.
const NAMED: usize = 5;
/// Fields of a struct that are drawn.
const DRAWN: usize = 4;

/// Alerts on which a module failed alike.
#[derive(Debug, Clone, Serialize)]
pub struct Exception {
    pub reason: String,
    pub n: usize,
    /// The first ones.
    pub alerts: Vec<String>,
}

/// What a module's run over a sample came to.
#[derive(Debug, Clone, Serialize)]
pub struct Figures {
    pub alerts: String,
    pub rows: usize,
    /// Alerts for which the module's `where` does not hold.
    pub not_called_for: usize,
    pub nulls: usize,
    pub failed: usize,
    pub exceptions: Vec<Exception>,
    pub calls: usize,
    pub rows_per_call: usize,
    pub micros_per_alert_p50: f64,
    pub micros_per_alert_p99: f64,
    pub bytes_per_alert: f64,
    pub memory_mib: Option<u64>,
    pub values: Vec<Spread>,
}

impl Figures {
    pub fn of(module: &Module, origin: &str, arguments: &Arguments, trial: &Trial) -> Result<Self> {
        Ok(Self {
            alerts: origin.to_owned(),
            rows: trial.values.len(),
            not_called_for: arguments.n_gated,
            nulls: trial.values.null_count(),
            failed: trial.failures.len(),
            exceptions: exceptions(&arguments.ids, &trial.failures),
            calls: trial.calls.n(),
            rows_per_call: trial.calls.rows,
            micros_per_alert_p50: trial.calls.micros(0.5),
            micros_per_alert_p99: trial.calls.micros(0.99),
            bytes_per_alert: trial.bytes_per_alert,
            memory_mib: trial.memory_mib,
            values: histogram::spreads(&module.name, &trial.values)?,
        })
    }

    pub fn text(&self) -> String {
        let gated = match self.not_called_for {
            0 => String::new(),
            n => format!("; its `where` left out {}", grouped(n as u64)),
        };
        let memory = self.memory_mib.map(|mib| format!("{} MiB", grouped(mib))).unwrap_or_default();
        let lines = [
            ("alerts", format!("{} {}{gated}", grouped(self.rows as u64), self.alerts)),
            ("values", format!("{} null, {} failed", grouped(self.nulls as u64), grouped(self.failed as u64))),
            (
                "time",
                format!(
                    "{:.1} µs per alert (half of the calls), {:.1} µs (99%), in {} of {}",
                    self.micros_per_alert_p50,
                    self.micros_per_alert_p99,
                    counted(self.calls as u64, "call"),
                    counted(self.rows_per_call as u64, "row")
                ),
            ),
            ("sent", format!("{} bytes per alert", grouped(self.bytes_per_alert.round() as u64))),
            ("memory", memory),
        ];
        let mut text = String::new();
        for (name, value) in lines.iter().filter(|(_, value)| !value.is_empty()) {
            text += &format!("  {name:<8} {value}\n");
        }
        for spread in &self.values {
            if let Some([least, median, most]) = spread.range.map(|range| range.map(histogram::number)) {
                text += &format!("  {:<8} {least} to {most}, median {median}\n", spread.name);
            }
        }
        for spread in self.values.iter().take(DRAWN).filter(|spread| !spread.bars.is_empty()) {
            text += &format!("\n{}", histogram::draw(spread));
        }
        for exception in &self.exceptions {
            let more = if exception.n > exception.alerts.len() { ", …" } else { "" };
            text += &format!(
                "{} {} × {}\n    alerts {}{more}\n",
                paint::warning("✗"),
                grouped(exception.n as u64),
                exception.reason,
                exception.alerts.join(", ")
            );
        }
        text
    }
}

fn exceptions(ids: &[String], failures: &[(usize, String)]) -> Vec<Exception> {
    let mut by_reason: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for (row, reason) in failures {
        let id = ids.get(*row).map_or("?", String::as_str);
        by_reason.entry(reason).or_default().push(id);
    }
    let exception = |(reason, alerts): (&str, Vec<&str>)| {
        let named = alerts.iter().take(NAMED).map(|id| (*id).to_owned()).collect();
        Exception { reason: reason.to_owned(), n: alerts.len(), alerts: named }
    };
    let mut exceptions: Vec<Exception> = by_reason.into_iter().map(exception).collect();
    exceptions.sort_by_key(|exception| std::cmp::Reverse(exception.n));
    exceptions
}

/// Everything that `module test` found out.
pub struct Verdict<'a> {
    pub module: &'a Module,
    pub checked: &'a Checked,
    pub tests: &'a Tests,
    pub figures: Option<&'a Figures>,
    pub comparison: Option<&'a Comparison>,
}

impl Verdict<'_> {
    /// Whether the module may be deployed.
    pub fn is_good(&self) -> bool {
        let failed = self.figures.is_none_or(|figures| figures.failed > 0);
        self.checked.problems.is_empty() && !matches!(self.tests, Tests::Failed { .. }) && !failed
    }

    pub fn json(&self) -> Value {
        json!({
            "module": self.module.name, "fingerprint": self.module.fingerprint, "good": self.is_good(),
            "problems": self.checked.problems, "tests": self.tests, "trial": self.figures,
            "comparison": self.comparison,
        })
    }
}

/// Problems of a module's files, each with its remedy.
pub fn problems(module: &Module, problems: &[Problem]) -> String {
    let mut text = String::new();
    for problem in problems {
        text += &format!("{} {}/{problem}\n", paint::warning("✗"), module.dir.display());
        if !problem.remedy.is_empty() {
            text += &format!("    {}\n", problem.remedy);
        }
    }
    text
}

pub fn tests(tests: &Tests) -> String {
    match tests {
        Tests::None => String::new(),
        Tests::Passed { summary } => format!("{} its tests: {summary}\n", paint::good("✓")),
        Tests::Failed { output } => format!("{output}{} its tests fail\n", paint::warning("✗")),
        Tests::Skipped { why } => format!("{} its tests are SKIPPED: {why}\n", paint::warning("!")),
    }
}

pub fn comparison(comparison: &Comparison) -> String {
    let version = &comparison.version;
    if comparison.same {
        return format!("  {:<8} it is the version that is deployed ({version})\n", "deployed");
    }
    if let Some(why) = &comparison.not_comparable {
        return format!("  {:<8} {version} cannot be held against it row by row: {why}\n", "deployed");
    }
    let differ = grouped(comparison.n_differ as u64);
    let n_rows = counted(comparison.n_rows as u64, "row");
    let mut text =
        format!("  {:<8} {differ} of {n_rows} differ from the version that is deployed ({version})\n", "deployed");
    for row in &comparison.shown {
        let value = |value: &Option<String>| value.clone().unwrap_or_else(|| "null".to_owned());
        text += &format!("    {}: {} deployed, {} now\n", row.id, value(&row.deployed), value(&row.new));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exceptions_are_grouped_with_the_first_alerts() {
        let ids: Vec<String> = (0..10).map(|n| format!("a{n}")).collect();
        let failures: Vec<(usize, String)> = (0..8).map(|row| (row, format!("E: {}", row % 7 == 0))).collect();
        let exceptions = exceptions(&ids, &failures);
        assert_eq!((exceptions[0].reason.as_str(), exceptions[0].n), ("E: false", 6));
        assert_eq!(exceptions[0].alerts, ["a1", "a2", "a3", "a4", "a5"]);
        assert_eq!(exceptions[1].alerts, ["a0", "a7"]);
    }
}
