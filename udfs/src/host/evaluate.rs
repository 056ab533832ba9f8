//! One call: its rows in parts, sent until each is answered or known to kill workers.

use std::ops::Range;
use std::sync::Arc;
use std::time::Instant;

use arrow::array::RecordBatch;

use super::assemble::{self, Assembly};
use super::pool::{Call, Pool};
use super::{Error, Evaluated, Inner};
use crate::manifest::{Kind, Module};

impl Inner {
    pub(super) async fn evaluate(&self, module: &Arc<Module>, args: RecordBatch) -> Result<Evaluated, Error> {
        let pool = self.pool(module).await?;
        let args = assemble::cast_arguments(module, &args)?;
        let counters = self.metrics.of(&module.name);
        let started = Instant::now();
        let mut search = Search { restarts_left: self.config.max_restarts, until: started + self.config.max_search };
        let mut assembly = Assembly::new(module);
        // What came together is grouped together.
        let most_rows = if module.kind == Kind::Grouped { args.num_rows().max(1) } else { module.batch_rows };
        for start in (0..args.num_rows()).step_by(most_rows) {
            let rows = start..args.num_rows().min(start + most_rows);
            match self.breaker.reason(&module.fingerprint, Instant::now()) {
                Some(reason) => assembly.failed(rows, &format!("the module rests: {reason}")),
                None => self.evaluate_part(&pool, module, &args, rows, &mut search, &mut assembly).await?,
            }
        }
        let evaluated = assembly.finish()?;
        counters.add(&evaluated, u64::from(self.config.max_restarts - search.restarts_left), started.elapsed());
        Ok(evaluated)
    }

    /// Sends rows until they are answered; rows that kill workers are found by halving.
    async fn evaluate_part(
        &self,
        pool: &Pool,
        module: &Arc<Module>,
        args: &RecordBatch,
        rows: Range<usize>,
        search: &mut Search,
        assembly: &mut Assembly<'_>,
    ) -> Result<(), Error> {
        let mut pending = vec![(rows, self.config.tries)];
        while let Some((rows, tries)) = pending.pop() {
            let reason = match pool.call(module, &args.slice(rows.start, rows.len())).await? {
                Call::Answered(answer) => {
                    assembly.answered(rows, answer);
                    continue;
                }
                Call::Died(reason) => reason,
            };
            let (version, module, kind, n_rows) = (&module.fingerprint, &module.name, module.kind, rows.len());
            tracing::warn!(%module, n_rows, reason, "a module's worker died and is started again");
            if search.is_exhausted() {
                tracing::error!(%module, reason, rest = ?self.config.rest, "a module killed too many workers and rests");
                self.breaker.open(version, &reason, Instant::now() + self.config.rest);
                let in_doubt = pending.drain(..).map(|(rows, _)| rows);
                in_doubt.chain([rows]).for_each(|rows| assembly.failed(rows, &reason));
                return Ok(());
            }
            search.restarts_left -= 1;
            // Half of a group would be another group.
            let next = if kind == Kind::Grouped && tries < 2 { vec![] } else { next_tries(rows.clone(), tries) };
            if next.is_empty() {
                assembly.failed(rows, &reason);
            }
            pending.extend(next);
        }
        Ok(())
    }
}

/// What is left for finding the rows that kill workers.
struct Search {
    restarts_left: u32,
    until: Instant,
}

impl Search {
    fn is_exhausted(&self) -> bool {
        self.restarts_left == 0 || Instant::now() > self.until
    }
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
    use super::*;

    #[test]
    fn rows_are_halved_down_to_single_ones() {
        assert_eq!(next_tries(0..8, 2), [(0..8, 1)]);
        assert_eq!(next_tries(0..8, 1), [(4..8, 1), (0..4, 1)]);
        assert_eq!(next_tries(4..7, 1), [(5..7, 1), (4..5, 2)]);
        assert_eq!(next_tries(4..5, 2), [(4..5, 1)]);
        assert_eq!(next_tries(4..5, 1), []);
    }
}
