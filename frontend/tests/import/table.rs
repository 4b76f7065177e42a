//! The table of supported operators in `docs/operators.md`: versions and element types.
//!
//! Invariant: the page is what the code says; `KILN_BLESS=1` writes it anew.

use kiln_frontend::{Operator, Signature, operators, signatures};
use std::fmt::Write;

fn page() -> String {
    let mut page = String::from(
        "# Supported operators\n\nWritten from the importer's table and the standard's schemas; a \
         test keeps it so. Within these versions, every change of an operator's meaning is \
         followed; an operand of another element type, and a use that is not supported, is reported \
         with its node and types. Every operator is composed of core operations that all backends \
         have: the reference evaluator, Cranelift and LLVM. There is no arithmetic on types of fewer \
         than 8 bits, floats of 8 and complex numbers: they are moved and converted.\n\n\
         | domain | operator | opsets | element types | backends |\n|---|---|---|---|---|\n",
    );
    for operator in operators() {
        let (domain, name) = (operator.domain, operator.name);
        for (first, last, types) in ranges(&operator) {
            // Writing to a string does not fail.
            let versions =
                if first == last { first.to_string() } else { format!("{first} to {last}") };
            let _ = writeln!(page, "| {domain} | {name} | {versions} | {types} | all |");
        }
    }
    page
}

/// The versions of an operator, parted where its element types change.
fn ranges(operator: &Operator) -> Vec<(i64, i64, String)> {
    let (first, last) = (*operator.versions().start(), *operator.versions().end());
    let mut ranges: Vec<(i64, i64, String)> = Vec::new();
    let signatures = signatures(operator.domain, operator.name);
    for (place, signature) in signatures.iter().enumerate() {
        let until = signatures.get(place + 1).map_or(last, |next| last.min(next.since - 1));
        if until < first || signature.since > last {
            continue;
        }
        let types = types(signature);
        match ranges.last_mut() {
            Some((_, end, same)) if *same == types => *end = until,
            _ => ranges.push((first.max(signature.since), until, types)),
        }
    }
    if ranges.is_empty() { vec![(first, last, String::new())] } else { ranges }
}

/// `T1, T2: f32 f64; Tind: i32 i64`
fn types(signature: &Signature) -> String {
    let mut groups: Vec<(Vec<&str>, String)> = Vec::new();
    for (name, types) in signature.parameters.iter().filter(|(_, types)| !types.is_empty()) {
        let types = types.iter().map(|dtype| dtype.name()).collect::<Vec<_>>().join(" ");
        match groups.iter_mut().find(|(_, same)| *same == types) {
            Some((names, _)) => names.push(name),
            None => groups.push((vec![name], types)),
        }
    }
    let groups = groups.into_iter().map(|(names, types)| match names.join(", ") {
        // A parameter that is one type is called by it.
        name if name == types => types,
        names => format!("{names}: {types}"),
    });
    groups.collect::<Vec<_>>().join("; ")
}

#[test]
fn every_operator_has_the_types_of_its_schemas() {
    let unknown: Vec<&str> = operators()
        .iter()
        .filter(|operator| signatures(operator.domain, operator.name).is_empty())
        .map(|operator| operator.name)
        .collect();
    assert_eq!(unknown, [""; 0]);
    for operator in operators() {
        let known = signatures(operator.domain, operator.name);
        assert!(known[0].since <= operator.first, "{operator:?}");
        assert!(known.windows(2).all(|pair| pair[0].since < pair[1].since), "{operator:?}");
    }
}

#[test]
fn the_page_is_what_the_code_says() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/operators.md");
    if std::env::var_os("KILN_BLESS").is_some_and(|value| value == "1") {
        std::fs::write(path, page()).unwrap();
    }
    let written = std::fs::read_to_string(path).unwrap();
    assert!(written == page(), "docs/operators.md differs; KILN_BLESS=1 writes it anew");
}
