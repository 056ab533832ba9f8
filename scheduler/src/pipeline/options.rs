//! The options of a table, with their places in the text: the parser keeps the values alone.

use std::collections::BTreeMap;

use datafusion::sql::sqlparser::dialect::GenericDialect;
use datafusion::sql::sqlparser::tokenizer::{Token, TokenWithSpan, Tokenizer};

/// Where an option stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Written {
    /// Of its name.
    pub name: (u64, u64),
    /// Of its value, or of the quote before it.
    pub value: (u64, u64),
    /// The value's text as written, with its quotes.
    raw: String,
}

impl Written {
    /// Moves it down by so many lines.
    pub fn shift(&mut self, lines: u64) {
        self.name.0 += lines;
        self.value.0 += lines;
    }

    /// The place of a line and column of the value.
    pub fn within(&self, (line, column): (u64, u64)) -> (u64, u64) {
        let Some(text) = self.raw.strip_prefix('\'') else { return self.value };
        let (mut at, mut place) = ((1, 1), (self.value.0, self.value.1 + 1));
        let mut chars = text.chars().peekable();
        while let Some(char) = chars.next().filter(|_| at < (line, column)) {
            let width = if char == '\'' && chars.next_if_eq(&'\'').is_some() { 2 } else { 1 };
            match char {
                '\n' => (at, place) = ((at.0 + 1, 1), (place.0 + 1, 1)),
                _ => (at.1, place.1) = (at.1 + 1, place.1 + width),
            }
        }
        place
    }
}

/// The options of `CREATE EXTERNAL TABLE … OPTIONS (…)`, by name.
pub(super) fn written(statement: &str) -> BTreeMap<String, Written> {
    let tokens = Tokenizer::new(&GenericDialect {}, statement).tokenize_with_location().unwrap_or_default();
    let mut tokens = tokens.into_iter().filter(|token| !matches!(token.token, Token::Whitespace(_))).peekable();
    let opens =
        |token: &TokenWithSpan| matches!(&token.token, Token::Word(word) if word.value.eq_ignore_ascii_case("options"));
    let _ = tokens.by_ref().find(opens);
    let mut options = BTreeMap::new();
    let Some(Token::LParen) = tokens.next().map(|token| token.token) else { return options };
    while let Some(first) = tokens.next().filter(|token| token.token != Token::RParen) {
        let mut name = text(&first.token);
        while tokens.next_if(|token| token.token == Token::Period).is_some() {
            name = format!("{name}.{}", tokens.next().map(|token| text(&token.token)).unwrap_or_default());
        }
        let Some(value) = tokens.next() else { break };
        let place = |token: &TokenWithSpan| (token.span.start.line, token.span.start.column);
        let raw = match &value.token {
            Token::SingleQuotedString(text) => format!("'{}'", text.replace('\'', "''")),
            other => other.to_string(),
        };
        options.insert(name, Written { name: place(&first), value: place(&value), raw });
        let _ = tokens.next_if(|token| token.token == Token::Comma);
    }
    options
}

fn text(token: &Token) -> String {
    match token {
        Token::SingleQuotedString(text) => text.clone(),
        Token::Word(word) => word.value.clone(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_option_and_a_place_within_it_are_found() {
        let text = "CREATE EXTERNAL TABLE t STORED AS STORE LOCATION 'store:t'\n  OPTIONS ('row_key' '{id}',\n    timestamp 'a[''b'']\n+ c', 'kafka.x' 3)";
        let options = written(text);
        assert_eq!(options.keys().collect::<Vec<_>>(), ["kafka.x", "row_key", "timestamp"]);
        assert_eq!((options["row_key"].name, options["row_key"].value), ((2, 12), (2, 22)));
        let timestamp = &options["timestamp"];
        assert_eq!((timestamp.within((1, 1)), timestamp.within((1, 6))), ((3, 16), (3, 23)));
        assert_eq!(timestamp.within((2, 3)), (4, 3));
    }
}
