//! RE2's syntax of regular expressions, written in that of `regex_syntax`.
//!
//! Invariant: what a translation means it means in RE2 as well, where `\d`, `\s`, `\w` and `\b` are about
//! ASCII, a class is a plain list, and a brace that is no repetition is a character; what this cannot
//! express is an error. <https://github.com/google/re2/wiki/Syntax>

use crate::RoutineError;
use std::fmt::Write;
use std::iter::Peekable;
use std::str::Chars;

/// How often something may be repeated, as in RE2.
const MOST_REPEATS: u32 = 1000;

type Done = Result<(), RoutineError>;

fn refused<T>(message: impl Into<String>) -> Result<T, RoutineError> {
    Err(RoutineError::new(message))
}

/// The expression in the syntax of `regex_syntax`, with its default flags. Groups are not numbered, and
/// parentheses are left to the parser.
///
/// # Errors
///
/// Where RE2 has no such escape, class, flag or repetition, or where it has one that bytes instead of
/// characters match (`\C`).
pub(crate) fn translate(pattern: &str) -> Result<String, RoutineError> {
    let rest = pattern.chars().peekable();
    let mut scanner = Scanner { rest, made: String::with_capacity(2 * pattern.len()) };
    let mut repeated = false;
    while let Some(c) = scanner.rest.next() {
        let repeats = scanner.repetition(c)?;
        if repeats && repeated {
            return refused("a repetition is repeated without a group around it");
        }
        repeated = repeats;
        match c {
            _ if repeats => {}
            '\\' => scanner.escape()?,
            '[' => scanner.class()?,
            '(' => scanner.group()?,
            '^' | '$' | '.' | '|' | ')' => scanner.made.push(c),
            _ => scanner.literal(c),
        }
    }
    Ok(scanner.made)
}

struct Scanner<'p> {
    rest: Peekable<Chars<'p>>,
    made: String,
}

/// What an escape stands for in and outside of a class.
enum Escaped {
    Char(char),
    /// A class, in brackets.
    Class(String),
    /// Neither: what follows the backslash.
    Other(char),
}

impl Scanner<'_> {
    fn literal(&mut self, c: char) {
        let _ = write!(self.made, "\\x{{{:x}}}", u32::from(c));
    }

    fn take(&mut self, c: char) -> bool {
        self.rest.next_if_eq(&c).is_some()
    }

    /// What stands before `end`, which is taken as well; `None` if it is missing.
    fn until(&mut self, end: char) -> Option<String> {
        let mut text = String::new();
        loop {
            match self.rest.next()? {
                c if c == end => return Some(text),
                c => text.push(c),
            }
        }
    }

    /// Whether `c` begins a repetition, which is written down then.
    fn repetition(&mut self, c: char) -> Result<bool, RoutineError> {
        match c {
            '*' | '+' | '?' => self.made.push(c),
            '{' => {
                let Some((least, most, length)) = counts(self.rest.clone()) else {
                    return Ok(false);
                };
                if least.max(most.unwrap_or(0)) > MOST_REPEATS {
                    return refused(format!("a repetition is of more than {MOST_REPEATS} times"));
                }
                self.made.push('{');
                self.made.extend(self.rest.by_ref().take(length));
            }
            _ => return Ok(false),
        }
        if self.take('?') {
            self.made.push('?');
        }
        Ok(true)
    }

    /// What follows a parenthesis.
    fn group(&mut self) -> Done {
        self.made.push_str("(?");
        if !self.take('?') {
            self.made.push(':');
            return Ok(());
        }
        let python = self.take('P');
        if self.take('<') {
            let name = self.until('>').unwrap_or_default();
            if name.is_empty() || !name.chars().all(|c| c.is_alphanumeric() || c == '_') {
                return refused(format!("`{name}` is no name of a group"));
            }
            self.made.push(':');
            return Ok(());
        }
        let (mut on, mut off, mut negative) = (String::new(), String::new(), false);
        loop {
            match self.rest.next() {
                Some(flag @ ('i' | 'm' | 's' | 'U')) if !python => {
                    on.retain(|other| other != flag);
                    off.retain(|other| other != flag);
                    if negative { &mut off } else { &mut on }.push(flag);
                }
                Some('-') if !python && !negative => negative = true,
                Some(end @ (')' | ':')) if !python && negative != off.is_empty() => {
                    self.made.push_str(&on);
                    if negative {
                        self.made.push('-');
                        self.made.push_str(&off);
                    }
                    if end == ')' && on.is_empty() && off.is_empty() {
                        // What comes before is still what a repetition repeats.
                        self.made.truncate(self.made.len() - "(?".len());
                        return Ok(());
                    }
                    self.made.push(end);
                    return Ok(());
                }
                _ => return refused("a group begins with what RE2 does not have"),
            }
        }
    }

    /// What follows a backslash outside of a class.
    fn escape(&mut self) -> Done {
        match self.escaped()? {
            Escaped::Char(c) => self.literal(c),
            Escaped::Class(class) => self.made.push_str(&class),
            Escaped::Other('Q') => self.quoted(),
            Escaped::Other(c @ ('b' | 'B')) => {
                let _ = write!(self.made, "(?-u:\\{c})");
            }
            Escaped::Other(c @ ('A' | 'z')) => self.made.extend(['\\', c]),
            Escaped::Other(c) => return refused(format!("`\\{c}` is no escape")),
        }
        Ok(())
    }

    /// Literals up to `\E`, or to the end.
    fn quoted(&mut self) {
        while let Some(c) = self.rest.next() {
            if c == '\\' && self.take('E') {
                return;
            }
            self.literal(c);
        }
    }

    /// What a backslash and the next characters stand for.
    fn escaped(&mut self) -> Result<Escaped, RoutineError> {
        let Some(c) = self.rest.next() else { return refused("a backslash ends the expression") };
        let code = match c {
            'd' | 'D' | 's' | 'S' | 'w' | 'W' => {
                let members = match c.to_ascii_lowercase() {
                    'd' => "[:digit:]",
                    's' => r"\t\n\f\r\x20",
                    _ => "[:word:]",
                };
                let not = if c.is_ascii_uppercase() { "^" } else { "" };
                return Ok(Escaped::Class(format!("[{not}{members}]")));
            }
            'p' | 'P' => return self.property(c == 'P').map(Escaped::Class),
            'a' => 0x07,
            'f' => 0x0c,
            'n' => 0x0a,
            'r' => 0x0d,
            't' => 0x09,
            'v' => 0x0b,
            'x' => {
                let (digits, complete) = if self.take('{') {
                    (self.until('}').unwrap_or_default(), true)
                } else {
                    let two: String = self.rest.by_ref().take(2).collect();
                    let complete = two.len() == 2;
                    (two, complete)
                };
                let plain = complete && digits.chars().all(|c| c.is_ascii_hexdigit());
                let code = u32::from_str_radix(&digits, 16).ok().filter(|_| plain);
                code.unwrap_or(u32::MAX)
            }
            '0'..='7' => {
                let mut code = u32::from(c) - u32::from('0');
                let mut count = 1;
                while count < 3
                    && let Some(digit) = self.rest.next_if(|c| ('0'..='7').contains(c))
                {
                    code = 8 * code + (u32::from(digit) - u32::from('0'));
                    count += 1;
                }
                if c != '0' && count == 1 {
                    return refused(format!("`\\{c}` refers to a group, which RE2 does not have"));
                }
                code
            }
            _ if c.is_ascii() && !c.is_ascii_alphanumeric() => u32::from(c),
            _ => return Ok(Escaped::Other(c)),
        };
        match char::from_u32(code) {
            Some(c) => Ok(Escaped::Char(c)),
            None => refused(format!("`\\{c}` is not followed by the number of a character")),
        }
    }

    /// The class of what follows `\p`, or `\P`: a general category, or a script.
    fn property(&mut self, mut negated: bool) -> Result<String, RoutineError> {
        let mut name = match self.rest.next() {
            Some('{') => self.until('}').unwrap_or_default(),
            letter => letter.into_iter().collect(),
        };
        if let Some(other) = name.strip_prefix('^') {
            (negated, name) = (!negated, other.to_owned());
        }
        let plain = name.chars().all(|c| c.is_ascii_alphabetic() || c == '_');
        if !plain || !name.starts_with(|c: char| c.is_ascii_uppercase()) {
            return refused(format!("`{name}` is no class of characters"));
        }
        let members = match name.as_str() {
            "Any" => r"\p{Any}".to_owned(),
            // RE2 does not count what is not assigned, and surrogates are no characters.
            "C" => r"\p{Cc}\p{Cf}\p{Co}".to_owned(),
            "Cs" => r"[^\p{Any}]".to_owned(),
            "Cn" | "LC" => return refused(format!("`{name}` is no class of characters in RE2")),
            "Yi" => r"\p{sc=Yi}".to_owned(),
            _ if name.len() <= 2 => format!("\\p{{gc={name}}}"),
            _ => format!("\\p{{sc={name}}}"),
        };
        let not = if negated { "^" } else { "" };
        Ok(format!("[{not}{members}]"))
    }

    /// What follows a bracket.
    fn class(&mut self) -> Done {
        self.made.push('[');
        if self.take('^') {
            self.made.push('^');
        }
        let mut first = true;
        loop {
            match self.rest.next() {
                None => return refused("a bracket is not closed"),
                Some(']') if !first => break,
                Some('[') if self.rest.peek() == Some(&':') && self.named()? => {}
                Some(c) => self.member(c)?,
            }
            first = false;
        }
        self.made.push(']');
        Ok(())
    }

    /// Whether `[:` begins a class of ASCII with a name, which is written down then.
    fn named(&mut self) -> Result<bool, RoutineError> {
        // Longer than any name, and no more: there may be as many beginnings as characters.
        let text: String = self.rest.clone().skip(1).take(16).collect();
        let Some((name, _)) = text.split_once(":]") else { return Ok(false) };
        let (not, plain) = match name.strip_prefix('^') {
            Some(plain) => ("^", plain),
            None => ("", name),
        };
        const NAMES: [&str; 14] = [
            "alnum", "alpha", "ascii", "blank", "cntrl", "digit", "graph", "lower", "print",
            "punct", "space", "upper", "word", "xdigit",
        ];
        if !NAMES.contains(&plain) {
            return refused(format!("`[:{name}:]` is no class of characters"));
        }
        let _ = write!(self.made, "[{not}[:{plain}:]]");
        let length = name.chars().count() + 3;
        self.rest.by_ref().take(length).for_each(drop);
        Ok(true)
    }

    /// A member of a class that begins with `c`: a character, a range, or a class.
    fn member(&mut self, c: char) -> Done {
        let low = match c {
            '\\' => match self.escaped()? {
                Escaped::Class(class) => {
                    self.made.push_str(&class);
                    return Ok(());
                }
                Escaped::Char(c) => c,
                Escaped::Other(c) => return refused(format!("`\\{c}` is no escape in a class")),
            },
            c => c,
        };
        self.literal(low);
        let mut ahead = self.rest.clone();
        if ahead.next() != Some('-') || ahead.peek().is_none_or(|&c| c == ']') {
            return Ok(());
        }
        self.rest = ahead;
        let high = match self.rest.next() {
            Some('\\') => match self.escaped()? {
                Escaped::Char(c) => c,
                _ => return refused("a range in a class ends with what is no character"),
            },
            c => c.unwrap_or_default(),
        };
        self.made.push('-');
        self.literal(high);
        Ok(())
    }
}

/// Least and most times, and how many characters say it, closing brace and all; `None` if these are no
/// numbers in a brace.
fn counts(mut rest: Peekable<Chars<'_>>) -> Option<(u32, Option<u32>, usize)> {
    let mut length = 0;
    let mut number = || {
        let mut value: Option<u32> = None;
        while let Some(digit) = rest.next_if(char::is_ascii_digit) {
            let digit = digit.to_digit(10).unwrap_or_default();
            value = Some(value.unwrap_or(0).saturating_mul(10).saturating_add(digit));
            length += 1;
        }
        length += 1;
        (value, rest.next())
    };
    let (least, most) = match number() {
        (Some(times), Some('}')) => (times, Some(times)),
        (Some(least), Some(',')) => match number() {
            (most, Some('}')) => (least, most),
            _ => return None,
        },
        _ => return None,
    };
    Some((least, most, length))
}
