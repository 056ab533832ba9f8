//! What the stream of alerts holds, read back by another Avro implementation.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

use std::collections::{BTreeMap, HashSet};
use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::sync::Arc;

use apache_avro::types::Value;
use arrow::array::{
    Array, ArrayRef, BinaryArray, BooleanArray, Float32Array, Float64Array, Int32Array, Int64Array, ListArray,
    NullArray, RecordBatch, StringArray, StructArray,
};
use arrow::buffer::{NullBuffer, OffsetBuffer};
use arrow::datatypes::{Field, Fields};
use parquet::arrow::ArrowWriter;
use redpoll_simulator::{Alert, Alerts, Config, Framing, Kind, Origin, Shares, Sink, Survey, run};

const SCHEMAS: [(Survey, &str); 2] = [
    (Survey::Ztf, include_str!("../schemas/ztf_4_02.avsc")),
    (Survey::Lsst, include_str!("../schemas/lsst_v10_0.avsc")),
];

fn made(survey: Survey, count: u64) -> Config {
    Config { origin: Origin::Made { survey, start_mjd: 61_041.1 }, count, ..Config::default() }
}

fn alerts(config: &Config) -> Vec<Alert> {
    Alerts::new(config).unwrap().collect::<Result<_, _>>().unwrap()
}

fn values(config: &Config) -> Vec<bytes::Bytes> {
    alerts(config).into_iter().map(|alert| alert.value).collect()
}

/// The one record of a container.
fn decode(bytes: &[u8]) -> Value {
    let mut reader = apache_avro::Reader::new(bytes).unwrap();
    let value = reader.next().unwrap().unwrap();
    assert!(reader.next().is_none());
    value
}

/// The value at a dotted path, out of its union.
fn at<'v>(value: &'v Value, path: &str) -> &'v Value {
    let out_of_union = |value: &'v Value| if let Value::Union(_, inner) = value { &**inner } else { value };
    path.split('.').filter(|name| !name.is_empty()).fold(out_of_union(value), |value, name| {
        let Value::Record(fields) = value else { panic!("{name} of {value:?}") };
        out_of_union(&fields.iter().find(|(field, _)| field == name).unwrap().1)
    })
}

fn real(value: &Value) -> Option<f64> {
    match value {
        Value::Float(number) => Some(f64::from(*number)),
        Value::Double(number) => Some(*number),
        Value::Null => None,
        other => panic!("{other:?}"),
    }
}

fn bytes_of(value: &Value) -> &[u8] {
    if let Value::Bytes(bytes) = value { bytes } else { panic!("{value:?}") }
}

fn items(value: &Value) -> &[Value] {
    match value {
        Value::Array(items) => items,
        Value::Null => &[],
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_same_seed_makes_the_same_bytes_and_another_seed_others() {
    for (survey, _) in SCHEMAS {
        let config = Config { shares: Shares::MIXED, ..made(survey, 40) };
        assert_eq!(values(&config), values(&config));
        assert!(values(&config) != values(&Config { seed: 2, ..config.clone() }));
    }
}

#[test]
fn every_made_alert_decodes_and_has_an_id_of_its_own() {
    for (survey, id) in [(Survey::Ztf, "candid"), (Survey::Lsst, "diaSourceId")] {
        let alerts = alerts(&Config { shares: Shares { duplicates: 0.0, ..Shares::MIXED }, ..made(survey, 200) });
        for alert in &alerts {
            assert_eq!(at(&decode(&alert.value), id), &Value::Long(alert.id));
        }
        assert_eq!(alerts.iter().map(|alert| alert.id).collect::<HashSet<_>>().len(), 200);
    }
}

#[test]
fn every_framing_carries_the_same_datum() {
    for (survey, schema) in SCHEMAS {
        let with = |framing| alerts(&Config { framing, ..made(survey, 3) });
        let parsed = apache_avro::Schema::parse_str(schema).unwrap();
        let (bare, framed) = (with(Framing::Schemaless), with(Framing::Confluent { schema_id: 0x0102_0304 }));
        let (fink, ocf) = (with(Framing::Fink), with(Framing::Ocf));
        for i in 0..3 {
            let datum = &bare[i].value;
            let reader = apache_avro::reader::datum::GenericDatumReader::builder(&parsed).build().unwrap();
            assert_eq!(reader.read_value(&mut &datum[..]).unwrap(), decode(&ocf[i].value));
            assert_eq!(framed[i].value[..5], [0, 1, 2, 3, 4]);
            assert_eq!(framed[i].value[5..], datum[..]);
            assert_eq!(fink[i].value, datum);
            assert_eq!(fink[i].key.as_deref(), Some(schema.as_bytes()));
        }
    }
}

#[test]
fn kinds_come_in_the_asked_shares_and_are_what_they_say() {
    let shares = Shares { duplicates: 0.1, bad_quality: 0.2, i_band: 0.15, null_rb: 0.05 };
    let alerts = alerts(&Config { shares, ..made(Survey::Ztf, 1000) });
    let mut counts = BTreeMap::<Kind, f64>::new();
    let mut seen = HashSet::new();
    for alert in &alerts {
        *counts.entry(alert.kind).or_default() += 1.0 / 1000.0;
        let is_repeat = !seen.insert(alert.value.clone());
        assert_eq!(is_repeat, alert.kind == Kind::Duplicate);
        let value = decode(&alert.value);
        let is_bad = at(&value, "candidate.nbad") != &Value::Int(0)
            || real(at(&value, "candidate.rb")).is_some_and(|rb| rb < 0.55);
        let is_i_band = at(&value, "candidate.fid") == &Value::Int(3);
        let is_null = at(&value, "candidate.rb") == &Value::Null;
        match alert.kind {
            Kind::Duplicate => {}
            kind => assert_eq!(
                (is_bad, is_i_band, is_null),
                (kind == Kind::BadQuality, kind == Kind::IBand, kind == Kind::NullRb)
            ),
        }
    }
    // Four standard deviations of 1000 draws are at most 0.051.
    for (kind, share) in [(Kind::Duplicate, 0.1), (Kind::BadQuality, 0.2), (Kind::IBand, 0.15), (Kind::NullRb, 0.05)] {
        assert!((counts[&kind] - share).abs() < 0.051, "{kind:?}: {}", counts[&kind]);
    }
}

#[test]
fn a_share_outside_zero_to_one_is_refused() {
    let shares = Shares { duplicates: 0.6, i_band: 0.6, ..Shares::default() };
    let refused = Alerts::new(&Config { shares, ..made(Survey::Ztf, 1) }).err().unwrap();
    assert!(refused.to_string().starts_with("all kinds = 1.2"), "{refused}");
}

#[test]
fn ztf_cutouts_are_gzipped_fits_of_63_by_63_floats() {
    for alert in alerts(&made(Survey::Ztf, 40)) {
        let value = decode(&alert.value);
        for name in ["cutoutScience", "cutoutTemplate", "cutoutDifference"] {
            let zipped = bytes_of(at(&value, &format!("{name}.stampData")));
            assert!((11_000..16_000).contains(&zipped.len()), "{name}: {}", zipped.len());
            let mut fits = Vec::new();
            flate2::read::GzDecoder::new(zipped).read_to_end(&mut fits).unwrap();
            assert_eq!(fits.len(), 2880 + 17_280);
            assert_eq!(cards(&fits)["NAXIS1"], "63");
            let pixel = |x: usize, y: usize| {
                let at = 2880 + 4 * (63 * y + x);
                f32::from_be_bytes(fits[at..at + 4].try_into().unwrap())
            };
            assert!(name == "cutoutTemplate" || (29..34).any(|x| pixel(x, 31) > pixel(2, 2).abs()), "no source");
        }
    }
}

#[test]
fn lsst_cutouts_are_plain_fits_of_three_images() {
    let value = decode(&alerts(&made(Survey::Lsst, 1))[0].value);
    for (name, size) in [("cutoutScience", 34_560), ("cutoutTemplate", 40_320), ("cutoutDifference", 34_560)] {
        let fits = bytes_of(at(&value, name));
        assert_eq!(fits.len(), size);
        assert_eq!(cards(fits)["NAXIS2"], "30");
        assert_eq!(cards(&fits[8640..])["EXTNAME"], "'UNCERT  '");
        assert_eq!(cards(&fits[17_280..])["EXTNAME"], "'PSFIMAGE'");
    }
}

fn cards(fits: &[u8]) -> BTreeMap<String, String> {
    let cards = fits[..2880].chunks(80).map(|card| String::from_utf8(card.to_vec()).unwrap());
    cards.filter_map(|card| card.split_once('=').map(|(k, v)| (k.trim().into(), v.trim().into()))).collect()
}

#[test]
fn a_ztf_night_has_all_that_filters_look_for() {
    let (mut bright, mut young, mut rising, mut near_sso, mut upper_limits, mut n_history) = (0, 0, 0, 0, 0, 0);
    for alert in alerts(&made(Survey::Ztf, 500)) {
        let value = decode(&alert.value);
        let number = |name: &str| real(at(&value, &format!("candidate.{name}")));
        let (magpsf, jd) = (number("magpsf").unwrap(), number("jd").unwrap());
        let history = items(at(&value, "prv_candidates"));
        assert_eq!(items(at(&value, "fp_hists")).len(), history.len());
        n_history += history.len();
        let seen: Vec<&Value> = history.iter().filter(|row| at(row, "magpsf") != &Value::Null).collect();
        upper_limits += history.len() - seen.len();
        assert!(history.iter().all(|row| real(at(row, "jd")).unwrap() < jd));
        let Value::Int(n_detections) = at(&value, "candidate.ndethist") else { panic!() };
        bright += u32::from(magpsf < 17.0);
        young += u32::from(*n_detections <= 5 && jd - number("jdstarthist").unwrap() <= 20.0);
        near_sso += u32::from((0.0..5.0).contains(&number("ssdistnr").unwrap()));
        let same = seen.iter().filter(|row| at(row, "fid") == at(&value, "candidate.fid"));
        let latest = same.max_by(|a, b| real(at(a, "jd")).partial_cmp(&real(at(b, "jd"))).unwrap());
        rising += u32::from(latest.is_some_and(|row| real(at(row, "magpsf")).unwrap() - magpsf >= 0.3));
    }
    assert!(bright > 25 && young > 25 && rising > 25 && near_sso > 25, "{bright} {young} {rising} {near_sso}");
    assert!(upper_limits > 500, "{upper_limits}");
    assert!((7_500..15_000).contains(&n_history), "{n_history}");
}

#[test]
fn an_lsst_alert_has_an_object_or_an_asteroid() {
    let mut n_asteroids = 0;
    for alert in alerts(&made(Survey::Lsst, 300)) {
        let value = decode(&alert.value);
        let is_asteroid = at(&value, "diaObject") == &Value::Null;
        n_asteroids += u32::from(is_asteroid);
        for name in ["ssSource", "mpc_orbits"] {
            assert_eq!(at(&value, name) != &Value::Null, is_asteroid);
        }
        let n_sources = items(at(&value, "prvDiaSources")).len();
        assert!(items(at(&value, "prvDiaForcedSources")).len() >= n_sources);
        if !is_asteroid {
            assert_eq!(at(&value, "diaObject.nDiaSources"), &Value::Int(n_sources as i32 + 1));
            assert_eq!(at(&value, "diaObject.diaObjectId"), at(&value, "diaSource.diaObjectId"));
        }
    }
    assert!((30..90).contains(&n_asteroids), "{n_asteroids}");
}

/// Made alerts in files stand in for real ones.
fn folder(survey: Survey, count: u64) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    run(&Config { sinks: vec![Sink::Folder(folder.path().into())], ..made(survey, count) }, |_, _| {}).unwrap();
    folder
}

fn replayed(path: &Path, count: u64) -> Config {
    Config { origin: Origin::Replayed { path: path.into() }, count, seed: 9, ..Config::default() }
}

#[test]
fn a_replay_cycles_and_changes_nothing_but_the_ids() {
    for (survey, id_paths) in
        [(Survey::Ztf, &["candid", "candidate.candid"][..]), (Survey::Lsst, &["diaSourceId", "diaSource.diaSourceId"])]
    {
        let (folder, originals) = (folder(survey, 5), values(&made(survey, 5)));
        let kept = values(&Config { unique_ids: false, ..replayed(folder.path(), 12) });
        assert!(kept.iter().zip(originals.iter().cycle()).all(|(kept, original)| kept == original));

        let renumbered = alerts(&replayed(folder.path(), 12));
        assert_eq!(renumbered.iter().map(|alert| alert.id).collect::<HashSet<_>>().len(), 12);
        for (alert, original) in renumbered.iter().zip(originals.iter().cycle()) {
            let (value, original_value) = (decode(&alert.value), decode(original));
            id_paths.iter().for_each(|path| assert_eq!(at(&value, path), &Value::Long(alert.id)));
            assert_eq!(alert.value.len(), original.len());
            let n_changed = alert.value.iter().zip(original).filter(|(a, b)| a != b).count();
            assert!(n_changed <= 9 * 3, "{n_changed}");
            assert_eq!(at(&value, "cutoutScience"), at(&original_value, "cutoutScience"));
        }
    }
}

#[test]
fn a_folder_a_tarball_and_a_zipped_one_hold_the_same_alerts() {
    let out = tempfile::tempdir().unwrap();
    let path = |name: &str| out.path().join(name);
    let sinks =
        vec![Sink::Folder(path("folder")), Sink::Tarball(path("night.tar")), Sink::Tarball(path("night.tar.gz"))];
    let config = Config { shares: Shares::MIXED, sinks, ..made(Survey::Ztf, 50) };
    let mut last = (0, 0);
    let summary = run(&config, |done, total| last = (done, total)).unwrap();
    let expected = values(&config);
    assert_eq!(last, (50, 50));
    assert_eq!(summary.alerts, 50);
    assert_eq!(summary.bytes, expected.iter().map(|value| value.len() as u64).sum::<u64>());
    assert_eq!(summary.by_kind.values().sum::<u64>(), 50);
    for name in ["folder", "night.tar", "night.tar.gz"] {
        assert_eq!(values(&Config { unique_ids: false, ..replayed(&path(name), 50) }), expected, "{name}");
    }
    let left: Vec<_> = std::fs::read_dir(out.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left.len(), 3, "{left:?}");
}

/// A column of an archive that holds these values, null where they are.
fn column(values: &[&Value]) -> ArrayRef {
    let values: Vec<&Value> = values.iter().map(|value| at(value, "")).collect();
    let Some(first) = values.iter().find(|value| ***value != Value::Null) else {
        return Arc::new(NullArray::new(values.len()));
    };
    let present = NullBuffer::from_iter(values.iter().map(|value| **value != Value::Null));
    macro_rules! of {
        ($array:ty, $variant:ident, $value:ident => $plain:expr) => {
            Arc::new(<$array>::from_iter(values.iter().map(|value| match value {
                Value::$variant($value) => Some($plain),
                _ => None,
            })))
        };
    }
    match first {
        Value::Boolean(_) => of!(BooleanArray, Boolean, value => *value),
        Value::Int(_) => of!(Int32Array, Int, value => *value),
        Value::Long(_) => of!(Int64Array, Long, value => *value),
        Value::Float(_) => of!(Float32Array, Float, value => *value),
        Value::Double(_) => of!(Float64Array, Double, value => *value),
        Value::String(_) => of!(StringArray, String, value => value.clone()),
        Value::Bytes(_) => of!(BinaryArray, Bytes, value => value.clone()),
        Value::Record(fields) => {
            let field = |record: &Value, name: &str| {
                if *record == Value::Null { Value::Null } else { at(record, name).clone() }
            };
            let of = |name: &str| {
                let inner: Vec<Value> = values.iter().map(|record| field(record, name)).collect();
                column(&inner.iter().collect::<Vec<_>>())
            };
            let columns: Vec<ArrayRef> = fields.iter().map(|(name, _)| of(name)).collect();
            let fields: Fields = fields
                .iter()
                .zip(&columns)
                .map(|((name, _), c)| Field::new(name, c.data_type().clone(), true))
                .collect();
            Arc::new(StructArray::new(fields, columns, Some(present)))
        }
        Value::Array(_) => {
            let lists: Vec<&[Value]> = values.iter().map(|list| items(list)).collect();
            let inner = column(&lists.iter().flat_map(|list| list.iter()).collect::<Vec<_>>());
            let offsets = OffsetBuffer::from_lengths(lists.iter().map(|list| list.len()));
            let item = Arc::new(Field::new("item", inner.data_type().clone(), true));
            Arc::new(ListArray::new(item, offsets, inner, Some(present)))
        }
        other => panic!("{other:?}"),
    }
}

/// A Parquet file of one column for each field of the records.
fn parquet_file(path: &Path, records: &[Value]) {
    let rows = column(&records.iter().collect::<Vec<_>>());
    let batch = RecordBatch::from(rows.as_any().downcast_ref::<StructArray>().unwrap().clone());
    let mut writer = ArrowWriter::try_new(File::create(path).unwrap(), batch.schema(), None).unwrap();
    writer.write(&batch).unwrap();
    writer.close().unwrap();
}

#[test]
fn a_parquet_archive_gives_its_alerts_under_their_schema_again() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("part.parquet");
    for survey in [Survey::Ztf, Survey::Lsst] {
        let originals: Vec<Value> = values(&made(survey, 70)).iter().map(|bytes| decode(bytes)).collect();
        parquet_file(&path, &originals);
        let again = values(&Config { unique_ids: false, ..replayed(&path, 70) });
        assert!(again.iter().map(|bytes| decode(bytes)).eq(originals), "{survey:?}");
    }
}

#[test]
fn an_archive_of_something_else_or_cut_short_is_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("part.parquet");
    let refusal = || Alerts::new(&replayed(&path, 1)).err().unwrap().to_string();
    parquet_file(&path, &[Value::Record(vec![("objectId".into(), Value::String("ZTF".into()))])]);
    assert!(
        refusal()
            .ends_with("part.parquet: neither a ZTF nor an LSST alert: its schema has no candidate and no diaSource")
    );
    // A ZTF alert has many fields that may not be null.
    let candidate = Value::Record(vec![("jd".into(), Value::Double(2_461_041.6))]);
    parquet_file(&path, &[Value::Record(vec![("candidate".into(), candidate)])]);
    assert!(refusal().contains("part.parquet: the field schemavsn cannot hold a missing value"), "{}", refusal());
    let whole = std::fs::read(&path).unwrap();
    std::fs::write(&path, &whole[..whole.len() / 2]).unwrap();
    assert!(refusal().contains("part.parquet: "), "{}", refusal());
}

#[test]
fn what_is_not_an_alert_is_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let refusal = |path: &Path| {
        let stream = Alerts::new(&replayed(path, 1));
        stream.and_then(|mut alerts| alerts.next().unwrap()).err().unwrap().to_string()
    };
    assert!(refusal(folder.path()).contains("no alerts"));
    std::fs::write(folder.path().join("a.avro"), b"not avro").unwrap();
    assert!(refusal(folder.path()).ends_with("a.avro: not an avro object container"));
    assert!(refusal(Path::new("night.zip")).contains("neither a folder nor"));
}
