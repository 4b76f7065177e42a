//! Tokens of PTX text (PTX ISA, Syntax).
//!
//! Invariant: every token borrows from the text and knows its line; whatever is not a token is an error.

use crate::error::ParseError;

/// What a token is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Kind<'a> {
    /// An identifier, including `%`-names and `_`.
    Word(&'a str),
    /// A dot and what follows it, without the dot: a directive, a modifier or a component.
    Dot(&'a str),
    /// An integer literal, as 64 bits.
    Integer(u64),
    /// `0f` and eight hexadecimal digits.
    Float32(u32),
    /// `0d` and sixteen, or a decimal fraction.
    Float64(u64),
    /// What stood between quotes.
    Text(&'a str),
    /// Anything of one character.
    Mark(char),
}

/// A token and its line.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Token<'a> {
    pub kind: Kind<'a>,
    pub line: u32,
}

fn starts_word(c: u8) -> bool {
    c.is_ascii_alphabetic() || matches!(c, b'_' | b'$' | b'%')
}

fn continues_word(c: u8) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, b'_' | b'$')
}

/// All tokens of a text.
pub(crate) fn tokens(text: &str) -> Result<Vec<Token<'_>>, ParseError> {
    let mut lexer = Lexer { text, bytes: text.as_bytes(), at: 0, line: 1 };
    let mut out = Vec::new();
    while let Some(token) = lexer.next()? {
        out.push(token);
    }
    Ok(out)
}

struct Lexer<'a> {
    text: &'a str,
    bytes: &'a [u8],
    at: usize,
    line: u32,
}

impl<'a> Lexer<'a> {
    fn peek(&self, ahead: usize) -> u8 {
        self.bytes.get(self.at + ahead).copied().unwrap_or(0)
    }

    fn skip_blank(&mut self) -> Result<(), ParseError> {
        loop {
            match self.peek(0) {
                b'\n' => {
                    self.line += 1;
                    self.at += 1;
                }
                b' ' | b'\t' | b'\r' => self.at += 1,
                b'/' if self.peek(1) == b'/' => {
                    while self.at < self.bytes.len() && self.bytes[self.at] != b'\n' {
                        self.at += 1;
                    }
                }
                b'/' if self.peek(1) == b'*' => {
                    let start = self.line;
                    self.at += 2;
                    while !(self.peek(0) == b'*' && self.peek(1) == b'/') {
                        if self.at >= self.bytes.len() {
                            return Err(ParseError::malformed(start, "a comment without end"));
                        }
                        if self.bytes[self.at] == b'\n' {
                            self.line += 1;
                        }
                        self.at += 1;
                    }
                    self.at += 2;
                }
                _ => return Ok(()),
            }
        }
    }

    /// The bytes from `start` to where `accept` ends; only called on ASCII.
    fn take(&mut self, start: usize, accept: impl Fn(u8) -> bool) -> &'a str {
        while self.at < self.bytes.len() && accept(self.bytes[self.at]) {
            self.at += 1;
        }
        self.text.get(start..self.at).unwrap_or("")
    }

    fn next(&mut self) -> Result<Option<Token<'a>>, ParseError> {
        self.skip_blank()?;
        let (start, line) = (self.at, self.line);
        let Some(&first) = self.bytes.get(start) else { return Ok(None) };
        self.at += 1;
        let kind = if starts_word(first) {
            Kind::Word(self.take(start, continues_word))
        } else if first == b'.' && (continues_word(self.peek(0))) {
            while self.at < self.bytes.len() {
                if continues_word(self.bytes[self.at]) {
                    self.at += 1;
                } else if self.peek(0) == b':'
                    && self.peek(1) == b':'
                    && continues_word(self.peek(2))
                {
                    self.at += 2;
                } else {
                    break;
                }
            }
            Kind::Dot(self.text.get(start + 1..self.at).unwrap_or(""))
        } else if first.is_ascii_digit() {
            self.number(start)?
        } else if first == b'"' {
            while self.peek(0) != b'"' {
                match self.peek(0) {
                    b'\n' => return Err(ParseError::malformed(line, "a string without end")),
                    _ if self.at >= self.bytes.len() => {
                        return Err(ParseError::malformed(line, "a string without end"));
                    }
                    _ => self.at += 1,
                }
            }
            self.at += 1;
            Kind::Text(self.text.get(start + 1..self.at - 1).unwrap_or(""))
        } else if first.is_ascii_graphic() {
            Kind::Mark(first as char)
        } else {
            return Err(ParseError::malformed(
                line,
                format!("a byte {first:#04x} outside of a comment"),
            ));
        };
        Ok(Some(Token { kind, line }))
    }

    fn number(&mut self, start: usize) -> Result<Kind<'a>, ParseError> {
        let bad = |text: &str| ParseError::malformed(self.line, format!("`{text}` is no number"));
        let prefix = if self.bytes[start] == b'0' { self.peek(0).to_ascii_lowercase() } else { 0 };
        match prefix {
            b'f' | b'd' if self.peek(1).is_ascii_hexdigit() => {
                self.at += 1;
                let digits = self.at;
                let text = {
                    let mut end = digits;
                    while end < self.bytes.len() && self.bytes[end].is_ascii_hexdigit() {
                        end += 1;
                    }
                    self.at = end;
                    self.text.get(digits..end).unwrap_or("")
                };
                let value = u64::from_str_radix(text, 16).map_err(|_| bad(text))?;
                match (prefix, text.len()) {
                    (b'f', 8) => Ok(Kind::Float32(value as u32)),
                    (b'd', 16) => Ok(Kind::Float64(value)),
                    _ => Err(bad(text)),
                }
            }
            b'x' | b'b' => {
                self.at += 1;
                let digits = self.at;
                let mut end = digits;
                while end < self.bytes.len() && self.bytes[end].is_ascii_hexdigit() {
                    end += 1;
                }
                self.at = end;
                let text = self.text.get(digits..end).unwrap_or("");
                let radix = if prefix == b'x' { 16 } else { 2 };
                let value = u64::from_str_radix(text, radix).map_err(|_| bad(text))?;
                self.unsigned_mark();
                Ok(Kind::Integer(value))
            }
            _ => {
                let mut end = self.at;
                let mut fraction = false;
                while end < self.bytes.len() {
                    let c = self.bytes[end];
                    let next = self.bytes.get(end + 1).copied().unwrap_or(0);
                    if c == b'.' && next.is_ascii_digit() && !fraction {
                        fraction = true;
                    } else if matches!(c, b'e' | b'E')
                        && fraction
                        && (next.is_ascii_digit() || matches!(next, b'+' | b'-'))
                    {
                        end += 1;
                    } else if !c.is_ascii_digit() {
                        break;
                    }
                    end += 1;
                }
                self.at = end;
                let text = self.text.get(start..end).unwrap_or("");
                if fraction {
                    let value: f64 = text.parse().map_err(|_| bad(text))?;
                    return Ok(Kind::Float64(value.to_bits()));
                }
                let octal = text.len() > 1 && text.starts_with('0');
                let value =
                    u64::from_str_radix(text, if octal { 8 } else { 10 }).map_err(|_| bad(text))?;
                self.unsigned_mark();
                Ok(Kind::Integer(value))
            }
        }
    }

    fn unsigned_mark(&mut self) {
        if self.peek(0) == b'U' {
            self.at += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kinds(text: &str) -> Vec<Kind<'_>> {
        tokens(text).unwrap().into_iter().map(|t| t.kind).collect()
    }

    #[test]
    fn an_instruction_is_words_dots_and_marks() {
        assert_eq!(
            kinds("ld.shared::cta.v4.b32 {%r1}, [%rd2+-16]; // x"),
            vec![
                Kind::Word("ld"),
                Kind::Dot("shared::cta"),
                Kind::Dot("v4"),
                Kind::Dot("b32"),
                Kind::Mark('{'),
                Kind::Word("%r1"),
                Kind::Mark('}'),
                Kind::Mark(','),
                Kind::Mark('['),
                Kind::Word("%rd2"),
                Kind::Mark('+'),
                Kind::Mark('-'),
                Kind::Integer(16),
                Kind::Mark(']'),
                Kind::Mark(';'),
            ]
        );
    }

    #[test]
    fn numbers_in_all_their_forms() {
        assert_eq!(
            kinds("0f3F800000 0d3FF0000000000000 0x1F 017 9U 1.5 0b101"),
            vec![
                Kind::Float32(0x3f80_0000),
                Kind::Float64(0x3ff0_0000_0000_0000),
                Kind::Integer(31),
                Kind::Integer(15),
                Kind::Integer(9),
                Kind::Float64(1.5f64.to_bits()),
                Kind::Integer(5),
            ]
        );
        assert!(tokens("0f3F80").is_err());
        assert!(tokens("99999999999999999999").is_err());
        assert!(tokens("/* open").is_err());
    }
}
