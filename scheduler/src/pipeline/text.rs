//! The text of a pipeline: variables put in, statements cut apart, places kept.

use std::collections::{BTreeMap, BTreeSet};

use datafusion::sql::sqlparser::dialect::GenericDialect;
use datafusion::sql::sqlparser::tokenizer::{Token, Tokenizer};

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
}

/// Defaults of variables, from head comments such as `-- redpoll: source = data/night`.
fn defaults(text: &str) -> BTreeMap<String, String> {
    let declared = text.lines().filter_map(|line| line.trim().strip_prefix("-- redpoll:")?.split_once('='));
    declared.map(|(name, value)| (name.trim().to_owned(), value.trim().to_owned())).collect()
}

/// Replaces each `${name}`. Comments are left as they are.
pub(super) fn substitute(text: &str, set: &BTreeMap<String, String>) -> Result<String, Vec<Problem>> {
    let mut values = defaults(text);
    let declared: BTreeSet<String> = values.keys().cloned().collect();
    values.extend(set.iter().map(|(name, value)| (name.clone(), value.clone())));
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
    for name in set.keys().filter(|name| !used.contains(*name) && !declared.contains(*name)) {
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
    let (mut start, mut end, mut n_words) = (None, (0, 0), 0);
    for token in &tokens {
        let place = (token.span.start.line, token.span.start.column);
        match &token.token {
            Token::Whitespace(_) => {}
            Token::EOF => {}
            Token::SemiColon => {
                pieces.extend(start.take().map(|start| cut(&lines, start, place)));
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
    pieces.extend(start.map(|start| cut(&lines, start, end)));
    Ok(pieces)
}

fn cut(lines: &[&str], start: (u64, u64), end: (u64, u64)) -> Piece {
    let mut out = String::new();
    let within = (start.0..).zip(lines.iter().skip(start.0 as usize - 1)).take_while(|(number, _)| *number <= end.0);
    for (number, line) in within {
        for (column, char) in (1u64..).zip(line.chars()) {
            let within = (number, column) >= start && (number, column) < end;
            out.push(if within { char } else { ' ' });
        }
        out.push('\n');
    }
    Piece { text: out.trim_end().to_owned(), start: (1, start.1), before: start.0 - 1 }
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
    fn a_variable_without_a_value_names_its_place_and_the_remedy() {
        let set = [("sourse".to_owned(), "x".to_owned())].into();
        let text = "-- redpoll: topics = out\nLOCATION '${source}/${topics}'";
        let problems = substitute(text, &set).unwrap_err();
        assert_eq!((problems[0].line, problems[0].column), (2, 11));
        assert!(problems[0].remedy.contains("--set source="), "{problems:?}");
        assert!(problems[1].message.contains("--set sourse"), "{problems:?}");
    }
}
