#![allow(
    clippy::unwrap_used,
    clippy::needless_pass_by_value,
    clippy::format_collect,
    reason = "tests: brevity before speed, a panic is a failure"
)]

use proptest::prelude::*;
use serde_json::Value;

use super::canonical;

fn same(a: &str, b: &str) -> bool {
    let (a, b) = (canonical(a), canonical(b));
    assert!(a.is_some() && b.is_some());
    a == b
}

#[test]
fn texts_that_differ_only_in_spelling_have_the_same_form() {
    for (a, b) in [
        (r#"{"a":1,"b":2}"#, " { \"b\" :\n2 , \"a\" : 1 } "),
        ("[1,1.5,-0,100]", "[1.0, 15e-1, 0.0, 1E+2]"),
        ("0.1", "0.10"),
        ("1e400", "10e399"),
        ("1200", "1.2e3"),
        (r#""a/\u00e9\n""#, "\"\\u0061\\/é\\u000A\""),
        ("[true, false,null ]", "[true,false,null]"),
        (r#"{"\u0061":[]}"#, r#"{"a":[ ]}"#),
        ("{}", "{ }"),
    ] {
        assert!(same(a, b), "{a} {b} {:?}", canonical(b));
    }
}

#[test]
fn texts_that_differ_in_meaning_have_different_forms() {
    for (a, b) in [
        ("9007199254740993", "9007199254740992"),
        ("123456789012345678901", "123456789012345678902"),
        ("0.1", "0.1000000000000000055511151231257827"),
        ("1e400", "1e401"),
        ("1e99999999999999999999", "1e99999999999999999998"),
        ("1", "-1"),
        ("1", "\"1\""),
        ("10", "1"),
        ("[1,2]", "[2,1]"),
        ("[[1],2]", "[[1,2]]"),
        (r#"{"a":1}"#, r#"{"a":1,"b":null}"#),
        (r#"{"a":1,"a":2}"#, r#"{"a":2,"a":1}"#),
        (r#""\ud800""#, r#""\ud801""#),
        (r#""\ud800""#, r#""\\ud800""#),
        ("true", "\"true\""),
    ] {
        assert!(!same(a, b), "{a} {b}");
    }
}

#[test]
fn what_is_not_json_has_no_canonical_form() {
    let deep = "[".repeat(200) + &"]".repeat(200);
    for bad in ["", "{", "{a:1}", "[1,]", "01", "1 2", "\"", &deep] {
        assert_eq!(canonical(bad), None, "{bad}");
    }
}

#[test]
fn members_are_sorted_as_the_rfc_sorts_them() {
    // RFC 8785 section 3.2.3: its example of sorting by UTF-16 code units.
    let text = r#"{"\u20ac":1,"\r":2,"\ufb33":3,"1":4,"\ud83d\ude00":5,"\u0080":6,"\u00f6":7}"#;
    let form = canonical(text).unwrap();
    let values: Vec<&str> =
        form.trim_matches(['{', '}']).split(',').filter_map(|member| member.rsplit(':').next()).collect();
    assert_eq!(values, ["2", "4", "6", "7", "1", "5", "3"]);
}

fn json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        "[a-c\\\\\"\n\u{e9}\u{1f600}]{0,4}".prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 32, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map("[a-c\u{e9}]{0,2}", inner, 0..4)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

/// Another spelling of a value: members in reverse order, white space, escapes, exponents.
fn respell(value: &Value) -> String {
    match value {
        Value::Null | Value::Bool(_) => format!(" {value}\t"),
        Value::Number(number) => format!("{number}0e-1 "),
        Value::String(text) => {
            let escaped: String = text.encode_utf16().map(|unit| format!("\\u{unit:04X}")).collect();
            format!("\"{escaped}\"")
        }
        Value::Array(items) => format!("[ {} ]", items.iter().map(respell).collect::<Vec<_>>().join(" ,")),
        Value::Object(members) => {
            let member = |(name, value): (&String, &Value)| {
                format!("{} : {}", respell(&Value::from(name.as_str())), respell(value))
            };
            format!("{{{}}}", members.iter().rev().map(member).collect::<Vec<_>>().join(","))
        }
    }
}

proptest! {
    #[test]
    fn two_spellings_of_one_value_are_one_and_of_two_values_two(a in json(), b in json()) {
        let (plain, other) = (a.to_string(), respell(&a));
        prop_assert_eq!(canonical(&plain), canonical(&other));
        prop_assert_eq!(a == b, canonical(&plain) == canonical(&b.to_string()));
        // It is JSON with the same value, and is its own canonical form.
        let form = canonical(&plain).unwrap();
        prop_assert_eq!(canonical(&form), Some(form.clone()));
    }
}
