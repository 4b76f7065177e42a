//! Declarations of a module (PTX ISA, Directives).
//!
//! Invariant: every loop consumes a token, and what declarations ask for is bounded before it is allocated.

use super::lexer::{Kind, Token, tokens};
use super::{Function, Relocation, Source, Storage, Type, Variable};
use crate::error::ParseError;

/// Bytes that initialisers and variables of a module may take.
const MAX_VARIABLE: u64 = 1 << 30;
/// Bytes that one initialiser may take.
const MAX_INITIAL: u64 = 64 << 20;
/// Bytes of text.
const MAX_TEXT: usize = 256 << 20;

/// A place in the tokens of a text.
pub(crate) struct Parser<'a> {
    tokens: Vec<Token<'a>>,
    at: usize,
}

/// Reads a text.
pub(crate) fn parse(text: &str) -> Result<Source, ParseError> {
    if text.len() > MAX_TEXT {
        return Err(ParseError::TooLarge {
            line: 0,
            what: "bytes of text",
            limit: MAX_TEXT as u64,
        });
    }
    Parser { tokens: tokens(text)?, at: 0 }.source()
}

impl<'a> Parser<'a> {
    pub fn token(&self) -> Option<Token<'a>> {
        self.tokens.get(self.at).copied()
    }

    pub fn kind(&self) -> Option<Kind<'a>> {
        self.token().map(|token| token.kind)
    }

    pub fn advance(&mut self) {
        self.at += 1;
    }

    pub fn line(&self) -> u32 {
        self.token().or(self.tokens.last().copied()).map_or(1, |token| token.line)
    }

    pub fn error(&self, message: impl Into<String>) -> ParseError {
        ParseError::malformed(self.line(), message)
    }

    pub fn accept(&mut self, mark: char) -> bool {
        let found = self.kind() == Some(Kind::Mark(mark));
        if found {
            self.at += 1;
        }
        found
    }

    pub fn expect(&mut self, mark: char) -> Result<(), ParseError> {
        if self.accept(mark) { Ok(()) } else { Err(self.error(format!("`{mark}` is missing"))) }
    }

    pub fn word(&mut self) -> Result<&'a str, ParseError> {
        match self.kind() {
            Some(Kind::Word(word)) => {
                self.at += 1;
                Ok(word)
            }
            _ => Err(self.error("a name is missing")),
        }
    }

    pub fn integer(&mut self) -> Result<u64, ParseError> {
        match self.kind() {
            Some(Kind::Integer(value)) => {
                self.at += 1;
                Ok(value)
            }
            _ => Err(self.error("an integer is missing")),
        }
    }

    fn accept_dot(&mut self, name: &str) -> bool {
        let found = self.kind() == Some(Kind::Dot(name));
        if found {
            self.at += 1;
        }
        found
    }

    pub fn type_name(&mut self) -> Result<Type, ParseError> {
        if let Some(Kind::Dot(name)) = self.kind()
            && let Some(found) = Type::parse(name)
        {
            self.at += 1;
            return Ok(found);
        }
        Err(self.error("a type is missing"))
    }

    /// Passes over what stands on the same line.
    pub fn skip_line(&mut self) {
        let line = self.line();
        while self.token().is_some_and(|token| token.line == line) {
            self.at += 1;
        }
    }

    fn skip_braces(&mut self) -> Result<(), ParseError> {
        let mut depth = 0u32;
        loop {
            match self.kind() {
                Some(Kind::Mark('{')) => depth += 1,
                Some(Kind::Mark('}')) => depth = depth.saturating_sub(1),
                None => return Err(self.error("`}` is missing")),
                _ if depth == 0 => return Err(self.error("`{` is missing")),
                _ => {}
            }
            self.at += 1;
            if depth == 0 {
                return Ok(());
            }
        }
    }

    fn source(&mut self) -> Result<Source, ParseError> {
        let mut source = Source::default();
        let mut versioned = false;
        while let Some(token) = self.token() {
            let Kind::Dot(directive) = token.kind else {
                if self.accept(';') {
                    continue;
                }
                return Err(self.error("a directive is missing"));
            };
            match directive {
                "version" => {
                    self.advance();
                    if !matches!(self.kind(), Some(Kind::Float64(_) | Kind::Integer(_))) {
                        return Err(self.error("a version is missing"));
                    }
                    self.advance();
                    versioned = true;
                }
                "target" => {
                    self.advance();
                    source.target = self.word()?.to_owned();
                    while self.accept(',') {
                        self.word()?;
                    }
                }
                "address_size" => {
                    self.advance();
                    if self.integer()? != 64 {
                        return Err(ParseError::unsupported(
                            token.line,
                            ".address_size",
                            "other than 64",
                        ));
                    }
                }
                "file" | "loc" => self.skip_line(),
                "section" => {
                    self.advance();
                    self.advance();
                    self.skip_braces()?;
                }
                "pragma" => {
                    while !self.accept(';') {
                        if self.kind().is_none() {
                            return Err(self.error("a pragma without end"));
                        }
                        self.advance();
                    }
                }
                "visible" | "extern" | "weak" | "common" => self.advance(),
                "global" | "const" | "shared" => {
                    let declared = self.variables(true)?;
                    source.variables.extend(declared);
                }
                "entry" | "func" => {
                    let function = self.function(directive == "entry")?;
                    source.functions.push(function);
                }
                other => {
                    return Err(ParseError::unsupported(
                        token.line,
                        format!(".{other}"),
                        "a directive",
                    ));
                }
            }
        }
        if !versioned {
            return Err(ParseError::malformed(1, "no `.version`"));
        }
        Ok(source)
    }

    fn function(&mut self, entry: bool) -> Result<Function, ParseError> {
        let line = self.line();
        self.advance();
        let mut function = Function {
            name: String::new(),
            entry,
            returns: Vec::new(),
            parameters: Vec::new(),
            max_threads: None,
            required: None,
            cluster: None,
            body: None,
            line,
        };
        if self.kind() == Some(Kind::Mark('(')) {
            function.returns = self.parameters()?;
        }
        function.name = self.word()?.to_owned();
        if self.kind() == Some(Kind::Mark('(')) {
            function.parameters = self.parameters()?;
        }
        loop {
            match self.kind() {
                Some(Kind::Mark(';')) => {
                    self.advance();
                    return Ok(function);
                }
                Some(Kind::Mark('{')) => {
                    self.advance();
                    function.body = Some(self.body()?);
                    return Ok(function);
                }
                Some(Kind::Dot(directive)) => {
                    let at = self.line();
                    self.advance();
                    match directive {
                        "maxntid" => {
                            let sizes = self.sizes()?;
                            function.max_threads =
                                Some(sizes.iter().fold(1u32, |a, b| a.saturating_mul(*b)));
                        }
                        "reqntid" => function.required = Some(self.sizes()?),
                        "reqnctapercluster" => function.cluster = Some(self.sizes()?),
                        "minnctapersm" | "maxnreg" | "maxclusterrank" => {
                            self.integer()?;
                        }
                        "explicitcluster" | "noreturn" | "blocksareclusters" => {}
                        "pragma" => {
                            while !self.accept(';') {
                                if self.kind().is_none() {
                                    return Err(self.error("a pragma without end"));
                                }
                                self.advance();
                            }
                        }
                        other => {
                            return Err(ParseError::unsupported(
                                at,
                                format!(".{other}"),
                                "a directive",
                            ));
                        }
                    }
                }
                _ => return Err(self.error("a body is missing")),
            }
        }
    }

    fn sizes(&mut self) -> Result<[u32; 3], ParseError> {
        let mut sizes = [1u32; 3];
        for (i, size) in sizes.iter_mut().enumerate() {
            if i > 0 && !self.accept(',') {
                break;
            }
            *size =
                u32::try_from(self.integer()?).map_err(|_| self.error("a size is too large"))?;
        }
        Ok(sizes)
    }

    fn parameters(&mut self) -> Result<Vec<Variable>, ParseError> {
        self.expect('(')?;
        let mut parameters = Vec::new();
        if self.accept(')') {
            return Ok(parameters);
        }
        loop {
            match self.kind() {
                Some(Kind::Dot("param")) => parameters.extend(self.variables(false)?),
                Some(Kind::Dot("reg")) => {
                    return Err(ParseError::unsupported(
                        self.line(),
                        ".reg",
                        "parameters in registers",
                    ));
                }
                _ => return Err(self.error("`.param` is missing")),
            }
            if self.accept(')') {
                return Ok(parameters);
            }
            self.expect(',')?;
        }
    }

    /// A declaration of variables, from its state space on; `list`: it may declare several and ends with `;`.
    pub fn variables(&mut self, list: bool) -> Result<Vec<Variable>, ParseError> {
        let storage = match self.kind() {
            Some(Kind::Dot("global")) => Storage::Global,
            Some(Kind::Dot("const")) => Storage::Constant,
            Some(Kind::Dot("shared")) => Storage::Shared,
            Some(Kind::Dot("local")) => Storage::Local,
            _ => Storage::Parameter,
        };
        self.advance();
        let mut align = None;
        let mut kind = None;
        let mut lanes = 1u64;
        while let Some(Kind::Dot(name)) = self.kind() {
            self.advance();
            match name {
                "align" => {
                    let value = self.integer()?;
                    // What `.ptr .align` says is about what the parameter points to.
                    if !value.is_power_of_two() || value > 1 << 20 {
                        return Err(self.error(format!("{value} is no alignment")));
                    }
                    align = Some(value);
                }
                "ptr" => {
                    while let Some(Kind::Dot(
                        "global" | "shared" | "const" | "local" | "param" | "generic",
                    )) = self.kind()
                    {
                        self.advance();
                    }
                    if self.accept_dot("align") {
                        self.integer()?;
                    }
                }
                "v2" => lanes = 2,
                "v4" => lanes = 4,
                "attribute" => {
                    self.expect('(')?;
                    while !self.accept(')') {
                        if self.kind().is_none() {
                            return Err(self.error("`)` is missing"));
                        }
                        self.advance();
                    }
                }
                name => match Type::parse(name) {
                    Some(found) => kind = Some(found),
                    None => {
                        return Err(ParseError::unsupported(
                            self.line(),
                            format!(".{name}"),
                            "in a declaration",
                        ));
                    }
                },
            }
        }
        let Some(kind) = kind else { return Err(self.error("a type is missing")) };
        let element = kind.bytes() * lanes;
        let mut declared = Vec::new();
        loop {
            let line = self.line();
            let name = self.word()?.to_owned();
            let (mut count, mut open) = (1u64, false);
            while self.accept('[') {
                if self.accept(']') {
                    open = true;
                    continue;
                }
                count = count.saturating_mul(self.integer()?);
                self.expect(']')?;
            }
            let mut size = count.saturating_mul(element);
            if size > MAX_VARIABLE {
                return Err(ParseError::TooLarge {
                    line,
                    what: "bytes of a variable",
                    limit: MAX_VARIABLE,
                });
            }
            let mut relocations = Vec::new();
            let mut initial = None;
            if list && self.accept('=') {
                let mut bytes = Vec::new();
                self.initialiser(kind, &mut bytes, &mut relocations, 0)?;
                if open {
                    size = bytes.len() as u64;
                    open = false;
                }
                if bytes.len() as u64 > size || size > MAX_INITIAL {
                    return Err(self.error(format!("the initialiser of `{name}` does not fit")));
                }
                bytes.resize(size as usize, 0);
                initial = Some(bytes);
            }
            let size = if open { 0 } else { size };
            let align = align.unwrap_or(element).max(1);
            declared.push(Variable {
                name,
                storage,
                align,
                size,
                open,
                initial,
                relocations,
                scope: 0,
                line,
            });
            if !list {
                return Ok(declared);
            }
            if !self.accept(',') {
                self.expect(';')?;
                return Ok(declared);
            }
        }
    }

    fn initialiser(
        &mut self,
        kind: Type,
        bytes: &mut Vec<u8>,
        relocations: &mut Vec<Relocation>,
        depth: u32,
    ) -> Result<(), ParseError> {
        if depth > 8 {
            return Err(self.error("initialisers nest too deep"));
        }
        if self.accept('{') {
            if self.accept('}') {
                return Ok(());
            }
            loop {
                self.initialiser(kind, bytes, relocations, depth + 1)?;
                if self.accept('}') {
                    return Ok(());
                }
                self.expect(',')?;
            }
        }
        let negative = self.accept('-');
        let width = kind.bytes() as usize;
        let value = match self.kind() {
            Some(Kind::Integer(value)) => {
                self.advance();
                if negative { value.wrapping_neg() } else { value }
            }
            Some(Kind::Float32(bits)) => {
                self.advance();
                let bits = if negative { bits ^ 1 << 31 } else { bits };
                if kind == Type::F64 {
                    f64::from(f32::from_bits(bits)).to_bits()
                } else {
                    u64::from(bits)
                }
            }
            Some(Kind::Float64(bits)) => {
                self.advance();
                let value = f64::from_bits(if negative { bits ^ 1 << 63 } else { bits });
                if kind == Type::F32 {
                    u64::from((value as f32).to_bits())
                } else {
                    value.to_bits()
                }
            }
            Some(Kind::Word(word)) => {
                self.advance();
                let generic = word == "generic" && self.accept('(');
                let name = if generic { self.word()? } else { word }.to_owned();
                if generic {
                    self.expect(')')?;
                }
                let addend = self.offset()?;
                if width != 8 {
                    return Err(ParseError::unsupported(
                        self.line(),
                        name,
                        "an address that is not 8 bytes",
                    ));
                }
                relocations.push(Relocation { offset: bytes.len() as u64, name, addend });
                0
            }
            _ => return Err(self.error("a value is missing")),
        };
        bytes.extend_from_slice(&value.to_le_bytes()[..width.min(8)]);
        if bytes.len() as u64 > MAX_INITIAL {
            return Err(self.error("an initialiser is too long"));
        }
        Ok(())
    }
}
