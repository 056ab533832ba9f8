use datafusion::arrow::datatypes::{DataType, Field};
use datafusion::prelude::SessionContext;

use super::*;

const MODULES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/modules");

#[test]
fn the_modules_of_the_surveys_load() {
    let registry = Registry::load(&[MODULES]).unwrap();
    let names: Vec<_> = registry.iter().map(|module| module.name.as_str()).collect();
    let expected = [
        "flux_rate",
        "flux_statistics",
        "history_statistics",
        "nalerthist",
        "rise_rate",
        "roid_catcher",
        "standardized_flux",
    ];
    assert_eq!(names, expected);
    let [ours, fink] = ["rise_rate", "nalerthist"].map(|name| registry.get(name).unwrap().environment.lock.clone());
    assert_ne!(ours, fink);
    assert_eq!(ours, registry.get("flux_rate").unwrap().environment.lock);
}

#[test]
fn a_misspelt_module_is_told_its_nearest_name() {
    let registry = Registry::load(&[MODULES]).unwrap();
    let error = registry.get("roid_cacher").unwrap_err().to_string();
    assert_eq!(error, "there is no science module `roid_cacher`: did you mean `roid_catcher`?");
}

#[test]
fn a_name_declared_twice_is_refused() {
    let error = Registry::load(&[MODULES, MODULES]).unwrap_err().to_string();
    assert!(error.starts_with("module `flux_rate` is declared twice, in "), "{error}");
}

async fn planned(sql: &str) -> Result<DataType, String> {
    let registry = Registry::load(&[MODULES]).unwrap();
    let context = SessionContext::new();
    context.register_udf(placeholder_udf(registry.get("rise_rate").unwrap()));
    context.register_udf(placeholder_udf(registry.get("nalerthist").unwrap()));
    let plan = context.sql(sql).await.map_err(|error| error.to_string())?;
    let optimised = context.state().optimize(plan.logical_plan()).map_err(|error| error.to_string())?;
    Ok(optimised.schema().field(0).data_type().clone())
}

#[tokio::test]
async fn the_planner_knows_a_module_and_casts_its_arguments() {
    let returned = planned("SELECT rise_rate([1], [18.5], [0.1], [1, NULL], 2, 5)").await.unwrap();
    let DataType::Struct(fields) = returned else { panic!("{returned}") };
    assert_eq!(fields[1].as_ref(), &Field::new("rate", DataType::Float64, true));
    assert_eq!(planned("SELECT nalerthist([18.5])").await.unwrap(), DataType::Int32);
}

#[tokio::test]
async fn wrong_arguments_are_told_by_name_and_type() {
    let error = planned("SELECT nalerthist(['a'])").await.unwrap_err();
    assert!(error.contains("nalerthist: argument `magpsf` must be list<float>, not List"), "{error}");
    let error = planned("SELECT nalerthist()").await.unwrap_err();
    assert!(error.contains("nalerthist takes 1 arguments (magpsf list<float>), not 0"), "{error}");
}

#[tokio::test]
async fn a_module_of_any_types_takes_what_it_is_given() {
    let dir = tempfile::tempdir().unwrap();
    let text = "name = \"score\"\nsurvey = \"ztf\"\nfunction = \"a:score\"\nreturns = \"double\"\n\
        inputs = [{ name = \"features\" }, { name = \"model\", optional = true }]\n[environment]\npython = \"3.11\"\n";
    std::fs::write(dir.path().join("module.toml"), text).unwrap();
    let context = SessionContext::new();
    context.register_udf(placeholder_udf(Registry::load(&[dir.path()]).unwrap().get("score").unwrap()));
    for good in ["score([1.5])", "score(map {'a': [1]}, 'beta')", "score(struct(1 AS a), NULL)"] {
        context.sql(&format!("SELECT {good}")).await.map(|_| ()).unwrap();
    }
    let error = context.sql("SELECT score(1, 2, 3)").await.unwrap_err().to_string();
    assert!(error.contains("score takes 1 to 2 arguments (features, [model]), not 3"), "{error}");
}
