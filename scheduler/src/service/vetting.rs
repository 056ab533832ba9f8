//! Science modules before the night: names that are misspelt in their files, and what they cost.

use std::sync::Arc;

use redpoll_core::protocol::Pipeline;
use redpoll_udfs::author;
use redpoll_udfs::environment::Environments;
use redpoll_udfs::manifest::Module;
use redpoll_udfs::registry::Cost;
use tracing::warn;

use super::{Error, Service};
use crate::pipeline::{Compiled, ModuleCall, Problem, Problems};

impl Service {
    /// Fails with what is wrong in the files of the modules that a pipeline calls, told where it calls them. What was
    /// found of a version is kept, so that this takes milliseconds from the second time on.
    pub(super) async fn vet(&self, pipeline: &Pipeline, compiled: &Compiled) -> Result<(), Error> {
        let modules: Vec<Arc<Module>> = compiled.called().cloned().collect();
        if modules.is_empty() {
            return Ok(());
        }
        let environments =
            Environments::new(&self.inner.config.cache).map_err(|error| Error::failed("science modules", error))?;
        let checked = tokio::task::spawn_blocking(move || {
            let check = |module: &Arc<Module>| (author::check(&environments, module), module.clone());
            modules.iter().map(check).collect::<Vec<_>>()
        });
        let mut problems = Vec::new();
        for (checked, module) in checked.await.map_err(|error| Error::failed("science modules", error))? {
            match checked {
                Ok(checked) => {
                    let place = place(&pipeline.text, &module.name);
                    problems.extend(checked.problems.iter().map(|problem| {
                        let what = format!("science module '{}': {problem}", module.name);
                        Problem::at(place, what, problem.remedy.clone())
                    }));
                }
                // A scheduler without any Python still knows types and signatures.
                Err(error) => warn!(%error, "the files of a science module are not checked"),
            }
        }
        match problems.is_empty() {
            true => Ok(()),
            false => Err(Error::Pipeline(Problems { file: pipeline.file.clone(), problems })),
        }
    }

    /// Keeps what was measured of a version of a module, for whoever checks a pipeline.
    pub(super) async fn keep_cost(&self, fingerprint: &str, cost: &Cost) -> Result<(), Error> {
        let is_one = fingerprint.len() == 32 && fingerprint.chars().all(|c| c.is_ascii_hexdigit());
        if !is_one {
            return Err(Error::Refused(format!("'{fingerprint}' is no version of a module")));
        }
        let put = self.inner.deployed.put_cost(fingerprint, cost).await;
        put.map_err(|error| Error::failed("costs of modules", error))
    }

    /// What a pipeline's modules take, with what was measured of these versions.
    pub(super) async fn calls(&self, compiled: &Compiled) -> Result<Vec<ModuleCall>, Error> {
        let mut calls = compiled.module_calls();
        for call in &mut calls {
            let cost = self.inner.deployed.cost(&call.fingerprint).await;
            if let Some(cost) = cost.map_err(|error| Error::failed("costs of modules", error))? {
                call.bytes_per_alert = cost.bytes_per_alert;
                call.micros_per_alert = Some(cost.micros_per_alert);
            }
        }
        Ok(calls)
    }
}

/// Line and column, from 1, of the first call of a function in a text; its beginning if there is none.
fn place(text: &str, name: &str) -> (u64, u64) {
    let is_of_name = |c: char| c.is_alphanumeric() || c == '_';
    let is_call = |at: &usize| {
        let (before, after) = (&text[..*at], &text[at + name.len()..]);
        !before.ends_with(is_of_name) && after.trim_start().starts_with('(')
    };
    let Some(at) = text.match_indices(name).map(|(at, _)| at).find(is_call) else { return (1, 1) };
    let line_start = text[..at].rfind('\n').map_or(0, |newline| newline + 1);
    let line = text[..at].matches('\n').count() as u64 + 1;
    (line, text[line_start..at].chars().count() as u64 + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_problem_of_a_module_is_told_where_it_is_called() {
        let text = "-- my_score of all\nCREATE VIEW v AS SELECT *,\n    not_my_score(1) AS a, my_score (x) AS my_score FROM t;";
        assert_eq!(place(text, "my_score"), (3, 27));
        assert_eq!(place(text, "absent"), (1, 1));
    }
}
