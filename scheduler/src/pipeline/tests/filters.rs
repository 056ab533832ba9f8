//! Filters behind the text of a pipeline: their tables, and where their problems are told.

use std::time::{Duration, Instant};

use redpoll_udfs::registry::Filter;

use super::*;
use crate::pipeline::filters::statements;

const TEXT: &str = "CREATE EXTERNAL TABLE alerts STORED AS ALERTS LOCATION 'night';
CREATE EXTERNAL TABLE copy STORED AS DELTA LOCATION 'copy';
CREATE EXTERNAL TABLE out STORED AS TOPIC LOCATION 'topics/out';
CREATE VIEW good AS SELECT *, candid + 1 AS next FROM alerts WHERE candid > 5;
INSERT INTO copy SELECT * FROM good;
INSERT INTO out SELECT * FROM good WHERE next > 7;
";

fn filter(condition: &str) -> Filter {
    Filter { over: "good".into(), condition: condition.into(), location: "topics/f".into(), ..Filter::default() }
}

async fn with(text: &str, filters: &[(&str, &str)]) -> Result<Compiled, Problems> {
    let filters = filters.iter().map(|(name, condition)| Ok((name.to_string(), statements(name, &filter(condition))?)));
    let filters = filters.collect::<Result<_, Problems>>()?;
    let pipeline = Pipeline { text: text.into(), file: "p.sql".into(), filters, ..Pipeline::default() };
    compile(&pipeline, &functions::all(), &Registry::default(), &Desk).await
}

async fn told(text: &str, filters: &[(&str, &str)]) -> String {
    let Err(problems) = with(text, filters).await else { panic!("nothing is wrong") };
    problems.to_string()
}

#[tokio::test]
async fn a_filter_is_a_table_of_the_job_over_its_view() {
    let Ok(compiled) = with(TEXT, &[("bright", "candidate.magpsf < 16 -- mag"), ("soon", "next = 8")]).await else {
        panic!("does not compile")
    };
    let outline = compiled.outline();
    let names: Vec<_> = outline.sinks.iter().map(|sink| sink.name.as_str()).collect();
    assert_eq!(names, ["copy", "out", "bright", "soon"]);
    let bright = &outline.inserts[2];
    assert_eq!((bright.over.as_deref(), bright.rules[0].text.as_str()), (Some("good"), "candidate.magpsf < 16"));
    assert_eq!((compiled.base_of_topics(), compiled.archives_of("bright")), ("good", vec!["copy".to_owned()]));
}

#[tokio::test]
async fn problems_of_a_filter_are_told_at_the_places_of_its_condition() {
    let expected = "filter bright:2:5: there is no column 'nextt'\n    did you mean 'next'?";
    assert_eq!(
        told(TEXT, &[("a", "next = 8"), ("bright", "candid > 3\nAND nextt = 8"), ("c", "true")]).await,
        expected
    );
    let unparsable = told(TEXT, &[("bright", "candid >> AND")]).await;
    assert!(unparsable.starts_with("filter bright:1:"), "{unparsable}");
    let not_one = told(TEXT, &[("bright", "true GROUP BY candid")]).await;
    assert!(not_one.starts_with("filter bright:0:0: "), "{not_one}");
}

#[tokio::test]
async fn a_filter_that_has_the_name_of_a_table_is_refused() {
    let twice = told(TEXT, &[("out", "true")]).await;
    assert!(twice.contains("'out' is declared twice"), "{twice}");
}

#[tokio::test]
async fn problems_of_the_text_keep_their_places_and_those_of_filters_their_names() {
    let text = TEXT.replace("next > 7", "nexxt > 7");
    let both = told(&text, &[("bright", "nextt = 8")]).await;
    assert!(both.starts_with("p.sql:6:"), "{both}");
    assert!(both.contains("p.sql:0:0: filter bright: there is no column 'nextt'"), "{both}");
}

#[tokio::test]
async fn a_thousand_filters_are_planned_while_whoever_adds_one_waits() {
    let conditions: Vec<(String, String)> = (0..1000)
        .map(|n| (format!("f{n}"), format!("candidate.magpsf < {} AND next > {n}", 12.0 + n as f64 / 250.0)))
        .collect();
    let filters: Vec<(&str, &str)> = conditions.iter().map(|(name, text)| (name.as_str(), text.as_str())).collect();
    let begun = Instant::now();
    let compiled = with(TEXT, &filters).await;
    let took = begun.elapsed();
    assert!(compiled.is_ok_and(|compiled| compiled.sinks.len() == 1002));
    println!("planned in {took:?}");
    // Whatever this machine is busy with; a second is usual without optimisation.
    assert!(took < Duration::from_secs(60), "{took:?}");
}
