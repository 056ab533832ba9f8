//! Catalogues in a pipeline: typed columns, one step for one question, and what is refused.

use redpoll_core::protocol::Split;
use redpoll_core::steps::EpochRun;
use redpoll_udfs::registry::Registry;

use super::{Compiled, check, compiled};
use crate::coordinator::revision::{Meant, changes};

const GAIA: &str = "CREATE EXTERNAL TABLE gaia STORED AS CATALOG LOCATION 'gaia';\n";

async fn right(text: &str) -> Compiled {
    compiled(&format!("{GAIA}{text}"), "night").await.unwrap_or_else(|problems| panic!("{problems}"))
}

async fn wrong(text: &str, expected: &str) {
    check(&format!("{GAIA}{text}"), expected).await;
}

fn plan(compiled: &Compiled) -> String {
    let plan = compiled.plan(EpochRun::default(), &[Split::default()]).unwrap();
    datafusion::physical_plan::displayable(plan.as_ref()).indent(false).to_string()
}

#[tokio::test]
async fn a_match_is_a_step_on_the_rows_of_its_view_and_the_same_question_is_asked_once() {
    let compiled = right(
        "CREATE VIEW bright AS SELECT * FROM alerts WHERE candidate.magpsf < 18;\n\
         CREATE VIEW named AS SELECT *, crossmatch('gaia', candidate.jd, 5, 1.5).source_id AS id,\n\
           crossmatch('gaia', candidate.jd, 5, 1.5).mag AS mag FROM bright;\n\
         INSERT INTO copy SELECT objectId, id, mag FROM named WHERE mag IS NULL OR mag < 10;",
    )
    .await;
    let plan = plan(&compiled);
    let steps: Vec<_> = plan.lines().filter(|line| line.contains("Match")).collect();
    assert_eq!(steps.len(), 1, "{plan}");
    assert!(steps[0].contains("nearest within 1.5\" on=_in_bright lock=version 3"), "{}", steps[0]);
    let types: Vec<_> = compiled.sinks[0].1.fields().iter().map(|field| field.data_type().to_string()).collect();
    assert_eq!(types, ["Utf8", "Int64", "Float32"]);
    assert_eq!(compiled.locks().into_iter().collect::<Vec<_>>(), [("catalogue gaia".into(), "version 3".into())]);
    let used = compiled.matches.values().next().unwrap().to_string();
    assert!(used.contains("source_id") && used.contains("mag") && !used.contains("dec"), "{used}");
}

#[tokio::test]
async fn fields_of_all_matches_are_lists_and_whole_matches_have_the_separation() {
    let compiled = right(
        "INSERT INTO copy SELECT crossmatch_all('gaia', 1.0, 2.0, 60).source_id AS ids,\n\
         crossmatch('gaia', 1.0, 2.0, 60) AS host, cardinality(crossmatch_all('gaia', 1.0, 2.0, 30)) AS n FROM alerts;",
    )
    .await;
    let plan = plan(&compiled);
    assert_eq!(plan.lines().filter(|line| line.contains("Match")).count(), 3, "{plan}");
    let schema = &compiled.sinks[0].1;
    assert_eq!(schema.field(0).data_type().to_string(), "List(Int64)");
    let host = schema.field(1).data_type().to_string();
    assert!(host.contains("separation") && host.contains("dec"), "{host}");
}

#[tokio::test]
async fn a_catalogue_that_changed_is_told_with_the_tables_that_ask_it() {
    let text = "INSERT INTO copy SELECT crossmatch('gaia', candidate.jd, 5, 2).mag AS mag FROM alerts;";
    let before = right(text).await.outline();
    assert_eq!(before.catalogs["gaia"], "version 3");
    let mut after = before.clone();
    after.catalogs.insert("gaia".into(), "version 4".into());
    let told: Vec<_> = changes(&before, &after, &Meant::default()).unwrap().iter().map(ToString::to_string).collect();
    assert_eq!(told, ["catalogue gaia has changed (version 4, before version 3) (rows of copy)"]);
    let wider = right(&text.replace("5, 2", "5, 3")).await.outline();
    let told: Vec<_> = changes(&before, &wider, &Meant::default()).unwrap().iter().map(ToString::to_string).collect();
    assert_eq!(told, ["column mag is computed otherwise (rows of copy)"]);
}

#[tokio::test]
async fn a_condition_on_a_match_that_may_lack_is_told() {
    let compiled =
        right("INSERT INTO copy SELECT candid FROM alerts WHERE crossmatch('gaia', candidate.jd, 5, 2).mag < 9;").await;
    let [warning] = &compiled.warnings[..] else { panic!("one is expected: {:?}", compiled.warnings) };
    assert!(warning.message.contains("is NULL where catalogue gaia gives no value"), "{warning:?}");
    let none =
        right("INSERT INTO copy SELECT candid FROM alerts WHERE crossmatch('gaia', candidate.jd, 5, 2) IS NULL;").await;
    assert_eq!(none.warnings, []);
}

#[tokio::test]
async fn calls_that_cannot_work_are_refused_at_their_place() {
    let usage = |name: &str| format!("usage: {name}('catalogue', ra, dec, radius): degrees, radius in arcseconds");
    let told = |what: &str| format!("p.sql:4:25: crossmatch: {what}\n    {}", usage("crossmatch"));
    let insert = |call: &str| format!("INSERT INTO copy SELECT {call} AS x FROM alerts;");
    for (call, what) in [
        ("crossmatch('gaja', 1, 2, 3)", "there is no catalogue 'gaja'; did you mean 'gaia'?"),
        ("crossmatch('gaia', 1, 2)", "3 arguments given, 4 wanted"),
        ("crossmatch(objectId, 1, 2, 3)", "argument 1 is not the name of a catalogue in quotes"),
        ("crossmatch('gaia', objectId, 2, 3)", "argument 2 is Utf8, not a number of degrees"),
        ("crossmatch('gaia', 1, 2, candidate.jd)", "argument 4 is not a constant number of arcseconds"),
        ("crossmatch('gaia', 1, 2, 0)", "a radius of 0 arcseconds; it is more than 0 and at most 3600"),
        ("crossmatch('gaia', 1, 2, 9999)", "a radius of 9999 arcseconds; it is more than 0 and at most 3600"),
    ] {
        wrong(&insert(call), &told(what)).await;
    }
    wrong(&insert("crossmatch('gaia', 1, 2, 3).magg"), "p.sql:4:25: there is no field 'magg'\n    did you mean 'mag'?")
        .await;
}

#[tokio::test]
async fn a_catalogue_with_problems_is_told_once_and_at_its_option() {
    check(
        "CREATE EXTERNAL TABLE gaia STORED AS CATALOG LOCATION 'gaia' OPTIONS (\n  'ra' 'raj', 'deec' 'dec');\n\
         CREATE VIEW named AS SELECT *, crossmatch('gaia', 1, 2, 3).mag AS mag FROM alerts;\n\
         INSERT INTO copy SELECT mag FROM named;",
        "p.sql:4:8: table 'gaia': gaia: its 'ra' is 'raj', which is no column of it\n    did you mean 'ra'?\n\
         p.sql:4:15: table 'gaia': there is no option 'deec' of a CATALOG table\n    did you mean 'dec'?",
    )
    .await;
    let twice = format!("{GAIA}INSERT INTO copy SELECT candid FROM alerts;");
    wrong(&twice, "p.sql:4:1: table 'gaia' is declared twice\n    give each table a name of its own").await;
}

#[tokio::test]
async fn a_catalogue_is_asked_for_alerts_in_views_alone() {
    let unnested = "INSERT INTO copy SELECT crossmatch('gaia', p.jd, 2, 3).mag AS mag\n\
                    FROM (SELECT unnest(prv_candidates) AS p FROM alerts);";
    wrong(unnested, "p.sql:4:13: a catalogue is asked after unnest\n    ask it in a view before, and use its column")
        .await;
    wrong(
        "CREATE EXTERNAL TABLE t STORED AS TOPIC LOCATION 't' OPTIONS (\n\
           'key' 'crossmatch(''gaia'', 1, 2, 3).source_id');\nINSERT INTO t SELECT candid FROM alerts;",
        "p.sql:5:8: option 'key' of table 't': a catalogue is asked here\n    ask it in a view, and use its column",
    )
    .await;
    let Err(problems) =
        super::compiled_with("INSERT INTO copy SELECT mag FROM gaia;", "night", &Registry::default()).await
    else {
        panic!("a catalogue is no table to read from")
    };
    assert!(problems.to_string().contains("'gaia'"), "{problems}");
}
