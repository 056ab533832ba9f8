//! What can go wrong between a pipeline and a wide-column store.

/// An error of a wide-column table or of the store that holds it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    #[error("table '{table}' is not in the store; {remedy}")]
    MissingTable { table: String, remedy: String },
    #[error("column '{column}' of {place} is unknown; {remedy}")]
    MissingColumn { column: String, place: String, remedy: String },
    #[error("row key '{template}', character {position}: {reason}")]
    Template { template: String, position: usize, reason: String },
    #[error("families '{families}': {reason}")]
    Families { families: String, reason: String },
    #[error("option '{option}' of table '{table}': {reason}")]
    Option { option: String, table: String, reason: String },
    #[error("column '{column}' of type {data_type} {reason}")]
    Type { column: String, data_type: String, reason: String },
    #[error("table '{table}': {reason}; insert into a table of another name")]
    Conflict { table: String, reason: String },
    #[error("cell {column} of row '{key}' in table '{table}': {reason}")]
    Value { table: String, key: String, column: String, reason: String },
    #[error("location '{location}': {reason}")]
    Location { location: String, reason: String },
    #[error("store {location} is open in another process; connect to that process, or stop it")]
    Locked { location: String },
    #[error("store {location} cannot be reached: {reason}")]
    Unavailable { location: String, reason: String },
    #[error("table '{table}': {reason}")]
    Refused { table: String, reason: String },
    #[error("store {location}: {reason}")]
    Storage { location: String, reason: String },
    #[error("arrow: {0}")]
    Arrow(String),
}

impl From<arrow::error::ArrowError> for Error {
    fn from(error: arrow::error::ArrowError) -> Error {
        Error::Arrow(error.to_string())
    }
}

impl From<Error> for datafusion::error::DataFusionError {
    fn from(error: Error) -> Self {
        datafusion::error::DataFusionError::External(Box::new(error))
    }
}

/// "did you mean 'x'?", or the names there are.
pub(crate) fn nearest<'a>(word: &str, names: impl IntoIterator<Item = &'a str>) -> String {
    let names: Vec<&str> = names.into_iter().collect();
    let best = names.iter().map(|name| (strsim::jaro_winkler(word, name), *name)).max_by(|a, b| a.0.total_cmp(&b.0));
    match best {
        Some((score, name)) if score > 0.7 => format!("did you mean '{name}'?"),
        Some(_) => format!("there are: {}", names[..names.len().min(10)].join(", ")),
        None => "there are none yet".into(),
    }
}
