//! Questions over the archive: what is right is planned, what is misspelt is told with place and nearest name.

use std::collections::BTreeMap;
use std::sync::Arc;

use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::datasource::empty::EmptyTable;
use redpoll_udfs::functions;

use crate::pipeline::{Problems, plan_question, session};

fn tables() -> BTreeMap<String, SchemaRef> {
    let candidate = vec![
        Field::new("jd", DataType::Float64, true),
        Field::new("magpsf", DataType::Float32, true),
        Field::new("fid", DataType::Int32, true),
    ];
    let past = DataType::new_list(DataType::Struct(candidate.clone().into()), true);
    let raw = Schema::new(vec![
        Field::new("objectId", DataType::Utf8, true),
        Field::new("candid", DataType::Int64, true),
        Field::new_struct("candidate", candidate, true),
        Field::new("prv_candidates", past, true),
        Field::new("night", DataType::Int64, true),
    ]);
    let classes = Schema::new(vec![
        Field::new("objectId", DataType::Utf8, true),
        Field::new("class", DataType::Utf8, true),
        Field::new("score", DataType::Float64, true),
    ]);
    BTreeMap::from([("ztf.raw".to_owned(), Arc::new(raw)), ("classes".to_owned(), Arc::new(classes))])
}

async fn ask(question: &str) -> Result<(), Problems> {
    let context = session::context(&functions::all());
    for (name, schema) in tables() {
        session::register(&context, &name, Arc::new(EmptyTable::new(schema))).unwrap();
    }
    let statement = session::parse(question).unwrap().pop().unwrap();
    plan_question(&context, statement, &tables()).await.map(drop)
}

const RIGHT: &[&str] = &[
    "SELECT objectId, candidate.jd FROM ztf.raw WHERE candidate.magpsf < 18",
    "SELECT a.objectId, b.class FROM ztf.raw a JOIN classes b ON a.objectId = b.objectId",
    "SELECT raw.objectId, classes.score FROM ztf.raw LEFT JOIN classes USING (objectId)",
    "SELECT objectId, class FROM ztf.raw JOIN classes USING (objectId) WHERE score > 0.5",
    "SELECT a.candidate.jd, b.* FROM ztf.raw AS a, classes AS b WHERE a.objectId = b.objectId",
    "SELECT a.* EXCLUDE (prv_candidates), b.class FROM ztf.raw a CROSS JOIN classes b",
    "SELECT ztf.raw.objectId FROM ztf.raw",
    "SELECT x.n FROM (SELECT objectId, count(*) AS n FROM ztf.raw GROUP BY objectId) x WHERE x.n > 2",
    "SELECT o, n FROM (SELECT objectId, count(*) FROM ztf.raw GROUP BY 1) AS x (o, n)",
    "WITH bright AS (SELECT * FROM ztf.raw WHERE candidate.magpsf < 18) SELECT objectId, candidate.fid FROM bright",
    "WITH a AS (SELECT objectId AS o FROM ztf.raw), b (p) AS (SELECT o FROM a) SELECT a.o, b.p FROM a JOIN b ON a.o = b.p",
    "WITH RECURSIVE n AS (SELECT 1 AS i UNION ALL SELECT i + 1 FROM n WHERE i < 5) SELECT i FROM n",
    "SELECT objectId FROM ztf.raw WHERE objectId IN (SELECT objectId FROM classes WHERE class = 'SN')",
    "SELECT objectId FROM ztf.raw r WHERE EXISTS (SELECT 1 FROM classes c WHERE c.objectId = r.objectId AND score > 0.5)",
    "SELECT objectId FROM ztf.raw WHERE night = (SELECT max(night) FROM ztf.raw)",
    "SELECT objectId, (SELECT max(score) FROM classes c WHERE c.objectId = r.objectId) AS best FROM ztf.raw r",
    "SELECT objectId FROM ztf.raw UNION SELECT objectId FROM classes ORDER BY objectId",
    "SELECT objectId FROM ztf.raw EXCEPT SELECT objectId FROM classes",
    "SELECT objectId AS o FROM ztf.raw INTERSECT (SELECT objectId FROM classes) ORDER BY o DESC LIMIT 3",
    "SELECT objectId, row_number() OVER (PARTITION BY objectId ORDER BY candidate.jd DESC) AS r FROM ztf.raw QUALIFY r = 1",
    "SELECT objectId, lag(candidate.magpsf) OVER w FROM ztf.raw WINDOW w AS (PARTITION BY objectId ORDER BY candidate.jd)",
    "SELECT objectId, count(*) AS n FROM ztf.raw GROUP BY objectId HAVING count(*) > 1 ORDER BY n DESC, max(candidate.jd)",
    "SELECT night AS n, count(*) FROM ztf.raw GROUP BY n ORDER BY n",
    "SELECT night, candidate.fid, count(*) FROM ztf.raw GROUP BY ROLLUP (night, candidate.fid)",
    "SELECT count(*) FILTER (WHERE candidate.fid = 1) AS g FROM ztf.raw",
    "SELECT p.jd, p.magpsf FROM (SELECT unnest(prv_candidates) AS p FROM ztf.raw) WHERE p.fid = 1",
    "SELECT objectId, p FROM ztf.raw CROSS JOIN LATERAL (SELECT max(score) AS p FROM classes WHERE classes.objectId = raw.objectId) x",
    "SELECT prv_candidates.jd[-1], prv_candidates[1].magpsf FROM ztf.raw",
    "SELECT filter(prv_candidates, x -> x.magpsf < candidate.magpsf) FROM ztf.raw",
    "SELECT transform(prv_candidates.jd, jd -> jd - candidate.jd) FROM ztf.raw",
    "SELECT \"count(*)\" FROM (SELECT count(*) FROM ztf.raw)",
    "SELECT a.objectId FROM (ztf.raw a JOIN classes b ON a.objectId = b.objectId)",
    "SELECT * FROM (VALUES (1, 'a'), (2, 'b')) AS v (number, letter) WHERE number > 1 AND letter <> 'c'",
    "SELECT column1 FROM (VALUES (1), (2))",
    "SELECT value FROM generate_series(1, 3)",
    "SELECT DISTINCT ON (objectId) objectId, candidate.jd FROM ztf.raw ORDER BY objectId, candidate.jd DESC",
    "SELECT CASE WHEN class IS NULL THEN 'none' ELSE class END AS c FROM ztf.raw NATURAL JOIN classes",
    "SELECT EXTRACT(year FROM jd_to_timestamp(candidate.jd)) FROM ztf.raw",
    "EXPLAIN SELECT objectId FROM ztf.raw JOIN classes USING (objectId)",
    "SELECT 1 AS one",
];

#[tokio::test]
async fn a_question_that_is_right_is_never_refused_for_its_names() {
    for question in RIGHT {
        if let Err(problems) = ask(question).await {
            panic!("{question}\n{problems}");
        }
    }
}

/// Of names that stand in places of a query that is right otherwise: all are told, each with its place.
#[tokio::test]
async fn names_are_looked_up_where_they_stand() {
    let cases: &[(&str, &[&str])] = &[
        ("SELECT objectID FROM ztf.raw", &["1:8: there is no column 'objectID'", "did you mean 'objectId'?"]),
        (
            "SELECT candidate.magpfs FROM ztf.raw",
            &["1:18: 'candidate' has no field 'magpfs'", "did you mean 'magpsf'?"],
        ),
        ("SELECT objectId FROM ztf.rwa", &["1:22: there is no table 'ztf.rwa'", "did you mean 'ztf.raw'?"]),
        (
            "SELECT b.clas FROM ztf.raw a JOIN classes b ON a.objectId = b.objectId",
            &["1:10: 'b' has no column 'clas'", "did you mean 'class'?"],
        ),
        (
            "SELECT b.class FROM ztf.raw a JOIN classes b ON a.objctId = b.objectId",
            &["1:51: 'a' has no column 'objctId'", "did you mean 'objectId'?"],
        ),
        (
            "SELECT aa.objectId FROM ztf.raw a JOIN classes b ON a.objectId = b.objectId",
            &["1:8: there is no table or column 'aa'", "did you mean 'a'?"],
        ),
        ("SELECT class FROM ztf.raw JOIN classes USING (objctId)", &["1:47: there is no column 'objctId'"]),
        ("SELECT c.* FROM ztf.raw a", &["1:8: there is no table 'c' in FROM", "there is: a"]),
        (
            "SELECT * EXCLUDE (prv_candidate) FROM ztf.raw",
            &["1:19: there is no column 'prv_candidate'", "did you mean 'prv_candidates'?"],
        ),
        (
            "WITH bright AS (SELECT objectId AS o FROM ztf.raw) SELECT oo, p FROM brigth, bright",
            &["1:70: there is no table 'brigth'", "did you mean 'bright'?"],
        ),
        (
            "WITH bright AS (SELECT objectId AS name, candid FROM ztf.raw) SELECT nmae FROM bright",
            &["1:70: there is no column 'nmae'", "did you mean 'name'?"],
        ),
        (
            "WITH b AS (SELECT * FROM ztf.raw) SELECT candidate.mag FROM b",
            &["1:52: 'candidate' has no field 'mag'", "did you mean 'magpsf'?"],
        ),
        (
            "SELECT objectId FROM ztf.raw WHERE objectId IN (SELECT objectID FROM classes)",
            &["1:56: there is no column 'objectID'", "did you mean 'objectId'?"],
        ),
        (
            "SELECT objectId FROM ztf.raw r WHERE EXISTS (SELECT 1 FROM classes c WHERE c.objectId = r.objectld)",
            &["1:91: 'r' has no column 'objectld'", "did you mean 'objectId'?"],
        ),
        (
            "SELECT objectId FROM ztf.raw UNION SELECT objectid FROM classes",
            &["1:43: there is no column 'objectid'", "did you mean 'objectId'?"],
        ),
        ("SELECT x.m FROM (SELECT count(*) AS n FROM ztf.raw) x", &["1:10: 'x' has no column 'm'", "there is: n"]),
        (
            "SELECT p.magpfs FROM (SELECT unnest(prv_candidates) AS p FROM ztf.raw)",
            &["1:10: 'p' has no field 'magpfs'", "did you mean 'magpsf'?"],
        ),
        (
            "SELECT row_number() OVER (PARTITION BY objctId) FROM ztf.raw",
            &["1:40: there is no column 'objctId'", "did you mean 'objectId'?"],
        ),
        (
            "SELECT night AS n FROM ztf.raw ORDER BY nigth",
            &["1:41: there is no column 'nigth'", "did you mean 'night'?"],
        ),
        (
            "SELECT transform(prv_candidates.jd, x -> x - candidat.jd) FROM ztf.raw",
            &["1:46: there is no column 'candidat'", "did you mean 'candidate'?"],
        ),
        (
            "SELECT cuont(*) FROM ztf.raw",
            &["1:8: there is no function or science module 'cuont'", "did you mean 'count'?"],
        ),
        ("EXPLAIN SELECT objectID FROM ztf.raw", &["1:16: there is no column 'objectID'"]),
        ("SELECT prv_candidates.jdd[1] FROM ztf.raw", &["1:23: 'prv_candidates' has no field 'jdd'"]),
    ];
    for (question, told) in cases {
        let problems = ask(question).await.expect_err(question).to_string();
        for text in *told {
            assert!(problems.contains(text), "{question}\n{problems}");
        }
    }
}

#[tokio::test]
async fn all_misspelt_names_of_a_question_are_told_at_once() {
    let question = "WITH a AS (SELECT objctId FROM ztf.raw)\nSELECT b.clas, nigth(b.score) FROM a JOIN classes b ON b.objectId = a.objectId\n\
        WHERE b.score > (SELECT max(c.scoer) FROM classes c)";
    let problems = ask(question).await.unwrap_err();
    let places: Vec<_> = problems.problems.iter().map(|problem| (problem.line, problem.column)).collect();
    assert_eq!(places, [(1, 19), (2, 10), (2, 16), (3, 31)], "{problems}");
}
