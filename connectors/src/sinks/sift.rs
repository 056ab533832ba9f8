//! Finds the rows of a batch whose values a sink cannot write, so that they cost no other row.
//!
//! | sink | refuses |
//! |---|---|
//! | archive | a value that Delta's type does not hold: an unsigned number of 2^63 or more, a timestamp beyond its range, a decimal of too many digits; a partition value whose name is too long for a folder |
//! | topic | the same of Avro's types, a null where the schema has none; a record above `message.max.bytes` or the topic's own limit; a partition that the topic does not have |
//! | store | a row key that is null, empty or too long |
//! | outbox | a key that is null, empty or too long; a message above 1 MiB |
//!
//! Types that a sink cannot write at all are found before a job starts; here only values are left. A batch with a row
//! that is refused is converted again in halves until such rows stand alone.

use arrow::array::UInt32Array;
use arrow::compute::take_record_batch;
use arrow::record_batch::RecordBatch;
use redpoll_core::sink::Refused;

use super::is_refused;

/// An error of conversion that may be one of a row's values.
pub(super) trait OfValue: std::error::Error {
    fn is_of_value(&self) -> bool;

    /// As people are told it.
    fn reason(&self) -> String {
        let mut text = self.to_string();
        let mut cause = self.source();
        while let Some(next) = cause {
            text = format!("{text}: {next}");
            cause = next.source();
        }
        text
    }
}

/// What is left of a batch, converted, with the rows that were refused in order.
pub(super) struct Sifted<T> {
    pub converted: T,
    pub refused: Vec<Refused>,
}

/// Converts a batch without the rows that cannot be.
pub(super) fn sift<T, E: OfValue>(
    batch: &RecordBatch,
    convert: impl Fn(&RecordBatch) -> Result<T, E>,
) -> Result<Sifted<T>, E> {
    let error = match convert(batch) {
        Ok(converted) => return Ok(Sifted { converted, refused: Vec::new() }),
        Err(error) => error,
    };
    let mut refused = Vec::new();
    search(batch, 0, error, &convert, &mut refused)?;
    let kept = (0..batch.num_rows()).filter(|row| !is_refused(&refused, *row));
    let kept = UInt32Array::from_iter_values(kept.map(|row| row as u32));
    let rest = take_record_batch(batch, &kept).expect("rows of a batch make a batch");
    Ok(Sifted { converted: convert(&rest)?, refused })
}

/// Finds the rows of a part that failed, which begins at row `first` of the whole.
fn search<T, E: OfValue>(
    part: &RecordBatch,
    first: usize,
    error: E,
    convert: &impl Fn(&RecordBatch) -> Result<T, E>,
    refused: &mut Vec<Refused>,
) -> Result<(), E> {
    match part.num_rows() {
        _ if !error.is_of_value() => Err(error),
        // It is no row's fault.
        0 => Err(error),
        1 => {
            refused.push(Refused { row: first, reason: error.reason() });
            Ok(())
        }
        n => {
            for (at, len) in [(0, n / 2), (n / 2, n - n / 2)] {
                let half = part.slice(at, len);
                if let Err(error) = convert(&half) {
                    search(&half, first + at, error, convert, refused)?;
                }
            }
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::Int64Array;

    use super::*;

    #[derive(Debug, thiserror::Error)]
    enum Failed {
        #[error("{0} is negative")]
        Negative(i64),
        #[error("the disk is full")]
        Full,
    }

    impl OfValue for Failed {
        fn is_of_value(&self) -> bool {
            matches!(self, Failed::Negative(_))
        }
    }

    fn check(values: &[i64]) -> Result<Sifted<Vec<i64>>, Failed> {
        let column = std::sync::Arc::new(Int64Array::from(values.to_vec())) as _;
        sift(&RecordBatch::try_from_iter([("n", column)]).unwrap(), |batch| {
            let values = batch.column(0).as_any().downcast_ref::<Int64Array>().unwrap().values();
            match values.iter().find(|value| **value < 0) {
                Some(-99) => Err(Failed::Full),
                Some(value) => Err(Failed::Negative(*value)),
                None => Ok(values.to_vec()),
            }
        })
    }

    #[test]
    fn rows_that_cannot_be_written_are_found_and_cost_no_other() {
        let sifted = check(&[1, -2, 3, 4, -5, -6, 7]).unwrap();
        assert_eq!(sifted.converted, [1, 3, 4, 7]);
        let refused: Vec<_> = sifted.refused.iter().map(|refused| (refused.row, refused.reason.as_str())).collect();
        assert_eq!(refused, [(1, "-2 is negative"), (4, "-5 is negative"), (5, "-6 is negative")]);
        assert!(check(&[1, 2]).unwrap().refused.is_empty());
        assert!(check(&[-1]).unwrap().converted.is_empty());
    }

    #[test]
    fn what_is_no_rows_fault_fails_the_sink() {
        assert!(matches!(check(&[1, -99, 3]), Err(Failed::Full)));
        assert!(matches!(check(&[-1, 3, -99]), Err(Failed::Full)));
    }
}
