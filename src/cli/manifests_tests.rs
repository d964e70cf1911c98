use proptest::prelude::*;
use serde_json::json;

use super::*;

fn values(text: &str) -> Vec<Value> {
    parse("f", text).expect("valid").into_iter().map(|document| document.value).collect()
}

#[test]
fn documents_are_split_where_kubectl_splits_them() {
    assert_eq!(values("a: 1\n---\nb: 2\n"), [json!({"a": 1}), json!({"b": 2})]);
    assert_eq!(values("---\na: 1\n--- # b\nb: 2"), [json!({"a": 1}), json!({"b": 2})]);
    assert_eq!(values("a: |\n  x\n  ---\n  y\n---\nb: '---'\n"), [json!({"a": "x\n---\ny\n"}), json!({"b": "---"})]);
    assert_eq!(values("--- {a: 1}\n--- \nb: 2\n...\n"), [json!({"a": 1}), json!({"b": 2})]);
    assert_eq!(values("# only a comment\n---\n\n---\na: 1\n"), [Value::Null, Value::Null, json!({"a": 1})]);
    assert_eq!(values("{\"a\": 1}\n{\"b\": 2}"), [json!({"a": 1}), json!({"b": 2})]);
    assert_eq!(values("{a: 1}\n---\n{b: 2}"), [json!({"a": 1}), json!({"b": 2})]);
    assert_eq!(values("\u{feff}a: 1\r\n---\r\nb: 2\r\n"), [json!({"a": 1}), json!({"b": 2})]);
    assert_eq!(values(""), [Value::Null]);
}

#[test]
fn scalars_are_what_kubectl_makes_of_them() {
    assert_eq!(
        values("{a: 0644, b: yes, c: 'yes', d: 1.50, e: ~, f: 1e3, g: 0o17, h: 12345678901234567890, i: 2026-11-21}"),
        [json!({
            "a": 420, "b": true, "c": "yes", "d": 1.5, "e": null, "f": 1000.0, "g": 15, "h": 12345678901234567890u64,
            "i": "2026-11-21",
        })]
    );
    assert_eq!(values("a: &x {b: 1}\nc: {<<: *x, d: 2}\n"), [json!({"a": {"b": 1}, "c": {"b": 1, "d": 2}})]);
}

#[test]
fn what_is_not_changed_comes_out_as_it_went_in() {
    let text = "# Source: chart/templates/a.yaml\na:   1 # one\n---\nb: [2]\n";
    let documents = parse("f", text).expect("valid");
    assert_eq!(write(&documents).expect("written"), format!("---\n{text}"));
    let json_text = "{\"b\":   1}\n{\"a\": 2}\n";
    assert_eq!(write(&parse("f", json_text).expect("valid")).expect("written"), json_text);
    let single = "a: 1 # one\n";
    assert_eq!(write(&parse("f", single).expect("valid")).expect("written"), single);
}

#[test]
fn what_is_changed_keeps_the_comments_above_it() {
    let mut documents = parse("f", "# Source: a\n# b\na: 1 # one\n---\nb: 2 # two\n").expect("valid");
    documents[0].has_changed = true;
    assert_eq!(write(&documents).expect("written"), "---\n# Source: a\n# b\na: 1\n---\nb: 2 # two\n");
}

#[test]
fn errors_name_the_file_and_the_document() {
    for text in ["a: 1\n---\na: [\n", "a: 1\n---\na: 1\na: 2\n", "a: 1\n---\na: b: c\n"] {
        let error = parse("f.yaml", text).expect_err(text).to_string();
        assert!(error.starts_with("f.yaml: document 2: "), "{error}");
    }
    let nowhere = read(&["/nonexistent/x.yaml".into()]).expect_err("no such file").to_string();
    assert!(nowhere.starts_with("/nonexistent/x.yaml: "), "{nowhere}");
}

#[test]
fn lists_hold_objects() {
    let text = "kind: List\nitems: [{kind: A}, {kind: DeploymentList, items: [{kind: B}]}, 3]\n";
    let mut documents = parse("f", text).expect("valid");
    let kinds: Vec<_> = documents[0].objects().iter().map(|object| object["kind"].clone()).collect();
    assert_eq!(kinds, ["A", "B"]);
}

fn any_value() -> impl Strategy<Value = Value> {
    let text = prop_oneof![
        "\\PC{0,12}",
        "[ \\n\\t'\"#:{}\\[\\],&*!|>%@`-]{0,6}",
        "(yes|no|on|off|y|n|true|~|null|0644|0x1f|1e3|1_000|12:30:45|\\.inf|=|<<|---|2026-11-21)",
        "[a-z]{1,9}( [a-z\\n]{1,30}){0,8}",
    ];
    let leaf = prop_oneof![
        4 => text.clone().prop_map(Value::from),
        1 => any::<i64>().prop_map(Value::from),
        1 => any::<bool>().prop_map(Value::from),
        1 => Just(Value::Null),
        1 => any::<f64>().prop_filter("JSON has no others", |f| f.is_finite()).prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 30, 4, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map(text.clone(), inner, 0..4).prop_map(|m| Value::Object(m.into_iter().collect())),
        ]
    })
}

proptest! {
    /// A rewritten document must say what its value says, to any reader of YAML.
    #[test]
    fn what_is_written_is_read_again(value in any_value()) {
        let mut documents = parse("f", "a: 1\n").expect("valid");
        documents[0].value = json!({"a": value});
        documents[0].has_changed = true;
        let text = write(&documents).expect("written");
        let again = values(&text);
        prop_assert_eq!(&again, &[json!({"a": value})], "{}", text);
    }

    #[test]
    fn any_text_is_read_or_refused(text in "[ \\n\\t'\"#:{}\\[\\],&*!|>%@`a-c0-9-]{0,60}") {
        if let Ok(documents) = parse("f", &text) {
            let written = write(&documents).expect("written");
            let again = parse("f", &written).expect("what was valid stays valid");
            let content = |documents: Vec<Document>| -> Vec<Value> {
                documents.into_iter().map(|document| document.value).filter(|value| !value.is_null()).collect()
            };
            prop_assert_eq!(content(documents), content(again), "{}", written);
        }
    }
}
