//! Julian dates, nights and timestamps.
//!
//! A Julian date (`jd`) counts days from noon; a modified Julian date (`mjd`) is `jd - 2400000.5` and counts from
//! midnight; 1970-01-01T00:00 is JD 2440587.5 and MJD 40587. No function changes the time scale: ZTF's `jd` is UTC,
//! Rubin's `midpointMjdTai` is TAI, which is ahead of UTC by 37 s since 2017.
//!
//! A double holds a JD to 40 µs and an MJD to 1 µs, so timestamps are in microseconds.

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, Float64Array, Int32Array, TimestampMicrosecondArray};
use arrow::compute::{DatePart, date_part};
use arrow::datatypes::{DataType, Float64Type, TimeUnit, TimestampMicrosecondType};
use datafusion::common::{Result, exec_datafusion_err};

use super::kernel::{Coerced, Kernel, map, numbers};

/// Julian date of 1970-01-01T00:00.
const UNIX_JD: f64 = 2_440_587.5;
/// Modified Julian date of 1970-01-01T00:00.
const UNIX_MJD: f64 = 40_587.0;
const DAY_US: f64 = 86_400e6;
/// Dates of the years 0 to 9999: outside of it a night has no eight digits.
const DAYS: std::ops::Range<f64> = -719_528.0..2_932_897.0;

pub(super) fn functions() -> Vec<Kernel> {
    let double = |_: &[DataType]| DataType::Float64;
    let int = |_: &[DataType]| DataType::Int32;
    let timestamp = |_: &[DataType]| utc();
    vec![
        // The archive's partition: ZTF observes within one UTC date, and names its topics by it.
        Kernel::new("night", "night(jd): UTC date as the integer YYYYMMDD", numbers::<1>, int, |args| {
            dates(args, |jd| jd - UNIX_JD)
        }),
        Kernel::new(
            "night_mjd",
            "night_mjd(mjd): date of the MJD as the integer YYYYMMDD",
            numbers::<1>,
            int,
            |args| dates(args, |mjd| mjd - UNIX_MJD),
        ),
        // Rubin's night: it rolls over at 12:00, so that a Chilean night keeps one name across midnight (SITCOMTN-032).
        Kernel::new(
            "day_obs",
            "day_obs(mjd): Rubin's dayObs, the date 12 h before, YYYYMMDD",
            numbers::<1>,
            int,
            |args| dates(args, |mjd| mjd - UNIX_MJD - 0.5),
        ),
        Kernel::new("jd_to_mjd", "jd_to_mjd(jd): days", numbers::<1>, double, |args| shift(args, -2_400_000.5)),
        Kernel::new("mjd_to_jd", "mjd_to_jd(mjd): days", numbers::<1>, double, |args| shift(args, 2_400_000.5)),
        Kernel::new("jd_to_timestamp", "jd_to_timestamp(jd)", numbers::<1>, timestamp, |args| stamps(args, UNIX_JD)),
        Kernel::new("mjd_to_timestamp", "mjd_to_timestamp(mjd)", numbers::<1>, timestamp, |args| {
            stamps(args, UNIX_MJD)
        }),
        Kernel::new("timestamp_to_jd", "timestamp_to_jd(timestamp)", one_timestamp, double, |args| days(args, UNIX_JD)),
        Kernel::new("timestamp_to_mjd", "timestamp_to_mjd(timestamp)", one_timestamp, double, |args| {
            days(args, UNIX_MJD)
        }),
        // Spark's names, by which Fink partitions its archive.
        Kernel::new("year", "year(timestamp): of the UTC date", one_timestamp, int, |args| {
            Ok(date_part(&args[0], DatePart::Year)?)
        }),
        Kernel::new("month", "month(timestamp): 1 to 12", one_timestamp, int, |args| {
            Ok(date_part(&args[0], DatePart::Month)?)
        }),
        Kernel::new("day", "day(timestamp): of the month, from 1", one_timestamp, int, |args| {
            Ok(date_part(&args[0], DatePart::Day)?)
        }),
    ]
}

fn utc() -> DataType {
    DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()))
}

fn one_timestamp(given: &[DataType]) -> Coerced {
    match given {
        [DataType::Timestamp(..) | DataType::Date32 | DataType::Date64 | DataType::Null] => Ok(vec![utc()]),
        [DataType::Utf8 | DataType::Utf8View | DataType::LargeUtf8] => Ok(vec![utc()]),
        [other] => Err(format!("argument 1 is {other}, not a timestamp")),
        _ => Err(format!("{} arguments given, 1 wanted", given.len())),
    }
}

fn dates(args: &[ArrayRef], unix_days: impl Fn(f64) -> f64) -> Result<ArrayRef> {
    Ok(Arc::new(map::<1, i32, Int32Array>(args, |[date]| {
        let days = unix_days(date).floor();
        DAYS.contains(&days).then(|| yyyymmdd(days as i32))
    })?))
}

fn shift(args: &[ArrayRef], days: f64) -> Result<ArrayRef> {
    Ok(Arc::new(map::<1, f64, Float64Array>(args, |[date]| Some(date + days))?))
}

fn stamps(args: &[ArrayRef], unix: f64) -> Result<ArrayRef> {
    let stamps: TimestampMicrosecondArray = map::<1, i64, _>(args, |[date]| {
        let days = date - unix;
        DAYS.contains(&days).then(|| (days * DAY_US).round() as i64)
    })?;
    Ok(Arc::new(stamps.with_timezone("UTC")))
}

fn days(args: &[ArrayRef], unix: f64) -> Result<ArrayRef> {
    let stamps = args[0]
        .as_primitive_opt::<TimestampMicrosecondType>()
        .ok_or_else(|| exec_datafusion_err!("a timestamp arrived as {}", args[0].data_type()))?;
    Ok(Arc::new(stamps.unary::<_, Float64Type>(|us| us as f64 / DAY_US + unix) as Float64Array))
}

/// Gregorian date of a day counted from 1970-01-01, as YYYYMMDD.
///
/// Counts in eras of 400 years (146,097 days) from 0000-03-01, so that the leap day is the last of its year.
fn yyyymmdd(unix_days: i32) -> i32 {
    let days = unix_days + 719_468;
    let (era, day) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    // Months from March on have 31 and 30 days in turn, five in 153.
    let march_month = (5 * day + 2) / 153;
    let month = if march_month < 10 { march_month + 3 } else { march_month - 9 };
    let year = year + 400 * era + i32::from(month <= 2);
    year * 10_000 + month * 100 + day - (153 * march_month + 2) / 5 + 1
}

#[cfg(test)]
mod tests {
    use crate::functions::testing::{check, refused};

    #[test]
    fn a_night_is_the_utc_date() {
        check("night(2458849.5)", "20200101");
        check("night(2458849.4999)", "20191231");
        check("night(2451603.5)", "20000229");
        check("night(2440587.5)", "19700101");
        check("night(2378496.6)", "18000101");
        check("night_mjd(60676.25)", "20250101");
        check("night(arrow_cast(2458849, 'Int32'))", "20191231");
    }

    #[test]
    fn every_day_of_four_centuries_has_the_date_that_chrono_gives() {
        for days in -80_000..80_000 {
            let date = super::yyyymmdd(days);
            let want = arrow::temporal_conversions::date32_to_datetime(days).unwrap();
            assert_eq!(date.to_string(), want.format("%Y%m%d").to_string());
        }
    }

    #[test]
    fn rubins_night_rolls_over_at_noon() {
        check("day_obs(60676.1)", "20241231");
        check("day_obs(60676.5)", "20250101");
        check("day_obs(60677.4)", "20250101");
    }

    #[test]
    fn julian_dates_and_timestamps_go_both_ways() {
        check("jd_to_mjd(2458849.75)", "58849.25");
        check("mjd_to_jd(58849.25)", "2458849.75");
        check("jd_to_timestamp(2458849.75)", "2020-01-01T06:00:00Z");
        check("mjd_to_timestamp(58849.0000115)", "2020-01-01T00:00:00.993600Z");
        check("timestamp_to_jd(TIMESTAMP '2020-01-01 06:00:00')", "2458849.75");
        check("timestamp_to_mjd('2020-01-01T06:00:00Z')", "58849.25");
        check("timestamp_to_mjd(DATE '2020-01-01')", "58849.0");
    }

    #[test]
    fn a_timestamp_has_the_parts_of_its_utc_date() {
        check("year(jd_to_timestamp(2458849.4))", "2019");
        check("month(jd_to_timestamp(2458849.4))", "12");
        check("day(TIMESTAMP '2020-01-02 03:04:05')", "2");
        check("day(arrow_cast('2020-01-02T23:00:00-02:00', 'Timestamp(Second, Some(\"+00:00\"))'))", "3");
        check("year(NULL)", "NULL");
    }

    #[test]
    fn what_is_missing_or_no_date_is_null() {
        check("night(NULL)", "NULL");
        check("night(1e300)", "NULL");
        check("night('NaN'::double)", "NULL");
        check("jd_to_timestamp('NaN'::double)", "NULL");
    }

    #[test]
    fn wrong_arguments_are_refused_with_the_usage() {
        refused("night('2020')", "argument 1 is Utf8, not a number; usage: night(jd)");
        refused("night(1, 2)", "2 arguments given, 1 wanted; usage: night(jd)");
        refused("timestamp_to_jd(1.5)", "argument 1 is Float64, not a timestamp; usage: timestamp_to_jd(timestamp)");
    }
}
