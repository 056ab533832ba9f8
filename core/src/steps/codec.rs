//! Steps between processes: name, parameters, expressions and schemas in one message.

use std::sync::Arc;

use arrow::datatypes::Schema;
use datafusion::error::Result;
use datafusion::execution::TaskContext;
use datafusion::physical_plan::ExecutionPlan;
use datafusion_proto::protobuf;
use prost::Message;

use super::{Cut, Decode, Enrich, FanOut, Fetch, Parts, Step, StepExec, internal};
use crate::codec::{Exprs, NodeCodec};
use crate::runtime::Runtime;

/// Encodes steps on the scheduler, and decodes them on an executor around its runtime.
#[derive(Debug, Clone)]
pub struct StepCodec {
    runtime: Option<Arc<dyn Runtime>>,
}

#[derive(Clone, PartialEq, Message)]
struct Wire {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(string, tag = "2")]
    params: String,
    #[prost(bytes = "vec", repeated, tag = "3")]
    exprs: Vec<Vec<u8>>,
    #[prost(bytes = "vec", repeated, tag = "4")]
    schemas: Vec<Vec<u8>>,
}

impl StepCodec {
    pub fn new(runtime: Option<Arc<dyn Runtime>>) -> Self {
        Self { runtime }
    }
}

impl NodeCodec for StepCodec {
    fn encode(&self, node: &dyn ExecutionPlan, exprs: &Exprs<'_>) -> Result<Option<Vec<u8>>> {
        let Some(node) = node.downcast_ref::<StepExec>() else { return Ok(None) };
        let parts = node.step().parts()?;
        let schemas = parts.schemas.iter().map(|schema| {
            let schema: protobuf::Schema = schema.as_ref().try_into().map_err(wrong)?;
            Ok(schema.encode_to_vec())
        });
        let wire = Wire {
            name: node.step().name().to_owned(),
            params: parts.params,
            exprs: parts.exprs.iter().map(|expr| exprs.encode(expr)).collect::<Result<_>>()?,
            schemas: schemas.collect::<Result<_>>()?,
        };
        Ok(Some(wire.encode_to_vec()))
    }

    fn decode(
        &self,
        bytes: &[u8],
        inputs: &[Arc<dyn ExecutionPlan>],
        context: &TaskContext,
        exprs: &Exprs<'_>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let wire = Wire::decode(bytes).map_err(wrong)?;
        let [input] = inputs else { return Err(internal(format!("{} has exactly one input", wire.name))) };
        let mut parts = Parts { params: wire.params, ..Parts::default() };
        for schema in &wire.schemas {
            let schema: Schema = (&protobuf::Schema::decode(&schema[..]).map_err(wrong)?).try_into().map_err(wrong)?;
            parts.schemas.push(Arc::new(schema));
        }
        // All expressions are over the input, but those of FanOut's later stages.
        let over = match wire.name.as_str() {
            "FanOut" => FanOut::expression_schemas(&parts, &input.schema())?,
            _ => vec![input.schema(); wire.exprs.len()],
        };
        for (expr, schema) in wire.exprs.iter().zip(over) {
            parts.exprs.push(exprs.decode(expr, &schema, context)?);
        }
        let step: Arc<dyn Step> = match wire.name.as_str() {
            "Fetch" => Arc::new(Fetch::from_parts(&parts)?),
            "Decode" => Arc::new(Decode::from_parts(&parts)?),
            "Cut" => Arc::new(Cut::from_parts(&parts)?),
            "Enrich" => Arc::new(Enrich::from_parts(&parts)?),
            "FanOut" => Arc::new(FanOut::from_parts(&parts)?),
            name => return Err(internal(format!("no step is called {name}; scheduler and executor differ in version"))),
        };
        Ok(Arc::new(StepExec::new(step, input.clone(), self.runtime.clone())))
    }
}

fn wrong(error: impl ToString) -> datafusion::error::DataFusionError {
    internal(error.to_string())
}
