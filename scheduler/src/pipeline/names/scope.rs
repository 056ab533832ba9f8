//! What a name may mean at one place of a query: columns of the tables in its `FROM`, then of the queries around it.

use datafusion::arrow::datatypes::{DataType, Field, Fields};
use datafusion::sql::sqlparser::ast::{Ident, TableAlias};

use super::place_of;
use crate::pipeline::problem::{Problem, nearest};

/// A column, and its type where that is known before planning.
#[derive(Debug, Clone)]
pub(super) struct Column {
    pub name: String,
    pub data_type: Option<DataType>,
}

/// The columns of a table, or of a query that stands for one.
#[derive(Debug, Clone)]
pub(super) enum Columns {
    Known(Vec<Column>),
    /// Those, and some that the planner names; they can only be written in quotes.
    Unnamed(Vec<Column>),
    Unknown,
}

impl Columns {
    pub fn of(fields: &Fields) -> Self {
        let column = |field: &std::sync::Arc<Field>| Column {
            name: field.name().clone(),
            data_type: Some(field.data_type().clone()),
        };
        Self::Known(fields.iter().map(column).collect())
    }

    pub fn known(&self) -> &[Column] {
        match self {
            Self::Known(columns) | Self::Unnamed(columns) => columns,
            Self::Unknown => &[],
        }
    }

    fn find(&self, name: &str) -> Option<&Column> {
        self.known().iter().find(|column| column.name == name)
    }

    /// Whether it may have a column of this name that is not known.
    fn may_have(&self, name: &Ident) -> bool {
        match self {
            Self::Known(_) => false,
            Self::Unnamed(_) => name.quote_style.is_some(),
            Self::Unknown => true,
        }
    }

    /// With the names that an alias gives, as in `AS t (a, b)`.
    pub fn renamed(self, alias: Option<&TableAlias>) -> Self {
        let names = alias.map_or(&[][..], |alias| &alias.columns);
        if names.is_empty() {
            return self;
        }
        let mut columns = self.known().to_vec();
        columns.resize(columns.len().max(names.len()), Column { name: String::new(), data_type: None });
        for (column, alias) in columns.iter_mut().zip(names) {
            column.name.clone_from(&alias.name.value);
        }
        match self {
            Self::Known(_) => Self::Known(columns),
            Self::Unnamed(_) | Self::Unknown => Self::Unnamed(columns),
        }
    }
}

/// A table in a `FROM`, by the names that it goes by there.
#[derive(Debug, Clone)]
pub(super) struct Relation {
    /// `ztf.raw` and `raw`, or its alias.
    pub qualifiers: Vec<String>,
    pub columns: Columns,
}

/// The names at one place.
#[derive(Debug, Default)]
pub(super) struct Scope<'a> {
    pub relations: Vec<Relation>,
    pub outer: Option<&'a Scope<'a>>,
}

impl Scope<'_> {
    pub fn of(columns: Columns) -> Self {
        Self { relations: vec![Relation { qualifiers: Vec::new(), columns }], outer: None }
    }

    /// Finds what a name or a path means: its type, where that is known.
    pub fn look_up(&self, idents: &[Ident]) -> Result<Option<DataType>, Problem> {
        let mut lacking = None;
        let (mut any, mut n_tables, mut names) = (false, 0, Vec::new());
        let mut scope = Some(self);
        while let Some(Scope { relations, outer }) = scope {
            for Relation { qualifiers, columns } in relations {
                for at in qualified(idents, qualifiers) {
                    match columns.find(&idents[at].value) {
                        Some(column) => return within(idents, at, column),
                        None if columns.may_have(&idents[at]) => return Ok(None),
                        None => lacking = lacking.or(Some((at, columns))),
                    }
                }
                names.extend(qualifiers.iter().filter(|_| idents.len() > 1).map(String::as_str));
                n_tables += usize::from(!qualifiers.is_empty());
            }
            for Relation { columns, .. } in relations {
                if let Some(column) = columns.find(&idents[0].value) {
                    return within(idents, 0, column);
                }
                any |= columns.may_have(&idents[0]);
                names.extend(columns.known().iter().map(|column| column.name.as_str()));
            }
            scope = *outer;
        }
        match lacking {
            Some((at, columns)) => Err(no_column(&idents[..at], &idents[at], columns)),
            None if any || names.is_empty() => Ok(None),
            None => Err(unknown(idents, n_tables, names)),
        }
    }

    /// The tables of this place that `qualifier.*` means.
    pub fn qualified(&self, qualifier: &str) -> Option<&Relation> {
        self.relations.iter().find(|relation| relation.qualifiers.iter().any(|known| known == qualifier))
    }

    /// All columns of this place, as `*` gives them.
    pub fn all(&self) -> Columns {
        let all = self.relations.iter().flat_map(|relation| relation.columns.known().iter().cloned()).collect();
        let is = |kind: fn(&Columns) -> bool| self.relations.iter().any(|relation| kind(&relation.columns));
        match () {
            () if is(|columns| matches!(columns, Columns::Unknown)) => Columns::Unknown,
            () if is(|columns| matches!(columns, Columns::Unnamed(_))) => Columns::Unnamed(all),
            () => Columns::Known(all),
        }
    }
}

/// Where the column stands in a path that begins with one of the qualifiers.
fn qualified<'a>(idents: &'a [Ident], qualifiers: &'a [String]) -> impl Iterator<Item = usize> + 'a {
    let lengths = qualifiers.iter().map(|qualifier| (qualifier, qualifier.split('.').count()));
    lengths.filter(move |(_, n)| idents.len() > *n).filter_map(move |(qualifier, n)| {
        let written: Vec<_> = idents[..n].iter().map(|ident| ident.value.as_str()).collect();
        (*qualifier == written.join(".")).then_some(n)
    })
}

fn no_column(qualifier: &[Ident], column: &Ident, columns: &Columns) -> Problem {
    let message = format!("'{}' has no column '{}'", dotted(qualifier), column.value);
    let names = columns.known().iter().map(|column| column.name.as_str());
    Problem::at(place_of(column), message, nearest(&column.value, names))
}

fn unknown(idents: &[Ident], n_tables: usize, names: Vec<&str>) -> Problem {
    let first = &idents[0];
    let what = if idents.len() > 1 && n_tables > 1 { "table or column" } else { "column" };
    Problem::at(place_of(first), format!("there is no {what} '{}'", first.value), nearest(&first.value, names))
}

/// Follows `column.field.field` from the column at `at`. A field of a list of structs is the list of that field.
fn within(idents: &[Ident], at: usize, column: &Column) -> Result<Option<DataType>, Problem> {
    let Some(mut data_type) = column.data_type.clone() else { return Ok(None) };
    let mut n_lists = 0;
    for (i, ident) in idents.iter().enumerate().skip(at + 1) {
        if let DataType::List(item) | DataType::LargeList(item) = &data_type {
            data_type = item.data_type().clone();
            n_lists += 1;
        }
        if matches!(data_type, DataType::Map(..)) {
            return Ok(None);
        }
        let DataType::Struct(fields) = &data_type else {
            let message = format!("'{}' has no fields: its type is {data_type}", idents[i - 1].value);
            return Err(Problem::at(place_of(ident), message, format!("write '{}' alone", idents[i - 1].value)));
        };
        let Some((_, field)) = fields.find(&ident.value) else {
            let message = format!("'{}' has no field '{}'", dotted(&idents[..i]), ident.value);
            let near = nearest(&ident.value, fields.iter().map(|field| field.name().as_str()));
            return Err(Problem::at(place_of(ident), message, near));
        };
        data_type = field.data_type().clone();
    }
    Ok(Some((0..n_lists).fold(data_type, |item, _| DataType::new_list(item, true))))
}

fn dotted(idents: &[Ident]) -> String {
    idents.iter().map(|ident| ident.value.as_str()).collect::<Vec<_>>().join(".")
}
