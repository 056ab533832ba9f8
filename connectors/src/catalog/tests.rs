//! Catalogues of all forms, looked up in against a search of every row.

use std::path::Path;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Float32Array, Float64Array, Int64Array, LargeStringArray, RecordBatch};
use arrow::datatypes::{DataType, Float64Type, Int64Type};
use parquet::arrow::ArrowWriter;
use redpoll_core::catalog::{Catalog, CatalogSpec, Cone, SEPARATION};
use redpoll_core::objects::Stores;
use redpoll_core::sky::separation;

use super::*;
use crate::delta;

/// A repeatable stream of numbers from 0 to 1.
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> f64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 11) as f64 / (1u64 << 53) as f64
    }

    /// Anywhere on the sky, every tenth near a pole and every tenth near the seam of right ascension.
    fn place(&mut self) -> (f64, f64) {
        let (a, b, kind) = (self.next(), self.next(), self.next());
        match kind {
            _ if kind < 0.05 => (a * 360.0, 90.0 - b * 0.01),
            _ if kind < 0.1 => (a * 360.0, -90.0 + b * 0.01),
            _ if kind < 0.2 => ((a - 0.5) * 0.02, (b - 0.5) * 0.02),
            _ => (a * 360.0, (2.0 * b - 1.0).asin().to_degrees()),
        }
    }
}

#[derive(Debug, Clone)]
struct Row {
    id: i64,
    ra: f64,
    dec: f64,
}

fn sky(n: usize, seed: u64) -> Vec<Row> {
    let mut numbers = Numbers(seed);
    (0..n as i64)
        .map(|id| {
            let (ra, dec) = numbers.place();
            Row { id, ra, dec }
        })
        .collect()
}

fn batch(rows: &[Row]) -> RecordBatch {
    let ids: ArrayRef = Arc::new(Int64Array::from_iter_values(rows.iter().map(|row| row.id)));
    let names: ArrayRef = Arc::new(LargeStringArray::from_iter_values(rows.iter().map(|row| format!("S{}", row.id))));
    let ra: ArrayRef = Arc::new(Float64Array::from_iter_values(rows.iter().map(|row| row.ra)));
    let dec: ArrayRef = Arc::new(Float64Array::from_iter_values(rows.iter().map(|row| row.dec)));
    let mag: ArrayRef = Arc::new(Float32Array::from_iter_values(rows.iter().map(|row| row.id as f32 / 8.0)));
    let columns = [("source_id", ids), ("name", names), ("ra", ra), ("dec", dec), ("mag", mag)];
    RecordBatch::try_from_iter_with_nullable(columns.map(|(name, column)| (name, column, true))).unwrap()
}

fn write(path: &Path, batch: &RecordBatch) {
    let mut writer = ArrowWriter::try_new(std::fs::File::create(path).unwrap(), batch.schema(), None).unwrap();
    writer.write(batch).unwrap();
    writer.close().unwrap();
}

fn spec(location: &Path) -> CatalogSpec {
    let url = location.display().to_string();
    CatalogSpec { name: "gaia".into(), url, ra: None, dec: None, columns: Vec::new() }
}

/// A process with a cache of its own.
struct World {
    stores: Arc<Stores>,
    catalogs: Catalogs,
}

fn world(cache: &Path, memory: usize) -> World {
    let stores = Arc::new(Stores::default());
    let config = Config { memory, ..Config::new(cache) };
    World { catalogs: Catalogs::new(config, stores.clone()), stores }
}

impl World {
    async fn source(&self, spec: &CatalogSpec) -> Source {
        open(spec, &self.stores, None).await.unwrap()
    }

    async fn find(&self, source: &Source, cone: Cone, positions: &[(Option<f64>, Option<f64>)]) -> ArrayRef {
        self.try_find(&source.catalog, &source.schema, cone, positions).await.unwrap()
    }

    async fn try_find(
        &self,
        catalog: &Catalog,
        schema: &arrow::datatypes::SchemaRef,
        cone: Cone,
        positions: &[(Option<f64>, Option<f64>)],
    ) -> Result<ArrayRef, Error> {
        let ra: Float64Array = positions.iter().map(|(ra, _)| *ra).collect();
        let dec: Float64Array = positions.iter().map(|(_, dec)| *dec).collect();
        let returns = cone.returns(schema.fields());
        let found = self.catalogs.crossmatch(catalog, cone, &returns, &ra, &dec).await?;
        assert_eq!((found.data_type(), found.len()), (&returns, positions.len()));
        Ok(found)
    }
}

fn nearest(radius: f64) -> Cone {
    Cone { radius, all: false }
}

fn all(radius: f64) -> Cone {
    Cone { radius, all: true }
}

fn at(rows: &[Row]) -> Vec<(Option<f64>, Option<f64>)> {
    rows.iter().map(|row| (Some(row.ra), Some(row.dec))).collect()
}

/// Id and separation of each struct, none for null.
fn pairs(found: &ArrayRef) -> Vec<Option<(i64, f64)>> {
    let found = found.as_struct();
    let ids = found.column_by_name("source_id").unwrap().as_primitive::<Int64Type>();
    let separations = found.column_by_name(SEPARATION).unwrap().as_primitive::<Float64Type>();
    (0..found.len()).map(|i| found.is_valid(i).then(|| (ids.value(i), separations.value(i)))).collect()
}

/// Every row of the catalogue within the radius, the nearest first.
fn by_force(rows: &[Row], alert: &Row, radius: f64) -> Vec<(i64, f64)> {
    let away = |row: &Row| separation([alert.ra, alert.dec, row.ra, row.dec]) * 3600.0;
    let mut found: Vec<_> = rows.iter().map(|row| (row.id, away(row))).filter(|(_, away)| *away <= radius).collect();
    found.sort_by(|a, b| a.1.total_cmp(&b.1));
    found
}

#[tokio::test]
async fn matches_are_those_of_a_search_of_every_row_also_at_poles_and_seam() {
    let folder = tempfile::tempdir().unwrap();
    let rows = sky(40_000, 1);
    write(&folder.path().join("gaia.parquet"), &batch(&rows));
    let world = world(folder.path(), 64 << 20);
    let source = world.source(&spec(&folder.path().join("gaia.parquet"))).await;
    let alerts = sky(600, 2);
    for radius in [2.0, 600.0] {
        let found = pairs(&world.find(&source, nearest(radius), &at(&alerts)).await);
        let wanted: Vec<_> = alerts.iter().map(|alert| by_force(&rows, alert, radius).first().copied()).collect();
        assert_eq!(found, wanted, "nearest within {radius}");
        let lists = world.find(&source, all(radius), &at(&alerts)).await;
        let mut n = 0;
        for (i, alert) in alerts.iter().enumerate() {
            let found: Vec<_> = pairs(&lists.as_list::<i32>().value(i)).into_iter().flatten().collect();
            assert_eq!(found, by_force(&rows, alert, radius), "all within {radius}");
            n += found.len();
        }
        assert!(n > 100 || radius < 100.0, "{n}");
    }
}

#[tokio::test]
async fn a_match_has_the_columns_of_its_row_and_the_separation() {
    let folder = tempfile::tempdir().unwrap();
    let rows = [Row { id: 7, ra: 10.0, dec: -5.0 }, Row { id: 8, ra: 200.0, dec: 1.0 }];
    write(&folder.path().join("gaia.parquet"), &batch(&rows));
    let world = world(folder.path(), 64 << 20);
    let source = world.source(&spec(&folder.path().join("gaia.parquet"))).await;
    let names: Vec<_> = source.schema.fields().iter().map(|field| (field.name().as_str(), field.data_type())).collect();
    assert_eq!(names[1], ("name", &DataType::Utf8), "one layout of texts");
    let found = world.find(&source, nearest(1.5), &[(Some(10.0), Some(-5.0 + 1.0 / 3600.0))]).await;
    let name = found.as_struct().column_by_name("name").unwrap().as_string::<i32>().value(0).to_owned();
    let (id, away) = pairs(&found)[0].unwrap();
    assert_eq!((name.as_str(), id), ("S7", 7));
    assert!((away - 1.0).abs() < 1e-9, "{away}");
    // Only what is asked for is read, and the rim belongs to the cone.
    let only = Arc::new(arrow::datatypes::Schema::new(vec![source.schema.field(4).clone()]));
    let found = world.try_find(&source.catalog, &only, nearest(1.0001), &[(Some(10.0), Some(-5.0))]).await.unwrap();
    assert_eq!(found.as_struct().column_names(), ["mag", SEPARATION]);
    let none = Arc::new(arrow::datatypes::Schema::empty());
    let found = world.try_find(&source.catalog, &none, nearest(2.0), &[(Some(10.0), Some(-5.0))]).await.unwrap();
    assert_eq!(found.as_struct().column(0).as_primitive::<Float64Type>().value(0), 0.0);
}

#[tokio::test]
async fn what_has_no_position_has_no_match_on_either_side() {
    let folder = tempfile::tempdir().unwrap();
    let mut rows = vec![Row { id: 1, ra: f64::NAN, dec: 0.0 }, Row { id: 2, ra: 0.0, dec: 91.0 }];
    rows.push(Row { id: 3, ra: -0.5, dec: 90.0 });
    let batch = batch(&rows);
    let null: ArrayRef = Arc::new(Float64Array::from(vec![None::<f64>; 3]));
    let mut columns = batch.columns().to_vec();
    write(&folder.path().join("a.parquet"), &batch);
    columns[2] = null;
    write(&folder.path().join("b.parquet"), &RecordBatch::try_new(batch.schema(), columns).unwrap());
    let world = world(folder.path(), 64 << 20);
    let source = world.source(&spec(folder.path())).await;
    let alerts = [
        (None, Some(1.0)),
        (Some(1.0), None),
        (Some(f64::NAN), Some(0.0)),
        (Some(0.0), Some(90.5)),
        (Some(77.0), Some(90.0)),
    ];
    let found = pairs(&world.find(&source, nearest(3600.0), &alerts).await);
    assert_eq!(found[..4], [None, None, None, None]);
    assert_eq!(found[4].map(|(id, _)| id), Some(3), "right ascension means nothing at a pole");
    let lists = world.find(&source, all(1.0), &alerts).await;
    let lengths: Vec<_> = lists.as_list::<i32>().iter().map(|list| list.map(|list| list.len())).collect();
    assert_eq!(lengths, [None, None, None, None, Some(1)]);
    let far = world.find(&source, all(1.0), &[(Some(0.0), Some(0.0)), (None, None)]).await;
    let lengths: Vec<_> = far.as_list::<i32>().iter().map(|list| list.map(|list| list.len())).collect();
    assert_eq!(lengths, [Some(0), None]);
}

#[tokio::test]
async fn of_rows_at_one_place_each_process_gives_the_same_whatever_their_order_in_the_files() {
    let folder = tempfile::tempdir().unwrap();
    let (one, other) = (folder.path().join("one"), folder.path().join("other"));
    let rows: Vec<Row> = (0..500).map(|id| Row { id, ra: 33.0, dec: 44.0 }).collect();
    let alert = [(Some(33.0), Some(44.0))];
    let mut found = Vec::new();
    for (cache, rows) in [(one, rows.clone()), (other, rows.into_iter().rev().collect())] {
        std::fs::create_dir_all(&cache).unwrap();
        let file = cache.join("gaia.parquet");
        write(&file, &batch(&rows));
        let world = world(&cache, 64 << 20);
        let source = world.source(&spec(&file)).await;
        let lists = world.find(&source, all(1.0), &alert).await;
        let ids: Vec<_> = pairs(&lists.as_list::<i32>().value(0)).into_iter().flatten().map(|(id, _)| id).collect();
        let first = pairs(&world.find(&source, nearest(1.0), &alert).await)[0].map(|(id, _)| id);
        assert_eq!((ids.len(), first), (500, Some(ids[0])));
        found.push(ids);
    }
    assert_eq!(found[0], found[1]);
}

#[tokio::test]
async fn an_empty_catalogue_matches_nothing() {
    let folder = tempfile::tempdir().unwrap();
    write(&folder.path().join("gaia.parquet"), &batch(&[]));
    let world = world(folder.path(), 64 << 20);
    let source = world.source(&spec(folder.path())).await;
    let alert = [(Some(1.0), Some(2.0))];
    assert_eq!(pairs(&world.find(&source, nearest(5.0), &alert).await), [None]);
    assert_eq!(world.find(&source, all(5.0), &alert).await.as_list::<i32>().value(0).len(), 0);
}

#[tokio::test]
async fn an_index_beside_the_catalogue_gives_what_the_catalogue_gives_within_bounded_memory() {
    let folder = tempfile::tempdir().unwrap();
    let rows = sky(60_000, 5);
    for (i, rows) in rows.chunks(25_000).enumerate() {
        std::fs::create_dir_all(folder.path().join("gaia/deep")).unwrap();
        let name = if i == 0 { "gaia/a.parquet".to_owned() } else { format!("gaia/deep/{i}.parquet") };
        write(&folder.path().join(name), &batch(rows));
    }
    let bound = 1 << 20;
    let world = world(folder.path(), bound);
    let source = world.source(&spec(&folder.path().join("gaia"))).await;
    let to = world.stores.locate(folder.path().join("index").to_str().unwrap()).unwrap();
    let limits = Limits { memory: 64 << 20, spill: folder.path().join("spill") };
    let built = build(&source, &world.stores, &to, &limits).await.unwrap();
    assert_eq!((built.rows, built.left_out, built.files), (60_000, 0, 1));
    let index = world.source(&spec(&folder.path().join("index"))).await;
    assert!(index.catalog.lock.starts_with("index "), "{}", index.catalog.lock);
    let alerts = sky(300, 6);
    for cone in [nearest(900.0), all(900.0)] {
        let (plain, indexed) =
            (world.find(&source, cone, &at(&alerts)).await, world.find(&index, cone, &at(&alerts)).await);
        assert_eq!(&plain, &indexed);
        assert!(world.catalogs.kept_bytes() <= bound, "{}", world.catalogs.kept_bytes());
    }
    let left: Vec<_> = std::fs::read_dir(folder.path().join("catalogs")).unwrap().collect();
    assert_eq!(left.len(), 1, "only the index of the folder of files: nothing half built, no spilled rows");
}

#[tokio::test]
async fn a_delta_table_is_matched_at_the_version_that_the_plan_names() {
    let folder = tempfile::tempdir().unwrap();
    let url = delta::location(folder.path().join("gaia").to_str().unwrap()).unwrap();
    let first = [Row { id: 1, ra: 50.0, dec: 0.0 }];
    let table = delta::Table::ensure(&url, &batch(&first).schema(), &[]).await.unwrap();
    let world = world(folder.path(), 64 << 20);
    let mut locks = Vec::new();
    for (epoch, rows) in [first.to_vec(), vec![Row { id: 2, ra: 50.0, dec: 1.0 / 36_000.0 }]].into_iter().enumerate() {
        append(&table, &url, &batch(&rows), epoch as i64).await;
        locks.push(world.source(&spec(&folder.path().join("gaia"))).await.catalog.lock);
    }
    assert_ne!(locks[0], locks[1]);
    let alert = [(Some(50.0), Some(1.0 / 36_000.0))];
    for (lock, wanted) in locks.iter().zip([1, 2]) {
        let source = open(&spec(&folder.path().join("gaia")), &world.stores, Some(lock)).await.unwrap();
        assert_eq!(source.catalog.lock, *lock);
        assert_eq!(pairs(&world.find(&source, nearest(1.0), &alert).await)[0].map(|(id, _)| id), Some(wanted));
    }
}

async fn append(table: &delta::Table, url: &url::Url, batch: &RecordBatch, epoch: i64) {
    let options = delta::WriterOptions::default();
    let mut writer = delta::Writer::new(url, &batch.schema(), &[], &format!("gaia-{epoch}"), options).unwrap();
    writer.write(batch).await.unwrap();
    let adds = writer.close().await.unwrap();
    let commit = delta::Commit { app_id: "gaia".into(), version: epoch, adds, record_empty: false };
    table.commit(commit, || async { Ok::<_, std::io::Error>(()) }).await.unwrap();
}

#[tokio::test]
async fn files_that_were_replaced_since_the_plan_are_refused_and_indexed_ones_still_served() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("gaia.parquet");
    write(&file, &batch(&[Row { id: 1, ra: 5.0, dec: 5.0 }]));
    let here = world(&folder.path().join("here"), 64 << 20);
    let planned = here.source(&spec(&file)).await;
    let alert = [(Some(5.0), Some(5.0))];
    here.find(&planned, nearest(1.0), &alert).await;
    write(&file, &batch(&[Row { id: 2, ra: 5.0, dec: 5.0 }]));
    assert_ne!(here.source(&spec(&file)).await.catalog.lock, planned.catalog.lock);
    // Another process of the machine finds what was built.
    let again = world(&folder.path().join("here"), 64 << 20);
    assert_eq!(pairs(&again.find(&planned, nearest(1.0), &alert).await)[0].map(|(id, _)| id), Some(1));
    let elsewhere = world(&folder.path().join("elsewhere"), 64 << 20);
    let refused = elsewhere.try_find(&planned.catalog, &planned.schema, nearest(1.0), &alert).await;
    let refused = refused.unwrap_err().to_string();
    assert!(
        refused.contains("the epoch was planned with files ") && refused.contains("run the job again"),
        "{refused}"
    );
}

#[tokio::test]
async fn a_copy_of_the_files_has_the_same_lock() {
    let folder = tempfile::tempdir().unwrap();
    write(&folder.path().join("a.parquet"), &batch(&sky(10, 3)));
    std::fs::create_dir_all(folder.path().join("copy")).unwrap();
    std::fs::copy(folder.path().join("a.parquet"), folder.path().join("copy/a.parquet")).unwrap();
    let world = world(folder.path(), 1 << 20);
    let copied = world.source(&spec(&folder.path().join("copy"))).await.catalog.lock;
    std::fs::remove_dir_all(folder.path().join("copy")).unwrap();
    assert_eq!(world.source(&spec(folder.path())).await.catalog.lock, copied);
}

#[tokio::test]
async fn what_is_wrong_with_a_catalogue_names_the_option_and_the_remedy() {
    let folder = tempfile::tempdir().unwrap();
    write(&folder.path().join("gaia.parquet"), &batch(&[]));
    let here = spec(&folder.path().join("gaia.parquet"));
    let stores = Stores::default();
    let refused = async |spec: CatalogSpec| open(&spec, &stores, None).await.unwrap_err();
    let error = refused(CatalogSpec { ra: Some("raj".into()), ..here.clone() }).await;
    assert_eq!(error.option(), Some("ra"));
    assert!(error.to_string().ends_with("its 'ra' is 'raj', which is no column of it; did you mean 'ra'?"), "{error}");
    let error = refused(CatalogSpec { dec: Some("name".into()), ..here.clone() }).await;
    assert!(error.option() == Some("dec") && error.to_string().contains("'name' is LargeUtf8"), "{error}");
    let error = refused(CatalogSpec { columns: vec!["name".into(), "magg".into()], ..here.clone() }).await;
    assert!(error.option() == Some("columns") && error.to_string().ends_with("did you mean 'mag'?"), "{error}");
    let error = refused(spec(&folder.path().join("none.parquet"))).await;
    assert!(error.to_string().contains("there is no catalogue"), "{error}");
    std::fs::create_dir_all(folder.path().join("empty")).unwrap();
    assert!(refused(spec(&folder.path().join("empty"))).await.to_string().contains("there is no catalogue"));
    let other = batch(&[]).project(&[0, 2, 3]).unwrap();
    write(&folder.path().join("other.parquet"), &other);
    let error = refused(spec(folder.path())).await;
    assert!(error.to_string().contains("its columns are not those of"), "{error}");
    let renamed = RecordBatch::try_from_iter([
        ("ra", other.column(1).clone()),
        ("dec", other.column(2).clone()),
        ("separation", other.column(1).clone()),
    ]);
    write(&folder.path().join("other.parquet"), &renamed.unwrap());
    let error = refused(spec(&folder.path().join("other.parquet"))).await;
    assert!(error.option() == Some("columns") && error.to_string().contains("'separation'"), "{error}");
}
