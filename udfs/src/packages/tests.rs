use super::*;
use crate::manifest::Kind;

fn found(module: &str, function: &str) -> Found {
    let input = |name: &str, optional| Input { name: name.into(), sql_type: None, optional, key: false };
    Found {
        module: module.into(),
        function: Some(function.into()),
        survey: Some("ztf".into()),
        state: State::Runs,
        reason: String::new(),
        kind: Some(Kind::Row),
        inputs: vec![input("lc_features", false), input("model", true)],
        returns: Some("map<int,struct<mean:double>>".into()),
        about: Some("Says \"how\" odd it is".into()),
        seconds: None,
    }
}

fn package(folder: &Path) -> Package {
    std::fs::write(folder.join("requirements.txt"), "pandas==1.5.3\npyarrow==14.0.2\n").unwrap();
    let folder = folder.to_path_buf();
    Package {
        name: "a-package".into(),
        import_name: "a_package".into(),
        python: "3.11".into(),
        requirements: vec![],
        folder,
    }
}

#[test]
fn a_function_becomes_a_module() {
    let dir = tempfile::tempdir().unwrap();
    let written = write(&package(dir.path()), vec![found("a_package.ztf.odd", "score")], &|_| false).unwrap();
    let module = written[0].module.as_ref().unwrap();
    assert_eq!(
        (module.name.as_str(), module.kind, module.about.as_str()),
        ("score", Kind::Row, "Says \"how\" odd it is")
    );
    assert_eq!(
        (module.function.as_str(), module.signature().as_str()),
        ("a_package.ztf.odd:score", "lc_features, [model]")
    );
    assert_eq!(module.environment.lock.text(), "pandas==1.5.3\npyarrow==14.0.2\n");
}

#[test]
fn a_name_that_is_taken_gets_a_part_of_the_path() {
    let dir = tempfile::tempdir().unwrap();
    let all = vec![
        found("p.rubin.cats", "score"),
        found("p.ztf.cats", "score"),
        found("p.ztf.dogs", "score"),
        found("p.b", "night"),
    ];
    let written = write(&package(dir.path()), all, &|name| name == "night").unwrap();
    let names: Vec<_> = written.iter().map(|one| one.module.as_ref().unwrap().name.as_str()).collect();
    assert_eq!(names, ["score", "ztf_score", "dogs_score", "b_night"]);
}

#[test]
fn what_cannot_be_used_is_no_module() {
    let dir = tempfile::tempdir().unwrap();
    let refused = Found { state: State::No, reason: "it crashes Python: SIGSEGV".into(), ..found("p.a", "score") };
    let written =
        write(&package(dir.path()), vec![refused, Found { function: None, ..found("p.b", "") }], &|_| false).unwrap();
    assert!(written.iter().all(|one| one.module.is_none()));
}

#[test]
fn what_a_scan_answers_is_read() {
    let answer = r#"[{"module": "p.a", "function": "score", "survey": "ztf", "state": "runs", "reason": "", "kind": "pandas",
        "inputs": [{"name": "x"}, {"name": "model", "optional": true}], "returns": "double", "about": "", "seconds": 0.1},
        {"module": "p.b", "function": null, "survey": null, "state": "no", "reason": "why", "kind": null, "inputs": [],
        "returns": null, "about": "", "seconds": null}]"#;
    let read: Vec<Found> = serde_json::from_str(answer).unwrap();
    assert_eq!((read[0].state, read[0].inputs[1].optional, read[1].state), (State::Runs, true, State::No));
}
