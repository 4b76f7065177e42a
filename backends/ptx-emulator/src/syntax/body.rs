//! Bodies of functions: scopes, registers, variables, labels and statements.
//!
//! Invariant: a statement's registers and variables are numbers within its body.

use super::lexer::Kind;
use super::operand::Operand;
use super::parser::Parser;
use super::{Type, Variable};
use crate::error::ParseError;
use std::collections::HashMap;

/// Registers that a body may declare.
const MAX_REGISTERS: u64 = 1 << 18;
/// How deep scopes may nest.
const MAX_DEPTH: usize = 64;

/// A guard, `@p` or `@!p`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Guard {
    pub register: u32,
    pub negated: bool,
}

/// An instruction as it is written.
#[derive(Clone, Debug)]
pub(crate) struct Statement {
    pub line: u32,
    pub scope: u32,
    pub guard: Option<Guard>,
    pub name: String,
    pub modifiers: Vec<String>,
    pub operands: Vec<Operand>,
}

/// Registers that were declared together.
#[derive(Clone, Debug)]
struct Range {
    name: String,
    /// Whether a number follows the name.
    numbered: bool,
    first: u32,
    kind: Type,
}

/// What a function does.
#[derive(Clone, Debug, Default)]
pub(crate) struct Body {
    ranges: Vec<Range>,
    pub registers: u32,
    pub variables: Vec<Variable>,
    /// The scope around each scope; the first is its own.
    parents: Vec<u32>,
    pub statements: Vec<Statement>,
    /// The statement that follows each label.
    labels: HashMap<(u32, String), u32>,
    /// `.branchtargets` by label.
    targets: HashMap<(u32, String), Vec<String>>,
}

impl Body {
    fn range(&self, register: u32) -> Option<&Range> {
        let after = self.ranges.partition_point(|range| range.first <= register);
        self.ranges.get(after.checked_sub(1)?)
    }

    /// The name of a register.
    pub fn register_name(&self, register: u32) -> String {
        match self.range(register) {
            Some(range) if range.numbered => format!("{}{}", range.name, register - range.first),
            Some(range) => range.name.clone(),
            None => String::from("?"),
        }
    }

    /// The type of a register.
    pub fn register_type(&self, register: u32) -> Type {
        self.range(register).map_or(Type::B64, |range| range.kind)
    }

    /// What `find` gives for the innermost scope that has it.
    fn outward<T>(&self, scope: u32, find: impl Fn(u32) -> Option<T>) -> Option<T> {
        let mut scope = scope;
        loop {
            if let Some(found) = find(scope) {
                return Some(found);
            }
            let parent = *self.parents.get(scope as usize)?;
            if parent == scope {
                return None;
            }
            scope = parent;
        }
    }

    /// The statement that a label stands before, as seen from a scope.
    pub fn label(&self, scope: u32, name: &str) -> Option<u32> {
        self.outward(scope, |s| self.labels.get(&(s, name.to_owned())).copied())
    }

    /// The labels of a `.branchtargets`.
    pub fn branch_targets(&self, scope: u32, name: &str) -> Option<&Vec<String>> {
        self.outward(scope, |s| self.targets.get(&(s, name.to_owned())))
    }
}

/// Names that are visible at a place of a body.
#[derive(Default)]
pub(crate) struct Scopes {
    /// Innermost last: the scope's number, and its registers and variables.
    open: Vec<Scope>,
}

#[derive(Default)]
struct Scope {
    number: u32,
    singles: HashMap<String, u32>,
    numbered: HashMap<String, (u32, u32)>,
    variables: HashMap<String, u32>,
}

impl Scopes {
    /// The register of this name.
    pub fn register(&self, name: &str) -> Option<u32> {
        let stem = name.trim_end_matches(|c: char| c.is_ascii_digit());
        let digits = &name[stem.len()..];
        let number: Option<u32> =
            if digits.len() > 1 && digits.starts_with('0') { None } else { digits.parse().ok() };
        self.open.iter().rev().find_map(|scope| {
            if let Some(found) = scope.singles.get(name) {
                return Some(*found);
            }
            let (first, count) = scope.numbered.get(stem)?;
            number.filter(|n| n < count).map(|n| first + n)
        })
    }

    /// The variable of this name.
    pub fn variable(&self, name: &str) -> Option<u32> {
        self.open.iter().rev().find_map(|scope| scope.variables.get(name).copied())
    }
}

impl<'a> Parser<'a> {
    /// What stands between the braces of a function; the opening one is read.
    pub fn body(&mut self) -> Result<Body, ParseError> {
        let mut body = Body { parents: vec![0], ..Body::default() };
        let mut scopes = Scopes { open: vec![Scope::default()] };
        loop {
            let Some(token) = self.token() else { return Err(self.error("a body without end")) };
            match token.kind {
                Kind::Mark('}') => {
                    self.advance();
                    scopes.open.pop();
                    if scopes.open.is_empty() {
                        return Ok(body);
                    }
                }
                Kind::Mark('{') => {
                    self.advance();
                    if scopes.open.len() >= MAX_DEPTH {
                        return Err(self.error("scopes nest too deep"));
                    }
                    let number = body.parents.len() as u32;
                    body.parents.push(scopes.open.last().map_or(0, |s| s.number));
                    scopes.open.push(Scope { number, ..Scope::default() });
                }
                Kind::Mark(';') => self.advance(),
                Kind::Dot(directive) => self.body_directive(directive, &mut body, &mut scopes)?,
                _ => self.statement(&mut body, &scopes)?,
            }
        }
    }

    fn body_directive(
        &mut self,
        directive: &str,
        body: &mut Body,
        scopes: &mut Scopes,
    ) -> Result<(), ParseError> {
        match directive {
            "reg" => self.registers(body, scopes),
            "local" | "shared" | "param" | "const" | "global" => {
                let declared = self.variables(true)?;
                let Some(scope) = scopes.open.last_mut() else { return Ok(()) };
                for mut variable in declared {
                    if variable.open {
                        return Err(self.error(format!("`{}` has no size", variable.name)));
                    }
                    variable.scope = scope.number;
                    scope.variables.insert(variable.name.clone(), body.variables.len() as u32);
                    body.variables.push(variable);
                }
                Ok(())
            }
            "loc" | "file" => {
                self.skip_line();
                Ok(())
            }
            "pragma" => {
                while !self.accept(';') {
                    if self.kind().is_none() {
                        return Err(self.error("a pragma without end"));
                    }
                    self.advance();
                }
                Ok(())
            }
            _ => Err(ParseError::unsupported(
                self.line(),
                format!(".{directive}"),
                "a directive in a body",
            )),
        }
    }

    fn registers(&mut self, body: &mut Body, scopes: &mut Scopes) -> Result<(), ParseError> {
        self.advance();
        let kind = self.type_name()?;
        if kind == Type::B128 {
            return Err(ParseError::unsupported(self.line(), ".b128", "registers of 128 bits"));
        }
        loop {
            let name = self.word()?;
            let mut count = 1;
            let numbered = self.accept('<');
            if numbered {
                count = self.integer()?;
                self.expect('>')?;
            }
            if count.saturating_add(u64::from(body.registers)) > MAX_REGISTERS {
                return Err(ParseError::TooLarge {
                    line: self.line(),
                    what: "registers",
                    limit: MAX_REGISTERS,
                });
            }
            let (first, count) = (body.registers, count as u32);
            if count > 0 {
                body.ranges.push(Range { name: name.to_owned(), numbered, first, kind });
                body.registers += count;
            }
            if let Some(scope) = scopes.open.last_mut() {
                if numbered {
                    scope.numbered.insert(name.to_owned(), (first, count));
                } else {
                    scope.singles.insert(name.to_owned(), first);
                }
            }
            if !self.accept(',') {
                return self.expect(';');
            }
        }
    }

    fn statement(&mut self, body: &mut Body, scopes: &Scopes) -> Result<(), ParseError> {
        let line = self.line();
        let scope = scopes.open.last().map_or(0, |s| s.number);
        let mut guard = None;
        if self.accept('@') {
            let negated = self.accept('!');
            let name = self.word()?;
            let Some(register) = scopes.register(name) else {
                return Err(self.error(format!("predicate `{name}` is not declared")));
            };
            if body.register_type(register) != Type::Pred {
                return Err(self.error(format!("`{name}` is no predicate")));
            }
            guard = Some(Guard { register, negated });
        }
        let name = self.word()?.to_owned();
        if guard.is_none() && self.accept(':') {
            if let Some(Kind::Dot(
                directive @ ("branchtargets" | "calltargets" | "callprototype"),
            )) = self.kind()
            {
                if directive != "branchtargets" {
                    return Err(ParseError::unsupported(
                        line,
                        format!(".{directive}"),
                        "calls by address",
                    ));
                }
                self.advance();
                let mut labels = vec![self.word()?.to_owned()];
                while self.accept(',') {
                    labels.push(self.word()?.to_owned());
                }
                self.expect(';')?;
                body.targets.insert((scope, name), labels);
                return Ok(());
            }
            if body.labels.insert((scope, name.clone()), body.statements.len() as u32).is_some() {
                return Err(ParseError::malformed(line, format!("label `{name}` stands twice")));
            }
            return Ok(());
        }
        let mut modifiers = Vec::new();
        while let Some(Kind::Dot(modifier)) = self.kind() {
            modifiers.push(modifier.to_owned());
            self.advance();
        }
        let mut operands = Vec::new();
        if !self.accept(';') {
            loop {
                operands.push(self.operand(scopes, 0)?);
                if self.accept(';') {
                    break;
                }
                self.expect(',')?;
            }
        }
        body.statements.push(Statement { line, scope, guard, name, modifiers, operands });
        Ok(())
    }
}
