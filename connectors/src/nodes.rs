//! All plan nodes of ours between processes: the steps of an epoch, and the scan of a wide-column table.

use std::sync::Arc;

use datafusion::error::{DataFusionError, Result};
use datafusion::execution::TaskContext;
use datafusion::physical_plan::ExecutionPlan;
use redpoll_core::codec::NodeCodec;
use redpoll_core::runtime::Runtime;
use redpoll_core::steps::StepCodec;

use crate::widecolumn::ScanExec;

const STEP: u8 = b's';
const SCAN: u8 = b't';

/// Writes a letter for the kind of node, then what the kind writes.
#[derive(Debug)]
pub struct Nodes {
    steps: StepCodec,
}

impl Nodes {
    /// The scheduler, which runs no node, has no runtime.
    pub fn new(runtime: Option<Arc<dyn Runtime>>) -> Self {
        Self { steps: StepCodec::new(runtime) }
    }
}

impl NodeCodec for Nodes {
    fn encode(&self, node: &dyn ExecutionPlan) -> Result<Option<Vec<u8>>> {
        let tagged = |tag: u8, bytes: &[u8]| [&[tag], bytes].concat();
        if let Some(bytes) = self.steps.encode(node)? {
            return Ok(Some(tagged(STEP, &bytes)));
        }
        match node.downcast_ref::<ScanExec>() {
            Some(scan) => Ok(Some(tagged(SCAN, scan.to_json()?.as_bytes()))),
            None => Ok(None),
        }
    }

    fn decode(
        &self,
        bytes: &[u8],
        inputs: &[Arc<dyn ExecutionPlan>],
        ctx: &TaskContext,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let wrong = |reason: &str| DataFusionError::Internal(format!("a plan node cannot be read: {reason}"));
        match bytes.split_first() {
            Some((&STEP, bytes)) => self.steps.decode(bytes, inputs, ctx),
            Some((&SCAN, bytes)) => {
                let json = std::str::from_utf8(bytes).map_err(|_| wrong("it is not text"))?;
                ScanExec::from_json(json, inputs)
            }
            _ => Err(wrong("its kind is unknown")),
        }
    }
}
