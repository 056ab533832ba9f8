use std::sync::Arc;

use arrow::array::{Float32Array, Float64Array, Int32Array, Int64Array, StringArray, StructArray};
use arrow::datatypes::{DataType, Field};

use super::*;

fn keys(template: &str, batch: &RecordBatch) -> Vec<String> {
    let keys = RowKey::parse(template).unwrap().render(batch).unwrap().into_iter();
    keys.map(|key| key.map_or_else(|null| null.to_string(), |key| String::from_utf8(key.to_vec()).unwrap())).collect()
}

fn alerts() -> RecordBatch {
    let jd: ArrayRef = Arc::new(Float64Array::from(vec![2458850.0, 2458850.6234567]));
    let fid: ArrayRef = Arc::new(Int32Array::from(vec![Some(1), None]));
    let candidate = StructArray::from(vec![
        (Arc::new(Field::new("jd", DataType::Float64, true)), jd),
        (Arc::new(Field::new("fid", DataType::Int32, true)), fid),
    ]);
    RecordBatch::try_from_iter([
        ("objectId", Arc::new(StringArray::from(vec!["ZTF19a", "ZTF19b"])) as ArrayRef),
        ("candid", Arc::new(Int64Array::from(vec![7, -12])) as ArrayRef),
        ("candidate", Arc::new(candidate) as ArrayRef),
    ])
    .unwrap()
}

#[test]
fn a_key_is_its_template_filled_from_each_row() {
    let check = |template: &str, expected: [&str; 2]| assert_eq!(keys(template, &alerts()), expected);
    check("{objectId}_{candidate.jd}", ["ZTF19a_2458850.0", "ZTF19b_2458850.6234567"]);
    check("{candid:0>5}{{x}}{objectId:_<8}", ["00007{x}ZTF19a__", "00-12{x}ZTF19b__"]);
    check("n{candid}", ["n7", "n-12"]);
}

#[test]
fn a_row_with_a_null_in_its_key_has_no_key_and_its_neighbours_do() {
    let expected = ["1_ZTF19a", "column 'candidate.fid' of the row key is null"];
    assert_eq!(keys("{candidate.fid}_{objectId}", &alerts()), expected);
}

#[test]
fn a_key_without_bytes_or_with_too_many_is_none() {
    let long = "x".repeat(MAX_KEY + 1);
    let array = StringArray::from(vec!["", "a", &long]);
    let batch = RecordBatch::try_from_iter([("x", Arc::new(array) as ArrayRef)]).unwrap();
    assert_eq!(keys("{x}", &batch), ["its row key is empty", "a", "its row key has 32768 bytes, more than 32767"]);
}

// The expected texts were printed by Python 3.
#[test]
fn a_double_stands_as_python_prints_it() {
    let cases = [
        (2458850.0, "2458850.0"),
        (10000000.0, "10000000.0"),
        (0.1, "0.1"),
        (1e15, "1000000000000000.0"),
        (9999999999999998.0, "9999999999999998.0"),
        (1e16, "1e+16"),
        (123456789012345680.0, "1.2345678901234568e+17"),
        (0.0001, "0.0001"),
        (0.00001, "1e-05"),
        (1.25e-7, "1.25e-07"),
        (5e-324, "5e-324"),
        (f64::MAX, "1.7976931348623157e+308"),
        (-0.0, "-0.0"),
        (f64::NAN, "nan"),
        (f64::NEG_INFINITY, "-inf"),
    ];
    let array = Float64Array::from_iter_values(cases.iter().map(|case| case.0));
    let batch = RecordBatch::try_from_iter([("x", Arc::new(array) as ArrayRef)]).unwrap();
    assert_eq!(keys("{x}", &batch), cases.map(|case| case.1));
}

#[test]
fn a_float_has_the_digits_of_its_own_width() {
    let array = Float32Array::from(vec![0.1, 16777216.0, 1e-5]);
    let batch = RecordBatch::try_from_iter([("x", Arc::new(array) as ArrayRef)]).unwrap();
    assert_eq!(keys("{x}", &batch), ["0.1", "16777216.0", "1e-05"]);
}

#[test]
fn a_wrong_template_says_where_and_why() {
    let check = |template: &str, position: usize, reason: &str| {
        let error = RowKey::parse(template).unwrap_err().to_string();
        assert_eq!(error, format!("row key '{template}', character {position}: {reason}"));
    };
    check("{objectId", 1, "'{' is never closed; add '}'");
    check("a}b", 2, "'}' closes no '{'; write '}}' for a brace");
    check("{a{b}", 3, "'{' inside a column; close the one before it");
    check("x{}", 2, "'{}' names no column; write '{COLUMN}'");
    check("{a:5}", 1, "a format is a fill character, '<' or '>', and a width, as in '{x:0>5}'");
    check("night", 1, "names no column, so every row would have the same key; write '{COLUMN}'");
}

#[test]
fn a_key_is_checked_against_a_schema_before_any_row_is_seen() {
    let check = |template: &str, expected: &str| {
        assert_eq!(RowKey::parse(template).unwrap().check(&alerts().schema()).unwrap_err().to_string(), expected);
    };
    check("{objectid}", "column 'objectid' of row key '{objectid}' is unknown; did you mean 'objectId'?");
    let error = RowKey::parse("{candidate}").unwrap().check(&alerts().schema()).unwrap_err().to_string();
    assert!(error.ends_with("cannot stand in a row key; select a string or a number"), "{error}");
}

#[test]
fn the_leading_columns_that_are_known_give_a_prefix() {
    let key = RowKey::parse("{objectId}_{candidate.fid:0>2}").unwrap();
    let object = ScalarValue::from("ZTF19a");
    let mut values = BTreeMap::from([("objectId", &object)]);
    assert_eq!(key.prefix(&values), ("ZTF19a_".into(), false));
    let fid = ScalarValue::Int32(Some(1));
    values.insert("candidate.fid", &fid);
    assert_eq!(key.prefix(&values), ("ZTF19a_01".into(), true));
    assert_eq!(key.prefix(&BTreeMap::new()), (String::new(), false));
}
