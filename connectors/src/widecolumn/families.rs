//! Families: which column of a row goes where, such as `i:objectId,candidate.*;d:*`.
//!
//! Families are separated by `;`, their columns by `,`. A column is a name, a path into a struct (`candidate.jd`), all
//! fields of a struct (`candidate.*`), or `*`: every column that no other pattern of the text takes, structs opened by
//! one level. The first pattern that takes a column has it. The default is `i:*`.
//!
//! A cell's qualifier is the last name of the path (`jd`), as broker tables have it. Of two columns with one qualifier
//! the second is left out, and `redpoll check` says so. What should not be stored at all is left out of the `SELECT`.

use std::collections::{HashMap, HashSet};
use std::fmt;

use arrow::datatypes::{DataType, Schema};
use serde::{Deserialize, Serialize};

use super::{CatalogColumn, Error, columns, value};

/// A parsed mapping.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Families {
    text: String,
    families: Vec<(String, Vec<Pattern>)>,
}

/// Paths of columns, each with the path of the one whose qualifier it has.
pub type LeftOut = Vec<(String, String)>;

#[derive(Debug, Clone, PartialEq, Eq)]
enum Pattern {
    Rest,
    Fields(String),
    Path(String),
}

impl Families {
    pub fn parse(text: &str) -> Result<Families, Error> {
        let error = |reason: String| Error::Families { families: text.into(), reason };
        let mut families = Vec::new();
        for family in text.split(';').map(str::trim).filter(|family| !family.is_empty()) {
            let Some((name, patterns)) = family.split_once(':') else {
                return Err(error(format!("'{family}' has no family; write 'i:{family}'")));
            };
            let name = name.trim();
            if name.is_empty() || !name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') {
                return Err(error(format!("'{name}' is no family's name; use letters and digits")));
            }
            let patterns = patterns.split(',').map(|pattern| match pattern.trim() {
                "" => Err(error(format!("family '{name}' has an empty column; write '{name}:*' for all"))),
                "*" => Ok(Pattern::Rest),
                pattern => Ok(match pattern.strip_suffix(".*") {
                    Some(path) => Pattern::Fields(path.into()),
                    None => Pattern::Path(pattern.into()),
                }),
            });
            families.push((name.to_string(), patterns.collect::<Result<Vec<_>, _>>()?));
        }
        let all: Vec<_> = families.iter().flat_map(|(_, patterns)| patterns).collect();
        match all.iter().filter(|pattern| ***pattern == Pattern::Rest).count() {
            _ if all.is_empty() => Err(error("names no family; write 'i:*'".into())),
            0 | 1 => Ok(Families { text: text.into(), families }),
            _ => Err(error("'*' stands twice; keep one".into())),
        }
    }

    /// The families' names, in order.
    pub fn names(&self) -> Vec<String> {
        let mut names: Vec<String> = Vec::new();
        for (name, _) in &self.families {
            if !names.contains(name) {
                names.push(name.clone());
            }
        }
        names
    }

    /// The cells that a row of this schema has, in the order of the families.
    pub fn columns(&self, schema: &Schema) -> Result<Vec<CatalogColumn>, Error> {
        self.split(schema).map(|(columns, _)| columns)
    }

    /// The columns that are left out, each with the one whose qualifier it has.
    pub fn left_out(&self, schema: &Schema) -> Result<LeftOut, Error> {
        self.split(schema).map(|(_, left_out)| left_out)
    }

    fn split(&self, schema: &Schema) -> Result<(Vec<CatalogColumn>, LeftOut), Error> {
        let named = self.named(schema)?;
        let mut taken: HashSet<String> = HashSet::new();
        let mut qualifiers: HashMap<String, String> = HashMap::new();
        let (mut found, mut left_out) = (Vec::new(), Vec::new());
        for (family, patterns) in &self.families {
            for path in
                patterns.iter().map(|pattern| self.paths(pattern, schema, &named)).collect::<Result<Vec<_>, _>>()?
            {
                for path in path.into_iter().filter(|path| taken.insert(path.clone())) {
                    let column = self.column(family, &path, schema)?;
                    match qualifiers.get(&column.name) {
                        Some(first) => left_out.push((path, first.clone())),
                        None => {
                            qualifiers.insert(column.name.clone(), path);
                            found.push(column);
                        }
                    }
                }
            }
        }
        Ok((found, left_out))
    }

    fn column(&self, family: &str, path: &str, schema: &Schema) -> Result<CatalogColumn, Error> {
        let field = columns::plain_field(columns::field(schema, path, &self.place())?);
        Ok(CatalogColumn {
            name: field.name().clone(),
            path: path.into(),
            family: family.into(),
            data_type: value::stored_type(path, field.data_type())?,
        })
    }

    /// Paths that a pattern other than `*` takes, and the structs that it opens.
    fn named(&self, schema: &Schema) -> Result<HashSet<String>, Error> {
        let mut named = HashSet::new();
        for pattern in self.families.iter().flat_map(|(_, patterns)| patterns) {
            if *pattern != Pattern::Rest {
                named.extend(self.paths(pattern, schema, &named)?);
            }
        }
        Ok(named)
    }

    fn paths(&self, pattern: &Pattern, schema: &Schema, named: &HashSet<String>) -> Result<Vec<String>, Error> {
        match pattern {
            Pattern::Path(path) => columns::field(schema, path, &self.place()).map(|_| vec![path.clone()]),
            Pattern::Fields(path) => fields(path, columns::field(schema, path, &self.place())?.data_type()),
            Pattern::Rest => {
                let mut rest = Vec::new();
                for field in schema.fields().iter().filter(|field| !named.contains(field.name())) {
                    match field.data_type() {
                        DataType::Struct(_) => rest.extend(fields(field.name(), field.data_type())?),
                        _ => rest.push(field.name().clone()),
                    }
                }
                rest.retain(|path| !named.contains(path));
                Ok(rest)
            }
        }
    }

    fn place(&self) -> String {
        format!("families '{}'", self.text)
    }
}

fn fields(path: &str, data_type: &DataType) -> Result<Vec<String>, Error> {
    match data_type {
        DataType::Struct(inner) => Ok(inner.iter().map(|field| format!("{path}.{}", field.name())).collect()),
        other => Err(Error::Type {
            column: path.into(),
            data_type: other.to_string(),
            reason: format!("has no fields; write '{path}' in the families"),
        }),
    }
}

impl Default for Families {
    fn default() -> Families {
        Families { text: "i:*".into(), families: vec![("i".into(), vec![Pattern::Rest])] }
    }
}

impl fmt::Display for Families {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl TryFrom<String> for Families {
    type Error = Error;

    fn try_from(text: String) -> Result<Families, Error> {
        Families::parse(&text)
    }
}

impl From<Families> for String {
    fn from(families: Families) -> String {
        families.text
    }
}

#[cfg(test)]
mod tests {
    use arrow::datatypes::{Field, Fields};

    use super::*;

    fn alerts() -> Schema {
        let candidate = ["jd", "fid", "candid"].map(|name| Field::new(name, DataType::Float64, true));
        let history =
            DataType::new_list(DataType::Struct(Fields::from(vec![Field::new("jd", DataType::Float64, true)])), true);
        Schema::new(vec![
            Field::new("objectId", DataType::Utf8, false),
            Field::new("candid", DataType::Int64, false),
            Field::new_struct("candidate", candidate.to_vec(), true),
            Field::new("history", history, true),
            Field::new("roid", DataType::Int32, true),
        ])
    }

    fn check(text: &str, expected: &str) {
        let columns = Families::parse(text).unwrap().columns(&alerts()).unwrap();
        let cells: Vec<_> = columns.iter().map(|c| format!("{}:{}={}", c.family, c.name, c.path)).collect();
        assert_eq!(cells.join(" "), expected);
    }

    #[test]
    fn all_columns_go_into_one_family_with_structs_opened() {
        check(
            "i:*",
            "i:objectId=objectId i:candid=candid i:jd=candidate.jd i:fid=candidate.fid i:history=history i:roid=roid",
        );
    }

    #[test]
    fn the_rest_is_what_no_other_family_takes_wherever_it_stands() {
        let d = "d:candid=candid d:fid=candidate.fid d:history=history d:roid=roid";
        check("d:*;i:objectId,candidate.jd", &format!("{d} i:objectId=objectId i:jd=candidate.jd"));
    }

    #[test]
    fn the_second_column_of_a_qualifier_is_left_out() {
        let text = "i:candidate.*,candid";
        check(text, "i:jd=candidate.jd i:fid=candidate.fid i:candid=candidate.candid");
        let left_out = Families::parse(text).unwrap().left_out(&alerts()).unwrap();
        assert_eq!(left_out, [("candid".to_owned(), "candidate.candid".to_owned())]);
    }

    #[test]
    fn a_struct_named_alone_is_one_cell() {
        check("i:candidate;d:roid", "i:candidate=candidate d:roid=roid");
    }

    #[test]
    fn a_wrong_mapping_says_why() {
        let check = |text: &str, expected: &str| {
            let error = Families::parse(text).and_then(|families| families.columns(&alerts())).unwrap_err();
            assert_eq!(error.to_string(), expected);
        };
        check("objectId", "families 'objectId': 'objectId' has no family; write 'i:objectId'");
        check("", "families '': names no family; write 'i:*'");
        check("i:*;d:*", "families 'i:*;d:*': '*' stands twice; keep one");
        check("i:objectid", "column 'objectid' of families 'i:objectid' is unknown; did you mean 'objectId'?");
        check("i:roid.*", "column 'roid' of type Int32 has no fields; write 'roid' in the families");
    }
}
