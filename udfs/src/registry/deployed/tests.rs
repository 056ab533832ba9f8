use std::fs;

use super::*;
use crate::registry::{Deployment, Filter};

fn deployed(folder: &tempfile::TempDir) -> Deployed {
    Deployed::of(&Stores::default(), folder.path().join("warehouse").to_str().unwrap()).unwrap()
}

/// A module whose lock stands in the folder above it, with a model beside it.
fn module(folder: &FilePath, factor: u32) -> Arc<Module> {
    let dir = folder.join("surveys/double");
    fs::create_dir_all(dir.join("models")).unwrap();
    fs::create_dir_all(dir.join("tests")).unwrap();
    fs::write(folder.join("surveys/lock.txt"), "numpy==1.26.4\n").unwrap();
    fs::write(dir.join("double.py"), format!("def double(x):\n    return x * {factor}\n")).unwrap();
    fs::write(dir.join("models/weights.bin"), [0_u8, 159, 255]).unwrap();
    fs::write(dir.join("tests/test_double.py"), "assert False").unwrap();
    let manifest = "name = \"double\"\nsurvey = \"ztf\"\nfunction = \"double:double\"\nreturns = \"double\"\n\
                    inputs = [{ name = \"x\", type = \"double\" }]\n[environment]\npython = \"3.11\"\n\
                    requirements = \"../lock.txt\"\n";
    fs::write(dir.join("module.toml"), manifest).unwrap();
    Arc::new(Module::load(&dir.join("module.toml")).unwrap())
}

fn deployment(fingerprint: &str) -> Deployment {
    let (fingerprint, environment) = (fingerprint.to_owned(), "3.11".to_owned());
    Deployment { fingerprint, environment, added_at: 0, shadow: None }
}

async fn add(deployed: &Deployed, name: &str, fingerprint: &str) -> State {
    let change = |state: &mut State| {
        state.modules.insert(name.to_owned(), deployment(fingerprint));
        Ok::<_, Error>(format!("module {name} is new"))
    };
    deployed.change(change).await.unwrap()
}

#[tokio::test]
async fn a_bundle_comes_back_as_the_module_that_was_packed() {
    let folder = tempfile::tempdir().unwrap();
    let (deployed, module) = (deployed(&folder), module(folder.path(), 2));
    deployed.upload(&module).await.unwrap();
    deployed.upload(&module).await.unwrap();
    let cache = folder.path().join("cache");
    let fetched = deployed.fetch("double", &module.fingerprint, &cache).await.unwrap();
    assert_eq!((&fetched.fingerprint, &fetched.name), (&module.fingerprint, &module.name));
    assert_eq!(fetched.environment.lock, module.environment.lock);
    assert!(fetched.dir.starts_with(cache.join("modules").join(&module.fingerprint)));
    assert_eq!(fs::read(fetched.dir.join("models/weights.bin")).unwrap(), [0, 159, 255]);
    assert!(!fetched.dir.join("tests").exists());
    let again = Deployed::at(&Stores::default(), fetched.bundles.as_ref().unwrap()).unwrap();
    assert_eq!(again.fetch("double", &module.fingerprint, &cache).await.unwrap().dir, fetched.dir);
}

#[tokio::test]
async fn a_bundle_that_was_altered_or_is_missing_is_refused_with_the_remedy() {
    let folder = tempfile::tempdir().unwrap();
    let (deployed, module) = (deployed(&folder), module(folder.path(), 2));
    let cache = folder.path().join("cache");
    let error = deployed.fetch("double", "0123", &cache).await.unwrap_err().to_string();
    assert!(error.starts_with("module double: ") && error.ends_with("deploy the module again"), "{error}");
    deployed.put_bundle("0123", bundle::pack(&module).unwrap()).await.unwrap();
    let error = deployed.fetch("double", "0123", &cache).await.unwrap_err().to_string();
    assert!(error.contains("it was altered"), "{error}");
    assert_eq!(fs::read_dir(cache.join("modules")).unwrap().count(), 0);
}

#[test]
fn a_file_beside_the_manifest_changes_the_fingerprint_and_a_test_does_not() {
    let folder = tempfile::tempdir().unwrap();
    let first = module(folder.path(), 2).fingerprint.clone();
    fs::write(folder.path().join("surveys/double/tests/more.py"), "").unwrap();
    let load = || Module::load(&folder.path().join("surveys/double/module.toml")).unwrap().fingerprint;
    assert_eq!(load(), first);
    fs::write(folder.path().join("surveys/double/models/weights.bin"), [1]).unwrap();
    assert_ne!(load(), first);
}

#[tokio::test]
async fn of_two_changes_at_one_time_none_is_lost() {
    let folder = tempfile::tempdir().unwrap();
    let deployed = deployed(&folder);
    assert_eq!(deployed.read().await.unwrap(), State::default());
    let names: Vec<String> = (0..8).map(|n| format!("m{n}")).collect();
    futures::future::join_all(names.iter().map(|name| add(&deployed, name, "f"))).await;
    let state = deployed.read().await.unwrap();
    assert_eq!((state.number, state.modules.len()), (8, 8));
    assert!(deployed.newer(8).await.unwrap().is_none());
    assert_eq!(deployed.newer(3).await.unwrap().unwrap(), state);
}

#[tokio::test]
async fn a_writer_that_slept_through_a_sweep_changes_nothing_that_is_read() {
    let folder = tempfile::tempdir().unwrap();
    let deployed = deployed(&folder);
    for n in 0..KEPT + 5 {
        add(&deployed, "m", &n.to_string()).await;
    }
    assert_eq!(deployed.numbers(0).await.unwrap().len() as u64, KEPT + 1);
    let late = State { number: 2, change: "late".into(), ..State::default() };
    assert!(!deployed.put(&late).await.unwrap());
    assert_eq!(deployed.read().await.unwrap().modules["m"].fingerprint, (KEPT + 4).to_string());
}

#[tokio::test]
async fn a_change_that_is_refused_or_changes_nothing_writes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let deployed = deployed(&folder);
    let refused = deployed.change(|_| Err::<String, _>(Error::Ended("no".into()))).await;
    assert_eq!(refused.unwrap_err().to_string(), "no");
    deployed.change(|_| Ok::<_, Error>(String::new())).await.unwrap();
    assert_eq!(deployed.read().await.unwrap().number, 0);
}

#[test]
fn a_filter_belongs_to_its_job_alone() {
    let mut state = State::default();
    state.filters.insert("a".into(), Filter::default());
    state.filters.insert("b".into(), Filter { job: "ztf".into(), ..Filter::default() });
    let of = |job| state.filters_of(job).map(|(name, _)| name.as_str()).collect::<Vec<_>>();
    assert_eq!((of("ztf"), of("lsst")), (vec!["b"], vec![]));
}
