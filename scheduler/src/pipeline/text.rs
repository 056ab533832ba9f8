//! The text of a pipeline: variables put in, statements cut apart, places kept.
//!
//! Comments that begin with `-- redpoll:` say something: `-- redpoll: topics = out` is the default of a variable,
//! `-- redpoll: when fink = on` lets the statement after it stand only where a variable has that value.

use std::collections::{BTreeMap, BTreeSet};

use datafusion::sql::sqlparser::dialect::GenericDialect;
use datafusion::sql::sqlparser::tokenizer::{Token, Tokenizer, Whitespace};

use super::problem::{Problem, nearest};

/// Words and signs of one statement. A chain of conditions is as deep a tree as it is long, and a deep one does not fit
/// on the stack of those that walk it.
const MAX_WORDS: usize = 10_000;

/// One statement with its first line padded, so that its columns are those of the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Piece {
    pub text: String,
    /// Line and column of its first word, in the text above.
    pub start: (u64, u64),
    /// Lines of the file before it. They are not in the text: a parser reads blank lines too, and a file of a thousand
    /// statements would be read a thousand times.
    pub before: u64,
    /// What variables must be for it to stand.
    pub when: Vec<When>,
}

/// A variable and the value that it must have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct When {
    name: String,
    value: String,
    at: (u64, u64),
}

/// Begins a comment that is read.
const COMMENT: &str = "redpoll:";

/// Defaults of variables, from head comments such as `-- redpoll: source = data/night`.
fn defaults(text: &str) -> BTreeMap<String, String> {
    let comments = text.lines().filter_map(|line| line.trim().strip_prefix("-- ")?.strip_prefix(COMMENT));
    let declared =
        comments.filter(|comment| condition(comment).is_none()).filter_map(|comment| comment.split_once('='));
    declared.map(|(name, value)| (name.trim().to_owned(), value.trim().to_owned())).collect()
}

/// Name and value of ` when fink = on`.
fn condition(comment: &str) -> Option<(&str, &str)> {
    let (name, value) = comment.trim_start().strip_prefix("when ")?.split_once('=')?;
    Some((name.trim(), value.trim()))
}

/// What each variable is: as it was set, else its default.
pub(super) fn values(text: &str, set: &BTreeMap<String, String>) -> BTreeMap<String, String> {
    let mut values = defaults(text);
    values.extend(set.iter().map(|(name, value)| (name.clone(), value.clone())));
    values
}

/// The statements that stand with these values of variables.
pub(super) fn wanted(pieces: Vec<Piece>, values: &BTreeMap<String, String>) -> Result<Vec<Piece>, Vec<Problem>> {
    let (mut wanted, mut problems) = (Vec::new(), Vec::new());
    for piece in pieces {
        let mut stands = true;
        for When { name, value, at } in &piece.when {
            match values.get(name) {
                Some(own) => stands &= own == value,
                None => {
                    let near = nearest(name, values.keys().map(String::as_str));
                    let remedy = format!("give it a default in a head comment '-- redpoll: {name} = …'; {near}");
                    problems.push(Problem::at(*at, format!("variable '{name}' has no value"), remedy));
                }
            }
        }
        wanted.extend(Some(piece).filter(|_| stands));
    }
    if problems.is_empty() { Ok(wanted) } else { Err(problems) }
}

/// Replaces each `${name}`. Comments are left as they are.
pub(super) fn substitute(text: &str, set: &BTreeMap<String, String>) -> Result<String, Vec<Problem>> {
    let (declared, values) = (defaults(text), values(text, set));
    let (mut out, mut problems, mut used) = (String::new(), Vec::new(), BTreeSet::new());
    for (number, line) in (1..).zip(text.lines()) {
        let mut rest = line;
        let code = !line.trim_start().starts_with("--");
        while let Some(at) = rest.find("${").filter(|_| code) {
            let column = (line.len() - rest.len() + at + 1) as u64;
            let Some(end) = rest[at..].find('}') else {
                problems.push(Problem::at((number, column), "'${' without '}'", "write ${name}"));
                break;
            };
            let name = &rest[at + 2..at + end];
            out.push_str(&rest[..at]);
            match values.get(name) {
                Some(value) => out.push_str(value),
                None => {
                    let near = nearest(name, values.keys().map(String::as_str));
                    let remedy = format!(
                        "give it with --set {name}=…, or a default in a head comment '-- redpoll: {name} = …'; {near}"
                    );
                    problems.push(Problem::at((number, column), format!("variable '{name}' has no value"), remedy));
                }
            }
            used.insert(name.to_owned());
            rest = &rest[at + end + 1..];
        }
        out.push_str(rest);
        out.push('\n');
    }
    for name in set.keys().filter(|name| !used.contains(*name) && !declared.contains_key(*name)) {
        let near = nearest(name, used.iter().map(String::as_str));
        problems.push(Problem::at((1, 1), format!("--set {name}: the pipeline has no such variable"), near));
    }
    if problems.is_empty() { Ok(out) } else { Err(problems) }
}

/// Cuts at semicolons, outside of strings and comments.
pub(super) fn pieces(text: &str) -> Result<Vec<Piece>, Problem> {
    let tokens = Tokenizer::new(&GenericDialect {}, text).tokenize_with_location().map_err(|error| {
        let place = (error.location.line, error.location.column);
        Problem::at(place, error.message.clone(), "close the string or comment that begins here")
    })?;
    let lines: Vec<&str> = text.lines().collect();
    let mut pieces = Vec::new();
    let (mut start, mut end, mut n_words, mut when) = (None, (0, 0), 0, Vec::new());
    for token in &tokens {
        let place = (token.span.start.line, token.span.start.column);
        match &token.token {
            Token::Whitespace(Whitespace::SingleLineComment { comment, .. }) if start.is_none() => {
                let said = comment.trim_start().strip_prefix(COMMENT).and_then(condition);
                when.extend(said.map(|(name, value)| When {
                    name: name.to_owned(),
                    value: value.to_owned(),
                    at: place,
                }));
            }
            Token::Whitespace(_) => {}
            Token::EOF => {}
            Token::SemiColon => {
                let when = std::mem::take(&mut when);
                pieces.extend(start.take().map(|start| cut(&lines, start, place, when)));
                n_words = 0;
            }
            _ => {
                n_words += 1;
                if n_words > MAX_WORDS {
                    let message = format!("a statement of more than {MAX_WORDS} words and signs");
                    return Err(Problem::at(
                        place,
                        message,
                        "cut it into views, or long lists of conditions into IN (…)",
                    ));
                }
                start.get_or_insert(place);
                end = (token.span.end.line, token.span.end.column);
            }
        }
    }
    pieces.extend(start.map(|start| cut(&lines, start, end, when)));
    Ok(pieces)
}

fn cut(lines: &[&str], start: (u64, u64), end: (u64, u64), when: Vec<When>) -> Piece {
    let mut out = String::new();
    let within = (start.0..).zip(lines.iter().skip(start.0 as usize - 1)).take_while(|(number, _)| *number <= end.0);
    for (number, line) in within {
        for (column, char) in (1u64..).zip(line.chars()) {
            let within = (number, column) >= start && (number, column) < end;
            out.push(if within { char } else { ' ' });
        }
        out.push('\n');
    }
    Piece { text: out.trim_end().to_owned(), start: (1, start.1), before: start.0 - 1, when }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statements_keep_their_places() {
        let pieces = pieces("SELECT 1; -- one; comment\n  SELECT ';' ;\n").unwrap();
        let places = pieces.iter().map(|piece| (piece.before + piece.start.0, piece.start.1));
        assert_eq!(places.collect::<Vec<_>>(), [(1, 1), (2, 3)]);
        assert_eq!(pieces[1].text, "  SELECT ';'");
    }

    #[test]
    fn a_statement_stands_when_its_variable_has_the_value() {
        let text = "-- redpoll: fink = off\n-- redpoll: when fink = on\nSELECT 1;\n-- redpoll: when fink = off\nSELECT 2; SELECT 3";
        let standing = |set: &[(&str, &str)]| {
            let set = set.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
            let pieces = wanted(pieces(&substitute(text, &set).unwrap()).unwrap(), &values(text, &set)).unwrap();
            pieces.iter().map(|piece| piece.text.trim().to_owned()).collect::<Vec<_>>()
        };
        assert_eq!(standing(&[]), ["SELECT 2", "SELECT 3"]);
        assert_eq!(standing(&[("fink", "on")]), ["SELECT 1", "SELECT 3"]);
        let unknown = pieces("-- redpoll: when fnik = on\nSELECT 1").unwrap();
        let problems = wanted(unknown, &[("fink".to_owned(), "on".to_owned())].into()).unwrap_err();
        assert_eq!((problems[0].line, problems[0].message.as_str()), (1, "variable 'fnik' has no value"));
        assert!(problems[0].remedy.contains("did you mean 'fink'?"), "{problems:?}");
    }

    #[test]
    fn a_variable_without_a_value_names_its_place_and_the_remedy() {
        let set = [("sourse".to_owned(), "x".to_owned())].into();
        let text = "-- redpoll: topics = out\nLOCATION '${source}/${topics}'";
        let problems = substitute(text, &set).unwrap_err();
        assert_eq!((problems[0].line, problems[0].column), (2, 11));
        assert!(problems[0].remedy.contains("--set source="), "{problems:?}");
        assert!(problems[1].message.contains("--set sourse"), "{problems:?}");
    }
}
