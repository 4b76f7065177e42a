use super::*;
use proptest::prelude::*;

fn dim(text: &str) -> Dim {
    text.parse().unwrap()
}

#[test]
fn like_terms_merge() {
    assert_eq!(dim("2*s + 3 - s + s*t - t*s"), dim("s + 3"));
    assert_eq!(dim("s - s"), Dim::from(0i64));
}

#[test]
fn division_takes_out_whole_multiples() {
    let cases = [
        ("floordiv(2*s + 3, 2)", "s + 1"),
        ("floordiv(6*s*t, 3)", "2*s*t"),
        ("floordiv(s*t, t)", "s"),
        ("floordiv(floordiv(h - 1, 2) + 1, 2)", "floordiv(h + 1, 4)"),
        ("floordiv(7, 2)", "3"),
        ("floordiv(-7, 2)", "-4"),
        ("max(s + 1, s)", "s + 1"),
    ];
    for (input, expected) in cases {
        assert_eq!(dim(input).to_string(), dim(expected).to_string(), "{input}");
    }
}

#[test]
fn bad_text_and_bad_values_are_errors() {
    for text in ["", "2 +", "floordiv(1", "s s", "99999999999999999999", "%"] {
        assert!(text.parse::<Dim>().is_err(), "{text}");
    }
    assert!("(".repeat(100_000).parse::<Dim>().is_err());
    let values = SymbolValues::from([(Symbol::new("s"), i64::MAX), (Symbol::new("z"), 0)]);
    assert!(matches!(dim("2*s").evaluate(&values), Err(DimError::Overflow(_))));
    assert!(matches!(dim("floordiv(s, z)").evaluate(&values), Err(DimError::DivisionByZero(_))));
    assert!(matches!(dim("u").evaluate(&values), Err(DimError::Unbound(_))));
}

#[test]
fn foreign_names_become_symbols() {
    assert_eq!(Symbol::new("floor(h/2)").name(), "floor_h_2_");
    assert_eq!(Symbol::new("0").name(), "_0");
    assert_eq!(Symbol::new("max").name(), "_max");
}

fn expressions() -> impl Strategy<Value = Dim> {
    let leaf = prop_oneof![
        (-9i64..10).prop_map(Dim::from),
        prop::sample::select(vec!["a", "b", "c"]).prop_map(Dim::named),
    ];
    leaf.prop_recursive(4, 24, 2, |inner| {
        (inner.clone(), inner, 0..6u8, 1i64..7).prop_map(|(a, b, kind, d)| match kind {
            0 => a + b,
            1 => a - b,
            2 => a * b,
            3 => a.minimum(&b),
            4 => a.maximum(&b),
            _ => a.floor_div(&Dim::from(d)),
        })
    })
}

proptest! {
    #[test]
    fn print_then_parse_is_identity(expression in expressions()) {
        prop_assert_eq!(expression.to_string().parse::<Dim>().unwrap(), expression);
    }

    #[test]
    fn arithmetic_agrees_with_integers(
        x in expressions(), y in expressions(), d in 1i64..9,
        a in 0i64..50, b in 0i64..50, c in 0i64..50,
    ) {
        let values: SymbolValues =
            [("a", a), ("b", b), ("c", c)].map(|(name, value)| (Symbol::new(name), value)).into();
        let evaluated = (x.evaluate(&values), y.evaluate(&values));
        if let (Ok(vx), Ok(vy)) = evaluated && vx.abs() < 1 << 30 && vy.abs() < 1 << 30 {
            let divisor = Dim::from(d);
            prop_assert_eq!((x.clone() + y.clone()).evaluate(&values), Ok(vx + vy));
            prop_assert_eq!((x.clone() * y.clone()).evaluate(&values), Ok(vx * vy));
            prop_assert_eq!(x.floor_div(&divisor).evaluate(&values), Ok(vx.div_euclid(d)));
            prop_assert_eq!(x.modulo(&divisor).evaluate(&values), Ok(vx.rem_euclid(d)));
            prop_assert_eq!(x.minimum(&y).evaluate(&values), Ok(vx.min(vy)));
            let bounds = x.bounds(&SymbolTable::new());
            prop_assert!(bounds.min <= vx && bounds.max.is_none_or(|max| vx <= max));
        }
    }
}
