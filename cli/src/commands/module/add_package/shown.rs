//! The table of a package's functions: which run, and why the others do not.

use anyhow::Result;
use redpoll_udfs::packages::{State, Written};
use serde_json::{Value, json};

use super::Format;
use crate::output::table::{self, Align, Table};
use crate::output::{self, paint};
use crate::values::counted;

const HEAD: [&str; 6] = ["function", "survey", "state", "returns", "why", "module"];

pub fn table(written: &[Written], format: Format) -> Result<()> {
    match format {
        Format::Json => {
            let rows: Vec<Value> = written.iter().map(json).collect();
            output::line(json!(rows).to_string())?;
        }
        Format::Markdown => output::text(markdown(written))?,
        Format::Table => {
            let mut table = Table::new(HEAD.map(|name| (name, Align::Left)));
            written.iter().for_each(|one| table.row(cells(one)));
            output::text(table.render(table::terminal_width()))?;
        }
    }
    Ok(())
}

pub fn summary(package: &str, written: &[Written], place: &str) -> Result<()> {
    let count = |state: State| written.iter().filter(|one| one.found.state == state).count() as u64;
    let (runs, loads, no) = (count(State::Runs), count(State::Loads), count(State::No));
    let untried = if loads > 0 { format!(", {loads} were not tried") } else { String::new() };
    let functions = counted(runs + loads, "function");
    output::line(format!(
        "{} {functions} of {package} {place}: {runs} run on sample alerts{untried}; {no} cannot be used",
        paint::good("✓")
    ))?;
    Ok(())
}

fn json(one: &Written) -> Value {
    let mut row = json!(one.found);
    row["name"] = json!(one.module.as_ref().map(|module| &module.name));
    row["fingerprint"] = json!(one.module.as_ref().map(|module| &module.fingerprint));
    row
}

fn cells(one: &Written) -> [String; 6] {
    let found = &one.found;
    let function = one.module.as_ref().map(|module| module.name.clone()).or_else(|| found.function.clone());
    let path = found.module.split_once('.').map_or(found.module.as_str(), |(_, path)| path);
    [
        function.unwrap_or_else(|| "-".to_owned()),
        found.survey.clone().unwrap_or_default(),
        state(found.state).to_owned(),
        found.returns.as_deref().map(short).unwrap_or_default(),
        found.reason.clone(),
        path.to_owned(),
    ]
}

fn state(state: State) -> &'static str {
    match state {
        State::Runs => "runs",
        State::Loads => "loads",
        State::No => "no",
    }
}

/// A struct of many fields by their number: its types are in `module describe`.
fn short(returns: &str) -> String {
    let Some((before, fields)) = returns.split_once("struct<").filter(|_| returns.len() > 40) else {
        return returns.to_owned();
    };
    let closing = ">".repeat(before.matches('<').count());
    format!("{before}struct<{} fields>{closing}", fields.matches(':').count())
}

fn markdown(written: &[Written]) -> String {
    let line = |cells: &[String]| format!("| {} |\n", cells.join(" | "));
    let code = |text: &str| if text.is_empty() || text == "-" { text.to_owned() } else { format!("`{text}`") };
    let mut text = line(&HEAD.map(str::to_owned)) + &line(&HEAD.map(|_| "---".to_owned()));
    for one in written {
        let [function, survey, state, returns, why, module] = cells(one);
        text += &line(&[code(&function), survey, state, code(&returns), why.replace('|', "\\|"), code(&module)]);
    }
    text
}

#[cfg(test)]
mod tests {
    use redpoll_udfs::packages::Found;

    use super::*;

    #[test]
    fn a_function_is_a_row_with_its_reason() {
        let found = Found {
            module: "fink_science.ztf.snn.processor".into(),
            function: Some("snn_ia".into()),
            survey: Some("ztf".into()),
            state: State::No,
            reason: "no `supernnova` | here".into(),
            kind: None,
            inputs: vec![],
            returns: None,
            about: None,
            seconds: None,
        };
        let text = markdown(&[Written { found, module: None }]);
        assert_eq!(
            text.lines().nth(2).unwrap(),
            "| `snn_ia` | ztf | no |  | no `supernnova` \\| here | `ztf.snn.processor` |"
        );
    }

    #[test]
    fn a_struct_of_many_fields_is_counted() {
        assert_eq!(short("map<int,struct<mean:double,weighted_mean:double,skew:double>>"), "map<int,struct<3 fields>>");
        assert_eq!(short("map<string,array<double>>"), "map<string,array<double>>");
    }
}
