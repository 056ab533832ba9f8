use std::path::Path;

use super::*;

/// A module in a system's Python, which needs no building.
fn module(dir: &Path, code: &str) -> Module {
    std::fs::write(dir.join("score.py"), code).unwrap();
    let manifest = "name = \"score\"\nsurvey = \"ztf\"\nfunction = \"score:score\"\nkind = \"row\"\nreturns = \"double\"\n\
                    inputs = [{ name = \"x\", type = \"double\" }]\n[environment]\npython = \"/usr/bin/python3\"\n";
    std::fs::write(dir.join("module.toml"), manifest).unwrap();
    Module::load(&dir.join("module.toml")).unwrap()
}

fn problems(code: &str) -> Vec<String> {
    let dir = tempfile::tempdir().unwrap();
    let environments = Environments::new(dir.path().join("cache")).unwrap();
    let checked = check(&environments, &module(dir.path(), code)).unwrap();
    checked.problems.iter().map(|problem| format!("{problem}; {}", problem.remedy)).collect()
}

#[test]
fn a_package_that_is_used_but_not_imported_is_told_with_its_place() {
    let code = "def score(x):\n    return np.median([x])\n";
    assert_eq!(problems(code), ["score.py:2:12: `np` is used but not imported; add `import numpy as np`"]);
}

#[test]
fn a_misspelt_name_is_told_its_nearest() {
    let code = "import math\n\ndef score(value):\n    return math.sqrtt(vlaue)\n";
    let expected = [
        "score.py:4:12: `math` has no `sqrtt`; did you mean `sqrt`?",
        "score.py:4:23: `vlaue` is not defined; did you mean `value`?",
    ];
    assert_eq!(problems(code), expected);
}

#[test]
fn parameters_and_a_missing_function_are_held_against_the_manifest() {
    let expected = "score.py:1:1: `score(a, b)` does not take the 1 inputs of module.toml; give it the parameters x, or \
                    change `inputs`";
    assert_eq!(problems("def score(a, b):\n    return a\n"), [expected]);
    let expected = "score.py:1:1: there is no function `score`; did you mean `scor`? correct `function` in module.toml";
    assert_eq!(problems("def scor(x):\n    return x\n"), [expected]);
}

#[test]
fn without_its_environment_names_are_checked_all_the_same() {
    let dir = tempfile::tempdir().unwrap();
    let mut module = module(dir.path(), "import no_such_package\n\ndef score(x):\n    return y\n");
    module.environment.requirements = Some(dir.path().join("requirements.lock"));
    let environments = Environments::new(dir.path().join("cache")).unwrap();
    let checked = check(&environments, &module).unwrap();
    let told: Vec<String> = checked.problems.iter().map(ToString::to_string).collect();
    assert_eq!((told, checked.in_environment), (vec!["score.py:4:12: `y` is not defined".to_owned()], false));
    // Known by its fingerprint: the files are not looked at again.
    std::fs::remove_file(dir.path().join("score.py")).unwrap();
    assert_eq!(check(&environments, &module).unwrap(), checked);
}
