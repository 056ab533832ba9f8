//! Science modules that are called without arguments: each input takes the column of its name.
//!
//! A name means a column of the table that the `SELECT` reads, else the field of that name in one of its structs
//! (`jd` is `candidate.jd`). This is how filters written for Fink's broker are called: `sso_ztf_candidates()`.

use std::ops::ControlFlow;

use datafusion::arrow::datatypes::{DataType, Schema};
use datafusion::sql::sqlparser::ast::{
    Expr, Function, FunctionArg, FunctionArgExpr, FunctionArguments, Ident, Query, Select, SetExpr, Spanned,
    TableFactor, visit_expressions_mut,
};
use datafusion::sql::sqlparser::tokenizer::Span;
use redpoll_udfs::manifest::Module;
use redpoll_udfs::registry::Registry;

use super::names::{Tables, place_of_node, table_name};
use super::problem::{Problem, nearest};

/// Writes the arguments into each call of a module that has none.
pub(super) fn name_arguments(query: &mut Query, tables: &Tables, registry: &Registry) -> Vec<Problem> {
    let mut problems = Vec::new();
    set(&mut query.body, tables, registry, &mut problems);
    problems
}

fn set(body: &mut SetExpr, tables: &Tables, registry: &Registry, problems: &mut Vec<Problem>) {
    match body {
        SetExpr::Query(inner) => problems.extend(name_arguments(inner, tables, registry)),
        SetExpr::SetOperation { left, right, .. } => {
            set(left, tables, registry, problems);
            set(right, tables, registry, problems);
        }
        SetExpr::Select(select) => of_select(select, tables, registry, problems),
        _ => {}
    }
}

fn of_select(select: &mut Select, tables: &Tables, registry: &Registry, problems: &mut Vec<Problem>) {
    // Those inside of a query in FROM see that query's columns.
    for table in &mut select.from {
        if let TableFactor::Derived { subquery, .. } = &mut table.relation {
            problems.extend(name_arguments(subquery, tables, registry));
        }
    }
    let columns = read(select).and_then(|table| tables.get(&table).cloned());
    // What is in FROM is done.
    let from = std::mem::take(&mut select.from);
    let _ = visit_expressions_mut(select, |expr| {
        if let Expr::Function(function) = expr
            && let Some(module) = without_arguments(function).and_then(|name| registry.get(&name).ok())
        {
            let named = match &columns {
                Some(columns) => arguments(module, columns, function.name.span()),
                None => Err(NotFound {
                    what: "its SELECT does not read one table or view, so its inputs have no columns".to_owned(),
                    remedy: "make a view of what it reads".to_owned(),
                }),
            };
            match named {
                Ok(named) => put(function, named),
                Err(NotFound { what, remedy }) => {
                    let (at, name) = (place_of_node(&function.name), &module.name);
                    let or = format!("{remedy}; or name its arguments: {name}({})", module.signature());
                    problems.push(Problem::at(at, format!("{name}: {what}"), or.trim_start_matches("; ")));
                }
            }
        }
        ControlFlow::<()>::Continue(())
    });
    select.from = from;
}

/// The table or view that is read, if it is only one.
fn read(select: &Select) -> Option<String> {
    let [table] = select.from.as_slice() else { return None };
    match &table.relation {
        TableFactor::Table { name, args: None, .. } if table.joins.is_empty() => Some(table_name(name)),
        _ => None,
    }
}

fn without_arguments(function: &Function) -> Option<String> {
    match &function.args {
        FunctionArguments::List(list) if list.args.is_empty() && list.clauses.is_empty() => {
            Some(function.name.to_string())
        }
        _ => None,
    }
}

struct NotFound {
    what: String,
    remedy: String,
}

/// Paths for the inputs, up to the first optional one that has none.
fn arguments(module: &Module, columns: &Schema, span: Span) -> Result<Vec<Expr>, NotFound> {
    let mut found = Vec::new();
    for input in &module.inputs {
        match path(&input.name, columns) {
            Ok(path) => {
                let idents = path.into_iter().map(|name| Ident::with_quote_and_span('"', span, name));
                found.push(match idents.collect::<Vec<_>>() {
                    mut one if one.len() == 1 => Expr::Identifier(one.remove(0)),
                    several => Expr::CompoundIdentifier(several),
                });
            }
            Err(_) if input.optional => break,
            Err(lacking) => return Err(lacking),
        }
    }
    Ok(found)
}

/// Where the column of a name is.
fn path(name: &str, columns: &Schema) -> Result<Vec<String>, NotFound> {
    if columns.field_with_name(name).is_ok() {
        return Ok(vec![name.to_owned()]);
    }
    let structs = || {
        columns.fields().iter().filter_map(|field| match field.data_type() {
            DataType::Struct(fields) => Some((field.name(), fields)),
            _ => None,
        })
    };
    let holders: Vec<&String> =
        structs().filter(|(_, fields)| fields.find(name).is_some()).map(|(holder, _)| holder).collect();
    match holders.as_slice() {
        [holder] => Ok(vec![(*holder).clone(), name.to_owned()]),
        [] => {
            let inner = structs().flat_map(|(_, fields)| fields.iter().map(|field| field.name().as_str()));
            let known = columns.fields().iter().map(|field| field.name().as_str()).chain(inner);
            let remedy = nearest(name, known);
            Err(NotFound { what: format!("there is no column '{name}' for its input"), remedy })
        }
        several => {
            let paths: Vec<_> = several.iter().map(|holder| format!("'{holder}.{name}'")).collect();
            let what = format!("its input '{name}' could be {}", paths.join(" or "));
            Err(NotFound { what, remedy: format!("select the one that is meant AS {name} in a view before") })
        }
    }
}

fn put(function: &mut Function, named: Vec<Expr>) {
    if let FunctionArguments::List(list) = &mut function.args {
        list.args = named.into_iter().map(|expr| FunctionArg::Unnamed(FunctionArgExpr::Expr(expr))).collect();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use datafusion::arrow::datatypes::Field;
    use datafusion::sql::parser::Statement;
    use datafusion::sql::sqlparser::ast;

    use super::super::session;
    use super::*;

    fn registry() -> Registry {
        let dir = tempfile::tempdir().unwrap();
        for (name, inputs) in [
            ("moving", r#"{ name = "roid" }, { name = "jd" }"#),
            ("scored", r#"{ name = "magpsf" }, { name = "model", optional = true }"#),
        ] {
            let folder = dir.path().join(name);
            std::fs::create_dir(&folder).unwrap();
            let text = format!(
                "name = \"{name}\"\nsurvey = \"ztf\"\nfunction = \"a:{name}\"\ninputs = [{inputs}]\nreturns = \"boolean\"\n\
                 [environment]\npython = \"3.11\"\n"
            );
            std::fs::write(folder.join("module.toml"), text).unwrap();
        }
        Registry::load(&[dir.path()]).unwrap()
    }

    fn tables() -> Tables {
        let jd = || Field::new("jd", DataType::Float64, true);
        let candidate = vec![jd(), Field::new("magpsf", DataType::Float32, true)];
        let fields = vec![Field::new("roid", DataType::Int32, true), Field::new_struct("candidate", candidate, true)];
        let two = [fields.clone(), vec![Field::new_struct("other", vec![jd()], true)]].concat();
        [("alerts".to_owned(), Arc::new(Schema::new(fields))), ("two".to_owned(), Arc::new(Schema::new(two)))].into()
    }

    fn check(sql: &str, expected: &str) {
        let statement = session::parse(sql).unwrap().remove(0);
        let Statement::Statement(statement) = statement else { panic!("{sql}") };
        let ast::Statement::Query(mut query) = *statement else { panic!("{sql}") };
        let problems = name_arguments(&mut query, &tables(), &registry());
        let told: Vec<_> =
            problems.iter().map(|p| format!("{}:{} {} | {}", p.line, p.column, p.message, p.remedy)).collect();
        assert_eq!(if told.is_empty() { query.to_string() } else { told.join("\n") }, expected);
    }

    #[test]
    fn an_input_is_a_column_or_the_field_of_a_struct() {
        check("SELECT moving() AS m FROM alerts", r#"SELECT moving("roid", "candidate"."jd") AS m FROM alerts"#);
        check(
            "SELECT * FROM alerts WHERE NOT moving() OR roid = 3",
            r#"SELECT * FROM alerts WHERE NOT moving("roid", "candidate"."jd") OR roid = 3"#,
        );
        check("SELECT moving(1, 2) AS m FROM alerts", "SELECT moving(1, 2) AS m FROM alerts");
    }

    #[test]
    fn an_optional_input_without_a_column_is_left_out() {
        check("SELECT scored() AS s FROM alerts", r#"SELECT scored("candidate"."magpsf") AS s FROM alerts"#);
    }

    #[test]
    fn an_input_without_a_column_is_told_with_the_nearest_one() {
        check(
            "SELECT m FROM (SELECT roid AS roids, moving() AS m FROM two) AS t",
            "1:38 moving: its input 'jd' could be 'candidate.jd' or 'other.jd' | \
             select the one that is meant AS jd in a view before; or name its arguments: moving(roid, jd)",
        );
        check(
            "SELECT scored() FROM (SELECT roid FROM alerts) AS t",
            "1:8 scored: its SELECT does not read one table or view, so its inputs have no columns | \
             make a view of what it reads; or name its arguments: scored(magpsf, [model])",
        );
    }
}
