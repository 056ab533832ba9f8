//! What a pipeline's science modules take: what `redpoll check` tells of them before the night.

use datafusion::arrow::datatypes::DataType;
use datafusion::error::Result;
use datafusion::physical_plan::displayable;
use redpoll_core::ids::Epoch;
use redpoll_core::steps::EpochRun;
use redpoll_udfs::environment;
use redpoll_udfs::manifest::Module;
use serde::{Deserialize, Serialize};

use super::Compiled;
use super::chain::ChainStep;

/// Packages that come along with others and say little of an environment.
const ALONG: [&str; 14] = [
    "python-dateutil",
    "pytz",
    "six",
    "tzdata",
    "typing-extensions",
    "packaging",
    "pluggy",
    "iniconfig",
    "pygments",
    "pytest",
    "joblib",
    "threadpoolctl",
    "cloudpickle",
    "narwhals",
];
/// Packages that are named.
const NAMED: usize = 5;
/// Detections of a history, where nobody measured: about what a month of either survey has.
const HISTORY: f64 = 30.0;
/// Characters of a text, likewise.
const TEXT: f64 = 16.0;

/// One call of a science module.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ModuleCall {
    pub module: String,
    /// Its version.
    pub fingerprint: String,
    /// The view whose rows it is called for; all alerts without one.
    pub view: Option<String>,
    /// Its own `where`.
    pub gate: Option<String>,
    /// Modules of equal environments share workers.
    pub environment: String,
    pub python: String,
    /// The packages that say most of the environment, with their versions.
    pub packages: Vec<String>,
    /// Packages in all.
    pub n_packages: usize,
    /// Most rows of a call.
    pub batch_rows: usize,
    /// What goes to Python for one alert [bytes]: measured, or estimated from the types of its inputs.
    pub bytes_per_alert: f64,
    /// What one alert takes [µs], where `redpoll module bench` measured this version.
    pub micros_per_alert: Option<f64>,
}

impl Compiled {
    /// Each call of a module, in the order in which they run.
    pub fn module_calls(&self) -> Vec<ModuleCall> {
        let call = |step: &ChainStep| match step {
            ChainStep::Enrich { module, mask, .. } => {
                Some(call_of(self.registry.get(module).ok()?, self.view_of(mask.as_deref())))
            }
            ChainStep::Cut { .. } | ChainStep::Match { .. } => None,
        };
        self.steps.iter().filter_map(call).collect()
    }

    /// The plan of an epoch, over no splits, as text.
    pub fn explain(&self) -> Result<String> {
        let run = EpochRun {
            job: String::new(),
            job_uid: String::new(),
            epoch: Epoch(0),
            revision: 0,
            clock: 0,
            warehouse: String::new(),
            modules: self.modules.clone(),
        };
        Ok(displayable(self.plan(run, &[])?.as_ref()).indent(false).to_string())
    }
}

fn call_of(module: &Module, view: Option<String>) -> ModuleCall {
    let lock = &module.environment.lock;
    let packages = lock.packages().filter(|(name, _)| !ALONG.contains(name));
    let inputs = module.inputs.iter().map(|input| estimated_bytes(input.sql_type.data_type()));
    ModuleCall {
        module: module.name.clone(),
        fingerprint: module.fingerprint.clone(),
        view,
        gate: module.where_sql.clone(),
        environment: environment::key(&module.environment),
        python: module.environment.python.clone(),
        packages: packages.take(NAMED).map(|(name, version)| format!("{name} {version}")).collect(),
        n_packages: lock.packages().count(),
        batch_rows: module.batch_rows,
        bytes_per_alert: inputs.sum(),
        micros_per_alert: None,
    }
}

/// Bytes of one value, about.
fn estimated_bytes(data_type: &DataType) -> f64 {
    match data_type {
        DataType::List(item) | DataType::Map(item, _) => 4.0 + HISTORY * estimated_bytes(item.data_type()),
        DataType::Struct(fields) => fields.iter().map(|field| estimated_bytes(field.data_type())).sum(),
        DataType::Boolean => 0.125,
        other => other.primitive_width().map_or(TEXT, |width| width as f64),
    }
}

#[cfg(test)]
mod tests {
    use redpoll_udfs::registry::Registry;

    use super::*;

    #[test]
    fn a_call_tells_its_environment_and_what_goes_to_python() {
        let modules = concat!(env!("CARGO_MANIFEST_DIR"), "/../udfs/modules");
        let registry = Registry::load(&[modules]).unwrap();
        let call = call_of(registry.get("rise_rate").unwrap(), Some("good".into()));
        assert_eq!(call.packages, ["numpy 2.4.6", "pandas 3.1.1", "pyarrow 26.0.1"]);
        // Lists of double, float, float and int, and two ints.
        assert_eq!(call.bytes_per_alert, 4.0 * 4.0 + 30.0 * (8.0 + 4.0 + 4.0 + 4.0) + 8.0);
        assert_eq!((call.batch_rows, call.micros_per_alert), (8192, None));
        let fink = call_of(registry.get("nalerthist").unwrap(), None);
        assert_ne!(fink.environment, call.environment);
    }
}
