//! Tokens of the text form: words, numbers, strings, balanced parentheses.
//!
//! Invariant: the position only moves forward and always lies between characters.

use super::{ParseError, ParseErrorKind};

/// A place in a text.
#[derive(Clone, Copy)]
pub(super) struct Scanner<'a> {
    text: &'a str,
    position: usize,
}

impl<'a> Scanner<'a> {
    pub(super) fn new(text: &'a str) -> Self {
        Scanner { text, position: 0 }
    }

    /// A scanner of the same text at another place, which must lie between characters.
    pub(super) fn at(mut self, position: usize) -> Self {
        self.position = position.min(self.text.len());
        self
    }

    fn rest(&self) -> &'a str {
        self.text.get(self.position..).unwrap_or("")
    }

    /// An error at this place.
    pub(super) fn error(&self, kind: impl Into<ParseErrorKind>) -> ParseError {
        let before = self.text.get(..self.position).unwrap_or(self.text);
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        let line = before.matches('\n').count() + 1;
        let column = before.get(line_start..).unwrap_or("").chars().count() + 1;
        ParseError { line, column, kind: kind.into() }
    }

    /// An error that says what is there instead.
    pub(super) fn expected(&mut self, expected: &str) -> ParseError {
        self.skip_space();
        let word: String =
            self.rest().chars().take_while(|c| !c.is_whitespace()).take(24).collect();
        let found = if word.is_empty() { "the end".to_owned() } else { format!("`{word}`") };
        self.error(ParseErrorKind::Expected { expected: expected.to_owned(), found })
    }

    /// Skips white space and comments.
    pub(super) fn skip_space(&mut self) {
        loop {
            let rest = self.rest();
            let trimmed = rest.trim_start();
            self.position += rest.len() - trimmed.len();
            if !trimmed.starts_with("//") {
                return;
            }
            self.position += trimmed.find('\n').unwrap_or(trimmed.len());
        }
    }

    pub(super) fn at_end(&mut self) -> bool {
        self.skip_space();
        self.rest().is_empty()
    }

    /// Whether this comes next, which is not taken.
    pub(super) fn sees(&mut self, token: &str) -> bool {
        self.skip_space();
        self.rest().starts_with(token)
    }

    /// Takes this if it comes next.
    pub(super) fn accept(&mut self, token: &str) -> bool {
        let found = self.sees(token);
        if found {
            self.position += token.len();
        }
        found
    }

    /// Whether this comes next on the same line.
    pub(super) fn sees_on_line(&self, token: &str) -> bool {
        self.rest().trim_start_matches([' ', '\t']).starts_with(token)
    }

    pub(super) fn require(&mut self, token: &str) -> Result<(), ParseError> {
        if self.accept(token) { Ok(()) } else { Err(self.expected(&format!("`{token}`"))) }
    }

    fn take(&mut self, accepts: impl Fn(char) -> bool) -> &'a str {
        let rest = self.rest();
        let end = rest.find(|c| !accepts(c)).unwrap_or(rest.len());
        self.position += end;
        rest.get(..end).unwrap_or("")
    }

    /// Takes this word if it comes next and does not go on.
    pub(super) fn accept_word(&mut self, word: &str) -> bool {
        let mut ahead = *self;
        let found = ahead.word().is_some_and(|found| found == word);
        if found {
            *self = ahead;
        }
        found
    }

    pub(super) fn require_word(&mut self, word: &str) -> Result<(), ParseError> {
        if self.accept_word(word) { Ok(()) } else { Err(self.expected(&format!("`{word}`"))) }
    }

    /// Letters, digits, `_` and `.`, at least one.
    pub(super) fn word(&mut self) -> Option<&'a str> {
        self.skip_space();
        let word = self.take(|c| c.is_alphanumeric() || matches!(c, '_' | '.'));
        (!word.is_empty()).then_some(word)
    }

    /// A number with sign, point and exponent, or the word of one that has no digits.
    pub(super) fn number(&mut self) -> Option<&'a str> {
        self.skip_space();
        let number = self.take(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '+'));
        (!number.is_empty()).then_some(number)
    }

    /// An integer with sign.
    pub(super) fn integer(&mut self) -> Result<i64, ParseError> {
        self.skip_space();
        let mut ahead = *self;
        let digits = ahead.take(|c| c.is_ascii_digit() || c == '-');
        let value = digits.parse().map_err(|_| self.expected("an integer of 64 bits"))?;
        *self = ahead;
        Ok(value)
    }

    /// `"…"`, with `\\`, `\"`, `\n` and `\u{…}`.
    pub(super) fn string(&mut self) -> Result<String, ParseError> {
        if !self.accept("\"") {
            return Err(self.expected("a string"));
        }
        let start = *self;
        let mut result = String::new();
        let mut characters = self.rest().char_indices();
        while let Some((offset, character)) = characters.next() {
            match character {
                '"' => {
                    self.position += offset + 1;
                    return Ok(result);
                }
                '\\' => {
                    let escaped = match characters.next().map(|(_, escape)| escape) {
                        Some('n') => Some('\n'),
                        Some('u') => {
                            let digits: String = characters
                                .by_ref()
                                .map(|(_, digit)| digit)
                                .skip_while(|&c| c == '{')
                                .take_while(|&c| c != '}')
                                .take(8)
                                .collect();
                            u32::from_str_radix(&digits, 16).ok().and_then(char::from_u32)
                        }
                        Some(other @ ('\\' | '"')) => Some(other),
                        _ => None,
                    };
                    let message = || ParseErrorKind::Literal("unknown escape in a string".into());
                    result.push(escaped.ok_or_else(|| start.error(message()))?);
                }
                other => result.push(other),
            }
        }
        Err(start.error(ParseErrorKind::Literal("the string has no end".into())))
    }

    /// Text up to the first of `ends` that is not inside parentheses or a string; the end stays.
    pub(super) fn until(&mut self, ends: &[char]) -> &'a str {
        let (mut depth, mut quoted, mut escaped) = (0usize, false, false);
        let rest = self.rest();
        let end = rest.char_indices().find(|&(_, c)| {
            if quoted {
                let was_escaped = escaped;
                escaped = c == '\\' && !was_escaped;
                quoted = c != '"' || was_escaped;
                return false;
            }
            if depth == 0 && ends.contains(&c) {
                return true;
            }
            match c {
                '"' => quoted = true,
                '(' => depth += 1,
                ')' => depth = depth.saturating_sub(1),
                _ => {}
            }
            false
        });
        let end = end.map_or(rest.len(), |(offset, _)| offset);
        self.position += end;
        rest.get(..end).unwrap_or("")
    }
}

/// The string as a literal that [`Scanner::string`] reads.
pub(super) fn quoted(text: &str) -> String {
    let mut result = String::from('"');
    for character in text.chars() {
        match character {
            '\\' => result.push_str("\\\\"),
            '"' => result.push_str("\\\""),
            '\n' => result.push_str("\\n"),
            c if c.is_control() => result.push_str(&format!("\\u{{{:x}}}", u32::from(c))),
            c => result.push(c),
        }
    }
    result.push('"');
    result
}
