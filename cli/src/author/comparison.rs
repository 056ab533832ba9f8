//! A module beside the version of it that is deployed: the rows whose values differ.

use std::path::Path;
use std::sync::Arc;

use anyhow::Result;
use arrow::array::ArrayRef;
use arrow::datatypes::Field;
use redpoll_core::objects::Stores;
use redpoll_udfs::host::Host;
use redpoll_udfs::manifest::Module;
use redpoll_udfs::registry::{Deployed, Registry};
use serde::Serialize;

use super::sample::Sample;
use super::trial::{self, Arguments, Trial};
use crate::args::Modules;
use crate::output::cells;
use crate::shipped;

/// Rows that are shown.
const SHOWN: usize = 5;

/// What came of holding two versions together.
#[derive(Debug, Clone, Serialize)]
pub struct Comparison {
    /// First digits of the deployed version's fingerprint.
    pub version: String,
    /// It is the same version, so that nothing was run again.
    pub same: bool,
    pub n_rows: usize,
    pub n_differ: usize,
    pub shown: Vec<Differing>,
    /// Why they cannot be held together row by row.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub not_comparable: Option<String>,
}

#[derive(Debug, Clone, Serialize)]
pub struct Differing {
    pub id: String,
    pub deployed: Option<String>,
    pub new: Option<String>,
}

/// The version that pipelines call by this name: the warehouse's, else the one that comes with redpoll.
pub async fn deployed(
    warehouse: Option<&str>,
    modules: &Modules,
    name: &str,
    cache: &Path,
) -> Result<Option<Arc<Module>>> {
    if let Some(warehouse) = warehouse {
        let registry = Deployed::of(&Stores::new(std::env::vars()), warehouse)?;
        if let Some(deployment) = registry.read().await?.modules.get(name) {
            return Ok(Some(registry.fetch(name, &deployment.fingerprint, cache).await?));
        }
    }
    Ok(Registry::load(&shipped::modules(&modules.modules)?)?.get(name).ok().cloned())
}

/// Runs the deployed version on the same alerts, unless it is the same.
pub async fn compare(
    host: &Host,
    deployed: &Arc<Module>,
    module: &Module,
    sample: &Sample,
    new: (&Arguments, &Trial),
) -> Result<Comparison> {
    let (arguments, trial) = new;
    let n_rows = trial.values.len();
    let version = deployed.fingerprint.chars().take(8).collect();
    let same = deployed.fingerprint == module.fingerprint;
    let mut comparison = Comparison { version, same, n_rows, n_differ: 0, shown: Vec::new(), not_comparable: None };
    if same {
        return Ok(comparison);
    }
    if deployed.returns.data_type() != module.returns.data_type() {
        comparison.not_comparable = Some(format!("its result is {}, and was {}", module.returns, deployed.returns));
        return Ok(comparison);
    }
    if deployed.where_sql != module.where_sql {
        comparison.not_comparable = Some("its `where` is another, so that other rows are evaluated".to_owned());
        return Ok(comparison);
    }
    // A version that says nothing of where its inputs come from was meant for the same ones.
    let inputs_are_same =
        deployed.inputs.iter().map(|input| &input.sql_type).eq(module.inputs.iter().map(|i| &i.sql_type));
    let before = match inputs_are_same && deployed.inputs.iter().all(|input| input.from.is_none()) {
        true => trial::run(host, deployed, arguments).await?,
        false => trial::run(host, deployed, &trial::arguments(deployed, sample).await?).await?,
    };
    let differing = differing(&arguments.ids, &before.values, &trial.values)?;
    comparison.n_differ = differing.len();
    comparison.shown = differing.into_iter().take(SHOWN).collect();
    Ok(comparison)
}

fn differing(ids: &[String], deployed: &ArrayRef, new: &ArrayRef) -> Result<Vec<Differing>> {
    let texts = |column: &ArrayRef| {
        let field = Field::new("value", column.data_type().clone(), true).into();
        cells::plain(&field, column)
    };
    let rows = ids.iter().zip(texts(deployed)?.into_iter().zip(texts(new)?));
    let differing = rows.filter(|(_, (deployed, new))| deployed != new);
    Ok(differing.map(|(id, (deployed, new))| Differing { id: id.clone(), deployed, new }).collect())
}

#[cfg(test)]
mod tests {
    use arrow::array::Float64Array;

    use super::*;

    #[test]
    fn rows_differ_by_the_last_digit_and_by_null_and_nan_is_nan() {
        let ids: Vec<String> = ["a", "b", "c", "d"].map(str::to_owned).to_vec();
        let old: ArrayRef = Arc::new(Float64Array::from(vec![Some(0.1), Some(f64::NAN), None, Some(0.3)]));
        let new: ArrayRef = Arc::new(Float64Array::from(vec![Some(0.1), Some(f64::NAN), Some(1.0), Some(0.1 + 0.2)]));
        let found: Vec<String> = differing(&ids, &old, &new).unwrap().into_iter().map(|row| row.id).collect();
        assert_eq!(found, ["c", "d"]);
    }
}
