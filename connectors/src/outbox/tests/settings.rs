//! Options, keys, bodies, pauses.

use std::sync::Arc;
use std::time::Duration;

use arrow::array::{ArrayRef, Float64Array, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, IntervalUnit, Schema};

use super::super::config::Config;
use super::super::message::{check_columns, idempotency_key, messages};
use super::super::queue::{pack, unpack};
use super::super::secret::Text;
use super::super::{Address, Format, OnFailure, Pauses, Rate};
use super::{message, spec};
use crate::kafka::Position;
use crate::widecolumn::RowKey;

const URL: &str = "https://host.example/hook";

fn wrong(url: &str, options: &[(&str, &str)]) -> String {
    let wrong = Config::parse(&spec(url, options)).unwrap_err();
    wrong
        .iter()
        .map(|wrong| format!("{}: {wrong}", wrong.option.as_deref().unwrap_or("-")))
        .collect::<Vec<_>>()
        .join("\n")
}

#[test]
fn a_table_of_messages_has_defaults_for_all_but_its_key() {
    let config = Config::parse(&spec(URL, &[])).unwrap();
    assert_eq!((config.format, config.method.as_str(), config.tries), (Format::Json, "POST", 10));
    assert_eq!((config.rate.gap, config.timeout), (Duration::from_millis(200), Duration::from_secs(10)));
    assert_eq!(config.on_failure, OnFailure::SetAside);
    let config = Config::parse(&spec("/tmp/messages", &[("on_failure", "wait"), ("method", "put")])).unwrap();
    assert_eq!(config.to, Address::Folder("/tmp/messages".into()));
    assert_eq!((config.on_failure, config.method.as_str()), (OnFailure::Wait, "PUT"));
}

#[test]
fn every_option_that_cannot_be_meant_is_told_by_its_name() {
    let options = [
        ("rate", "fast"),
        ("timeout", "10"),
        ("tries", "0"),
        ("format", "xml"),
        ("method", "GET"),
        ("on_failure", "drop"),
        ("retries", "3"),
        ("header.Idempotency-Key", "1"),
        ("header.X", "{env:TOKEN"),
    ];
    let told = wrong(URL, &options);
    for line in [
        "rate: 'fast' is no rate; write '5/s'",
        "timeout: '10' has no known unit",
        "tries: '0' is no number",
        "format: format 'xml' is none of json, form, text",
        "method: method 'GET' is none of POST",
        "on_failure: 'drop' is none of set_aside, wait",
        "retries: there is no option 'retries' of an OUTBOX table; did you mean 'tries'?",
        "header.Idempotency-Key: this header is Redpoll's own",
        "header.X: '{env:' is never closed",
    ] {
        assert!(told.contains(line), "{line}\n{told}");
    }
    assert!(wrong("ftp://host/x", &[]).starts_with("-: nothing sends messages to 'ftp://'"));
    assert!(wrong("https://host/{candid}", &[]).contains("columns cannot stand in a LOCATION"));
    assert!(wrong("https://", &[]).contains("is no URL"));
    let mut keyless = spec(URL, &[]);
    keyless.options.clear();
    assert!(Config::parse(&keyless).unwrap_err()[0].reason.contains("add OPTIONS ('key'"));
}

#[test]
fn a_secret_is_named_where_it_stands_and_looked_up_by_whoever_sends() {
    let text = Text::parse("Bearer {env:TNS_TOKEN}.{env:B}").unwrap();
    assert_eq!(text.variables().collect::<Vec<_>>(), ["TNS_TOKEN", "B"]);
    let value = |name: &str| Some(format!("<{name}>"));
    assert_eq!(text.fill(&value).unwrap(), "Bearer <TNS_TOKEN>.<B>");
    assert_eq!(text.fill(&|name| (name == "B").then(String::new)).unwrap_err(), "TNS_TOKEN");
    assert_eq!(text.to_string(), "Bearer {env:TNS_TOKEN}.{env:B}");
    assert!(Text::parse("{env:A B}").unwrap_err().contains("no name of an environment variable"));
    assert_eq!(Text::parse(r#"{"a": 1}"#).unwrap().variables().count(), 0);
}

#[test]
fn rows_become_messages_that_say_where_their_alert_was_read() {
    let columns: [(&str, ArrayRef); 3] = [
        ("candid", Arc::new(Int64Array::from(vec![Some(2_458_850_123_456_789_012), None, Some(3)]))),
        ("name", Arc::new(StringArray::from(vec![Some("a \"b\""), Some("c"), None]))),
        ("rb", Arc::new(Float64Array::from(vec![0.5, 1.0, f64::NAN]))),
    ];
    let batch = RecordBatch::try_from_iter(columns).unwrap();
    let key = RowKey::parse("{candid}").unwrap();
    let origin = |row: usize| Position { topic: "ztf", partition: 1, offset: 40 + row as i64, index: 0 };
    let made = messages(&batch, &key, origin).unwrap();
    let first = made[0].as_ref().unwrap();
    assert_eq!(first.key, "2458850123456789012");
    assert_eq!(first.row, r#"{"candid":2458850123456789012,"name":"a \"b\"","rb":0.5}"#);
    assert_eq!(made[1].as_ref().unwrap_err().to_string(), "column 'candid' of the key is null");
    let last = made[2].as_ref().unwrap();
    assert_eq!((last.row.as_str(), last.offset), (r#"{"candid":3,"rb":null}"#, 42));
    let both = [first.clone(), last.clone()];
    assert_eq!(unpack::<crate::outbox::Message>(&pack(&both).unwrap()).unwrap(), both);
}

#[test]
fn a_body_is_the_row_with_the_constant_fields() {
    let fields = [("chat_id".to_owned(), "7 \"x\"".to_owned())];
    let body = |format, fields: &[(String, String)]| {
        let (body, content) = message("42").body(format, fields);
        (String::from_utf8(body).unwrap(), content)
    };
    assert_eq!(body(Format::Json, &[]), (r#"{"candid":42,"text":"a & b"}"#.into(), "application/json"));
    assert_eq!(body(Format::Json, &fields).0, r#"{"candid":42,"text":"a & b","chat_id":"7 \"x\""}"#);
    assert_eq!(body(Format::Form, &fields).0, "candid=42&text=a+%26+b&chat_id=7+%22x%22");
    let mut empty = message("42");
    empty.row = "{}".into();
    assert_eq!(String::from_utf8(empty.body(Format::Json, &fields).0).unwrap(), r#"{"chat_id":"7 \"x\""}"#);
    empty.row = r#"{"text":"one line"}"#.into();
    assert_eq!(empty.body(Format::Text, &[]).0, b"one line");
}

#[test]
fn the_idempotency_key_is_one_of_job_table_and_key() {
    let key = idempotency_key("5a1b", "bot", "42");
    assert_eq!(key, idempotency_key("5a1b", "bot", "42"));
    let others = [("5a1c", "bot", "42"), ("5a1b", "bot2", "42"), ("5a1b", "bot", "43"), ("5a1", "bbot", "42")];
    assert!(others.into_iter().all(|(uid, table, of)| idempotency_key(uid, table, of) != key));
}

#[test]
fn columns_that_json_does_not_know_are_told_before_a_job_starts() {
    let schema = |data_type| Schema::new(vec![Field::new("x", data_type, true)]);
    let list = DataType::new_list(DataType::Float64, true);
    assert!(check_columns(&schema(list), Format::Json).is_empty());
    let wrong = check_columns(&schema(DataType::Interval(IntervalUnit::MonthDayNano)), Format::Json);
    assert!(wrong.is_empty() || wrong[0].contains("column 'x'"), "{wrong:?}");
    let two = Schema::new(vec![Field::new("a", DataType::Utf8, true), Field::new("b", DataType::Utf8, true)]);
    assert!(check_columns(&two, Format::Text)[0].contains("sends one column"));
}

#[test]
fn pauses_double_to_a_bound_and_heed_what_a_receiver_asks_for() {
    let mut pauses = Pauses::default();
    let spans: Vec<u64> = (0..12).map(|_| pauses.next(None, 1.0).as_secs()).collect();
    assert_eq!(spans, [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300, 300]);
    assert_eq!(pauses.failed(), 12);
    assert_eq!(Pauses::default().next(None, 0.0), Duration::from_millis(500));
    assert_eq!(Pauses::default().next(Some(Duration::from_secs(20)), 0.0), Duration::from_secs(20));
    assert_eq!(Pauses::default().next(Some(Duration::from_secs(1_000_000)), 0.0), Duration::from_secs(3600));
}

#[test]
fn a_rate_is_a_gap_between_requests() {
    let gap = |text| Rate::parse(text).map(|rate| rate.gap.as_millis());
    assert_eq!((gap("5/s"), gap("30/m"), gap("1000/h")), (Ok(200), Ok(2000), Ok(3600)));
    assert!(gap("0/s").is_err() && gap("5").is_err() && gap("5/d").is_err());
}
