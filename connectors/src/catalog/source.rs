//! What stands at a catalogue's location, and what of it must not change.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::catalog::TableProvider;
use futures::{StreamExt, TryStreamExt};
use object_store::path::Path;
use object_store::{ObjectMeta, ObjectStoreExt};
use parquet::arrow::async_reader::AsyncFileReader;
use parquet::arrow::parquet_to_arrow_schema;
use redpoll_core::catalog::{Catalog, CatalogSpec, SEPARATION};
use redpoll_core::objects::{Location, Stores};
use xxhash_rust::xxh3::{Xxh3, xxh3_64};

use super::index::Manifest;
use super::object::Object;
use super::{CELL, Error};
use crate::widecolumn::nearest;

/// Footers that are read at a time.
const FOOTERS: usize = 8;

/// A catalogue as it stands.
#[derive(Debug, Clone)]
pub struct Source {
    pub catalog: Catalog,
    /// The columns that matches have.
    pub schema: SchemaRef,
    pub(super) ra: String,
    pub(super) dec: String,
    pub(super) kind: Kind,
}

#[derive(Debug, Clone)]
pub(super) enum Kind {
    Files(Vec<Path>),
    Delta(u64),
    Index(Manifest),
}

/// Looks at a catalogue, as it was at `lock` if that can be had: only a Delta table keeps what it was.
pub async fn open(spec: &CatalogSpec, stores: &Stores, lock: Option<&str>) -> Result<Source, Error> {
    let location = locate(&spec.url, stores)?;
    let (kind, lock, all) = look(spec, &location, lock).await?;
    let (mut ra, mut dec) = (spec.ra.clone(), spec.dec.clone());
    if let Kind::Index(manifest) = &kind {
        ra.get_or_insert_with(|| manifest.ra.clone());
        dec.get_or_insert_with(|| manifest.dec.clone());
    }
    let ra = angle(spec, &all, "ra", ra)?;
    let dec = angle(spec, &all, "dec", dec)?;
    let schema = Arc::new(Schema::new(columns(spec, &all)?));
    Ok(Source { catalog: Catalog { spec: spec.clone(), lock }, schema, ra, dec, kind })
}

pub(super) fn locate(url: &str, stores: &Stores) -> Result<Location, Error> {
    stores.locate(url).map_err(|source| Error::Locate { url: url.to_owned(), source })
}

impl Source {
    /// All columns that an index of it needs.
    pub(super) fn indexed(&self) -> Vec<String> {
        let mut names: Vec<String> = self.schema.fields().iter().map(|field| field.name().clone()).collect();
        for angle in [&self.ra, &self.dec] {
            if !names.contains(angle) {
                names.push(angle.clone());
            }
        }
        names
    }
}

async fn look(spec: &CatalogSpec, at: &Location, lock: Option<&str>) -> Result<(Kind, String, Schema), Error> {
    let objects = |source| Error::Objects { url: spec.url.clone(), source };
    if at.path.as_ref().ends_with(".parquet") {
        return match at.store.head(&at.path).await {
            Ok(meta) => files(spec, at, vec![meta]).await,
            Err(object_store::Error::NotFound { .. }) => Err(Error::Missing { url: spec.url.clone() }),
            Err(error) => Err(objects(error)),
        };
    }
    if let Some((manifest, lock)) = Manifest::read(at).await? {
        let schema = manifest.schema(at).await?;
        return Ok((Kind::Index(manifest), lock, schema));
    }
    let log = at.path.clone().join("_delta_log");
    if at.store.list(Some(&log)).try_next().await.map_err(objects)?.is_some() {
        return delta(spec, at, lock).await;
    }
    let mut found: Vec<ObjectMeta> = at.store.list(Some(&at.path)).try_collect().await.map_err(objects)?;
    found.retain(|meta| is_data(&at.path, &meta.location));
    found.sort_by(|a, b| a.location.cmp(&b.location));
    files(spec, at, found).await
}

fn is_data(folder: &Path, file: &Path) -> bool {
    let hidden = |part: &str| part.starts_with(['.', '_']);
    file.as_ref().ends_with(".parquet")
        && file.prefix_match(folder).is_some_and(|mut parts| !parts.any(|part| hidden(part.as_ref())))
}

async fn delta(spec: &CatalogSpec, at: &Location, lock: Option<&str>) -> Result<(Kind, String, Schema), Error> {
    let wrong = |source| Error::Delta { url: spec.url.clone(), source: Box::new(source) };
    let pinned = lock.and_then(|lock| lock.strip_prefix("version ")?.parse().ok());
    let url = crate::delta::location(at.url.as_str()).map_err(wrong)?;
    let version = match pinned {
        Some(version) => version,
        None => crate::delta::newest(&url).await.map_err(wrong)?,
    };
    let provider = crate::delta::Provider::open(&url, Some(version)).await.map_err(wrong)?;
    Ok((Kind::Delta(version), format!("version {version}"), provider.schema().as_ref().clone()))
}

/// The lock of files is over their names and footers: those hold counts, sizes and statistics of all columns, and are
/// the same for a copy on another machine.
async fn files(spec: &CatalogSpec, at: &Location, found: Vec<ObjectMeta>) -> Result<(Kind, String, Schema), Error> {
    let footers = futures::stream::iter(found).map(|meta| footer(at, meta)).buffered(FOOTERS);
    let footers: Vec<Footer> = footers.try_collect().await?;
    let Some(first) = footers.first() else { return Err(Error::Missing { url: spec.url.clone() }) };
    let mut lock = Xxh3::new();
    for footer in &footers {
        if types(&footer.schema) != types(&first.schema) {
            let (file, first) = (footer.path.to_string(), first.path.to_string());
            return Err(Error::Mixed { file, first });
        }
        let name = footer.path.as_ref().strip_prefix(at.path.as_ref()).unwrap_or_default();
        lock.update(name.as_bytes());
        lock.update(&footer.hash.to_le_bytes());
    }
    let paths = footers.iter().map(|footer| footer.path.clone()).collect();
    Ok((Kind::Files(paths), format!("files {:016x}", lock.digest()), first.schema.clone()))
}

fn types(schema: &Schema) -> Vec<(&String, &DataType)> {
    schema.fields().iter().map(|field| (field.name(), field.data_type())).collect()
}

struct Footer {
    path: Path,
    schema: Schema,
    hash: u64,
}

async fn footer(at: &Location, meta: ObjectMeta) -> Result<Footer, Error> {
    let path = meta.location;
    let wrong = |source| Error::Parquet { url: path.to_string(), source };
    let mut reader = Object { store: at.store.clone(), path: path.clone(), size: meta.size };
    let parsed = reader.get_metadata(None).await.map_err(wrong)?;
    let file = parsed.file_metadata();
    let schema = parquet_to_arrow_schema(file.schema_descr(), file.key_value_metadata()).map_err(wrong)?;
    // The last bytes are the footer's length and the magic.
    let tail = reader.get_bytes(meta.size.saturating_sub(8)..meta.size).await.map_err(wrong)?;
    let length = tail.first_chunk().map_or(0, |bytes| u64::from(u32::from_le_bytes(*bytes)));
    let bytes = reader.get_bytes(meta.size.saturating_sub(8 + length)..meta.size).await.map_err(wrong)?;
    Ok(Footer { schema, hash: xxh3_64(&bytes) ^ meta.size, path })
}

fn angle(spec: &CatalogSpec, all: &Schema, option: &'static str, given: Option<String>) -> Result<String, Error> {
    let column = given.unwrap_or_else(|| option.to_owned());
    let url = spec.url.clone();
    let Ok(field) = all.field_with_name(&column) else {
        let near = near(&column, all);
        return Err(Error::Column { option, url, column, near });
    };
    match field.data_type().is_numeric() {
        true => Ok(column),
        false => {
            let data_type = field.data_type().to_string();
            Err(Error::NotDegrees { option, url, column, data_type })
        }
    }
}

fn columns(spec: &CatalogSpec, all: &Schema) -> Result<Vec<Field>, Error> {
    let mut chosen = Vec::new();
    for name in &spec.columns {
        let field = all.field_with_name(name).map_err(|_| Error::Column {
            option: "columns",
            url: spec.url.clone(),
            column: name.clone(),
            near: near(name, all),
        })?;
        chosen.push(field.clone());
    }
    if spec.columns.is_empty() {
        chosen = all.fields().iter().map(|field| field.as_ref().clone()).collect();
    }
    if let Some(field) = chosen.iter().find(|field| [SEPARATION, CELL].contains(&field.name().as_str())) {
        return Err(Error::Reserved { url: spec.url.clone(), column: field.name().clone() });
    }
    Ok(chosen.into_iter().map(|field| Field::new(field.name(), plain(field.data_type()), true)).collect())
}

fn near(name: &str, all: &Schema) -> String {
    let names: Vec<&str> = all.fields().iter().map(|field| field.name().as_str()).collect();
    match nearest(name, names.iter().copied()) {
        near if near.is_empty() => format!("it has {}", names.join(", ")),
        near => near,
    }
}

/// One layout of texts and bytes, whatever wrote the catalogue: it is what sinks take.
pub(super) fn plain(data_type: &DataType) -> DataType {
    match data_type {
        DataType::LargeUtf8 | DataType::Utf8View => DataType::Utf8,
        DataType::LargeBinary | DataType::BinaryView => DataType::Binary,
        DataType::Dictionary(_, value) => plain(value),
        other => other.clone(),
    }
}
