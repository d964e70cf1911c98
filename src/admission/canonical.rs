//! Canonical JSON and its digest: the same bytes for the same value, whoever wrote it in whatever order.

use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::group::hex;

/// The value as JSON without insignificant blanks, the keys of every object sorted by their bytes.
pub(super) fn canonical(value: &Value) -> String {
    let mut text = String::new();
    write(value, &mut text);
    text
}

fn write(value: &Value, text: &mut String) {
    match value {
        Value::Object(fields) => {
            let mut fields: Vec<_> = fields.iter().collect();
            fields.sort_by_key(|(key, _)| *key);
            list(text, '{', '}', fields.into_iter(), |text, (key, value)| {
                scalar(&Value::String(key.clone()), text);
                text.push(':');
                write(value, text);
            });
        }
        Value::Array(items) => list(text, '[', ']', items.iter(), |text, item| write(item, text)),
        plain => scalar(plain, text),
    }
}

fn list<T>(text: &mut String, open: char, close: char, items: impl Iterator<Item = T>, item: impl Fn(&mut String, T)) {
    text.push(open);
    for (index, value) in items.enumerate() {
        if index > 0 {
            text.push(',');
        }
        item(text, value);
    }
    text.push(close);
}

fn scalar(value: &Value, text: &mut String) {
    text.push_str(&value.to_string());
}

/// The first `digits` hexadecimal digits of the SHA-256 of the canonical JSON; at most 64.
pub(super) fn digest(value: &Value, digits: usize) -> String {
    let mut text = hex(&Sha256::digest(canonical(value).as_bytes()));
    text.truncate(digits);
    text
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn keys_are_sorted_and_blanks_left_out() {
        let value = json!({"b": [1, {"d": null, "c": true}], "a": "x \"y\"\n", "": {}});
        assert_eq!(canonical(&value), r#"{"":{},"a":"x \"y\"\n","b":[1,{"c":true,"d":null}]}"#);
    }
}
