//! Bytes that nobody has vouched for: a bad record costs itself and nothing else.

use std::sync::LazyLock;

use apache_avro::types::Value;
use arrow::array::RecordBatch;
use bytes::Bytes;
use proptest::prelude::*;
use redpoll_core::source::Record;

use super::{decode, fixture, pipeline, record};
use crate::avro::{Codec, Encoder, Format, ReaderSchema, Timestamps};

static GOOD: LazyLock<Record> = LazyLock::new(|| fixture("ztf_multi_3.avro"));
static GOOD_ROWS: LazyLock<RecordBatch> =
    LazyLock::new(|| decode(Format::Container, &pipeline("ztf"), None, std::slice::from_ref(&*GOOD)).batch);

/// The fixture, as it is and packed.
static SAMPLES: LazyLock<Vec<Bytes>> = LazyLock::new(|| {
    let encoder = Encoder::new(GOOD_ROWS.schema(), "ztf.alert", Timestamps::Logical).unwrap();
    let packed = |codec| encoder.container(std::slice::from_ref(&*GOOD_ROWS), codec).unwrap();
    vec![GOOD.value.clone(), fixture("ZTF19acyjzeo.avro").value, packed(Codec::Snappy), packed(Codec::Deflate)]
});

/// A bad record between two good ones: the good ones are whole, the bad one is in or out wholly.
fn check_beside_good_ones(bad: Bytes) {
    let records = [GOOD.clone(), record(bad), GOOD.clone()];
    let decoded = decode(Format::Container, &pipeline("ztf"), None, &records);
    let rows = decoded.batch.num_rows();
    assert_eq!(decoded.record_of_row.len(), rows);
    assert_eq!(decoded.batch.slice(0, 3), *GOOD_ROWS);
    assert_eq!(decoded.batch.slice(rows - 3, 3), *GOOD_ROWS);
    match decoded.failed.as_slice() {
        [] => {}
        [failed] => assert_eq!((failed.record, rows), (1, 6), "{failed:?}"),
        more => panic!("{more:?}"),
    }
    // What decodes wholly also decodes in part.
    let paths = ["candid", "prv_candidates.jd", "cutoutScience.stampData"];
    let part = decode(Format::Container, &pipeline("ztf"), Some(&paths), &records).batch;
    assert!(part.num_rows() >= rows, "{} rows in part, {rows} wholly", part.num_rows());
    assert_eq!(&part.column(0).slice(0, 3), GOOD_ROWS.column_by_name("candid").unwrap());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn a_damaged_record_never_panics_and_touches_no_other(
        sample in 0_usize..4,
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        keep in prop_oneof![3 => Just(1.0), 1 => 0.0..1.0_f64],
    ) {
        let mut bytes = SAMPLES[sample].to_vec();
        for (index, byte) in damage {
            // Half of the damage goes where lengths are, at the beginning; the rest anywhere.
            let reach = if byte % 2 == 0 { bytes.len().min(40_000) } else { bytes.len() };
            let at = index.index(reach);
            bytes[at] = byte;
        }
        bytes.truncate((bytes.len() as f64 * keep) as usize);
        check_beside_good_ones(bytes.into());
    }

    #[test]
    fn any_bytes_at_all_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
        let schema = r#"{"type":"record","name":"r","fields":[
            {"name":"a","type":["null",{"type":"array","items":["null",{"type":"record","name":"s","fields":[
                {"name":"x","type":["float","null"]},{"name":"y","type":"bytes"},{"name":"z","type":"r"}]}]}]},
            {"name":"b","type":{"type":"map","values":["int","string","null"]}},
            {"name":"c","type":{"type":"enum","name":"e","symbols":["U"]}}]}"#;
        let wanted = r#"{"type":"record","name":"r","fields":[
            {"name":"a","type":{"type":"array","items":{"type":"record","name":"s","fields":[
                {"name":"x","type":"double"},{"name":"y","type":"bytes"}]}}},
            {"name":"b","type":{"type":"map","values":"double"}},
            {"name":"c","type":"string"}]}"#;
        let reader = ReaderSchema::from_avsc(wanted).unwrap();
        let decoded = decode(Format::Schemaless(schema.into()), &reader, None, &[record(bytes.clone())]);
        prop_assert_eq!(decoded.failed.len() + decoded.batch.num_rows(), 1);
        let mut container = b"Obj\x01".to_vec();
        container.extend_from_slice(&bytes);
        prop_assert_eq!(decode(Format::Container, &reader, None, &[record(container)]).batch.num_rows(), 0);
    }
}

#[test]
fn a_container_whose_last_alert_is_cut_off_gives_none_of_its_alerts() {
    let bytes = GOOD.value.slice(..GOOD.value.len() - 100);
    let decoded = decode(Format::Container, &pipeline("ztf"), None, &[record(bytes), GOOD.clone()]);
    assert_eq!(decoded.batch, *GOOD_ROWS);
    assert_eq!(decoded.record_of_row, [1, 1, 1]);
    assert_eq!(decoded.failed[0].record, 0);
    assert!(decoded.failed[0].fingerprint.as_ref().is_some_and(|f| f.starts_with("crc64:")));
}

fn check_error(writer: &str, reader: &str, bytes: &[u8], expected: &str) {
    let reader = ReaderSchema::from_avsc(reader).unwrap();
    let decoded = decode(Format::Schemaless(writer.into()), &reader, None, &[record(bytes.to_vec())]);
    let shown = decoded.failed.first().map_or("no error", |failed| failed.error.as_str());
    assert!(shown.contains(expected), "{shown}");
}

fn one_field(kind: &str) -> String {
    format!(r#"{{"type":"record","name":"alert","fields":[{{"name":"jd","type":{kind}}}]}}"#)
}

#[test]
fn a_type_that_cannot_be_read_names_the_field() {
    let nested = |kind: &str| one_field(&one_field(kind).replace("\"alert\"", "\"candidate\""));
    let expected = "field jd.jd: the writer has string, the reader wants Float64";
    check_error(&nested("\"string\""), &nested("\"double\""), b"\x02a", expected);
    check_error(&nested(r#"["null","string"]"#), &nested("\"double\""), b"\x00", expected);
    // Of a union with several types only the value that is met matters.
    check_error(&nested(r#"["double","string"]"#), &nested("\"double\""), b"\x02\x02a", expected);
    check_error(&nested(r#"["double","string"]"#), &nested("\"double\""), &[0; 9], "no error");
}

#[test]
fn lengths_are_checked_against_what_is_left() {
    let check =
        |kind: &str, bytes: &[u8], expected: &str| check_error(&one_field(kind), &one_field(kind), bytes, expected);
    check("\"bytes\"", b"\xfe\xff\xff\xff\x0f", "field jd: a length of 2147483647 where 0 bytes are left");
    check("\"bytes\"", b"\x01", "a length of -1");
    check("\"string\"", b"\x02\xff", "not UTF-8");
    check("\"double\"", &[0; 7], "the bytes end inside a value");
    check("\"double\"", &[0; 10], "2 bytes are left after the last field");
    check("\"int\"", b"\xfe\xff\xff\xff\x7f", "does not fit");
    check("\"long\"", &[0xff; 11], "does not fit");
    check(r#"["null","int"]"#, b"\x04", "branch 2");
    // An array of a trillion nulls in six bytes.
    check(r#"{"type":"array","items":"null"}"#, b"\x80\xc0\xa8\xca\x9a\x3a\x00", "more values than its bytes allow");
}

#[test]
fn a_skipped_type_that_contains_itself_ends_with_an_error() {
    let writer = r#"{"type":"record","name":"node","fields":[{"name":"next","type":["null","node"]}]}"#;
    check_error(writer, &one_field("\"double\""), &[2; 4000], "nest deeper than the limit");
    check_error(writer, &one_field("\"double\""), &[2, 2, 2, 0], "no error");
}

#[test]
fn a_block_that_unpacks_to_less_or_more_than_it_says_fails() {
    let mut snappy = SAMPLES[2].to_vec();
    let last = snappy.len() - 17;
    snappy[last] ^= 1;
    let decoded = decode(Format::Container, &pipeline("ztf"), None, &[record(snappy)]);
    assert!(decoded.failed[0].error.contains("its checksum is wrong"), "{:?}", decoded.failed);
}

#[test]
fn a_value_of_apache_avro_with_sized_blocks_is_read() {
    // Blocks of arrays may carry their size in bytes: count -2, size 2, items 3 and 4, end.
    let array = one_field(r#"{"type":"array","items":"int"}"#);
    let reader = ReaderSchema::from_avsc(&array).unwrap();
    let bytes = [0x03, 0x04, 0x06, 0x08, 0x00];
    let decoded = decode(Format::Schemaless(array.as_str().into()), &reader, None, &[record(bytes.to_vec())]);
    let expected = Value::Record(vec![("jd".into(), Value::Array(vec![Value::Int(3), Value::Int(4)]))]);
    super::assert_rows(&decoded.batch, 0, &[expected]);
    // And skipped by that size.
    let decoded = decode(Format::Schemaless(array.into()), &reader, Some(&[]), &[record(bytes.to_vec())]);
    assert_eq!((decoded.failed.len(), decoded.batch.num_rows()), (0, 1));
}
