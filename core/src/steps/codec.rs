//! Steps between processes: name, parameters, expressions and schemas in one message.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::hash::Hash;
use std::sync::Arc;

use arrow::datatypes::{Schema, SchemaRef};
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::TaskContext;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_plan::ExecutionPlan;
use datafusion_proto::physical_plan::DefaultPhysicalExtensionCodec;
use datafusion_proto::physical_plan::from_proto::parse_physical_expr;
use datafusion_proto::physical_plan::to_proto::serialize_physical_expr;
use datafusion_proto::protobuf;
use prost::Message;

use super::{Cut, Decode, Enrich, FanOut, Fetch, Identify, Match, Parts, Step, StepExec, internal};
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
    /// Places in `exprs` and `schemas`, which have each of them once: a thousand filters have one list of columns.
    #[prost(uint32, repeated, tag = "5")]
    expr_places: Vec<u32>,
    #[prost(uint32, repeated, tag = "6")]
    schema_places: Vec<u32>,
}

/// Values that are told apart, each once, and the places of all.
struct Once<T> {
    values: Vec<T>,
    places: Vec<u32>,
}

impl<T: Clone + Eq + Hash> Once<T> {
    fn of<'a>(all: impl IntoIterator<Item = &'a T>) -> Self
    where
        T: 'a,
    {
        let mut known: HashMap<&T, u32> = HashMap::new();
        let (mut values, mut places) = (Vec::new(), Vec::new());
        for value in all {
            places.push(*known.entry(value).or_insert_with(|| {
                values.push(value.clone());
                values.len() as u32 - 1
            }));
        }
        Self { values, places }
    }
}

impl StepCodec {
    pub fn new(runtime: Option<Arc<dyn Runtime>>) -> Self {
        Self { runtime }
    }

    /// `None` if the node is not a step.
    pub fn encode(&self, node: &dyn ExecutionPlan) -> Result<Option<Vec<u8>>> {
        let Some(node) = node.downcast_ref::<StepExec>() else { return Ok(None) };
        let parts = node.step().parts()?;
        // Functions travel by name, so no codec but the default one is needed inside expressions.
        let codec = DefaultPhysicalExtensionCodec {};
        let (exprs, schemas) = (Once::of(&parts.exprs), Once::of(&parts.schemas));
        let (expr_places, schema_places) = (exprs.places, schemas.places);
        let exprs = exprs.values.iter().map(|expr| Ok(serialize_physical_expr(expr, &codec)?.encode_to_vec()));
        let schemas = schemas.values.iter().map(|schema| {
            let schema: protobuf::Schema = schema.as_ref().try_into().map_err(wrong)?;
            Ok(schema.encode_to_vec())
        });
        let wire = Wire {
            name: node.step().name().to_owned(),
            params: parts.params,
            exprs: exprs.collect::<Result<_>>()?,
            schemas: schemas.collect::<Result<_>>()?,
            expr_places,
            schema_places,
        };
        Ok(Some(wire.encode_to_vec()))
    }

    pub fn decode(
        &self,
        bytes: &[u8],
        inputs: &[Arc<dyn ExecutionPlan>],
        context: &TaskContext,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let wire = Wire::decode(bytes).map_err(wrong)?;
        let [input] = inputs else { return Err(internal(format!("{} has exactly one input", wire.name))) };
        let mut parts = Parts { params: wire.params, ..Parts::default() };
        let mut schemas: Vec<SchemaRef> = Vec::with_capacity(wire.schemas.len());
        for schema in &wire.schemas {
            let schema: Schema = (&protobuf::Schema::decode(&schema[..]).map_err(wrong)?).try_into().map_err(wrong)?;
            schemas.push(Arc::new(schema));
        }
        let lacking = || internal(format!("{} lacks a part; scheduler and executor differ in version", wire.name));
        for place in &wire.schema_places {
            parts.schemas.push(schemas.get(*place as usize).ok_or_else(lacking)?.clone());
        }
        // All expressions are over the input, but those of FanOut's later stages.
        let over = match wire.name.as_str() {
            "FanOut" => FanOut::expression_schemas(&parts, &input.schema())?,
            "Identify" => Identify::expression_schemas(&parts, &input.schema())?,
            _ => vec![input.schema(); wire.expr_places.len()],
        };
        // By place, and by the schema that it is over: one and the same for all expressions of a level.
        let mut parsed: HashMap<(u32, *const Schema), Arc<dyn PhysicalExpr>> = HashMap::new();
        for (place, schema) in wire.expr_places.iter().zip(&over) {
            let key = (*place, Arc::as_ptr(schema));
            if let Entry::Vacant(vacant) = parsed.entry(key) {
                let bytes = wire.exprs.get(*place as usize).ok_or_else(lacking)?;
                let expr = protobuf::PhysicalExprNode::decode(&bytes[..]).map_err(wrong)?;
                vacant.insert(parse_physical_expr(&expr, context, schema, &DefaultPhysicalExtensionCodec {})?);
            }
            parts.exprs.push(parsed[&key].clone());
        }
        let step: Arc<dyn Step> = match wire.name.as_str() {
            "Fetch" => Arc::new(Fetch::from_parts(&parts)?),
            "Decode" => Arc::new(Decode::from_parts(&parts)?),
            "Cut" => Arc::new(Cut::from_parts(&parts)?),
            "Enrich" => Arc::new(Enrich::from_parts(&parts)?),
            "Match" => Arc::new(Match::from_parts(&parts)?),
            "FanOut" => Arc::new(FanOut::from_parts(&parts)?),
            "Identify" => Arc::new(Identify::from_parts(&parts)?),
            name => {
                return Err(internal(format!("no step is called {name}; scheduler and executor differ in version")));
            }
        };
        Ok(Arc::new(StepExec::new(step, input.clone(), self.runtime.clone())))
    }
}

fn wrong(error: impl ToString) -> DataFusionError {
    internal(error.to_string())
}
