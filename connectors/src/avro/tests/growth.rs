//! Writers that change while a table is read: new fields are told, fields that are gone cost only their own records.

use arrow::datatypes::DataType;
use redpoll_core::protocol::Grown;

use super::{decode, fixture, pipeline, record};
use crate::avro::{Decoder, Format, ReaderSchema};

fn alert(fields: &str) -> String {
    format!(r#"{{"type":"record","name":"ztf.alert","fields":[{fields}]}}"#)
}

/// An alert with a struct and a list of structs of these fields.
fn nested(candidate: &str, history: &str, more: &str) -> String {
    alert(&format!(
        r#"{{"name":"candid","type":"long"}},
        {{"name":"candidate","type":{{"type":"record","name":"candidate","fields":[{candidate}]}}}},
        {{"name":"prv","type":["null",{{"type":"array","items":
            {{"type":"record","name":"prv","fields":[{history}]}}}}]}}{more}"#
    ))
}

const JD: &str = r#"{"name":"jd","type":"double"}"#;

fn shown(schema: &ReaderSchema) -> String {
    schema.fields().iter().map(|field| format!("{} {}", field.name(), field.data_type())).collect::<Vec<_>>().join("; ")
}

#[test]
fn new_fields_are_told_in_the_records_they_stand_in_and_survive_their_way_as_text() {
    let reader = ReaderSchema::from_avsc(&nested(JD, JD, "")).unwrap();
    let drb = r#"{"name":"drb","type":["null","float"]},{"name":"jd","type":"double"}"#;
    let more = r#",{"name":"fp_hists","type":["null",{"type":"array","items":{"type":"record","name":"fp","fields":[
        {"name":"flux","type":"float"},{"name":"at","type":{"type":"long","logicalType":"timestamp-micros"}}]}}]},
        {"name":"tags","type":{"type":"map","values":"string"}},
        {"name":"stamp","type":{"type":"fixed","name":"md5","size":16}},
        {"name":"nothing","type":"null"},{"name":"CandID","type":"int"},{"name":"a b","type":"int"}"#;
    let writer = ReaderSchema::from_avsc(&nested(drb, drb, more)).unwrap();
    let beyond = reader.beyond(&writer).unwrap();
    let expected = "candidate Struct(\"drb\": Float32); prv List(Struct(\"drb\": Float32)); \
        fp_hists List(Struct(\"flux\": Float32, \"at\": Timestamp(µs, \"UTC\"))); \
        tags Map(\"entries\": non-null Struct(\"key\": non-null Utf8, \"value\": Utf8), unsorted); stamp FixedSizeBinary(16)";
    assert_eq!(shown(&beyond), expected);
    let read_back = ReaderSchema::from_avsc(&beyond.to_avsc().unwrap()).unwrap();
    assert_eq!(read_back.fields(), beyond.fields());

    let grown = Grown { fields: vec![beyond.to_avsc().unwrap()], ..Grown::default() };
    let grown = reader.with(&grown).unwrap();
    assert!(grown.beyond(&writer).is_none());
    // What was there stands where it stood.
    let DataType::Struct(candidate) = grown.fields()[1].data_type() else { panic!() };
    assert_eq!(candidate.iter().map(|field| field.name().as_str()).collect::<Vec<_>>(), ["jd", "drb"]);
    let one_by_one: Vec<_> = reader.beyond_one_by_one(&writer).into_iter().map(|(path, _)| path).collect();
    assert_eq!(one_by_one, ["candidate.drb", "prv.drb", "fp_hists", "tags", "stamp"]);
}

#[test]
fn a_field_that_is_passed_over_or_a_table_that_is_closed_asks_for_nothing() {
    let reader = ReaderSchema::from_avsc(&nested(JD, JD, "")).unwrap();
    let drb = r#"{"name":"drb","type":"float"}"#;
    let writer = ReaderSchema::from_avsc(&nested(drb, JD, "")).unwrap();
    let passed_over = [("candidate.drb".to_owned(), "taken".to_owned())].into();
    assert!(reader.with(&Grown { passed_over, ..Grown::default() }).unwrap().beyond(&writer).is_none());
    let mut closed = ReaderSchema::from(reader.arrow().as_ref());
    assert!(closed.beyond(&writer).is_some());
    closed.close();
    let closed = ReaderSchema::from(closed.arrow().as_ref());
    assert!(closed.beyond(&writer).is_none());
}

#[test]
fn a_batch_tells_the_new_fields_of_its_writers_once_and_keeps_its_rows() {
    let text = pipeline("ztf").project(&["candid", "candidate.jd", "prv_candidates.jd"]).unwrap();
    let records = [fixture("ZTF19acyjzeo.avro"), fixture("ztf_multi_3.avro"), fixture("template_schema_ZTF_3p1.avro")];
    let decoded = Decoder::new(Format::Container, &text, Some(&["candid".to_owned()])).unwrap().decode(&records);
    assert_eq!((decoded.batch.num_rows(), decoded.failed.len()), (5, 0));
    let grown: Vec<_> = decoded.growth.iter().map(|growth| growth.fields.contains("drb")).collect();
    // Two versions: 3.1 has no drb, and both writers are told by what they have beyond the table.
    assert_eq!(grown.iter().filter(|has_drb| **has_drb).count() + 1, grown.len());
    assert!(decoded.growth.iter().all(|growth| growth.fingerprint.starts_with("crc64:")));
    // The whole schema of the pipeline has all that they have.
    assert_eq!(decode(Format::Container, &pipeline("ztf"), None, &records).growth, []);
}

#[test]
fn a_required_field_that_is_gone_fails_the_records_of_that_writer_alone() {
    let two = format!(r#"{JD},{{"name":"rb","type":"float"}}"#);
    let mut reader = ReaderSchema::from_avsc(&nested(&two, JD, "")).unwrap();
    let old = |reader: &ReaderSchema| {
        let writer = alert(
            r#"{"name":"candid","type":"long"},{"name":"candidate","type":
            {"type":"record","name":"c","fields":[{"name":"jd","type":"double"}]}}"#,
        );
        let mut bytes = vec![4];
        bytes.extend_from_slice(&2.5_f64.to_le_bytes());
        decode(Format::Schemaless(writer.into()), reader, None, &[record(bytes)])
    };
    // Nobody computes with it: it is null.
    assert_eq!((old(&reader).failed.len(), old(&reader).batch.num_rows()), (0, 1));
    reader.require(&["candid", "candidate.rb", "prv.jd"]);
    let reader = ReaderSchema::from(reader.arrow().as_ref());
    let decoded = old(&reader);
    let failed = &decoded.failed[0];
    let fingerprint = failed.fingerprint.clone().unwrap();
    let expected = "field candidate.rb: the writer does not have it, the pipeline needs Float32";
    assert_eq!(failed.error, format!("{expected} (schema {fingerprint})"));
    // A list that may be null may be absent, with all that is in it.
    let mut reader = ReaderSchema::from_avsc(&nested(JD, JD, "")).unwrap();
    reader.require(&["candid", "prv.jd"]);
    assert_eq!(old(&reader).failed, []);
}

#[test]
fn a_type_that_changed_names_field_both_types_and_schema() {
    let reader = ReaderSchema::from_avsc(&nested(JD, JD, "")).unwrap();
    let text = nested(r#"{"name":"jd","type":"string"}"#, JD, "");
    let decoded = decode(Format::Schemaless(text.into()), &reader, None, &[record(vec![2, 2, b'x', 0])]);
    let failed = &decoded.failed[0];
    let expected = "field candidate.jd: the writer has string, the reader wants Float64 (schema crc64:";
    assert!(failed.error.starts_with(expected), "{}", failed.error);
    assert_eq!(decoded.growth, []);
}
