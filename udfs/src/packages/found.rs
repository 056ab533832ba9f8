//! A function of a package, and whether it can be used.

use serde::{Deserialize, Serialize};

use crate::manifest::Kind;

/// A function that may be a science module; without a name, a module of the package that has none.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
pub struct Found {
    /// `fink_science.ztf.asteroids.processor`.
    pub module: String,
    pub function: Option<String>,
    pub survey: Option<String>,
    pub state: State,
    /// Why it cannot be used or was not tried, or what failed in part.
    pub reason: String,
    pub kind: Option<Kind>,
    #[serde(default)]
    pub inputs: Vec<Input>,
    pub returns: Option<String>,
    pub about: Option<String>,
    /// Time of one call on the sample alerts.
    pub seconds: Option<f64>,
}

/// A parameter of a function.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
pub struct Input {
    pub name: String,
    /// Only functions that are declared for Redpoll have types.
    #[serde(rename = "type", default, skip_serializing_if = "Option::is_none")]
    pub sql_type: Option<String>,
    #[serde(default)]
    pub optional: bool,
    #[serde(default)]
    pub key: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// It gave values for sample alerts.
    Runs,
    /// It can be imported; no sample alerts have its inputs.
    Loads,
    /// It cannot be used.
    No,
}
