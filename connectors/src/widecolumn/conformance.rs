//! What every [`Backend`] must do, as one test to run against each.

use std::sync::Arc;

use bytes::Bytes;
use futures::TryStreamExt;

use super::{Backend, Batch, Cell, Column, Error, KeyRange, Row, Scan};

/// A cell as `("family:qualifier", timestamp, "value")`.
type TextCell<'a> = (&'a str, i64, &'a str);

/// Rows of text cells: `[("key", [("family:qualifier", timestamp, "value")])]`.
pub(crate) fn batch(rows: &[(&str, &[TextCell])]) -> Batch {
    let mut columns: Vec<Column> = Vec::new();
    let mut place = |name: &str| {
        let (family, qualifier) = name.split_once(':').unwrap();
        let column = Column { family: family.into(), qualifier: qualifier.into() };
        let found = columns.iter().position(|known| *known == column);
        found.unwrap_or_else(|| {
            columns.push(column);
            columns.len() - 1
        }) as u32
    };
    let rows = rows.iter().map(|(key, cells)| Row {
        key: Bytes::copy_from_slice(key.as_bytes()),
        cells: cells
            .iter()
            .map(|(name, timestamp, value)| {
                let value = Bytes::copy_from_slice(value.as_bytes());
                Cell { column: place(name), timestamp: *timestamp, value }
            })
            .collect(),
    });
    let rows = rows.collect();
    Batch { columns, rows }
}

/// `key{family:qualifier@timestamp=value …} …`
pub(crate) async fn read(backend: &dyn Backend, table: &str, scan: Scan) -> Result<String, Error> {
    let batches: Vec<Batch> = backend.scan(table, scan).try_collect().await?;
    let mut rows = Vec::new();
    for batch in batches {
        for row in &batch.rows {
            let cell = |cell: &Cell| {
                let Column { family, qualifier } = &batch.columns[cell.column as usize];
                format!("{family}:{qualifier}@{}={}", cell.timestamp, cell.value.escape_ascii())
            };
            let mut cells: Vec<_> = row.cells.iter().map(cell).collect();
            cells.sort();
            rows.push(format!("{}{{{}}}", row.key.escape_ascii(), cells.join(" ")));
        }
    }
    Ok(rows.join(" "))
}

fn range(start: &'static str, end: Option<&'static str>) -> Scan {
    let range = KeyRange { start: Bytes::from_static(start.as_bytes()), end: end.map(|end| end.as_bytes().into()) };
    Scan { range, ..Scan::default() }
}

/// Leaves tables behind whose names begin with `conformance`.
pub(crate) async fn check(backend: Arc<dyn Backend>) {
    let table = "conformance.a";
    let missing = backend.put(table, batch(&[("k", &[("i:a", 1, "x")])])).await;
    assert!(matches!(missing, Err(Error::MissingTable { .. })), "a table must be made first: {missing:?}");
    let missing = read(backend.as_ref(), table, Scan::default()).await;
    assert!(matches!(missing, Err(Error::MissingTable { .. })), "{missing:?}");

    for _ in 0..2 {
        backend.create(table, &["i".into(), "d".into()]).await.unwrap();
    }
    assert!(backend.tables().await.unwrap().contains(&table.to_string()));
    assert_eq!(read(backend.as_ref(), table, Scan::default()).await.unwrap(), "");

    let rows = batch(&[("b", &[("i:a", 5, "b1"), ("d:x", 5, "b2")]), ("a", &[("i:a", 5, "a1")]), ("a_c", &[])]);
    for _ in 0..2 {
        backend.put(table, rows.clone()).await.unwrap();
    }
    let all = "a{i:a@5=a1} a_c{} b{d:x@5=b2 i:a@5=b1}";
    assert_eq!(
        read(backend.as_ref(), table, Scan::default()).await.unwrap(),
        all,
        "keys are in order, puts idempotent"
    );

    let older = batch(&[("a", &[("i:a", 4, "older")]), ("b", &[("i:a", 5, "equal"), ("i:new", 1, "n")])]);
    backend.put(table, older).await.unwrap();
    let expected = "a{i:a@5=a1} a_c{} b{d:x@5=b2 i:a@5=equal i:new@1=n}";
    assert_eq!(read(backend.as_ref(), table, Scan::default()).await.unwrap(), expected, "the newest cell wins");

    ranges_and_columns(backend.as_ref(), table).await;
    many(backend.as_ref()).await;
}

async fn ranges_and_columns(backend: &dyn Backend, table: &str) {
    let keys = async |scan: Scan| read(backend, table, Scan { columns: Some(vec![]), ..scan }).await.unwrap();
    assert_eq!(keys(range("", None)).await, "a{} a_c{} b{}");
    assert_eq!(keys(range("a", Some("b"))).await, "a{} a_c{}", "the end is left out");
    assert_eq!(keys(range("a_", None)).await, "a_c{} b{}");
    assert_eq!(keys(range("b", Some("b"))).await, "");
    assert_eq!(keys(range("c", Some("a"))).await, "");
    assert_eq!(keys(Scan { limit: Some(2), ..range("", None) }).await, "a{} a_c{}");
    assert_eq!(keys(Scan { limit: Some(0), ..range("", None) }).await, "");

    let column = |qualifier: &str| Column { family: "d".into(), qualifier: qualifier.into() };
    let some = Scan { columns: Some(vec![column("none"), column("x")]), ..Scan::default() };
    let expected = "a{} a_c{} b{d:x@5=b2}";
    assert_eq!(read(backend, table, some).await.unwrap(), expected, "a row without the column is still a row");
}

/// More than one message and one batch, put by several callers at once.
async fn many(backend: &dyn Backend) {
    backend.create("conformance.b", &["i".into()]).await.unwrap();
    let value = "v".repeat(5000);
    let puts = (0..8).map(|caller| {
        let keys: Vec<_> = (0..250).map(|i| format!("{:05}", i * 8 + caller)).collect();
        let cells: &[(&str, i64, &str)] = &[("i:v", 1, &value)];
        let rows: Vec<_> = keys.iter().map(|key| (key.as_str(), cells)).collect();
        backend.put("conformance.b", batch(&rows))
    });
    futures::future::try_join_all(puts).await.unwrap();
    let batches: Vec<Batch> = backend.scan("conformance.b", Scan::default()).try_collect().await.unwrap();
    assert!(batches.len() > 1, "10 MB come in several batches");
    let keys: Vec<_> = batches.iter().flat_map(|batch| &batch.rows).map(|row| row.key.clone()).collect();
    let expected: Vec<_> = (0..2000).map(|i| Bytes::from(format!("{i:05}"))).collect();
    assert_eq!(keys, expected);
}
