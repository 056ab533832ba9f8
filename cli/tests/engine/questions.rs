//! `redpoll sql` over tables that a pipeline wrote: questions of all shapes, through the real engine.

use std::path::Path;

use arrow::util::display::array_value_to_string;
use redpoll_cli::client::Client;
use redpoll_cli::roles::{self, Embedded, EmbeddedConfig, Purpose};
use redpoll_core::protocol::Pipeline;
use redpoll_scheduler::coordinator::{JobConfig, Mode};

use crate::cluster::until;

/// Three alerts of three objects, with 14, 13 and 32 earlier detections.
const PIPELINE: &str = "
CREATE EXTERNAL TABLE alerts STORED AS ALERTS LOCATION '${source}';
CREATE EXTERNAL TABLE ztf.raw STORED AS DELTA LOCATION 'raw';
CREATE EXTERNAL TABLE classes STORED AS DELTA LOCATION 'classes';
CREATE EXTERNAL TABLE ztf.objects STORED AS STORE LOCATION 'store:objects' OPTIONS ('row_key' '{objectId}');
INSERT INTO ztf.raw SELECT objectId, candid, candidate, prv_candidates, night(candidate.jd) AS night FROM alerts;
INSERT INTO classes SELECT objectId, CASE WHEN candidate.magpsf < 16 THEN 'VS' ELSE 'SN' END AS class FROM alerts;
INSERT INTO ztf.objects SELECT objectId, candidate.magpsf AS magpsf FROM alerts WHERE candidate.magpsf > 16;
";

/// Rows apart by semicolons, values by spaces.
const RIGHT: &[(&str, &str)] = &[
    ("SELECT count(*) FROM ztf.raw", "3"),
    (
        "SELECT a.objectId, b.class FROM ztf.raw a JOIN classes b ON a.objectId = b.objectId ORDER BY a.objectId",
        "ZTF18abecvir SN; ZTF18acjzbxi VS; ZTF19abbpaqb SN",
    ),
    (
        "SELECT objectId, class FROM ztf.raw JOIN classes USING (objectId) WHERE candidate.magpsf < 16",
        "ZTF18acjzbxi VS",
    ),
    (
        "SELECT raw.objectId FROM ztf.raw, classes WHERE raw.objectId = classes.objectId AND class = 'VS'",
        "ZTF18acjzbxi",
    ),
    (
        "SELECT r.objectId FROM ztf.raw r LEFT JOIN ztf.objects o ON r.objectId = o.objectId WHERE o.objectId IS NULL",
        "ZTF18acjzbxi",
    ),
    (
        "SELECT a.* EXCLUDE (candidate, prv_candidates, night, _topic, _partition, _offset, _epoch, redpoll_notes, redpoll_versions) FROM ztf.raw a CROSS JOIN (SELECT 1 AS one) WHERE one = 1 ORDER BY candid LIMIT 1",
        "ZTF18abecvir 1788110916115010009",
    ),
    (
        "WITH faint AS (SELECT * FROM ztf.raw WHERE candidate.magpsf > 16), n AS (SELECT count(*) AS n FROM faint) SELECT n FROM n",
        "2",
    ),
    ("WITH a (o) AS (SELECT objectId FROM classes WHERE class = 'VS') SELECT x.o FROM a AS x", "ZTF18acjzbxi"),
    (
        "SELECT objectId FROM ztf.raw WHERE objectId IN (SELECT objectId FROM classes WHERE class = 'SN') ORDER BY objectId",
        "ZTF18abecvir; ZTF19abbpaqb",
    ),
    (
        "SELECT objectId FROM ztf.raw r WHERE EXISTS (SELECT 1 FROM classes c WHERE c.objectId = r.objectId AND class = 'VS')",
        "ZTF18acjzbxi",
    ),
    (
        "SELECT objectId FROM ztf.raw WHERE candidate.magpsf = (SELECT max(candidate.magpsf) FROM ztf.raw)",
        "ZTF19abbpaqb",
    ),
    (
        "SELECT (SELECT max(class) FROM classes c WHERE c.objectId = r.objectId) AS best FROM ztf.raw r ORDER BY best",
        "SN; SN; VS",
    ),
    ("SELECT objectId FROM ztf.raw UNION SELECT objectId FROM classes ORDER BY objectId LIMIT 1", "ZTF18abecvir"),
    ("SELECT count(*) FROM (SELECT objectId FROM ztf.raw UNION ALL SELECT objectId FROM classes)", "6"),
    ("SELECT objectId FROM ztf.raw EXCEPT SELECT objectId FROM ztf.objects", "ZTF18acjzbxi"),
    ("SELECT class, count(*) AS n FROM classes GROUP BY class HAVING count(*) > 1 ORDER BY n DESC, class", "SN 2"),
    (
        "SELECT objectId, row_number() OVER (ORDER BY candidate.magpsf) AS rank FROM ztf.raw ORDER BY rank",
        "ZTF18acjzbxi 1; ZTF18abecvir 2; ZTF19abbpaqb 3",
    ),
    (
        "SELECT objectId FROM (SELECT objectId, rank() OVER w AS r FROM ztf.raw WINDOW w AS (ORDER BY candid DESC)) WHERE r = 1",
        "ZTF19abbpaqb",
    ),
    (
        "SELECT objectId, count(*) FROM (SELECT objectId, unnest(prv_candidates) AS p FROM ztf.raw) WHERE p.jd > 0 GROUP BY objectId ORDER BY objectId",
        "ZTF18abecvir 32; ZTF18acjzbxi 13; ZTF19abbpaqb 14",
    ),
    ("SELECT cardinality(filter(prv_candidates, x -> x.jd < candidate.jd)) AS n FROM ztf.raw ORDER BY n", "13; 14; 32"),
    ("SELECT number FROM (VALUES (1, 'a'), (2, 'b')) AS v (number, letter) WHERE letter = 'b'", "2"),
    ("SELECT night, count(*) FROM ztf.raw GROUP BY ROLLUP (night) ORDER BY night NULLS LAST", "20211124 3;  3"),
];

/// Each with the places and names that the answer must have.
const MISSPELT: &[(&str, &[&str])] = &[
    ("SELECT objectID FROM ztf.raw", &["1:8", "did you mean 'objectId'?"]),
    (
        "SELECT b.clas FROM ztf.raw a JOIN classes b ON a.objectId = b.objctId",
        &["1:10", "'class'", "1:63", "'objectId'"],
    ),
    ("SELECT objectId FROM ztf.raw WHERE objectId IN (SELECT objectid FROM classes)", &["1:56", "'objectId'"]),
    ("WITH a AS (SELECT objectId AS o FROM classes) SELECT a.oo FROM a", &["1:56", "'a' has no column 'oo'"]),
    ("SELECT objectId FROM ztf.rwa", &["1:22", "did you mean 'ztf.raw'?"]),
    ("SELECT candidate.magpfs FROM ztf.raw JOIN classes USING (objectId)", &["1:18", "'magpsf'"]),
    ("SELECT cuont(*) FROM classes", &["1:8", "did you mean 'count'?"]),
    ("SELECT class + 1 FROM classes WHERE class > candid", &["1:45", "there is no column 'candid'"]),
];

async fn cluster(warehouse: &Path) -> (Embedded, Client) {
    let config = EmbeddedConfig {
        warehouse: warehouse.display().to_string(),
        purpose: Purpose::Work,
        vcores: 2,
        memory: None,
        modules: vec![],
        cache: warehouse.join("cache"),
    };
    let cluster = roles::embedded(config).await.unwrap();
    let client = Client::new(format!("http://{}", cluster.address).parse().unwrap()).unwrap();
    (cluster, client)
}

async fn answer(client: &Client, question: &str) -> Result<String, String> {
    let rows = client.sql(question).await.map_err(|error| error.to_string())?;
    let (_, batches) = rows.collect().await.map_err(|error| error.to_string())?;
    let mut rows = Vec::new();
    for batch in &batches {
        for row in 0..batch.num_rows() {
            let values = batch.columns().iter().map(|column| array_value_to_string(column, row).unwrap());
            rows.push(values.collect::<Vec<_>>().join(" "));
        }
    }
    Ok(rows.join("; "))
}

#[tokio::test(flavor = "multi_thread")]
async fn questions_of_all_shapes_are_answered() {
    let folder = tempfile::tempdir().unwrap();
    let (cluster, client) = cluster(folder.path()).await;
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/ztf/ztf_multi_3.avro");
    let here = folder.path().display().to_string();
    let pipeline = Pipeline {
        text: PIPELINE.to_owned(),
        file: "questions.sql".to_owned(),
        folder: here.clone(),
        working_folder: here,
        variables: [("source".to_owned(), source.display().to_string())].into(),
        ..Pipeline::default()
    };
    client.submit(&JobConfig::new("questions", Mode::AvailableNow), &pipeline, None).await.unwrap();
    until("the job ends", async || client.job("questions").await.unwrap().ended.is_some()).await;

    for (question, expected) in RIGHT {
        assert_eq!(answer(&client, question).await.as_deref(), Ok(*expected), "{question}");
    }
    for (question, told) in MISSPELT {
        let refused = answer(&client, question).await.unwrap_err();
        assert!(told.iter().all(|text| refused.contains(text)), "{question}\n{refused}");
    }
    cluster.shutdown().await;
}
