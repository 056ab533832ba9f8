//! Errors of the parser and the planner as problems: each with its place, and a remedy where that is plain.

use datafusion::error::DataFusionError;
use datafusion::execution::SessionState;
use datafusion::sql::parser::Statement;
use redpoll_udfs::functions::{Place, place};

use super::problem::Problem;

/// Why a statement cannot be planned. `start` stands in where the error has no place.
pub(super) async fn unplannable(
    state: &SessionState,
    statement: &Statement,
    error: &DataFusionError,
    start: (u64, u64),
) -> Problem {
    let (at, message) = match place(state, statement, error).await {
        Some(Place { location, reason }) => ((location.line, location.column), reason),
        None => plan_error(error, start),
    };
    problem(at, &message)
}

/// The place and message of a parser's error, which ends in ` at Line: 3, Column: 7`.
pub(super) fn unparsable(error: &DataFusionError, start: (u64, u64)) -> Problem {
    let text = error.strip_backtrace();
    let text = text.trim_start_matches("SQL error: ").to_owned();
    let number = |after: &str| {
        let digits: String = text.rsplit(after).next()?.chars().take_while(char::is_ascii_digit).collect();
        digits.parse::<u64>().ok()
    };
    let place = match (text.contains("Line: "), number("Line: "), number("Column: ")) {
        (true, Some(line), Some(column)) => (line, column),
        _ => start,
    };
    let message = text.split(" at Line:").next().unwrap_or(&text);
    Problem::at(place, message.trim_start_matches("ParserError(\"").trim_end_matches("\")"), "")
}

/// An error of the planner that no statement is there for.
pub(super) fn refused(error: &DataFusionError, start: (u64, u64)) -> Problem {
    let (at, message) = plan_error(error, start);
    problem(at, &message)
}

fn problem(at: (u64, u64), message: &str) -> Problem {
    let message = message.trim_start_matches("Error during planning: ");
    match remedy(message) {
        "" => Problem::told(at, message),
        remedy => Problem::at(at, message, remedy),
    }
}

/// What to do about an error of the planner, where that is plain.
fn remedy(message: &str) -> &'static str {
    let says = |words: &[&str]| words.iter().any(|word| message.contains(word));
    match () {
        () if says(&["coerce", "common argument type"]) => "write CAST(… AS …) where the types differ",
        () if says(&["ambiguous", "unique expression names"]) => "give one of the two another name with AS",
        () => "",
    }
}

fn plan_error(error: &DataFusionError, start: (u64, u64)) -> ((u64, u64), String) {
    let span = error.diagnostic().and_then(|diagnostic| diagnostic.span);
    let place = span.map_or(start, |span| (span.start.line, span.start.column));
    let root = error.find_root().strip_backtrace();
    let message = root.split_once(": ").filter(|(kind, _)| kind.ends_with("error") || kind.ends_with("Error"));
    (place, message.map_or(root.clone(), |(_, message)| message.to_owned()))
}
