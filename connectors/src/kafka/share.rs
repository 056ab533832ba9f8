//! Shares a budget of bytes evenly over topic partitions that are behind by different amounts.

/// A topic partition's backlog: offsets and the estimated bytes of one.
#[derive(Debug, Clone, Copy)]
pub(super) struct Backlog {
    pub offsets: u64,
    pub record_bytes: f64,
}

/// How many offsets of each backlog to take so that all together are at most `max_bytes` by estimate, yet at least one
/// record. What a small backlog leaves of its share goes to the larger ones.
pub(super) fn share(backlogs: &[Backlog], max_bytes: u64) -> Vec<u64> {
    let bytes = |i: usize| backlogs[i].offsets as f64 * backlogs[i].record_bytes;
    let mut order: Vec<_> = (0..backlogs.len()).filter(|i| backlogs[*i].offsets > 0).collect();
    order.sort_by(|a, b| bytes(*a).total_cmp(&bytes(*b)));

    let mut taken = vec![0; backlogs.len()];
    let mut left = max_bytes as f64;
    for (rank, &i) in order.iter().enumerate() {
        let part = left / (order.len() - rank) as f64;
        let backlog = backlogs[i];
        taken[i] = if bytes(i) <= part { backlog.offsets } else { (part / backlog.record_bytes) as u64 };
        left -= taken[i] as f64 * backlog.record_bytes;
    }
    // Parts smaller than a record: whole records to those that are furthest behind, for as long as the budget allows.
    let nothing_yet = taken.iter().all(|n| *n == 0);
    for (rank, &i) in order.iter().rev().enumerate() {
        let first = nothing_yet && rank == 0;
        if taken[i] < backlogs[i].offsets && (first || backlogs[i].record_bytes <= left) {
            taken[i] += 1;
            left -= backlogs[i].record_bytes;
        }
    }
    taken
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(backlogs: &[(u64, f64)], max_bytes: u64, expected: &[u64]) {
        let backlogs: Vec<_> = backlogs
            .iter()
            .map(|(offsets, record_bytes)| Backlog { offsets: *offsets, record_bytes: *record_bytes })
            .collect();
        assert_eq!(share(&backlogs, max_bytes), expected);
    }

    #[test]
    fn everything_is_taken_when_it_fits() {
        check(&[(10, 100.0), (0, 100.0), (3, 1000.0)], u64::MAX, &[10, 0, 3]);
        check(&[(10, 100.0), (3, 1000.0)], 4000, &[10, 3]);
        check(&[], 4000, &[]);
    }

    #[test]
    fn a_small_backlog_leaves_its_rest_to_the_larger_ones() {
        check(&[(100, 10.0), (2, 10.0), (100, 10.0)], 420, &[20, 2, 20]);
    }

    #[test]
    fn parts_are_even_in_bytes_not_in_records() {
        check(&[(1000, 10.0), (1000, 40.0)], 800, &[40, 10]);
    }

    #[test]
    fn at_least_one_record_is_taken_however_small_the_budget() {
        check(&[(5, 100.0), (9, 100.0)], 1, &[0, 1]);
        check(&[(5, 100.0), (9, 100.0), (7, 100.0)], 200, &[0, 1, 1]);
    }
}
