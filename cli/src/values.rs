//! Values as people type them: `2s`, `512MiB`, `2026-01-02T05:30`, `name=value`.

use std::time::Duration;

use chrono::{DateTime, NaiveDate, NaiveDateTime, TimeDelta, Utc};
use redpoll_core::source::TopicPartition;

/// A whole number and a unit: `200ms`, `2s`, `5m`, `8h`.
pub fn duration(text: &str) -> Result<Duration, String> {
    let (number, unit) =
        number_and_unit(text).ok_or_else(|| format!("'{text}' is no time span; write 2s, 500ms or 5m"))?;
    let millis = match unit {
        "ms" => 1.0,
        "s" | "" => 1e3,
        "m" | "min" => 60e3,
        "h" => 3_600e3,
        "d" => 86_400e3,
        _ => return Err(format!("'{unit}' is none of the units ms, s, m, h, d")),
    };
    Ok(Duration::from_millis((number * millis).round() as u64))
}

/// Bytes: `64MiB`, `2GiB`, `500MB`; a bare number is bytes.
pub fn bytes(text: &str) -> Result<u64, String> {
    let (number, unit) = number_and_unit(text).ok_or_else(|| format!("'{text}' is no size; write 512MiB or 4GiB"))?;
    let factor = match unit.to_ascii_lowercase().as_str() {
        "" | "b" => 1.0,
        "kb" => 1e3,
        "mb" => 1e6,
        "gb" => 1e9,
        "k" | "kib" => 1024.0,
        "m" | "mib" => 1024.0 * 1024.0,
        "g" | "gib" => 1024.0 * 1024.0 * 1024.0,
        _ => return Err(format!("'{unit}' is none of the units B, KiB, MiB, GiB, KB, MB, GB")),
    };
    Ok((number * factor).round() as u64)
}

/// A moment in UTC: `2026-01-02`, `2026-01-02T05:30`, RFC 3339, or from now on: `+8h`.
pub fn time(text: &str) -> Result<DateTime<Utc>, String> {
    if let Some(span) = text.strip_prefix('+') {
        let span = TimeDelta::from_std(duration(span)?).map_err(|error| error.to_string())?;
        return Ok(Utc::now() + span);
    }
    if let Ok(time) = DateTime::parse_from_rfc3339(text) {
        return Ok(time.to_utc());
    }
    for format in ["%Y-%m-%dT%H:%M", "%Y-%m-%dT%H:%M:%S", "%Y-%m-%d %H:%M", "%Y-%m-%d %H:%M:%S"] {
        if let Ok(time) = NaiveDateTime::parse_from_str(text, format) {
            return Ok(time.and_utc());
        }
    }
    match NaiveDate::parse_from_str(text, "%Y-%m-%d") {
        Ok(date) => Ok(date.and_time(chrono::NaiveTime::MIN).and_utc()),
        Err(_) => Err(format!("'{text}' is no time; write 2026-01-02T05:30 (UTC), or +8h for eight hours from now")),
    }
}

/// A point in a source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Where {
    Earliest,
    Latest,
    Time(DateTime<Utc>),
    Offset(TopicPartition, i64),
}

/// `earliest`, `latest`, a moment as of [`time`], or an offset of a topic partition: `ztf[0]@1200`.
pub fn position(text: &str) -> Result<Where, String> {
    match text {
        "earliest" => return Ok(Where::Earliest),
        "latest" => return Ok(Where::Latest),
        _ => {}
    }
    if let Some((at, offset)) = offset(text) {
        return Ok(Where::Offset(at, offset));
    }
    time(text).map(Where::Time).map_err(|_| {
        format!(
            "'{text}' is none of earliest, latest, a time such as 2026-01-02T05:30, and an offset such as ztf[0]@1200"
        )
    })
}

fn offset(text: &str) -> Option<(TopicPartition, i64)> {
    let (at, offset) = text.rsplit_once('@')?;
    let (topic, partition) = at.strip_suffix(']')?.rsplit_once('[')?;
    let (partition, offset) = (partition.parse::<i32>().ok()?, offset.parse::<i64>().ok()?);
    let at = TopicPartition { topic: topic.to_owned(), partition };
    (!topic.is_empty() && partition >= 0 && offset >= 0).then_some((at, offset))
}

/// `name=value`; the value may hold anything.
pub fn setting(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.trim().is_empty() => Ok((name.trim().to_owned(), value.to_owned())),
        _ => Err(format!("'{text}' is not of the form name=value")),
    }
}

fn number_and_unit(text: &str) -> Option<(f64, &str)> {
    let text = text.trim();
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let number: f64 = text[..end].parse().ok()?;
    Some((number, text[end..].trim()))
}

/// `1234567` as `1,234,567`.
pub fn grouped(n: u64) -> String {
    let digits = n.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// `1 alert`, `2,000 alerts`.
pub fn counted(n: u64, what: &str) -> String {
    format!("{} {what}{}", grouped(n), if n == 1 { "" } else { "s" })
}

/// A time span for people: `0.4 s`, `12.3 s`, `4 min 10 s`, `2 h 5 min`.
pub fn span(duration: Duration) -> String {
    let seconds = duration.as_secs();
    match seconds {
        0..60 => format!("{:.1} s", duration.as_secs_f64()),
        60..3600 => format!("{} min {} s", seconds / 60, seconds % 60),
        _ => format!("{} h {} min", seconds / 3600, seconds % 3600 / 60),
    }
}

/// Milliseconds since 1970-01-01 as `2026-01-02 05:30:00` (UTC).
pub fn moment(millis: i64) -> String {
    match DateTime::from_timestamp_millis(millis) {
        Some(time) => time.format("%Y-%m-%d %H:%M:%S").to_string(),
        None => millis.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_and_sizes_are_read_with_their_units() {
        let spans = ["200ms", "2s", "2", "1.5m", "8h"].map(|text| duration(text).unwrap().as_millis());
        assert_eq!(spans, [200, 2_000, 2_000, 90_000, 28_800_000]);
        assert_eq!(
            ["512", "1KiB", "64MiB", "2g", "1GB"].map(|text| bytes(text).unwrap()),
            [512, 1024, 64 << 20, 2 << 30, 1_000_000_000]
        );
        assert!(duration("soon").unwrap_err().contains("write 2s"));
        assert!(bytes("4 bananas").unwrap_err().contains("GiB"));
    }

    #[test]
    fn a_time_without_a_zone_is_utc() {
        let expected = DateTime::parse_from_rfc3339("2026-01-02T05:30:00Z").unwrap();
        for text in ["2026-01-02T05:30", "2026-01-02 05:30:00", "2026-01-02T07:30:00+02:00"] {
            assert_eq!(time(text).unwrap(), expected, "{text}");
        }
        assert_eq!(time("2026-01-02").unwrap().to_rfc3339(), "2026-01-02T00:00:00+00:00");
        assert!(time("+8h").unwrap() > Utc::now());
        assert!(time("dawn").unwrap_err().contains("+8h"));
    }

    #[test]
    fn a_position_is_a_word_a_time_or_an_offset() {
        let at = TopicPartition { topic: "ztf_2026".into(), partition: 3 };
        assert_eq!(position("ztf_2026[3]@1200").unwrap(), Where::Offset(at, 1200));
        assert_eq!((position("earliest").unwrap(), position("latest").unwrap()), (Where::Earliest, Where::Latest));
        assert_eq!(position("2026-01-02T05:30").unwrap(), Where::Time(time("2026-01-02T05:30").unwrap()));
        for wrong in ["dawn", "ztf[0]", "ztf@5", "[0]@5", "ztf[-1]@5", "ztf[0]@-5", "ztf[0]@", ""] {
            assert!(position(wrong).unwrap_err().contains("ztf[0]@1200"), "{wrong}");
        }
    }

    #[test]
    fn a_setting_keeps_equals_signs_and_commas_of_its_value() {
        let source = setting("source=kafka://a:9092,b:9092/ztf?x=1").unwrap();
        assert_eq!(source, ("source".into(), "kafka://a:9092,b:9092/ztf?x=1".into()));
        assert!(setting("source").is_err());
        assert!(setting("=x").is_err());
    }

    #[test]
    fn numbers_for_people_are_grouped() {
        assert_eq!([0, 999, 1000, 1_234_567].map(grouped), ["0", "999", "1,000", "1,234,567"]);
        assert_eq!(counted(1, "alert"), "1 alert");
        assert_eq!(span(Duration::from_millis(62_500)), "1 min 2 s");
    }
}
