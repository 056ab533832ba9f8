//! Real alerts of every version we have, against what apache-avro reads.

use std::path::Path;

use apache_avro::types::Value;
use arrow::array::{Array, AsArray};
use arrow::datatypes::Float64Type;

use super::{assert_rows, decode, fixture, pipeline, record, sample_files};
use crate::avro::{Codec, Encoder, Format, ReaderSchema, Timestamps};

const FIXTURES: [&str; 3] = ["ZTF19acyjzeo.avro", "template_schema_ZTF_3p1.avro", "ztf_multi_3.avro"];

fn by_apache_avro(container: &[u8]) -> Vec<Value> {
    apache_avro::Reader::new(container).unwrap().map(Result::unwrap).collect()
}

/// Decodes with the schema that the container itself carries.
fn check_against_apache_avro(container: Vec<u8>) -> usize {
    let expected = by_apache_avro(&container);
    let records = [record(container)];
    let reader = ReaderSchema::from_records(&Format::Container, &records).unwrap();
    let decoded = decode(Format::Container, &reader, None, &records);
    assert_eq!(decoded.failed, []);
    assert_eq!(decoded.record_of_row, vec![0; expected.len()]);
    assert_rows(&decoded.batch, 0, &expected);
    expected.len()
}

#[test]
fn fixtures_decode_to_what_apache_avro_reads() {
    let n: Vec<_> = FIXTURES.iter().map(|name| check_against_apache_avro(fixture(name).value.to_vec())).collect();
    assert_eq!(n, [1, 1, 3]);
}

#[test]
fn all_samples_decode_to_what_apache_avro_reads() {
    let Some(files) = sample_files() else { return };
    for path in files {
        let n = check_against_apache_avro(std::fs::read(&path).unwrap());
        eprintln!("{}: {n} alerts are equal", path.display());
    }
}

#[test]
fn alerts_of_all_versions_decode_in_one_batch_with_the_pipelines_schema() {
    let Some(samples) = sample_files() else { return };
    for survey in ["ztf", "lsst"] {
        let of_survey = |path: &Path| path.parent().is_some_and(|folder| folder.ends_with(survey));
        // What Fink sends out has types and columns of its own.
        let raw = |path: &Path| !path.to_string_lossy().contains("fink_out");
        let files: Vec<_> = samples.iter().filter(|path| of_survey(path) && raw(path)).collect();
        assert!(!files.is_empty(), "no samples of {survey}");
        let records: Vec<_> = files.iter().map(|path| record(std::fs::read(path).unwrap())).collect();
        let decoded = decode(Format::Container, &pipeline(survey), None, &records);
        assert_eq!(decoded.failed, []);
        let mut first = 0;
        for record in &records {
            let expected = by_apache_avro(&record.value);
            assert_rows(&decoded.batch, first, &expected);
            first += expected.len();
        }
        assert_eq!(decoded.batch.num_rows(), first);
    }
}

#[test]
fn fixtures_of_two_versions_decode_in_one_batch() {
    let records: Vec<_> = FIXTURES.iter().map(|name| fixture(name)).collect();
    let decoded = decode(Format::Container, &pipeline("ztf"), None, &records);
    assert_eq!((decoded.failed.len(), decoded.record_of_row), (0, vec![0, 1, 2, 2, 2]));
    // Version 3.1 has no drb.
    let candidate = decoded.batch.column_by_name("candidate").unwrap().as_struct();
    let drb = candidate.column_by_name("drb").unwrap();
    assert_eq!((0..5).map(|row| drb.is_null(row)).collect::<Vec<_>>(), [false, true, false, false, false]);
}

#[test]
fn a_projection_gives_the_columns_of_the_whole() {
    let records: Vec<_> = FIXTURES.iter().map(|name| fixture(name)).collect();
    let whole = decode(Format::Container, &pipeline("ztf"), None, &records).batch;
    let paths = ["prv_candidates.jd", "candid", "candidate.rb", "candidate.jd", "cutoutScience.stampData"];
    let some = decode(Format::Container, &pipeline("ztf"), Some(&paths), &records).batch;

    let names: Vec<_> = some.schema().fields().iter().map(|field| field.name().clone()).collect();
    assert_eq!(names, ["candid", "candidate", "prv_candidates", "cutoutScience"]);
    assert_eq!(some.column(0), whole.column_by_name("candid").unwrap());
    let candidate = some.column(1).as_struct();
    assert_eq!(candidate.column_names(), ["jd", "rb"]);
    let of_whole = whole.column_by_name("candidate").unwrap().as_struct();
    assert_eq!(candidate.column(0), of_whole.column_by_name("jd").unwrap());
    let history = |column: &dyn Array, row| -> Vec<f64> {
        let items = column.as_list::<i32>().value(row);
        items.as_struct().column_by_name("jd").unwrap().as_primitive::<Float64Type>().values().to_vec()
    };
    for row in 0..5 {
        let of_whole = history(whole.column_by_name("prv_candidates").unwrap(), row);
        assert_eq!(history(some.column(2), row), of_whole);
    }
}

#[test]
fn no_columns_at_all_still_count_rows() {
    let decoded = decode(Format::Container, &pipeline("ztf"), Some(&[]), &[fixture("ztf_multi_3.avro")]);
    assert_eq!((decoded.batch.num_columns(), decoded.batch.num_rows()), (0, 3));
}

#[test]
fn cutouts_are_references_into_the_record() {
    let record = fixture("ztf_multi_3.avro");
    let paths = ["cutoutScience.stampData", "cutoutTemplate.stampData", "cutoutDifference.stampData"];
    let batch = decode(Format::Container, &pipeline("ztf"), Some(&paths), std::slice::from_ref(&record)).batch;
    let within = record.value.as_ptr_range();
    for column in batch.columns() {
        let stamps = column.as_struct().column(0).as_binary_view();
        for stamp in stamps.iter().flatten() {
            assert!(within.contains(&stamp.as_ptr()) && stamp.starts_with(&[0x1f, 0x8b]));
        }
        assert_eq!(stamps.data_buffers().len(), 1);
    }
}

#[test]
fn packed_containers_decode_to_the_same_alerts() {
    let batch = decode(Format::Container, &pipeline("ztf"), None, &[fixture("ztf_multi_3.avro")]).batch;
    let encoder = Encoder::new(batch.schema(), "ztf.alert", Timestamps::Logical).unwrap();
    for codec in [Codec::Null, Codec::Deflate, Codec::Snappy] {
        let container = encoder.container(std::slice::from_ref(&batch), codec).unwrap();
        let decoded = decode(Format::Container, &pipeline("ztf"), None, &[record(container.clone())]);
        assert_eq!((decoded.failed.len(), &decoded.batch), (0, &batch));
        assert_rows(&batch, 0, &by_apache_avro(&container));
    }
}
