//! `crossmatch` and `crossmatch_all` as the planner knows them: functions that give the columns of a catalogue. Their
//! calls are lifted out of expressions and become `Match` steps; called they are never.

use std::collections::BTreeMap;
use std::hash::{Hash, Hasher};
use std::ops::ControlFlow;
use std::sync::{Arc, PoisonError, RwLock};

use datafusion::arrow::datatypes::{DataType, Field, FieldRef, SchemaRef};
use datafusion::common::{Result, ScalarValue, exec_err, plan_err};
use datafusion::logical_expr::{
    ColumnarValue, Expr, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility, cast,
};
use datafusion::sql::sqlparser::ast;
use redpoll_core::catalog::{Catalog, Cone, MAX_RADIUS};

use super::problem::nearest;

/// The function for one match, and the one for all.
const NAMES: [(&str, bool); 2] = [("crossmatch", false), ("crossmatch_all", true)];

/// Catalogues that a pipeline declares, by name, with their columns.
pub(super) type Catalogs = BTreeMap<String, Listed>;

/// A catalogue as it was found.
#[derive(Debug, Clone)]
pub struct Listed {
    pub catalog: Catalog,
    /// The columns that matches have.
    pub columns: SchemaRef,
}

/// A call, with its constants read.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Call {
    pub catalog: String,
    pub cone: Cone,
    /// Right ascension and declination, as doubles.
    pub position: [Expr; 2],
}

impl Call {
    /// The name of the function that it calls.
    pub fn function(&self) -> &'static str {
        NAMES[usize::from(self.cone.all)].0
    }
}

/// The functions, over catalogues that are declared while the pipeline is read.
pub(super) fn functions(catalogs: &Arc<RwLock<Catalogs>>) -> impl Iterator<Item = ScalarUDF> {
    NAMES.into_iter().map(|(name, all)| {
        // Volatile, so that the optimiser neither computes calls over constants nor pushes filters through them.
        let signature = Signature::variadic_any(Volatility::Volatile);
        ScalarUDF::from(Crossmatch { name, all, catalogs: catalogs.clone(), signature })
    })
}

pub(super) fn is_crossmatch(function: &str) -> bool {
    NAMES.iter().any(|(name, _)| *name == function)
}

/// The call that an expression is, after its arguments were checked.
pub(super) fn call(expr: &Expr) -> Option<Call> {
    let Expr::ScalarFunction(call) = expr else { return None };
    let (_, all) = NAMES.into_iter().find(|(name, _)| *name == call.func.name())?;
    let [Expr::Literal(catalog, _), ra, dec, Expr::Literal(radius, _)] = call.args.as_slice() else { return None };
    let position = [ra, dec].map(|angle| cast(angle.clone(), DataType::Float64));
    Some(Call { catalog: text(catalog)?, cone: Cone { radius: number(radius)?, all }, position })
}

/// Whether a query asks one of these catalogues.
pub(super) fn asks(query: &ast::Query, catalogs: impl Fn(&str) -> bool) -> bool {
    let found = ast::visit_expressions(query, |expr| {
        let ast::Expr::Function(function) = expr else { return ControlFlow::Continue(()) };
        let ast::FunctionArguments::List(list) = &function.args else { return ControlFlow::Continue(()) };
        let first = match list.args.first() {
            Some(ast::FunctionArg::Unnamed(ast::FunctionArgExpr::Expr(ast::Expr::Value(value)))) => &value.value,
            _ => return ControlFlow::Continue(()),
        };
        match first {
            ast::Value::SingleQuotedString(name) if is_crossmatch(&function.name.to_string()) && catalogs(name) => {
                ControlFlow::Break(())
            }
            _ => ControlFlow::Continue(()),
        }
    });
    found.is_break()
}

#[derive(Debug)]
struct Crossmatch {
    name: &'static str,
    all: bool,
    catalogs: Arc<RwLock<Catalogs>>,
    signature: Signature,
}

impl PartialEq for Crossmatch {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

impl Eq for Crossmatch {}

impl Hash for Crossmatch {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.name.hash(state);
    }
}

impl Crossmatch {
    /// What a call gives, or what is wrong with it.
    fn returns(&self, args: &ReturnFieldArgs) -> std::result::Result<DataType, String> {
        if args.arg_fields.len() != 4 {
            return Err(format!("{} arguments given, 4 wanted", args.arg_fields.len()));
        }
        let constant = |i: usize| args.scalar_arguments.get(i).copied().flatten();
        let Some(name) = constant(0).and_then(text) else {
            return Err("argument 1 is not the name of a catalogue in quotes".to_owned());
        };
        for (i, angle) in args.arg_fields.iter().enumerate().take(3).skip(1) {
            if !(angle.data_type().is_numeric() || angle.data_type().is_null()) {
                return Err(format!("argument {} is {}, not a number of degrees", i + 1, angle.data_type()));
            }
        }
        let Some(radius) = constant(3).and_then(number) else {
            return Err("argument 4 is not a constant number of arcseconds".to_owned());
        };
        if !(radius > 0.0 && radius <= MAX_RADIUS) {
            return Err(format!("a radius of {radius} arcseconds; it is more than 0 and at most {MAX_RADIUS}"));
        }
        let catalogs = self.catalogs.read().unwrap_or_else(PoisonError::into_inner);
        match catalogs.get(&name) {
            Some(listed) => Ok(Cone { radius, all: self.all }.returns(listed.columns.fields())),
            None if catalogs.is_empty() => Err(format!(
                "there is no catalogue '{name}'; declare it: CREATE EXTERNAL TABLE {name} STORED AS CATALOG LOCATION '…'"
            )),
            None => {
                let near = nearest(&name, catalogs.keys().map(String::as_str));
                Err(format!("there is no catalogue '{name}'; {near}"))
            }
        }
    }
}

impl ScalarUDFImpl for Crossmatch {
    fn name(&self) -> &str {
        self.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        plan_err!("{}: its type is that of the catalogue which argument 1 names", self.name)
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs) -> Result<FieldRef> {
        match self.returns(&args) {
            Ok(data_type) => Ok(Arc::new(Field::new(self.name, data_type, true))),
            Err(reason) => {
                let name = self.name;
                plan_err!(
                    "{name}: {reason}; usage: {name}('catalogue', ra, dec, radius): degrees, radius in arcseconds"
                )
            }
        }
    }

    fn invoke_with_args(&self, _: ScalarFunctionArgs) -> Result<ColumnarValue> {
        exec_err!("{} runs in a Match node and cannot be called inside an expression", self.name)
    }
}

fn text(value: &ScalarValue) -> Option<String> {
    value.try_as_str().flatten().map(str::to_owned)
}

fn number(value: &ScalarValue) -> Option<f64> {
    if !value.data_type().is_numeric() {
        return None;
    }
    match value.cast_to(&DataType::Float64) {
        Ok(ScalarValue::Float64(number)) => number,
        _ => None,
    }
}
