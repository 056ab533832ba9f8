use super::*;
use crate::manifest::Lock;

fn environment(python: &str, lock: &str) -> manifest::Environment {
    let path = Path::new("requirements.txt");
    manifest::Environment {
        python: python.into(),
        requirements: Some(path.into()),
        lock: Lock::parse(path, lock).unwrap(),
    }
}

#[test]
fn equal_locks_share_an_environment() {
    let key = |python, lock| key(&environment(python, lock));
    assert_eq!(key("3.11", "a==1\nb==2\n"), key("3.11", "# comment\nb==2\na==1\n"));
    assert_ne!(key("3.11", "a==1\n"), key("3.12", "a==1\n"));
    assert_ne!(key("3.11", "a==1\n"), key("3.11", "a==2\n"));
}

#[test]
fn an_environment_is_built_once() {
    let cache = tempfile::tempdir().unwrap();
    let environments = Environments::new(cache.path()).unwrap();
    let wanted = environment("3.11", "");
    let built: Vec<_> = std::thread::scope(|scope| {
        let builders: Vec<_> = (0..2).map(|_| scope.spawn(|| environments.interpreter(&wanted).unwrap())).collect();
        builders.into_iter().map(|builder| builder.join().unwrap()).collect()
    });
    assert_eq!(built[0], built[1]);
    let ran = Command::new(&built[0]).args(["-c", "import sys; print(sys.prefix)"]).output().unwrap();
    assert_eq!(
        String::from_utf8(ran.stdout).unwrap().trim(),
        built[0].parent().unwrap().parent().unwrap().to_str().unwrap()
    );
    let venvs = std::fs::read_dir(cache.path().join("envs")).unwrap().filter(|e| e.as_ref().unwrap().path().is_dir());
    assert_eq!(venvs.count(), 1);
}

#[test]
fn a_failed_build_shows_what_the_installer_said_and_leaves_nothing() {
    let cache = tempfile::tempdir().unwrap();
    let error = Environments::new(cache.path())
        .unwrap()
        .interpreter(&environment("3.11", "numpy==0.0.0.dev999"))
        .unwrap_err()
        .to_string();
    assert!(error.starts_with("requirements.txt: building its environment with python 3.11 failed at `"), "{error}");
    assert!(error.contains("numpy==0.0.0.dev999"), "{error}");
    let left = std::fs::read_dir(cache.path().join("envs")).unwrap().filter(|e| e.as_ref().unwrap().path().is_dir());
    assert_eq!(left.count(), 0);
}

#[test]
fn an_interpreter_without_requirements_is_used_as_it_is() {
    let cache = tempfile::tempdir().unwrap();
    let bare = manifest::Environment { python: "/usr/bin/python3".into(), requirements: None, lock: Lock::default() };
    assert_eq!(Environments::new(cache.path()).unwrap().interpreter(&bare).unwrap(), Path::new("/usr/bin/python3"));
}
