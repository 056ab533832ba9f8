//! The light curve of an object that appeared in the last month, the one with most detections: asked and drawn.

use anyhow::{Result, anyhow};
use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Float64Type};

use crate::client::Client;
use crate::output::light_curve::{Point, Size, draw};
use crate::output::{self, paint};

const QUERY: &str = "\
SELECT objectId,
    history(prv_candidates.jd, candidate.jd) AS jd,
    history(prv_candidates.magpsf, candidate.magpsf) AS magpsf,
    history(prv_candidates.fid, candidate.fid) AS fid
FROM ztf.science WHERE candidate.jd - candidate.jdstarthist <= 31
ORDER BY nalerthist DESC, candidate.jd DESC, objectId LIMIT 1";

pub async fn show(client: &Client) -> Result<()> {
    super::say_query(QUERY)?;
    let (_, batches) = client.sql(QUERY).await?.collect().await?;
    let Some(batch) = batches.into_iter().find(|batch| batch.num_rows() > 0) else {
        return Ok(output::line("  none appeared in the last month\n")?);
    };
    let object = cast(column(&batch, "objectId")?, &DataType::Utf8)?;
    output::line(format!("{}, its light curve:", paint::bold(object.as_string::<i32>().value(0))))?;
    Ok(output::line(draw(&points(&batch)?, Size::default()))?)
}

/// The detections in the lists of the first row; entries without a magnitude are upper limits.
fn points(batch: &RecordBatch) -> Result<Vec<Point>> {
    let list = |name| numbers(column(batch, name)?);
    let (times, magnitudes, filters) = (list("jd")?, list("magpsf")?, list("fid")?);
    let rows = times.into_iter().zip(magnitudes).zip(filters);
    Ok(rows
        .filter_map(|((time, magnitude), filter)| {
            Some(Point { time: time? - MJD, magnitude: magnitude?, band: band(filter?).to_owned() })
        })
        .collect())
}

/// From JD to MJD.
const MJD: f64 = 2_400_000.5;

/// ZTF's numbers of filters.
fn band(filter: f64) -> &'static str {
    match filter as i64 {
        1 => "g",
        2 => "r",
        3 => "i",
        _ => "?",
    }
}

fn column<'a>(batch: &'a RecordBatch, name: &str) -> Result<&'a ArrayRef> {
    batch.column_by_name(name).ok_or_else(|| anyhow!("the answer has no column '{name}'"))
}

fn numbers(lists: &ArrayRef) -> Result<Vec<Option<f64>>> {
    let lists = cast(lists, &DataType::new_list(DataType::Float64, true))?;
    let first = lists.as_list::<i32>();
    if first.is_null(0) {
        return Ok(Vec::new());
    }
    Ok(first.value(0).as_primitive::<Float64Type>().iter().collect())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::ListArray;
    use arrow::datatypes::{Float32Type, Int32Type};

    use super::*;

    #[test]
    fn upper_limits_are_no_points() {
        let days = [Some(2_461_042.0), Some(2_461_043.0)];
        let jd = ListArray::from_iter_primitive::<Float64Type, _, _>([Some(days)]);
        let magpsf = ListArray::from_iter_primitive::<Float32Type, _, _>([Some([None, Some(17.5)])]);
        let fid = ListArray::from_iter_primitive::<Int32Type, _, _>([Some([Some(1), Some(2)])]);
        let columns: [(&str, ArrayRef); 3] =
            [("jd", Arc::new(jd)), ("magpsf", Arc::new(magpsf)), ("fid", Arc::new(fid))];
        let points = points(&RecordBatch::try_from_iter(columns).unwrap()).unwrap();
        assert_eq!(points, [Point { time: 61_042.5, magnitude: 17.5, band: "r".into() }]);
    }
}
