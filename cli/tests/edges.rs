//! Which crate may know which. An arrow points down, and the roles are strangers to each other:
//!
//! ```text
//! cli
//! scheduler  executor      simulator
//! connectors  udfs
//! core
//! proto
//! ```
//!
//! A crate that is new, or one that needs a new arrow, is added to `KNOWS` on purpose.

use std::collections::BTreeSet;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

/// Each crate by its folder, and the folders it may depend on, whether to build, to run or to test.
const KNOWS: &[(&str, &[&str])] = &[
    ("proto", &[]),
    ("core", &["proto"]),
    ("connectors", &["proto", "core"]),
    ("udfs", &["proto", "core"]),
    ("simulator", &[]),
    ("scheduler", &["proto", "core", "connectors", "udfs"]),
    ("executor", &["proto", "core", "connectors", "udfs"]),
    ("cli", &["proto", "core", "connectors", "udfs", "simulator", "scheduler", "executor"]),
];

/// Crates from outside that only some of ours may know, as prefixes of names, and who may.
const RESERVED: &[(&str, &[&str])] = &[
    // Plan nodes, connectors and functions run on any engine that runs DataFusion plans; the roles bind them to one.
    ("ballista-scheduler", &["scheduler"]),
    ("ballista-executor", &["executor"]),
    // Clients of a service are connectors; `core` holds words and nodes, without a network.
    ("rdkafka", &["connectors", "simulator"]),
    ("reqwest", &["connectors", "cli"]),
    ("deltalake", &["connectors"]),
    ("fjall", &["connectors"]),
    // HTTP is served by the roles.
    ("axum", &["scheduler", "executor", "cli"]),
];

/// A dependency line: the folder that has it and the name it asks for.
type Edge = (String, String);

fn edges(metadata: &Value) -> Result<BTreeSet<Edge>> {
    let mut edges = BTreeSet::new();
    for package in metadata["packages"].as_array().context("metadata without packages")? {
        let folder = folder(package["name"].as_str().context("a package without a name")?);
        for dependency in package["dependencies"].as_array().context("a package without dependencies")? {
            let name = dependency["name"].as_str().context("a dependency without a name")?;
            edges.insert((folder.to_owned(), name.to_owned()));
        }
    }
    Ok(edges)
}

/// The folder of one of our crates; a name from outside as it is.
fn folder(name: &str) -> &str {
    name.strip_prefix("redpoll-").unwrap_or(name)
}

fn forbidden(edges: &BTreeSet<Edge>) -> Vec<String> {
    let is_ours = |name: &str| name.starts_with("redpoll-");
    let may_know = |from: &str, name: &str| {
        if is_ours(name) {
            KNOWS.iter().any(|(ours, known)| *ours == from && known.contains(&folder(name)))
        } else {
            RESERVED.iter().all(|(reserved, who)| !name.starts_with(reserved) || who.contains(&from))
        }
    };
    let refused = edges.iter().filter(|(from, name)| !may_know(from, name));
    refused.map(|(from, name)| format!("{from} must not know {}", folder(name))).collect()
}

fn workspace() -> Result<Value> {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version", "1", "--no-deps", "--offline"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()?;
    ensure!(output.status.success(), "cargo metadata: {}", String::from_utf8_lossy(&output.stderr));
    Ok(serde_json::from_slice(&output.stdout)?)
}

#[test]
fn crates_know_only_those_below_them() -> Result<()> {
    assert_eq!(forbidden(&edges(&workspace()?)?), Vec::<String>::new());
    Ok(())
}

#[test]
fn every_crate_has_its_place_in_the_order() -> Result<()> {
    let metadata = workspace()?;
    let packages = metadata["packages"].as_array().context("metadata without packages")?;
    let found: BTreeSet<&str> = packages.iter().filter_map(|package| package["name"].as_str()).map(folder).collect();
    assert_eq!(found, KNOWS.iter().map(|(folder, _)| *folder).collect());
    Ok(())
}

#[test]
fn the_order_itself_has_no_arrow_that_points_up() {
    for (position, (folder, known)) in KNOWS.iter().enumerate() {
        let below: Vec<&str> = KNOWS[..position].iter().map(|(folder, _)| *folder).collect();
        assert!(known.iter().all(|name| below.contains(name)), "{folder} knows {known:?}, below it are {below:?}");
    }
    let roles = ["scheduler", "executor"];
    let strangers = KNOWS.iter().filter(|(folder, _)| roles.contains(folder));
    assert!(strangers.into_iter().all(|(_, known)| !roles.iter().any(|role| known.contains(role))));
}

#[test]
fn an_arrow_that_points_up_is_found() {
    let edge = |from: &str, name: &str| (from.to_owned(), name.to_owned());
    let edges = BTreeSet::from([
        edge("core", "redpoll-connectors"),
        edge("core", "rdkafka"),
        edge("core", "serde"),
        edge("executor", "redpoll-core"),
        edge("executor", "redpoll-scheduler"),
        edge("scheduler", "redpoll-executor"),
    ]);
    let expected = [
        "core must not know rdkafka",
        "core must not know connectors",
        "executor must not know scheduler",
        "scheduler must not know executor",
    ];
    assert_eq!(forbidden(&edges), expected);
}
