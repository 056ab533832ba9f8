//! Native functions of the SQL: what alert streams need and DataFusion does not have.
//!
//! All compute in double precision, whatever number type the survey stores. One rule for what is missing: a null in
//! gives a null out, and so does an input that has no answer (a NaN position, a flux that is not positive), because
//! DataFusion orders NaN above every number and a cut `x > 5` would keep it.
//!
//! Executors resolve functions by name, so [`all`] is registered on the scheduler and on every executor.
//!
//! Adding one: an entry in the list of its theme's file.

mod difference;
mod kernel;
mod light_curve;
mod lists;
mod photometry;
mod sky;
mod time;

mod list_field;
mod paths;
mod place;
mod syntax;

use std::sync::Arc;

use datafusion::logical_expr::ScalarUDF;

pub use paths::StructPaths;
pub use place::{Place, place};
pub use syntax::{DIALECT, rewrite, rewrite_expression};

/// Every native function, for both registries (the session that plans, the executor that decodes plans).
pub fn all() -> Vec<Arc<ScalarUDF>> {
    let kernels = [
        time::functions(),
        sky::functions(),
        lists::functions(),
        photometry::functions(),
        difference::functions(),
        light_curve::functions(),
    ];
    let kernels = kernels.into_iter().flatten().map(ScalarUDF::from);
    kernels.chain([ScalarUDF::from(list_field::ListField::default())]).map(Arc::new).collect()
}

#[cfg(test)]
mod engine;
#[cfg(test)]
mod testing;
