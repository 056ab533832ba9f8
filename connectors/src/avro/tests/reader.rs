//! Reader schemas: what Avro becomes in Arrow, and how versions resolve.

use arrow::array::AsArray;
use arrow::datatypes::{DataType, Float64Type, Int64Type, TimestampMicrosecondType};

use super::{decode, pipeline, record};
use crate::avro::{Format, ReaderSchema};

fn fields(list: &str) -> String {
    format!(r#"{{"type":"record","name":"lsst.v10_0.alert","fields":[{list}]}}"#)
}

fn reader(list: &str) -> ReaderSchema {
    ReaderSchema::from_avsc(&fields(list)).unwrap()
}

fn check_type(avro: &str, expected: &str) {
    let reader = reader(&format!(r#"{{"name":"f","type":{avro}}}"#));
    let schema = reader.arrow();
    assert!(schema.field(0).is_nullable());
    assert_eq!(schema.field(0).data_type().to_string(), expected);
}

#[test]
fn avro_types_have_arrow_types() {
    check_type(r#""int""#, "Int32");
    check_type(r#"["null","long"]"#, "Int64");
    check_type(r#"["int","null","double"]"#, "Float64");
    check_type(r#""string""#, "Utf8");
    check_type(r#""bytes""#, "BinaryView");
    check_type(r#"{"type":"enum","name":"e","symbols":["A"]}"#, "Utf8");
    check_type(r#"{"type":"fixed","name":"f","size":4}"#, "FixedSizeBinary(4)");
    check_type(r#"{"type":"long","logicalType":"timestamp-micros"}"#, r#"Timestamp(µs, "UTC")"#);
    check_type(r#"{"type":"long","logicalType":"local-timestamp-millis"}"#, "Timestamp(ms)");
    check_type(r#"{"type":"int","logicalType":"date"}"#, "Date32");
    check_type(r#"{"type":"bytes","logicalType":"decimal","precision":4}"#, "BinaryView");
    check_type(r#"{"type":"array","items":"float"}"#, "List(Float32)");
}

#[test]
fn a_path_that_does_not_exist_is_named() {
    for path in ["candidate.nope", "nope", "candid.jd", "prv_candidates.nope"] {
        let error = pipeline("ztf").project(&[path]).unwrap_err().to_string();
        assert_eq!(error, format!("there is no field '{path}' in the alerts"));
    }
}

#[test]
fn a_path_to_a_struct_means_all_of_it() {
    let reader = pipeline("ztf").project(&["candidate.jd", "candidate"]).unwrap();
    let DataType::Struct(fields) = reader.arrow().field(0).data_type().clone() else { panic!() };
    assert_eq!(fields.len(), 103);
}

#[test]
fn merging_keeps_all_fields_in_types_that_both_can_be_read_as() {
    let old = reader(r#"{"name":"a","type":"int"},{"name":"b","type":"float"},{"name":"c","type":"null"}"#);
    let new = reader(
        r#"{"name":"d","type":"int"},{"name":"a","type":"long"},{"name":"b","type":["null","double"]},
        {"name":"c","type":"string"}"#,
    );
    let merged = old.merge(&new).unwrap().arrow();
    let shown: Vec<_> = merged.fields().iter().map(|f| format!("{} {}", f.name(), f.data_type())).collect();
    assert_eq!(shown, ["a Int64", "b Float64", "c Utf8", "d Int32"]);
    let error = old.merge(&reader(r#"{"name":"a","type":"string"}"#)).unwrap_err().to_string();
    assert_eq!(error, "a: the types Int32 and Utf8 have no common type; declare the schema in a file");
}

#[test]
fn a_writer_is_promoted_to_what_the_reader_wants() {
    let writer = fields(
        r#"{"name":"gone","type":"string"},{"name":"n","type":"int"},{"name":"flux","type":["float","null"]},
        {"name":"at","type":{"type":"long","logicalType":"timestamp-millis"}}"#,
    );
    let reader = reader(
        r#"{"name":"at","type":{"type":"long","logicalType":"timestamp-micros"}},{"name":"flux","type":"double"},
        {"name":"new","type":"int"},{"name":"n","type":["null","long"]}"#,
    );
    let mut bytes = b"\x02x\x0a\x00".to_vec();
    bytes.extend_from_slice(&1.5_f32.to_le_bytes());
    bytes.push(0x06);
    let decoded = decode(Format::Schemaless(writer.into()), &reader, None, &[record(bytes)]);
    assert_eq!(decoded.failed, []);
    let batch = decoded.batch;
    assert_eq!(batch.column(0).as_primitive::<TimestampMicrosecondType>().value(0), 3_000);
    assert_eq!(batch.column(1).as_primitive::<Float64Type>().value(0), 1.5);
    assert!(batch.column(2).is_null(0));
    assert_eq!(batch.column(3).as_primitive::<Int64Type>().value(0), 5);
}

#[test]
fn schemas_that_no_table_can_have_are_refused() {
    let error = |json: &str| ReaderSchema::from_avsc(json).unwrap_err().to_string();
    let recursive = fields(r#"{"name":"next","type":["null","lsst.v10_0.alert"]}"#);
    assert!(error(&recursive).contains("probably recursive"));
    // Thirty records, each holding the next one twice.
    let mut wide = r#""int""#.to_owned();
    for i in 0..30 {
        wide = format!(
            r#"{{"type":"record","name":"r{i}","fields":[{{"name":"a","type":{wide}}},{{"name":"b","type":"r{}"}}]}}"#,
            if i == 0 { "0".to_owned() } else { (i - 1).to_string() }
        );
    }
    let wide = wide.replacen(r#""type":"r0"}]"#, r#""type":"int"}]"#, 1);
    assert!(error(&wide).contains("more than 20000 columns"), "{}", error(&wide));
    assert!(error(r#""int""#).contains("not a record"));
}
