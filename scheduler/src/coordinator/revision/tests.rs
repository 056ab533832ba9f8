use redpoll_core::revision::View;
use redpoll_core::sink::SinkKind;

use super::*;

fn sink(name: &str) -> SinkSpec {
    let url = format!("file:///w/{name}");
    SinkSpec { name: name.into(), kind: SinkKind::Delta, url, partition_by: vec![], options: BTreeMap::new() }
}

fn rule(text: &str) -> Rule {
    Rule { text: text.into(), means: format!("means {text}") }
}

fn insert(sink: &str, over: Option<&str>, columns: &[(&str, &str)]) -> Insert {
    let columns = columns.iter().map(|(name, means)| ((*name).to_owned(), (*means).to_owned())).collect();
    Insert { sink: sink.into(), over: over.map(str::to_owned), rules: vec![], before: vec![], columns }
}

/// `raw` has all alerts; `science` and `sso` those of `scored`, a view of `good`.
fn outline() -> Outline {
    let view = |name: &str, over: Option<&str>, rules: &[&str]| View {
        name: name.into(),
        over: over.map(str::to_owned),
        rules: rules.iter().map(|text| rule(text)).collect(),
    };
    let reads = Reads {
        table: "alerts".into(),
        brokers: vec!["a:9092".into()],
        places: vec!["ztf".into()],
        options: BTreeMap::new(),
    };
    Outline {
        reads,
        fields: [("candidate.rb".into(), "Float32".into()), ("objectId".into(), "Utf8".into())].into(),
        views: vec![view("good", None, &["nbad = 0", "rb >= 0.55"]), view("scored", Some("good"), &["fid <> 3"])],
        sinks: vec![sink("raw"), sink("science"), sink("sso")],
        inserts: vec![
            insert("raw", None, &[("candidate", "candidate"), ("objectId", "objectId")]),
            insert("science", Some("scored"), &[("objectId", "objectId"), ("roid", "roid_catcher(candidate)")]),
            Insert { rules: vec![rule("roid = 3")], ..insert("sso", Some("scored"), &[("objectId", "objectId")]) },
        ],
        modules: [("roid_catcher".into(), "0123456789abcdef".into())].into(),
    }
}

fn check(change: impl FnOnce(&mut Outline), expected: &[&str]) -> Vec<Change> {
    let (old, mut new) = (outline(), outline());
    change(&mut new);
    let found = changes(&old, &new, &Meant::default()).unwrap();
    assert_eq!(found.iter().map(Change::to_string).collect::<Vec<_>>(), expected);
    found
}

/// As [`check`], of changes that are only told.
fn check_told(change: impl FnOnce(&mut Outline), expected: &[&str]) {
    assert!(check(change, expected).iter().all(|change| !change.asks));
}

fn check_asked(change: impl FnOnce(&mut Outline), expected: &[&str]) {
    assert!(check(change, expected).iter().all(|change| change.asks));
}

#[test]
fn equal_outlines_have_no_changes() {
    check(|_| {}, &[]);
}

#[test]
fn a_cut_of_a_view_changes_the_rows_of_all_tables_below_it() {
    let becomes = "view good: cut `rb >= 0.55` becomes `rb >= 0.65` (rows of science, sso)";
    check_asked(|new| new.views[0].rules[1] = rule("rb >= 0.65"), &[becomes]);
    check_asked(
        |new| new.views[1].rules.push(rule("x > 1")),
        &["view scored: cut `x > 1` is new (rows of science, sso)"],
    );
    check_asked(|new| _ = new.views[0].rules.remove(0), &["view good: cut `nbad = 0` is gone (rows of science, sso)"]);
}

#[test]
fn a_cut_of_an_insert_changes_its_table_alone() {
    check_asked(
        |new| new.inserts[2].rules[0] = rule("roid = 2"),
        &["its own cut `roid = 3` becomes `roid = 2` (rows of sso)"],
    );
}

#[test]
fn a_table_that_reads_another_view_is_told_by_its_cuts() {
    check_asked(
        |new| new.inserts[1].over = Some("good".into()),
        &["view scored: cut `fid <> 3` is gone (rows of science)"],
    );
}

#[test]
fn a_cut_that_only_moves_alters_no_row() {
    let told = "the cuts are the same, but stand otherwise; the ledger counts them in their new order";
    check_told(|new| new.views[0].rules.swap(0, 1), &[told]);
    check_told(
        |new| {
            let rule = new.views[0].rules.pop().unwrap();
            new.views[1].rules.insert(0, rule);
        },
        &[told],
    );
}

#[test]
fn columns_come_go_and_change() {
    check_asked(
        |new| {
            new.inserts[1].columns = vec![("roid".into(), "2 * roid".into()), ("night".into(), "night(jd)".into())];
        },
        &[
            "column night is new (rows of science)",
            "column roid is computed otherwise (rows of science)",
            "column objectId is gone (rows of science)",
        ],
    );
}

#[test]
fn fields_that_alerts_have_gained_are_told_and_nobody_is_asked() {
    check_told(
        |new| {
            new.fields.insert("fp.flux".into(), "Float64".into());
            new.inserts[0].columns.push(("fp".into(), "fp".into()));
        },
        &["alerts: new fields fp.flux"],
    );
}

#[test]
fn fields_that_are_gone_or_of_another_type_are_asked_about() {
    check_asked(
        |new| {
            new.fields.remove("objectId");
            new.fields.insert("candidate.rb".into(), "Float64".into());
        },
        &[
            "alerts: the fields objectId are not read any more",
            "alerts: field candidate.rb is read as Float64, not Float32",
        ],
    );
}

#[test]
fn a_module_names_the_tables_that_have_its_values() {
    check_asked(
        |new| _ = new.modules.insert("roid_catcher".into(), "fedcba9876543210".into()),
        &["module roid_catcher has changed (lock fedcba98, before 01234567) (rows of science)"],
    );
}

#[test]
fn tables_come_go_and_move() {
    check_asked(
        |new| {
            new.sinks[0].url = "s3://b/raw".into();
            new.sinks[0].partition_by = vec!["night".into()];
            new.sinks[1].options.insert("format".into(), "ocf".into());
            new.sinks[2] = sink("dark");
            new.inserts[2].sink = "dark".into();
        },
        &[
            "table raw is written to s3://b/raw, not file:///w/raw",
            "table raw is partitioned by night, not nothing",
            "table science: option 'format' is 'ocf', not its default",
            "table dark is new: it has rows from now on",
            "table sso is not written any more; the rows that it has stay",
        ],
    );
}

#[test]
fn topics_may_be_added_and_left_and_brokers_renamed() {
    check_asked(|new| new.reads.places.push("ztf_2".into()), &["alerts: reads ztf_2 too"]);
    check_asked(|new| new.reads.places = vec!["^ztf".into()], &["alerts: reads the topics ^ztf, not ztf"]);
    check(|new| new.reads.brokers.push("b:9092".into()), &[]);
    check_asked(
        |new| new.reads.brokers = vec!["b:9092".into()],
        &["alerts: reads from the brokers b:9092, not a:9092; they must hold the same topics, with the same offsets"],
    );
    check_asked(
        |new| _ = new.reads.options.insert("isolation".into(), "read_uncommitted".into()),
        &["alerts: option 'isolation' is 'read_uncommitted', not its default"],
    );
}

#[test]
fn another_source_is_refused_with_the_remedy() {
    for places in [vec!["lsst".to_owned()], vec![]] {
        let (old, mut new) = (outline(), outline());
        new.reads.places = places;
        assert!(changes(&old, &new, &Meant::default()).unwrap_err().to_string().ends_with("another --name"));
    }
    let (old, mut new) = (outline(), outline());
    new.reads = Reads { table: "alerts".into(), places: vec!["/data/night".into()], ..Reads::default() };
    let refused = changes(&old, &new, &Meant::default()).unwrap_err().to_string();
    assert!(refused.starts_with("it reads /data/night, the job has read kafka://a:9092/ztf"), "{refused}");
}
