//! The table of supported operators in `docs/operators.md`.
//!
//! Invariant: the page is what the code says; `KILN_BLESS=1` writes it anew.

use kiln_frontend::operators;
use std::fmt::Write;

fn page() -> String {
    let mut page = String::from(
        "# Supported operators\n\nWritten from the importer's table; a test keeps it so. Within \
         these versions, every change of an operator's meaning is followed; a use that is not \
         supported is reported with its node and types.\n\n| domain | operator | opsets |\n\
         |---|---|---|\n",
    );
    for operator in operators() {
        let versions = operator.versions();
        let (domain, name) = (operator.domain, operator.name);
        // Writing to a string does not fail.
        let _ =
            writeln!(page, "| {domain} | {name} | {} to {} |", versions.start(), versions.end());
    }
    page
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
