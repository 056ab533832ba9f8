//! What stands against rows in a table is found before anything is made.

use arrow::datatypes::{DataType, Field, Schema, SchemaRef};

use super::*;
use crate::delta::inspect;

fn schema(columns: &[(&str, DataType)]) -> SchemaRef {
    let fields: Vec<_> = columns.iter().map(|(name, data_type)| Field::new(*name, data_type.clone(), true)).collect();
    Arc::new(Schema::new(fields))
}

async fn check(url: &Url, queries: &[SchemaRef], partition_by: &[&str], expected: &[(Option<usize>, &str)]) {
    let partition_by: Vec<String> = partition_by.iter().map(|name| (*name).to_owned()).collect();
    let clashes = inspect(url, queries, &partition_by).await;
    let told: Vec<_> =
        clashes.iter().map(|clash| (clash.query, clash.error.to_string().replace(url.as_str(), "TABLE"))).collect();
    let told: Vec<_> = told.iter().map(|(query, text)| (*query, text.as_str())).collect();
    assert_eq!(told, expected);
}

#[tokio::test]
async fn everything_that_making_a_table_would_refuse_is_found_before() {
    let (dir, url) = folder();
    let good = schema(&[("night", DataType::Utf8), ("candid", DataType::Int64)]);
    let text = schema(&[("night", DataType::Utf8), ("candid", DataType::Utf8)]);
    check(&url, &[good.clone(), good.clone()], &["night"], &[]).await;
    check(
        &url,
        &[good.clone(), text.clone(), schema(&[("Night", DataType::Utf8)])],
        &[],
        &[
            (Some(1), "column 'candid' is Int64 in an INSERT before, Utf8 in this one; cast it, or rename it with AS"),
            (
                Some(2),
                "column 'Night': an INSERT before spells it with other case, and delta takes the two as one; rename it with AS",
            ),
        ],
    )
    .await;
    check(
        &url,
        &[schema(&[("a b", DataType::Int64), ("c", DataType::Null)])],
        &[],
        &[
            (
                Some(0),
                "column 'a b': a delta column name is not empty and has none of [' ', ',', ';', '{', '}', '(', ')', '\\n', '\\t', '=']; rename it with AS",
            ),
            (Some(0), "column 'c' has type Null, which delta cannot store; give it a type with CAST"),
        ],
    )
    .await;
    assert!(!dir.path().join("ztf raw").exists(), "a look has made the table");

    table_of(&url, &by_night(), &[alerts(&[("20200101", 1)])]).await;
    check(
        &url,
        &[text, schema(&[("NIGHT", DataType::Utf8)])],
        &["candid"],
        &[
            (None, "TABLE: partitioned by [\"night\"], not by [\"candid\"]; write PARTITIONED BY as the table has it, or to another table"),
            (
                Some(0),
                "TABLE: column 'candid' is Int64 in the table, Utf8 in the query; cast it, or rename it with AS",
            ),
            (
                Some(1),
                "the table is PARTITIONED BY 'candid', but the SELECT has no column of this name; add one with AS candid",
            ),
            (Some(1), "column 'NIGHT': TABLE has 'night', and delta takes the two as one; rename it with AS"),
        ],
    )
    .await;
    std::fs::write(dir.path().join("ztf raw/_delta_log/00000000000000000000.json"), "no log").unwrap();
    let clashes = inspect(&url, &[good], &by_night()).await;
    assert_eq!(clashes.len(), 1, "{clashes:?}");
    assert!(clashes[0].error.to_string().contains("cannot read its log"), "{clashes:?}");
}
