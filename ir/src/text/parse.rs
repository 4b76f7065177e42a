//! Text as graphs.
//!
//! Invariant: a graph is built by the same functions as any other, so what is parsed is well
//! typed.

use super::scan::Scanner;
use super::{MOST_NESTED, ParseError, ParseErrorKind, attribute_notation, constant};
use crate::graph::{Graph, GraphError, TensorType, ValueId};
use crate::op::{Constant, Op};
use kiln_tensor::{Bounds, DType, Dim, Symbol, SymbolTable};
use std::collections::HashMap;
use std::str::FromStr;

/// The graph that a text describes.
pub fn parse(text: &str) -> Result<Graph, ParseError> {
    let mut scanner = Scanner::new(text);
    let mut parser = Parser { data: data_sections(text)? };
    let graph = parser.graph(&mut scanner, 0)?;
    while scanner.accept_word("data") {
        scanner.integer()?;
        scanner.string()?;
    }
    if scanner.at_end() { Ok(graph) } else { Err(scanner.expected("`data` or the end")) }
}

/// An operation with its attributes, as [`super::print_operation`] writes it.
pub fn parse_operation(text: &str) -> Result<Op, ParseError> {
    let mut scanner = Scanner::new(text);
    let op = operation(&mut scanner)?;
    if scanner.at_end() { Ok(op) } else { Err(scanner.expected("the end")) }
}

/// As [`parse`] does.
impl FromStr for Graph {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        parse(text)
    }
}

/// The bytes of constants, by number. They stand at the end, each at the start of a line, where
/// no graph has a line that begins so.
fn data_sections(text: &str) -> Result<HashMap<i64, Vec<u8>>, ParseError> {
    let mut sections = HashMap::new();
    let mut position = 0;
    for line in text.split_inclusive('\n') {
        if line.starts_with("data ") {
            let mut scanner = Scanner::new(text).at(position);
            scanner.require_word("data")?;
            let number = scanner.integer()?;
            let place = scanner;
            let bytes = constant::decode(&scanner.string()?);
            let message = || ParseErrorKind::Data(format!("data {number} is not base64"));
            sections.insert(number, bytes.ok_or_else(|| place.error(message()))?);
        }
        position += line.len();
    }
    Ok(sections)
}

/// A name and attributes. A constant is not read here.
fn operation(scanner: &mut Scanner) -> Result<Op, ParseError> {
    scanner.skip_space();
    let place = *scanner;
    let name = scanner.word().ok_or_else(|| scanner.expected("an operation"))?;
    if !Op::NAMES.contains(&name) || name == "Constant" {
        return Err(
            place.error(ParseErrorKind::Attributes(format!("there is no operation `{name}`")))
        );
    }
    scanner.require("(")?;
    let attributes = scanner.until(&[')']);
    scanner.require(")")?;
    let text = format!("{name}({attributes})");
    attribute_notation()
        .from_str(&text)
        .map_err(|error| place.error(ParseErrorKind::Attributes(format!("{name}: {}", error.code))))
}

struct Parser {
    data: HashMap<i64, Vec<u8>>,
}

/// A value on the left side.
struct Defined<'a> {
    key: &'a str,
    name: Option<String>,
    ty: Option<TensorType>,
}

impl Parser {
    fn graph(&mut self, scanner: &mut Scanner, depth: usize) -> Result<Graph, ParseError> {
        if depth > MOST_NESTED {
            return Err(scanner.error(ParseErrorKind::Nesting));
        }
        scanner.require_word("graph")?;
        let mut graph = Graph::new(scanner.string()?);
        scanner.require("{")?;
        if scanner.accept_word("symbols") {
            graph.symbols = symbols(scanner)?;
        }
        let mut values = HashMap::new();
        while !scanner.accept_word("return") {
            self.statement(scanner, &mut graph, &mut values, depth)?;
        }
        while !scanner.accept("}") {
            if !graph.outputs().is_empty() {
                scanner.require(",")?;
            }
            let id = used(scanner, &values)?;
            scanner.require_word("as")?;
            let name = scanner.string()?;
            graph.output(id, name).map_err(|error| scanner.error(error))?;
        }
        Ok(graph)
    }

    fn statement<'a>(
        &mut self,
        scanner: &mut Scanner<'a>,
        graph: &mut Graph,
        values: &mut HashMap<&'a str, ValueId>,
        depth: usize,
    ) -> Result<(), ParseError> {
        scanner.skip_space();
        let place = *scanner;
        let mut left = Vec::new();
        while scanner.sees("%") {
            left.push(defined(scanner)?);
            if !scanner.accept(",") {
                break;
            }
        }
        if !scanner.accept("=") {
            return Err(scanner.expected(if left.is_empty() {
                "`%`, `return` or `=`"
            } else {
                "`=`"
            }));
        }
        let ids = if scanner.accept_word("input") {
            match left.as_slice() {
                [Defined { name: Some(name), ty: Some(ty), .. }] => {
                    vec![graph.input(name.as_str(), ty.clone())]
                }
                _ => {
                    let expected = "one value with a name in quotes and a type".to_owned();
                    let found = "an input without them".to_owned();
                    return Err(place.error(ParseErrorKind::Expected { expected, found }));
                }
            }
        } else {
            self.node(scanner, graph, values, &left, depth)?
        };
        if ids.len() != left.len() {
            let (results, names) = (ids.len(), left.len());
            return Err(place.error(ParseErrorKind::Results { results, names }));
        }
        for (defined, id) in left.into_iter().zip(ids) {
            if let Some(written) = defined.ty.filter(|written| written != graph.ty(id)) {
                let inferred = graph.ty(id).clone();
                return Err(place.error(ParseErrorKind::Type { written, inferred }));
            }
            if let Some(name) = defined.name {
                graph.set_name(id, name);
            }
            if values.insert(defined.key, id).is_some() {
                return Err(place.error(ParseErrorKind::Redefined(defined.key.to_owned())));
            }
        }
        Ok(())
    }

    fn node<'a>(
        &mut self,
        scanner: &mut Scanner<'a>,
        graph: &mut Graph,
        values: &HashMap<&'a str, ValueId>,
        left: &[Defined],
        depth: usize,
    ) -> Result<Vec<ValueId>, ParseError> {
        scanner.skip_space();
        let place = *scanner;
        let op = if scanner.accept_word("Constant") {
            self.constant(scanner, left)?
        } else {
            operation(scanner)?
        };
        let mut operands = Vec::new();
        // On another line, this is the next statement.
        while scanner.sees_on_line("%") || !operands.is_empty() {
            operands.push(used(scanner, values)?);
            if !scanner.accept(",") {
                break;
            }
        }
        let source = if scanner.accept_word("from") { Some(scanner.string()?) } else { None };
        let mut regions = Vec::new();
        while scanner.sees("graph") {
            regions.push(self.graph(scanner, depth + 1)?);
        }
        let added = graph.add_node(op, &operands, regions, source.map(Into::into));
        added.map_err(|error: GraphError| place.error(error))
    }

    fn constant(&mut self, scanner: &mut Scanner, left: &[Defined]) -> Result<Op, ParseError> {
        let [Defined { ty: Some(ty), .. }] = left else {
            return Err(scanner.error(ParseErrorKind::Data("a constant needs its type".into())));
        };
        let sizes = ty.static_sizes().ok_or_else(|| {
            scanner.error(ParseErrorKind::Data(format!("the sizes of {ty} are not constant")))
        })?;
        if !scanner.accept_word("data") {
            if scanner.sees("…") {
                let message = "the elements are left out in this text".to_owned();
                return Err(scanner.error(ParseErrorKind::Data(message)));
            }
            let tensor = constant::parse_inline(scanner, ty, sizes)?;
            return Ok(Op::Constant(Constant { tensor }));
        }
        let place = *scanner;
        let number = scanner.integer()?;
        let missing = || ParseErrorKind::Data(format!("there is no `data {number}`"));
        let bytes = self.data.get(&number).ok_or_else(|| place.error(missing()))?;
        let tensor = constant::tensor(&place, ty, sizes, bytes)?;
        Ok(Op::Constant(Constant { tensor }))
    }
}

/// `batch: 1..=8, seq: 0..`
fn symbols(scanner: &mut Scanner) -> Result<SymbolTable, ParseError> {
    let mut table = SymbolTable::new();
    loop {
        let place = *scanner;
        let name = scanner.word().ok_or_else(|| scanner.expected("a symbol"))?;
        let symbol = Symbol::new(name);
        if symbol.name() != name {
            let message = format!("`{name}` is not the name of a symbol");
            return Err(place.error(ParseErrorKind::Literal(message)));
        }
        scanner.require(":")?;
        let min = scanner.integer()?;
        scanner.require("..")?;
        let max = if scanner.accept("=") { Some(scanner.integer()?) } else { None };
        table.insert(symbol, Bounds { min, max });
        if !scanner.accept(",") {
            return Ok(table);
        }
    }
}

/// `%3 "name": f32[2]`
fn defined<'a>(scanner: &mut Scanner<'a>) -> Result<Defined<'a>, ParseError> {
    scanner.require("%")?;
    let key = scanner.word().ok_or_else(|| scanner.expected("the name of a value"))?;
    let name = if scanner.sees("\"") { Some(scanner.string()?) } else { None };
    let ty = if scanner.accept(":") { Some(tensor_type(scanner)?) } else { None };
    Ok(Defined { key, name, ty })
}

fn used(scanner: &mut Scanner, values: &HashMap<&str, ValueId>) -> Result<ValueId, ParseError> {
    scanner.require("%")?;
    let place = *scanner;
    let key = scanner.word().ok_or_else(|| scanner.expected("the name of a value"))?;
    let unknown = || ParseErrorKind::UnknownValue(key.to_owned());
    values.get(key).copied().ok_or_else(|| place.error(unknown()))
}

/// `f32[batch, 2*seq + 1]`
fn tensor_type(scanner: &mut Scanner) -> Result<TensorType, ParseError> {
    scanner.skip_space();
    let place = *scanner;
    let dtype = scanner.word().unwrap_or("");
    let dtype: DType =
        dtype.parse().map_err(|message| place.error(ParseErrorKind::Literal(message)))?;
    scanner.require("[")?;
    let mut shape = Vec::new();
    while !scanner.accept("]") {
        if !shape.is_empty() {
            scanner.require(",")?;
        }
        scanner.skip_space();
        let place = *scanner;
        let dim: Result<Dim, _> = scanner.until(&[',', ']']).parse();
        shape.push(dim.map_err(|e| place.error(ParseErrorKind::Literal(e.to_string())))?);
    }
    Ok(TensorType::new(dtype, shape))
}
