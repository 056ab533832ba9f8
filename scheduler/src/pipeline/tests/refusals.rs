//! What a pipeline is refused for beside misspelt names: every cause with its place and remedy, with all others.

use redpoll_udfs::registry::Registry;

use super::{check, compiled_with};

#[tokio::test]
async fn with_and_joins_are_refused_with_what_to_write_instead() {
    check(
        "INSERT INTO copy WITH a AS (SELECT candid FROM alerts) SELECT candid FROM a;",
        "p.sql:3:18: a pipeline cannot have WITH\n    write a CREATE VIEW, or a subquery in FROM",
    )
    .await;
    let join = "a pipeline cannot have a join\n    a pipeline reads one table of alerts; join in the archive with `redpoll sql`";
    check(
        "INSERT INTO copy SELECT a.candid FROM alerts a JOIN alerts b ON a.candid = b.candid;",
        &format!("p.sql:3:53: {join}"),
    )
    .await;
    check("INSERT INTO copy SELECT a.candid FROM alerts a,\nalerts b;", &format!("p.sql:4:1: {join}")).await;
}

#[tokio::test]
async fn a_subquery_in_an_expression_is_refused_at_its_place() {
    check(
        "INSERT INTO copy SELECT candid FROM alerts\nWHERE candid IN (SELECT candid FROM alerts);",
        "p.sql:4:7: a pipeline cannot have a subquery in an expression\n    \
         a pipeline reads one table of alerts; ask it of the archive with `redpoll sql`",
    )
    .await;
}

#[tokio::test]
async fn misspelt_names_are_told_beside_what_is_refused() {
    check(
        "INSERT INTO copy WITH a AS (SELECT candidd FROM alerts) SELECT candid FROM a;",
        "p.sql:3:18: a pipeline cannot have WITH\n    write a CREATE VIEW, or a subquery in FROM\n\
         p.sql:3:36: there is no column 'candidd'\n    did you mean 'candid'?",
    )
    .await;
}

#[tokio::test]
async fn options_that_are_expressions_have_their_place_and_are_told_with_all_others() {
    check(
        "CREATE EXTERNAL TABLE t STORED AS TOPIC LOCATION 't' OPTIONS (\n\
           'key' 'objectID', 'partition' 'candidate[''jd'']');\n\
         CREATE EXTERNAL TABLE s STORED AS STORE LOCATION 's' OPTIONS ('timestamp' 'jd_to_timestamp(candidate[''jdd''])');\n\
         INSERT INTO t SELECT objectId, candidate FROM alerts;\n\
         INSERT INTO s SELECT candidate FROM alerts;\n\
         INSERT INTO copy SELECT cand FROM alerts;",
        "p.sql:4:8: option 'key' of table 't': there is no column 'objectID'\n    did you mean 'objectId'?\n\
         p.sql:4:32: option 'partition' of table 't': it gives Float64, not an integer\n    \
         write CAST(… AS …), or use another column\n\
         p.sql:5:102: option 'timestamp' of table 's': 'candidate' has no field 'jdd'\n    did you mean 'jd'?\n\
         p.sql:8:25: there is no column 'cand'\n    did you mean 'candid'?",
    )
    .await;
}

#[tokio::test]
async fn what_the_parser_takes_and_nothing_heeds_is_refused() {
    check(
        "CREATE EXTERNAL TABLE t (a INT) STORED AS TOPIC PARTITIONED BY (night) LOCATION 't';\n\
         CREATE EXTERNAL TABLE s STORED AS STORE PARTITIONED BY (night) LOCATION 's' OPTIONS ('row_key' '{a}', 'row_key' '{b}');\n\
         CREATE VIEW v (a) AS SELECT candid FROM alerts;\n\
         INSERT OVERWRITE copy SELECT candid FROM alerts;",
        "p.sql:3:1: table 't' has a list of columns, which means nothing in a pipeline\n    \
         columns are those of the alerts, or of the INSERT\n\
         p.sql:3:1: table 't': PARTITIONED BY is for DELTA tables\n    \
         leave it out; the option 'partition' says to which topic partition a record goes\n\
         p.sql:4:1: table 's': PARTITIONED BY is for DELTA tables\n    \
         leave it out; the option 'row_key' says how rows are kept together\n\
         p.sql:4:103: table 's': option 'row_key' is given twice\n    keep one of the two\n\
         p.sql:5:1: view 'v' has a list of columns\n    name the columns in the SELECT, with AS\n\
         p.sql:6:18: INSERT OVERWRITE: a job only adds rows\n    write INSERT INTO, and a table of another name",
    )
    .await;
}

/// A science module `score(jd)` with this `where`.
fn module(gate: &str) -> (tempfile::TempDir, Registry) {
    let folder = tempfile::tempdir().unwrap();
    let manifest = format!(
        "name = \"score\"\nsurvey = \"ztf\"\nfunction = \"score:score\"\nwhere = \"{gate}\"\nreturns = \"double\"\n\
         inputs = [{{ name = \"jd\", type = \"double\" }}]\n[environment]\npython = \"3\"\n"
    );
    std::fs::write(folder.path().join("module.toml"), manifest).unwrap();
    let registry = Registry::load(&[folder.path()]).unwrap();
    (folder, registry)
}

async fn check_with(gate: &str, text: &str, expected: &str) {
    let (folder, registry) = module(gate);
    let Err(problems) = compiled_with(text, "night", &registry).await else { panic!("nothing is wrong with {text}") };
    assert_eq!(problems.to_string().replace(&folder.path().display().to_string(), "…"), expected);
}

#[tokio::test]
async fn the_where_of_a_module_is_told_where_it_is_called_with_all_others() {
    check_with(
        "candidate.magpfs < 20",
        "CREATE VIEW v AS SELECT *, score(candidate.jd) AS s FROM alerts;\n\
         INSERT INTO copy SELECT candid, s FROM v;\nINSERT INTO copy SELECT cand FROM alerts;",
        "p.sql:3:28: the `where` of module 'score', `candidate.magpfs < 20`: 'candidate' has no field 'magpfs'\n    \
         correct …/module.toml; did you mean 'magpsf'?\n\
         p.sql:5:25: there is no column 'cand'\n    did you mean 'candid'?",
    )
    .await;
    check_with(
        "candidate.jd",
        "INSERT INTO copy SELECT score(candidate.jd) AS s FROM alerts;",
        "p.sql:3:25: the `where` of module 'score', `candidate.jd`: it gives Float64, not true or false\n    \
         correct …/module.toml; write CAST(… AS …), or use another column",
    )
    .await;
}

#[tokio::test]
async fn the_where_of_a_module_that_is_switched_off_is_no_matter() {
    let (_folder, registry) = module("candidate.magpfs < 20");
    let text = "INSERT INTO copy SELECT CASE WHEN 'off' = 'on' THEN score(candidate.jd) END AS s FROM alerts;";
    compiled_with(text, "night", &registry).await.unwrap();
}

#[tokio::test]
async fn a_module_after_unnest_or_in_an_option_is_told_with_all_others() {
    check_with(
        "true",
        "INSERT INTO copy SELECT score(p.jd) AS s FROM (SELECT unnest(prv_candidates) AS p FROM alerts);\n\
         CREATE EXTERNAL TABLE t STORED AS TOPIC LOCATION 't' OPTIONS ('key' 'score(jd)');\n\
         INSERT INTO t SELECT candidate.jd AS jd FROM alerts;\nINSERT INTO copy SELECT cand FROM alerts;",
        "p.sql:3:25: a science module is called after unnest\n    call it in a view before, and use its column\n\
         p.sql:4:70: option 'key' of table 't': the science module 'score' is called here\n    \
         call it in a view, and use its column\n\
         p.sql:6:25: there is no column 'cand'\n    did you mean 'candid'?",
    )
    .await;
}
