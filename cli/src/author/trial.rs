//! One run of a module over a sample, by the host that runs it at night.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use arrow::array::{Array, ArrayRef, AsArray, RecordBatch, RecordBatchOptions, new_empty_array};
use arrow::compute::{concat, filter_record_batch};
use arrow::datatypes::{Field, Schema};
use arrow::ipc::writer::StreamWriter;
use redpoll_udfs::host::Host;
use redpoll_udfs::manifest::{Kind, Module};

use super::inputs;
use super::sample::{Sample, names};

/// Calls that a sample is cut into, so that there are times to compare.
const CALLS: usize = 32;

/// The alerts that a module would be called for, as its arguments.
pub struct Arguments {
    pub ids: Vec<String>,
    pub batch: RecordBatch,
    /// Alerts for which its `where` does not hold.
    pub n_gated: usize,
}

impl Arguments {
    /// At most so many of them.
    pub fn first(&self, n: usize) -> Self {
        let n = n.min(self.batch.num_rows());
        let ids = self.ids.iter().take(n).cloned().collect();
        Self { ids, batch: self.batch.slice(0, n), n_gated: self.n_gated }
    }
}

/// What a module gave.
pub struct Trial {
    pub values: ArrayRef,
    /// Row, and why its value is null.
    pub failures: Vec<(usize, String)>,
    pub calls: Calls,
    /// Arrow IPC of the arguments, for one alert.
    pub bytes_per_alert: f64,
    /// Most memory that its workers had.
    pub memory_mib: Option<u64>,
}

/// How long calls took, from the request to the column.
#[derive(Debug, Clone, Default)]
pub struct Calls {
    pub rows: usize,
    times: Vec<(usize, Duration)>,
}

impl Calls {
    /// µs per alert that this share of the calls did not exceed.
    pub fn micros(&self, share: f64) -> f64 {
        let of = |(rows, time): &(usize, Duration)| time.as_secs_f64() * 1e6 / (*rows).max(1) as f64;
        let mut each: Vec<f64> = self.times.iter().map(of).collect();
        each.sort_by(f64::total_cmp);
        let at = ((each.len() as f64 * share) as usize).min(each.len().saturating_sub(1));
        each.get(at).copied().unwrap_or_default()
    }

    pub fn n(&self) -> usize {
        self.times.len()
    }
}

/// Takes a module's arguments from a sample.
pub async fn arguments(module: &Module, sample: &Sample) -> Result<Arguments> {
    let columns = inputs::select_list(module, &sample.schema, sample.id())?;
    let asked = sample.select(&columns).await;
    let all =
        asked.with_context(|| format!("taking the inputs of {} from the alerts ({})", module.name, sample.origin))?;
    let wanted = all.column(1).as_boolean();
    let kept = filter_record_batch(&all, wanted)?;
    let n_gated = all.num_rows() - kept.num_rows();
    let inputs = module.inputs.iter().zip(&kept.columns()[2..]);
    let fields: Vec<Field> =
        inputs.map(|(input, column)| Field::new(&input.name, column.data_type().clone(), true)).collect();
    let options = RecordBatchOptions::new().with_row_count(Some(kept.num_rows()));
    let batch =
        RecordBatch::try_new_with_options(Arc::new(Schema::new(fields)), kept.columns()[2..].to_vec(), &options)?;
    Ok(Arguments { ids: names(kept.column(0))?, batch, n_gated })
}

/// Calls the module for all of them, in calls of about a 32nd, at most as many rows as its manifest allows.
pub async fn run(host: &Host, module: &Arc<Module>, arguments: &Arguments) -> Result<Trial> {
    let rows = arguments.batch.num_rows();
    let each = match module.kind {
        // What came together is grouped together.
        Kind::Grouped => rows.max(1),
        _ => rows.div_ceil(CALLS).clamp(1, module.batch_rows),
    };
    in_calls(host, module, arguments, each).await
}

/// As [`run`], in calls of so many rows.
pub async fn in_calls(host: &Host, module: &Arc<Module>, arguments: &Arguments, rows: usize) -> Result<Trial> {
    let batch = &arguments.batch;
    host.prepare(std::slice::from_ref(module)).await?;
    let (mut values, mut failures) = (vec![new_empty_array(module.returns.data_type())], Vec::new());
    let (mut calls, mut peak_kib) = (Calls { rows, times: Vec::new() }, 0);
    for start in (0..batch.num_rows()).step_by(rows) {
        let part = batch.slice(start, rows.min(batch.num_rows() - start));
        let begun = Instant::now();
        let evaluated = host.evaluate(module, &part, 0).await?;
        calls.times.push((part.num_rows(), begun.elapsed()));
        failures.extend(evaluated.failures.into_iter().map(|(row, reason)| (start + row as usize, reason)));
        values.push(evaluated.values);
        peak_kib = peak_kib.max(evaluated.usage.peak_kib);
    }
    let parts: Vec<&dyn Array> = values.iter().map(AsRef::as_ref).collect();
    let memory_mib = (peak_kib > 0).then_some(peak_kib / 1024);
    Ok(Trial { values: concat(&parts)?, failures, calls, bytes_per_alert: bytes_per_alert(batch)?, memory_mib })
}

/// What the arguments take on the way to Python.
pub fn bytes_per_alert(batch: &RecordBatch) -> Result<f64> {
    let mut writer = StreamWriter::try_new(Vec::new(), &batch.schema())?;
    writer.write(batch)?;
    writer.finish()?;
    Ok(writer.get_ref().len() as f64 / batch.num_rows().max(1) as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_of_an_alert_is_that_of_its_call_over_the_rows() {
        let times = (1..=100).map(|n| (10, Duration::from_micros(n * 10))).collect();
        let calls = Calls { rows: 10, times };
        assert_eq!((calls.micros(0.5).round(), calls.micros(0.99).round(), calls.n()), (51.0, 100.0, 100));
        assert_eq!(Calls::default().micros(0.5), 0.0);
    }
}
