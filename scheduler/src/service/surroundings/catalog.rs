//! Catalogues: their columns, and what of them must not change while a job runs.

use redpoll_connectors::catalog;
use redpoll_core::catalog::CatalogSpec;

use super::super::Service;
use crate::pipeline::{At, Finding, Listed};

/// The catalogue as it is, or as it was at a lock if that can still be had.
pub(in crate::service) async fn listed(
    service: &Service,
    spec: &CatalogSpec,
    lock: Option<&str>,
) -> Result<Listed, Vec<Finding>> {
    if let Err(error) = service.bucket(&spec.url).await {
        return Err(vec![Finding::problem(At::Declaration, error)]);
    }
    match catalog::open(spec, &service.inner.stores, lock).await {
        Ok(source) => Ok(Listed { catalog: source.catalog, columns: source.schema }),
        Err(error) => {
            let at = error.option().map_or(At::Declaration, |option| At::Value(option.to_owned()));
            Err(vec![Finding::problem(at, error)])
        }
    }
}
