//! Binding: what the shapes of the inputs say about the model's symbols.
//!
//! Invariant: the result agrees with every dimension of every input, and lies in the bounds that
//! the model was compiled for.

use super::RunError;
use kiln_program::{Buffer, Program};
use kiln_tensor::{DType, Dim, Symbol, SymbolTable, SymbolValues};
use std::collections::BTreeSet;

/// Type and shape of a given input.
#[derive(Clone, Copy, Debug)]
pub(super) struct Given<'a> {
    pub(super) dtype: DType,
    pub(super) sizes: &'a [usize],
}

/// The values of all symbols that occur in the shapes of the inputs.
pub(super) fn bind(program: &Program, given: &[Given<'_>]) -> Result<SymbolValues, RunError> {
    if program.inputs.len() != given.len() {
        return Err(RunError::InputCount { expected: program.inputs.len(), given: given.len() });
    }
    let inputs: Vec<Input<'_>> = program
        .inputs
        .iter()
        .zip(given)
        .filter_map(|(port, &given)| {
            Some(Input { name: &port.name, buffer: program.buffer(port.buffer)?, given })
        })
        .collect();
    for input in &inputs {
        input.check_type_and_rank()?;
    }
    let mut values = SymbolValues::new();
    // Plain symbols first; what is left may then have only one unknown.
    let mut open: Vec<(&Input<'_>, &Dim, i64)> = Vec::new();
    for (input, dim, size) in inputs.iter().flat_map(Input::dims) {
        match dim.as_symbol() {
            Some(symbol) => {
                values.entry(symbol.clone()).or_insert(size);
            }
            None => open.push((input, dim, size)),
        }
    }
    let mut progress = true;
    while std::mem::take(&mut progress) {
        for (_, dim, size) in &open {
            if let Some((symbol, value)) = solve(dim, *size, &values) {
                values.insert(symbol, value);
                progress = true;
            }
        }
    }
    for (input, dim, size) in inputs.iter().flat_map(Input::dims) {
        match dim.evaluate(&values) {
            Ok(value) if value == size => {}
            Ok(value) => {
                let because = match dim.as_const() {
                    Some(_) => format!(" ({size} instead of {value})"),
                    None => format!(" ({dim} is {value} by the other dimensions, not {size})"),
                };
                return Err(input.wrong_shape(because));
            }
            Err(error) => return Err(input.wrong_shape(format!(" ({error})"))),
        }
    }
    for (symbol, &value) in &values {
        check_bounds(&program.symbols, symbol, value, None)?;
    }
    Ok(values)
}

/// The value of the only unknown of `dim`, if the dimension grows linearly with it.
fn solve(dim: &Dim, size: i64, values: &SymbolValues) -> Option<(Symbol, i64)> {
    let mut symbols = BTreeSet::new();
    dim.collect_symbols(&mut symbols);
    let mut unknown = symbols.into_iter().filter(|symbol| !values.contains_key(symbol));
    let (symbol, None) = (unknown.next()?, unknown.next()) else { return None };
    let at = |value: i64| {
        let mut values = values.clone();
        values.insert(symbol.clone(), value);
        dim.evaluate(&values).ok()
    };
    let (zero, one) = (at(0)?, at(1)?);
    let value = size.checked_sub(zero)?.checked_div(one.checked_sub(zero)?)?;
    // Not linear after all, or no whole number.
    (at(value) == Some(size)).then_some((symbol, value))
}

/// Checks that a value, which a node found unless inputs have it, lies in its symbol's bounds.
pub(super) fn check_bounds(
    symbols: &SymbolTable,
    symbol: &Symbol,
    value: i64,
    node: Option<&str>,
) -> Result<(), RunError> {
    let bounds = symbols.get(symbol).copied().unwrap_or_default();
    if value < bounds.min || bounds.max.is_some_and(|max| value > max) {
        let (symbol, node) = (symbol.clone(), node.map(str::to_owned));
        return Err(RunError::OutOfBounds { node, symbol, value, bounds });
    }
    Ok(())
}

struct Input<'a> {
    name: &'a str,
    buffer: &'a Buffer,
    given: Given<'a>,
}

impl<'a> Input<'a> {
    fn check_type_and_rank(&self) -> Result<(), RunError> {
        if self.buffer.dtype != self.given.dtype {
            return Err(RunError::InputType {
                input: self.name.to_owned(),
                expected: self.buffer.dtype,
                given: self.given.dtype,
            });
        }
        let (declared, given) = (self.buffer.shape.len(), self.given.sizes.len());
        if declared != given {
            let because = format!(" ({given} dimensions instead of {declared})");
            return Err(self.wrong_shape(because));
        }
        Ok(())
    }

    fn dims(&self) -> impl Iterator<Item = (&Self, &'a Dim, i64)> {
        let sizes = self.given.sizes.iter().map(|&size| i64::try_from(size).unwrap_or(i64::MAX));
        self.buffer.shape.iter().zip(sizes).map(move |(dim, size)| (self, dim, size))
    }

    fn wrong_shape(&self, because: String) -> RunError {
        let declared: Vec<String> = self.buffer.shape.iter().map(Dim::to_string).collect();
        RunError::InputShape {
            input: self.name.to_owned(),
            declared: declared.join(", "),
            given: self.given.sizes.to_vec(),
            because,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kiln_program::{BufferId, Location, Port};
    use kiln_tensor::Bounds;

    fn program(shapes: &[&str]) -> Program {
        let mut program = Program::default();
        for (number, shape) in shapes.iter().enumerate() {
            let shape = shape.split(", ").map(|dim| dim.parse().unwrap()).collect();
            let id = BufferId(number as u32);
            program.inputs.push(Port { name: format!("in{number}"), buffer: id });
            let location = Location::Input(number as u32);
            program.buffers.push(Buffer { dtype: DType::F32, shape, location });
        }
        program
    }

    fn bound(shapes: &[&str], sizes: &[&[usize]]) -> Result<String, String> {
        let given: Vec<_> = sizes.iter().map(|&sizes| Given { dtype: DType::F32, sizes }).collect();
        let mut program = program(shapes);
        program.symbols.insert(Symbol::new("small"), Bounds { min: 1, max: Some(8) });
        bind(&program, &given)
            .map(|values| format!("{values:?}").replace("Symbol(\"", "").replace("\")", ""))
            .map_err(|error| error.to_string())
    }

    #[test]
    fn symbols_come_from_plain_dimensions_and_from_linear_ones() {
        assert_eq!(bound(&["n, m", "m, 3"], &[&[2, 5], &[5, 3]]).unwrap(), "{m: 5, n: 2}");
        assert_eq!(bound(&["2*n + 1"], &[&[7]]).unwrap(), "{n: 3}");
        assert_eq!(bound(&["k*n, n + m", "m"], &[&[12, 5], &[2]]).unwrap(), "{k: 4, m: 2, n: 3}");
    }

    #[test]
    fn what_does_not_fit_is_said() {
        type Case = (&'static [&'static str], &'static [&'static [usize]], &'static str);
        let cases: [Case; 8] = [
            (&["n"], &[], "takes 1 inputs, but 0"),
            (&["n, 3"], &[&[2]], "1 dimensions instead of 2"),
            (&["n, 3"], &[&[2, 4]], "`in0` has shape [n, 3], but [2, 4] was given (4 instead"),
            (&["n", "n"], &[&[2], &[3]], "`in1` has shape [n], but [3] was given (n is 2 by"),
            (&["2*n"], &[&[7]], "has no value"),
            (&["floordiv(n,2)"], &[&[7]], "has no value"),
            (&["small"], &[&[9]], "`small` is 9, but must be from 1 to 8"),
            (&["n - 5"], &[&[usize::MAX]], "`in0` has shape"),
        ];
        for (shapes, sizes, expected) in cases {
            let message = bound(shapes, sizes).unwrap_err();
            assert!(message.contains(expected), "`{message}` should say `{expected}`");
        }
        let given = [Given { dtype: DType::I64, sizes: &[1] }];
        let error = bind(&program(&["n"]), &given).unwrap_err();
        assert_eq!(error.to_string(), "input `in0` holds f32, but i64 was given");
    }
}
