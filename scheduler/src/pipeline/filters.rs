//! Filters: tables that are deployed to a job beside its text, each a topic and a condition.
//!
//! Their statements follow those of the text, and their problems are told at the places of their own conditions.

use redpoll_udfs::registry::Filter;

use super::problem::{Problem, Problems};
use super::statements::Reader;
use super::text::pieces;

/// Lines of a filter's statements before its condition.
const HEAD: u64 = 2;

/// The statements of a filter, or what is wrong with its words.
pub fn statements(name: &str, filter: &Filter) -> Result<String, Problems> {
    let wrong = |problem| Problems { file: file(name), problems: vec![problem] };
    if !is_name(name) {
        let remedy = "use letters, digits and '_', and no digit first";
        return Err(wrong(Problem::at((0, 0), format!("'{name}' is no name for a filter"), remedy)));
    }
    if !filter.over.split('.').all(is_name) {
        let message = format!("'{}' is no name of a view", filter.over);
        return Err(wrong(Problem::at((0, 0), message, "give the name of a view of the job with --over")));
    }
    for (what, text) in [("condition", Some(&filter.condition)), ("list of columns", filter.columns.as_ref())] {
        if text.map(|text| pieces(text)).transpose().map_err(wrong)?.is_some_and(|cut| cut.len() != 1) {
            let message = format!("the {what} is not one SQL expression");
            return Err(wrong(Problem::at((1, 1), message, "write one expression, without ';'")));
        }
    }
    let options: Vec<_> =
        filter.options.iter().map(|(name, value)| format!("{} {}", quoted(name), quoted(value))).collect();
    let options = if options.is_empty() { String::new() } else { format!(" OPTIONS ({})", options.join(", ")) };
    let (location, columns) = (quoted(&filter.location), filter.columns.as_deref().unwrap_or("*").replace('\n', " "));
    let Filter { over, condition, .. } = filter;
    Ok(format!(
        "CREATE EXTERNAL TABLE {name} STORED AS TOPIC LOCATION {location}{options};\n\
         INSERT INTO {name} SELECT {columns} FROM {over} WHERE\n{condition}\n"
    ))
}

fn is_name(word: &str) -> bool {
    !word.is_empty()
        && !word.starts_with(|first: char| first.is_ascii_digit())
        && word.chars().all(|char| char.is_ascii_alphanumeric() || char == '_')
}

fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

fn file(name: &str) -> String {
    format!("filter {name}")
}

/// Where the statements of filters stand behind the text of a pipeline, as if they were written there.
#[derive(Debug, Default)]
pub(super) struct Places {
    /// Name of a filter, and the line before its first.
    filters: Vec<(String, u64)>,
    lines: u64,
}

impl Reader<'_> {
    /// Reads the filters of the pipeline, after its text.
    pub(super) async fn filters(&mut self) -> Places {
        let lines = self.pipeline.text.lines().count() as u64;
        let mut places = Places { filters: Vec::new(), lines };
        for (name, text) in &self.pipeline.filters {
            let (n_problems, n_inserts) = (self.problems.len(), self.inserts.len());
            match pieces(text) {
                Ok(pieces) => {
                    for piece in &pieces {
                        self.statement(piece).await;
                    }
                }
                Err(problem) => self.problems.push(problem),
            }
            let before = places.lines;
            self.problems[n_problems..].iter_mut().for_each(|problem| problem.line += before);
            self.inserts[n_inserts..].iter_mut().for_each(|insert| insert.shift(before));
            if let Some(declared) = self.sinks.get_mut(name) {
                declared.shift(before);
            }
            places.filters.push((name.clone(), before));
            places.lines += text.lines().count() as u64;
        }
        places
    }
}

impl Places {
    /// Problems of filters at the places of their own conditions: by themselves if there are no others.
    pub fn tell(&self, problems: Problems) -> Problems {
        let of = |problem: &Problem| self.filters.iter().rev().find(|(_, before)| problem.line > *before);
        let (own, others): (Vec<_>, Vec<_>) = problems.problems.into_iter().partition(|problem| of(problem).is_some());
        let Some((name, _)) = own.first().and_then(of) else {
            return Problems { problems: others, ..problems };
        };
        let placed = |problem: Problem| match of(&problem) {
            Some((_, before)) if problem.line > before + HEAD => {
                let line = problem.line - before - HEAD;
                Problem { line, ..problem }
            }
            _ => Problem { line: 0, column: 0, ..problem },
        };
        let of_one = others.is_empty() && own.iter().all(|problem| of(problem).is_some_and(|(other, _)| other == name));
        if of_one {
            return Problems { file: file(name), problems: own.into_iter().map(placed).collect() };
        }
        let named = own.into_iter().map(|problem| {
            let message = format!("filter {}: {}", of(&problem).map_or("", |(name, _)| name.as_str()), problem.message);
            Problem { line: 0, column: 0, message, ..problem }
        });
        Problems { problems: others.iter().cloned().chain(named).collect(), ..problems }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_condition_that_is_more_than_one_expression_is_refused() {
        let told = |condition: &str| {
            let filter = Filter { over: "good".into(), condition: condition.into(), ..Filter::default() };
            statements("bright", &filter).map_err(|problems| problems.to_string())
        };
        assert!(told("a = 1; INSERT INTO x SELECT 1").unwrap_err().contains("one SQL expression"));
        assert!(told("").unwrap_err().contains("one SQL expression"));
        assert!(told("a = 'it''s; so'").unwrap().ends_with("FROM good WHERE\na = 'it''s; so'\n"));
    }

    #[test]
    fn names_are_names() {
        let told = |name: &str, over: &str| {
            let filter = Filter { over: over.into(), condition: "true".into(), ..Filter::default() };
            statements(name, &filter).map_err(|problems| problems.to_string())
        };
        assert!(told("bright x", "good").unwrap_err().contains("no name for a filter"));
        assert!(told("bright", "good WHERE true --").unwrap_err().contains("--over"));
        assert!(told("bright", "ztf.good").is_ok());
    }
}
