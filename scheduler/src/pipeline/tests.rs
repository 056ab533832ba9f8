//! What a pipeline is refused for: place, message and remedy, all problems of a file at once.

mod damaged;
mod questions;
mod refusals;

use std::sync::Arc;

use async_trait::async_trait;
use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use redpoll_connectors::avro::ReaderSchema;
use redpoll_core::protocol::Pipeline;
use redpoll_core::runtime::SourceSpec;
use redpoll_core::sink::SinkSpec;
use redpoll_udfs::functions;
use redpoll_udfs::registry::Registry;

use super::{At, Compiled, Finding, Problems, Surroundings, TableKind, compile};

/// One table of alerts is there, and every sink takes everything.
struct Desk;

#[async_trait]
impl Surroundings for Desk {
    fn locate(&self, _: TableKind, location: &str, _: &Pipeline) -> Result<String, String> {
        Ok(location.to_owned())
    }

    async fn alerts(&self, spec: &SourceSpec, _: &Pipeline) -> Result<SchemaRef, Vec<Finding>> {
        if spec.url == "declared" {
            return Ok(declared().arrow());
        }
        if spec.url != "night" {
            let text = format!("{}: there is no such folder; did you mean 'night'?", spec.url);
            return Err(vec![Finding::problem(At::Declaration, text)]);
        }
        let candidate = vec![
            Field::new("jd", DataType::Float64, true),
            Field::new("magpsf", DataType::Float32, true),
            Field::new("candid", DataType::Int64, true),
        ];
        let past = DataType::new_list(DataType::Struct(candidate.clone().into()), true);
        Ok(Arc::new(Schema::new(vec![
            Field::new("objectId", DataType::Utf8, true),
            Field::new("candid", DataType::Int64, true),
            Field::new_struct("candidate", candidate, true),
            Field::new("prv_candidates", past, true),
        ])))
    }

    async fn sink(&self, spec: &SinkSpec, _: &[SchemaRef]) -> Vec<Finding> {
        match spec.url.as_str() {
            "full" => vec![Finding::problem(At::Table, "the disk is full; free some; or another")],
            _ => Vec::new(),
        }
    }
}

/// Columns of which some are declared without null.
fn declared() -> ReaderSchema {
    let fields = |name: &str| {
        format!(
            r#"{{"type":"record","name":"{name}","fields":[{{"name":"jd","type":"double"}},
            {{"name":"magpsf","type":"float"}},{{"name":"rb","type":["null","float"]}},{{"name":"fid","type":"int"}}]}}"#
        )
    };
    let (candidate, past) = (fields("candidate"), fields("past"));
    let json = format!(
        r#"{{"type":"record","name":"alert","fields":[{{"name":"objectId","type":"string"}},
        {{"name":"candid","type":"long"}},{{"name":"candidate","type":{candidate}}},
        {{"name":"prv_candidates","type":["null",{{"type":"array","items":{past}}}]}}]}}"#
    );
    ReaderSchema::from_avsc(&json).unwrap()
}

#[tokio::test]
async fn a_writer_must_have_what_the_pipeline_computes_with_and_no_more() {
    let text = "CREATE VIEW good AS SELECT *, candidate.jd + 0.5 AS mjd FROM alerts \
        WHERE candidate.rb > 0.5 AND array_max(list_field(prv_candidates, 'magpsf')) < 20;\n\
        INSERT INTO copy SELECT * FROM good;";
    let Ok(compiled) = compiled(text, "declared").await else { panic!("does not compile") };
    let reader = ReaderSchema::from(compiled.reader.as_ref());
    // `rb` may be null; what `*` hands on may become null; a list that may be null may be absent.
    assert_eq!(reader.required().iter().collect::<Vec<_>>(), ["candidate", "candidate.jd", "prv_candidates.magpsf"]);
    assert!(compiled.alerts.metadata().is_empty());
    assert!(compiled.sinks.iter().all(|(_, schema)| schema.metadata().is_empty()));
}

#[tokio::test]
async fn comments_and_the_names_of_views_alter_no_outline() {
    let outline = async |text: &str| match compiled(text, "night").await {
        Ok(compiled) => compiled.outline(),
        Err(problems) => panic!("{problems}"),
    };
    let first = outline(
        "CREATE VIEW good AS SELECT * FROM alerts WHERE candid > 5 AND candidate.magpsf < 18;\n\
         INSERT INTO copy SELECT objectId, candid + 1 AS next FROM good;",
    )
    .await;
    let second = outline(
        "-- bright ones\nCREATE VIEW good AS SELECT *\nFROM alerts\nWHERE candid>5 AND candidate.magpsf   <   18;\n\
         CREATE VIEW same AS SELECT * FROM good;\nINSERT INTO copy SELECT objectId, candid+1 AS next FROM same;",
    )
    .await;
    assert_eq!(first, second);
    let third = outline(
        "CREATE VIEW good AS SELECT * FROM alerts WHERE candid > 5 AND candidate.magpsf < 17;\n\
         INSERT INTO copy SELECT objectId, candid + 2 AS next FROM good;",
    )
    .await;
    let changes = crate::coordinator::revision::changes(&first, &third, &Default::default()).unwrap();
    assert_eq!(
        changes.iter().map(ToString::to_string).collect::<Vec<_>>(),
        [
            "view good: cut `candidate.magpsf < 18` becomes `candidate.magpsf < 17` (rows of copy)",
            "column next is computed otherwise (rows of copy)",
        ]
    );
}

#[tokio::test]
async fn an_outline_tells_cuts_columns_and_calls_of_modules() {
    let modules = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../udfs/modules");
    let registry = Registry::load(&[modules]).unwrap();
    let text = "CREATE VIEW scored AS SELECT *, nalerthist(history(prv_candidates.magpsf, candidate.magpsf)) AS n \
        FROM alerts WHERE candid > 5;\nINSERT INTO copy SELECT objectId, n FROM scored WHERE n > 3;";
    let outline = compiled_with(text, "night", &registry).await.map(|compiled| compiled.outline());
    let Ok(outline) = outline else { panic!("does not compile") };
    assert_eq!(outline.modules.keys().collect::<Vec<_>>(), ["nalerthist"]);
    assert_eq!((outline.views[0].name.as_str(), outline.views[0].rules[0].text.as_str()), ("scored", "candid > 5"));
    let insert = &outline.inserts[0];
    assert_eq!((insert.over.as_deref(), insert.rules[0].text.as_str()), (Some("scored"), "n > 3"));
    let (name, means) = &insert.columns[1];
    assert!(name == "n" && means.starts_with("nalerthist(") && means.contains("magpsf"), "{means}");
    assert!(insert.rules[0].means.contains("nalerthist("), "{}", insert.rules[0].means);
    assert_eq!(outline.fields["prv_candidates.magpsf"], "Float32");
}

async fn compiled(text: &str, source: &str) -> Result<Compiled, Problems> {
    compiled_with(text, source, &Registry::default()).await
}

async fn compiled_with(text: &str, source: &str, registry: &Registry) -> Result<Compiled, Problems> {
    let head = format!(
        "CREATE EXTERNAL TABLE alerts STORED AS ALERTS LOCATION '{source}';\nCREATE EXTERNAL TABLE copy STORED AS DELTA LOCATION 'copy';\n"
    );
    compiled_whole(head + text, registry).await
}

async fn compiled_whole(text: String, registry: &Registry) -> Result<Compiled, Problems> {
    let folder = String::new();
    let (working_folder, variables) = (folder.clone(), Default::default());
    let pipeline = Pipeline { text, file: "p.sql".into(), folder, working_folder, variables, ..Pipeline::default() };
    compile(&pipeline, &functions::all(), registry, &Desk).await
}

async fn check(text: &str, expected: &str) {
    let Err(problems) = compiled(text, "night").await else { panic!("nothing is wrong with {text}") };
    assert_eq!(problems.to_string(), expected);
}

#[tokio::test]
async fn a_where_that_a_module_without_a_value_makes_null_is_told_with_its_place_and_remedy() {
    let modules = concat!(env!("CARGO_MANIFEST_DIR"), "/../udfs/modules/ztf/nalerthist");
    let registry = Registry::load(&[modules]).unwrap();
    let view = "CREATE VIEW scored AS SELECT *, nalerthist(list_field(prv_candidates, 'magpsf')) AS n FROM alerts;\n";
    let warnings = async |condition: &str| {
        let text = format!("{view}INSERT INTO copy SELECT candid FROM scored WHERE {condition};");
        let compiled = compiled_with(&text, "night", &registry).await;
        compiled.unwrap_or_else(|problems| panic!("{problems}")).warnings
    };
    for meant in ["n IS NULL OR n > 3", "COALESCE(n, 0) > 3", "n IS NOT NULL", "candid > 3", "(n > 3) IS TRUE"] {
        assert_eq!(warnings(meant).await, [], "{meant}");
    }
    let [warning] = &warnings("candid > 5 AND n > 3").await[..] else { panic!("one is expected") };
    assert_eq!((warning.line, warning.column), (4, 65));
    assert_eq!(warning.message, "`n > 3` is NULL where nalerthist gives no value, and then the alert is left out");
    assert!(warning.remedy.contains("COALESCE(n > 3, true)") && warning.remedy.contains("IS NULL OR"), "{warning:?}");
    assert_eq!(warnings("n > 3 OR candid > 5").await.len(), 1);
    let view = format!(
        "{view}CREATE VIEW few AS SELECT * FROM scored WHERE\n    n < 3;\nINSERT INTO copy SELECT candid FROM few;"
    );
    let compiled = compiled_with(&view, "night", &registry).await.unwrap_or_else(|problems| panic!("{problems}"));
    assert_eq!(compiled.warnings.iter().map(|at| (at.line, at.column)).collect::<Vec<_>>(), [(5, 5)]);
}

#[tokio::test]
async fn all_typos_of_a_file_are_told_at_once() {
    check(
        "CREATE VIEW good AS SELECT * FROM alerts WHERE candidate.magpfs < 18;\n\
         INSERT INTO copy SELECT objectID FROM alerts;\n\
         INSERT INTO copi SELECT nigth(candidate.jd) AS night FROM alrets;",
        "p.sql:3:58: 'candidate' has no field 'magpfs'\n    did you mean 'magpsf'?\n\
         p.sql:4:25: there is no column 'objectID'\n    did you mean 'objectId'?\n\
         p.sql:5:13: there is no table 'copi' to insert into\n    did you mean 'copy'?\n\
         p.sql:5:25: there is no function or science module 'nigth'\n    did you mean 'night'?\n\
         p.sql:5:59: there is no table 'alrets'\n    did you mean 'alerts'?",
    )
    .await;
}

#[tokio::test]
async fn a_table_that_is_wrong_adds_no_problems_where_it_is_used() {
    let text =
        "CREATE VIEW good AS SELECT * FROM alerts WHERE candidate.nothing = 1;\nINSERT INTO copy SELECT * FROM good;";
    let Err(problems) = compiled(text, "nihgt").await else { panic!("there is no such folder") };
    let expected = "p.sql:1:1: table 'alerts': nihgt: there is no such folder\n    did you mean 'night'?";
    assert_eq!(problems.to_string(), expected);
    check(
        "CREATE VIEW good AS SELECT * FROM alerts WHERE candidate.nothing = 1;\nINSERT INTO copy SELECT * FROM good;",
        "p.sql:3:58: 'candidate' has no field 'nothing'\n    there is: jd, magpsf, candid",
    )
    .await;
}

#[tokio::test]
async fn the_remedy_of_a_sink_stands_apart_from_what_is_wrong() {
    check(
        "CREATE EXTERNAL TABLE far STORED AS DELTA LOCATION 'full';\nINSERT INTO far SELECT candid FROM alerts;",
        "p.sql:4:13: table 'far': the disk is full; free some\n    or another",
    )
    .await;
}

#[tokio::test]
async fn the_id_of_a_table_is_one_of_its_columns() {
    let pipeline = |id: &str| {
        format!(
            "CREATE EXTERNAL TABLE alerts STORED AS ALERTS LOCATION 'night' OPTIONS ('id' '{id}');
            CREATE EXTERNAL TABLE copy STORED AS DELTA LOCATION 'copy';
            INSERT INTO copy SELECT objectId FROM alerts;"
        )
    };
    let right = compiled_whole(pipeline("candid"), &Registry::default()).await;
    assert_eq!(right.unwrap_or_else(|problems| panic!("{problems}")).id(), Some("candid"));
    let Err(problems) = compiled_whole(pipeline("candidd"), &Registry::default()).await else { panic!("a wrong id") };
    let expected =
        "p.sql:1:78: table 'alerts': its 'id' is 'candidd', which is no column of it\n    did you mean 'candid'?";
    assert_eq!(problems.to_string(), expected);
}

#[tokio::test]
async fn what_needs_other_rows_is_refused_with_what_to_do_instead() {
    let distinct = "write to a STORE, which keeps one row for each row key, or ask the archive with `redpoll sql`";
    check(
        "INSERT INTO copy SELECT DISTINCT candid FROM alerts;",
        &format!("p.sql:3:1: a pipeline cannot have DISTINCT\n    {distinct}"),
    )
    .await;
}

#[tokio::test]
async fn types_that_do_not_meet_are_to_be_cast() {
    let text = "INSERT INTO copy SELECT candid FROM alerts WHERE candidate > 3;";
    let Err(problems) = compiled(text, "night").await else { panic!("a struct is no number") };
    let problem = &problems.problems[0];
    assert_eq!((problem.line, problem.column), (3, 50), "{problems}");
    assert_eq!(problem.remedy, "write CAST(… AS …) where the types differ");
}

#[tokio::test]
async fn a_path_is_a_column_of_its_last_name() {
    let names = |text: &'static str| async move {
        let compiled = compiled(text, "night").await.unwrap();
        compiled.sinks[0].1.fields().iter().map(|field| field.name().clone()).collect::<Vec<_>>().join(" ")
    };
    assert_eq!(
        names("INSERT INTO copy SELECT objectId, candidate.jd, candidate.magpsf AS m FROM alerts;").await,
        "objectId jd m"
    );
    assert!(
        names("INSERT INTO copy SELECT candid, candidate.candid FROM alerts;")
            .await
            .starts_with("candid alerts.candidate")
    );
}
