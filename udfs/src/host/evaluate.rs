//! One call: its rows in parts, each sent until it is answered or its rows are known to kill workers.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed};
use std::time::Instant;

use arrow::array::RecordBatch;
use futures::{StreamExt, TryStreamExt, stream};

use super::assemble::{self, Assembly};
use super::breaker::{Outcome, Verdict};
use super::pool::{Answer, Call, Pool};
use super::{Error, Evaluated, Inner, Usage};
use crate::manifest::{Kind, Module};

/// Rows that show whether a module which rested works again.
const PROBE_ROWS: usize = 64;
/// Fewer rows than these are not worth a second worker.
const MIN_PART: usize = 512;

/// Rows, and their values or why they have none.
type Piece = (Range<usize>, Result<Answer, String>);

impl Inner {
    pub(super) async fn evaluate(
        &self,
        module: &Arc<Module>,
        args: RecordBatch,
        epoch: i64,
    ) -> Result<Evaluated, Error> {
        let begun = Instant::now();
        let pool = self.pool(module).await?;
        let args = assemble::cast_arguments(module, &args)?;
        let search = Search::new(module.max_restarts, begun + self.config.max_search);
        let call = OneCall { host: self, pool: &pool, module, key: super::key(module), args: &args, epoch, search };
        let parts = stream::iter(match module.kind {
            // What came together is grouped together.
            Kind::Grouped => (args.num_rows() > 0).then_some(0..args.num_rows()).into_iter().collect(),
            _ => parts(args.num_rows(), module.batch_rows, pool.n_free()),
        });
        let pieces: Vec<Vec<Piece>> =
            parts.map(|rows| call.part(rows)).buffer_unordered(pool.n_workers()).try_collect().await?;
        let mut assembly = Assembly::new(module);
        let mut usage = call.search.usage();
        for (rows, piece) in pieces.into_iter().flatten() {
            match piece {
                Ok(answer) => {
                    usage.add(rows.len(), &answer.cost);
                    assembly.answered(rows, answer);
                }
                Err(reason) => {
                    usage.rested += if reason.starts_with(RESTS) { rows.len() as u64 } else { 0 };
                    assembly.failed(rows, &reason);
                }
            }
        }
        let evaluated = assembly.finish(usage)?;
        let (rows, failures) = (evaluated.values.len() as u64, evaluated.failures.len() as u64);
        self.metrics.add(&module.name, rows, failures, &evaluated.usage, begun.elapsed());
        Ok(evaluated)
    }
}

/// How the reason of a row begins that was not called for.
const RESTS: &str = "the module rests: ";

struct OneCall<'a> {
    host: &'a Inner,
    pool: &'a Pool,
    module: &'a Arc<Module>,
    key: String,
    args: &'a RecordBatch,
    epoch: i64,
    search: Search,
}

impl OneCall<'_> {
    /// The rows of a part, as far as the module does not rest.
    async fn part(&self, mut rows: Range<usize>) -> Result<Vec<Piece>, Error> {
        let mut pieces = Vec::new();
        loop {
            let now = match self.host.breaker.verdict(&self.key, Instant::now()) {
                Verdict::Call => rows.clone(),
                Verdict::Probe => rows.start..rows.end.min(rows.start + PROBE_ROWS),
                Verdict::Rests(reason) => {
                    pieces.push((rows, Err(format!("{RESTS}{reason}"))));
                    return Ok(pieces);
                }
            };
            rows.start = now.end;
            let found = self.find(now).await?;
            self.tell(&found);
            pieces.extend(found);
            if rows.is_empty() {
                return Ok(pieces);
            }
        }
    }

    fn tell(&self, pieces: &[Piece]) {
        let (mut rows, mut failed, mut reason) = (0, 0, "");
        for (range, piece) in pieces {
            rows += range.len() as u64;
            match piece {
                Ok(answer) => {
                    failed += answer.failures.len() as u64;
                    reason = answer.failures.first().map_or(reason, |(_, reason)| reason.as_str());
                }
                Err(why) => {
                    failed += range.len() as u64;
                    reason = why;
                }
            }
        }
        let outcome = Outcome { epoch: self.epoch, rows, failed, reason, max_share: self.module.max_failed };
        // One that was opened just now, by this call, is not judged by it again.
        if !self.search.gave_up() {
            self.host.breaker.on(&self.key, outcome, Instant::now());
        }
    }

    /// Sends rows until they are answered; rows that kill workers are found by halving.
    async fn find(&self, rows: Range<usize>) -> Result<Vec<Piece>, Error> {
        let mut pieces = Vec::new();
        let mut pending = vec![(rows, self.host.config.tries)];
        while let Some((rows, tries)) = pending.pop() {
            let death = match self.pool.call(&self.args.slice(rows.start, rows.len())).await? {
                Call::Answered(answer) => {
                    pieces.push((rows, Ok(answer)));
                    continue;
                }
                Call::Died(death) => death,
            };
            let (module, n_rows, reason) = (&self.module.name, rows.len(), death.reason);
            tracing::warn!(%module, n_rows, reason, "a module's worker died and is started again");
            if !self.search.lost_one(death.peak_kib) {
                self.host.breaker.open(&self.key, &reason, Instant::now());
                let in_doubt = pending.drain(..).map(|(rows, _)| rows).chain([rows]);
                pieces.extend(in_doubt.map(|rows| (rows, Err(reason.clone()))));
                return Ok(pieces);
            }
            // Half of a group would be another group.
            let is_last = tries < 2 && (n_rows == 1 || self.module.kind == Kind::Grouped);
            if is_last {
                pieces.push((rows, Err(reason)));
            } else {
                pending.extend(next_tries(rows, tries));
            }
        }
        Ok(pieces)
    }
}

/// What is left for finding the rows that kill workers, shared by the parts of a call.
#[derive(Debug)]
struct Search {
    max: u32,
    n_lost: AtomicU32,
    until: Instant,
    peak_kib: AtomicU64,
    gave_up: AtomicBool,
}

impl Search {
    fn new(max: u32, until: Instant) -> Self {
        let (n_lost, peak_kib, gave_up) = Default::default();
        Self { max, n_lost, until, peak_kib, gave_up }
    }

    /// Whether the search may go on after another worker was lost.
    fn lost_one(&self, peak_kib: u64) -> bool {
        self.peak_kib.fetch_max(peak_kib, Relaxed);
        let goes_on = self.n_lost.fetch_add(1, Relaxed) < self.max && Instant::now() <= self.until;
        self.gave_up.fetch_or(!goes_on, Relaxed);
        goes_on
    }

    fn gave_up(&self) -> bool {
        self.gave_up.load(Relaxed)
    }

    fn usage(&self) -> Usage {
        Usage { restarts: self.n_lost.load(Relaxed).into(), peak_kib: self.peak_kib.load(Relaxed), ..Usage::default() }
    }
}

/// Cuts rows into parts of at most `batch_rows`, and into more where workers are idle.
fn parts(n_rows: usize, batch_rows: usize, n_idle: usize) -> Vec<Range<usize>> {
    let n_parts = n_rows.div_ceil(batch_rows).max(n_idle.min(n_rows / MIN_PART));
    if n_parts <= 1 || n_parts == n_rows.div_ceil(batch_rows) {
        return (0..n_rows).step_by(batch_rows).map(|start| start..n_rows.min(start + batch_rows)).collect();
    }
    (0..n_parts).map(|part| part * n_rows / n_parts..(part + 1) * n_rows / n_parts).collect()
}

/// What to send after rows killed a worker: the same again while there are tries, then each half.
fn next_tries(rows: Range<usize>, tries: u32) -> Vec<(Range<usize>, u32)> {
    let middle = rows.start + rows.len() / 2;
    // A row alone is tried twice, so that a worker killed from outside does not cost it its value.
    let with_tries = |rows: Range<usize>| (rows.clone(), if rows.len() == 1 { 2 } else { 1 });
    match (tries, rows.len()) {
        (2.., _) => vec![(rows, tries - 1)],
        (_, 0 | 1) => vec![],
        // The last is sent first.
        _ => vec![with_tries(middle..rows.end), with_tries(rows.start..middle)],
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn rows_are_halved_down_to_single_ones() {
        assert_eq!(next_tries(0..8, 2), [(0..8, 1)]);
        assert_eq!(next_tries(0..8, 1), [(4..8, 1), (0..4, 1)]);
        assert_eq!(next_tries(4..7, 1), [(5..7, 1), (4..5, 2)]);
        assert_eq!(next_tries(4..5, 2), [(4..5, 1)]);
        assert_eq!(next_tries(4..5, 1), []);
    }

    #[test]
    fn parts_are_of_the_modules_size_unless_workers_are_idle() {
        assert_eq!(parts(100, 40, 1), [0..40, 40..80, 80..100]);
        assert_eq!(parts(100, 40, 4), [0..40, 40..80, 80..100]);
        assert_eq!(parts(100, 4096, 4), vec![0..100]);
        assert_eq!(parts(2048, 4096, 2), [0..1024, 1024..2048]);
        assert_eq!(parts(1100, 4096, 8), [0..550, 550..1100]);
        assert!(parts(0, 40, 2).is_empty());
    }

    #[test]
    fn a_search_ends_after_its_workers_or_its_time() {
        let search = Search::new(1, Instant::now() + Duration::from_secs(60));
        assert_eq!((search.lost_one(7), search.lost_one(5)), (true, false));
        assert_eq!((search.gave_up(), search.usage().peak_kib), (true, 7));
        let over = Instant::now().checked_sub(Duration::from_secs(1)).unwrap();
        assert!(!Search::new(9, over).lost_one(0));
    }
}
