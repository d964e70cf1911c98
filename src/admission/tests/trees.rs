//! A tree is what serde_json would have read.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

/// Any JSON value, of few names, so that two have something in common.
pub(in crate::admission) fn json_value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        (-2i64..3).prop_map(Value::from),
        prop_oneof![Just(0.5), Just(-1e300), Just(1e-7)].prop_map(Value::from),
        prop_oneof![Just(u64::MAX), Just(1 << 63)].prop_map(Value::from),
        "[a~/]{0,2}".prop_map(Value::from),
        "[\"\\\\\n€a]{0,3}".prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 40, 5, |inner| {
        let named = ("[ab]", inner.clone()).prop_map(|(name, value)| json!({"name": name, "x": value}));
        prop_oneof![
            prop::collection::vec(prop_oneof![inner.clone(), named], 0..5).prop_map(Value::from),
            prop::collection::btree_map("[a~/\n]{0,2}", inner, 0..4)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

/// The text as a tree, with memory of its own again.
fn read(text: &str) -> Result<Value, String> {
    Arena(&Bump::new()).read(text).map(|json| json.to_value()).map_err(|error| error.to_string())
}

proptest! {
    #[test]
    fn what_is_read_is_what_was_written(value in json_value()) {
        let (short, pretty) = (value.to_string(), serde_json::to_string_pretty(&value).expect("JSON"));
        let bump = Bump::new();
        let copy = Arena(&bump).value(&value);
        prop_assert_eq!(copy.to_value(), value);
        for text in [&short, &pretty] {
            let tree = Arena(&bump).read(text).expect("JSON");
            prop_assert_eq!(tree, copy);
        }
    }

    #[test]
    fn values_are_equal_that_serde_json_finds_equal(a in json_value(), b in json_value()) {
        let bump = Bump::new();
        prop_assert_eq!(Arena(&bump).value(&a) == Arena(&bump).value(&b), a == b);
    }
}

#[test]
fn the_order_of_keys_is_no_matter_and_the_last_of_two_counts() {
    assert_eq!(read(r#"{"b": 1, "a": 2, "b": {"d": 3, "c": 4}, "b": 5}"#), Ok(json!({"a": 2, "b": 5})));
    // More fields than are looked through one by one.
    let many: serde_json::Map<String, Value> = (0..99).map(|number| (number.to_string(), json!(number))).collect();
    let bump = Bump::new();
    let tree = Arena(&bump).value(&Value::Object(many));
    assert!((0..99).all(|number| tree.at(&number.to_string()).to_value() == number));
    assert_eq!(tree.get("99"), None);
}

#[test]
fn what_is_too_large_or_too_deep_is_refused() {
    // The list itself is one of them.
    assert!(read(&format!("[{}0]", "0,".repeat(524_288 - 2))).is_ok());
    let many = format!("[{}0]", "0,".repeat(524_288 - 1));
    assert!(read(&many).expect_err("too many").contains("more than 524288 values"));
    assert!(read(&"[".repeat(200)).expect_err("too deep").contains("recursion limit"));
    for broken in ["", "{", "[1,]", "{\"a\"}", "tru", "1 2", "\"\u{1}\""] {
        assert!(read(broken).is_err(), "{broken}");
    }
    // In a workload it is a denial that says so.
    let mut text = a_review(None, &orders()).to_string();
    text = text.replace(r#""containers":"#, &format!(r#""x":{many},"containers":"#));
    let answer = review(text.as_bytes(), &installation(), Mode::Enforce).expect("a review");
    assert_eq!(answer.decision, Decision::Denied);
    assert!(answer.notes[0].contains("spec.template can't be read: more than 524288 values"), "{:?}", answer.notes);
}
