//! What a native function is: a name, the types it takes and gives, and a loop over Arrow arrays.
//!
//! [`Kernel`] carries these as data and implements DataFusion's trait once for all of them, so that every function
//! refuses wrong arguments in the same words, with its usage, when the query is planned.

use std::hash::{Hash, Hasher};
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Float64Array};
use arrow::buffer::NullBuffer;
use arrow::datatypes::{DataType, Field, FieldRef, Float64Type};
use datafusion::common::{Result, ScalarValue, internal_err, plan_err};
use datafusion::logical_expr::{
    ColumnarValue, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDFImpl, Signature, Volatility,
};

/// Types that the arguments are cast to, or what is wrong with those given.
pub(super) type Coerced = std::result::Result<Vec<DataType>, String>;

/// A function of whole columns.
#[derive(Debug, Clone)]
pub(super) struct Kernel {
    pub name: &'static str,
    /// How it is called, with the units of the arguments. Shown when they do not fit.
    pub usage: &'static str,
    pub coerce: fn(&[DataType]) -> Coerced,
    /// The type of the result, from the coerced types.
    pub returns: fn(&[DataType]) -> DataType,
    /// Refuses arguments that are constants of the query and can never work.
    pub check: fn(&[Option<&ScalarValue>]) -> std::result::Result<(), String>,
    /// The result of arguments that were cast to the coerced types, all of one length.
    pub eval: fn(&[ArrayRef]) -> Result<ArrayRef>,
    signature: Signature,
}

impl Kernel {
    pub fn new(
        name: &'static str,
        usage: &'static str,
        coerce: fn(&[DataType]) -> Coerced,
        returns: fn(&[DataType]) -> DataType,
        eval: fn(&[ArrayRef]) -> Result<ArrayRef>,
    ) -> Self {
        // We cast ourselves: errors of DataFusion's coercion come late and bury the reason in boilerplate.
        let signature = Signature::variadic_any(Volatility::Immutable);
        Self { name, usage, coerce, returns, check: |_| Ok(()), eval, signature }
    }

    pub fn with_check(mut self, check: fn(&[Option<&ScalarValue>]) -> std::result::Result<(), String>) -> Self {
        self.check = check;
        self
    }

    fn coerced(&self, given: &[DataType]) -> Result<Vec<DataType>> {
        (self.coerce)(given).or_else(|reason| plan_err!("{}: {reason}; usage: {}", self.name, self.usage))
    }
}

impl PartialEq for Kernel {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

impl Eq for Kernel {}

impl Hash for Kernel {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.name.hash(state);
    }
}

impl ScalarUDFImpl for Kernel {
    fn name(&self) -> &str {
        self.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, given: &[DataType]) -> Result<DataType> {
        Ok((self.returns)(&self.coerced(given)?))
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs) -> Result<FieldRef> {
        let given: Vec<_> = args.arg_fields.iter().map(|field| field.data_type().clone()).collect();
        let data_type = self.return_type(&given)?;
        if let Err(reason) = (self.check)(args.scalar_arguments) {
            return plan_err!("{}: {reason}; usage: {}", self.name, self.usage);
        }
        Ok(Arc::new(Field::new(self.name, data_type, true)))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let given: Vec<_> = args.args.iter().map(ColumnarValue::data_type).collect();
        let cast = args.args.iter().zip(self.coerced(&given)?).map(|(arg, wanted)| match arg.data_type() == wanted {
            true => Ok(arg.clone()),
            false => arg.cast_to(&wanted, None),
        });
        let cast = cast.collect::<Result<Vec<_>>>()?;
        let constant = cast.iter().all(|arg| matches!(arg, ColumnarValue::Scalar(_)));
        let result = (self.eval)(&ColumnarValue::values_to_arrays(&cast)?)?;
        match constant {
            true => Ok(ColumnarValue::Scalar(ScalarValue::try_from_array(&result, 0)?)),
            false => Ok(ColumnarValue::Array(result)),
        }
    }
}

/// `N` arguments, each a number of any type, taken as doubles.
pub(super) fn numbers<const N: usize>(given: &[DataType]) -> Coerced {
    if given.len() != N {
        return Err(format!("{} arguments given, {N} wanted", given.len()));
    }
    match given.iter().position(|t| !(t.is_numeric() || t.is_null())) {
        Some(i) => Err(format!("argument {} is {}, not a number", i + 1, named(&given[i]))),
        None => Ok(vec![DataType::Float64; N]),
    }
}

/// A type in a message: one that nests is named, its fields would fill a page.
pub(super) fn named(data_type: &DataType) -> String {
    match data_type {
        DataType::Struct(fields) => format!("a struct of {} fields", fields.len()),
        DataType::List(item) => match item.data_type() {
            DataType::Struct(_) => "a list of structs".to_owned(),
            item => format!("a list of {item}"),
        },
        other => other.to_string(),
    }
}

/// Applies `f` to the rows where no argument is null, and collects them into an array.
pub(super) fn map<const N: usize, R, A: FromIterator<Option<R>>>(
    args: &[ArrayRef],
    f: impl Fn([f64; N]) -> Option<R>,
) -> Result<A> {
    let columns = args.iter().map(|arg| arg.as_primitive_opt::<Float64Type>());
    let columns: Option<Vec<_>> = columns.collect();
    let Some(Ok(columns)) = columns.map(<[&Float64Array; N]>::try_from) else {
        return internal_err!("{} arguments are not {N} columns of doubles", args.len());
    };
    let nulls = columns.iter().fold(None, |nulls, column| NullBuffer::union(nulls.as_ref(), column.nulls()));
    let known = |row| nulls.as_ref().is_none_or(|nulls| nulls.is_valid(row));
    let value = |row| known(row).then(|| f(columns.map(|column| column.value(row)))).flatten();
    Ok((0..args[0].len()).map(value).collect())
}
