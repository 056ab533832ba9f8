//! A science module as the SQL planner knows it.

use std::hash::{Hash, Hasher};
use std::sync::Arc;

use arrow::datatypes::DataType;
use datafusion::common::{DataFusionError, Result, exec_err, plan_err};
use datafusion::logical_expr::{ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility};

use crate::manifest::Module;

/// A function with the module's name, inputs and result, for planning alone: the planner lifts its calls out of
/// expressions, and calling it is an error.
pub fn placeholder_udf(module: &Arc<Module>) -> ScalarUDF {
    // Volatile, so that the optimiser neither computes calls over constants nor pushes filters through them.
    let signature = Signature::user_defined(Volatility::Volatile);
    ScalarUDF::from(ModuleFunction { module: Arc::clone(module), signature })
}

#[derive(Debug)]
struct ModuleFunction {
    module: Arc<Module>,
    signature: Signature,
}

impl PartialEq for ModuleFunction {
    fn eq(&self, other: &Self) -> bool {
        self.module.name == other.module.name && self.module.fingerprint == other.module.fingerprint
    }
}

impl Eq for ModuleFunction {}

impl Hash for ModuleFunction {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.module.name.hash(state);
    }
}

impl ScalarUDFImpl for ModuleFunction {
    fn name(&self) -> &str {
        &self.module.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _arguments: &[DataType]) -> Result<DataType> {
        Ok(self.module.returns.data_type().clone())
    }

    fn coerce_types(&self, arguments: &[DataType]) -> Result<Vec<DataType>> {
        let Module { name, inputs, .. } = self.module.as_ref();
        let wanted = self.module.n_arguments();
        if !wanted.contains(&arguments.len()) {
            let (least, most) = wanted.into_inner();
            let count = if least == most { most.to_string() } else { format!("{least} to {most}") };
            return plan_err!("{name} takes {count} arguments ({}), not {}", self.module.signature(), arguments.len());
        }
        for (input, argument) in inputs.iter().zip(arguments) {
            if !input.sql_type.is_any() && !fits(argument, input.sql_type.data_type()) {
                return plan_err!("{name}: argument `{}` must be {}, not {argument}", input.name, input.sql_type);
            }
        }
        Ok(inputs.iter().zip(arguments).map(|(input, argument)| input.sql_type.of_argument(argument)).collect())
    }

    fn invoke_with_args(&self, _arguments: ScalarFunctionArgs) -> Result<ColumnarValue, DataFusionError> {
        exec_err!("science module `{}` runs in an Enrich node and cannot be called inside an expression", self.name())
    }
}

/// Whether a cast keeps the meaning: numbers to numbers, text to text, and so on inside lists, maps and structs.
fn fits(from: &DataType, to: &DataType) -> bool {
    use DataType::*;
    match (from, to) {
        (Null, _) => true,
        (Dictionary(_, value), _) => fits(value, to),
        (List(a) | LargeList(a) | ListView(a) | LargeListView(a) | FixedSizeList(a, _), List(b)) => {
            fits(a.data_type(), b.data_type())
        }
        (Map(a, _), Map(b, _)) => fits(a.data_type(), b.data_type()),
        (Struct(a), Struct(b)) => {
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| fits(a.data_type(), b.data_type()))
        }
        (Timestamp(_, _), Timestamp(_, _)) | (Date32 | Date64, Date32) => true,
        (Utf8 | LargeUtf8 | Utf8View, Utf8) => true,
        (Binary | LargeBinary | BinaryView | FixedSizeBinary(_), Binary) => true,
        _ => from == to || (from.is_numeric() && to.is_numeric()),
    }
}
