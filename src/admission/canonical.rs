//! Canonical JSON and its digest: the same bytes for the same value, whoever wrote it in whatever order.

use serde::Serialize;
use sha2::{Digest, Sha256};

use super::json::{Json, Number};
use crate::group::hex;

/// The room for what is written, which hardly ever has to grow.
const USUAL_BYTES: usize = 8 << 10;

/// The value as canonical JSON.
pub(super) fn text(value: Json<'_>) -> String {
    let mut text = String::with_capacity(USUAL_BYTES);
    write(value, &mut text);
    text
}

/// Writes the value as JSON without insignificant blanks, the keys of every object sorted by their bytes.
pub(super) fn write(value: Json<'_>, text: &mut String) {
    match value {
        Json::Object(fields) => {
            let mut object = Object::open(text);
            for (key, value) in fields {
                object.field(key, |text| write(*value, text));
            }
            object.close();
        }
        Json::List(items) => list(items.iter().copied(), text, write),
        Json::Text(value) => string(value, text),
        Json::Number(Number::Whole(value)) => of(&value, text),
        Json::Number(Number::Negative(value)) => of(&value, text),
        Json::Number(Number::Float(value)) => of(&value, text),
        Json::Bool(true) => text.push_str("true"),
        Json::Bool(false) => text.push_str("false"),
        Json::Null => text.push_str("null"),
    }
}

/// Writes a list.
pub(super) fn list<'v>(
    items: impl IntoIterator<Item = Json<'v>>,
    text: &mut String,
    mut write: impl FnMut(Json<'v>, &mut String),
) {
    text.push('[');
    for (index, item) in items.into_iter().enumerate() {
        if index > 0 {
            text.push(',');
        }
        write(item, text);
    }
    text.push(']');
}

/// An object that is being written, in the order of its keys.
pub(super) struct Object<'t> {
    text: &'t mut String,
    is_first: bool,
}

impl<'t> Object<'t> {
    /// Begins.
    pub(super) fn open(text: &'t mut String) -> Object<'t> {
        text.push('{');
        Object { text, is_first: true }
    }

    /// One more field.
    pub(super) fn field(&mut self, key: &str, write: impl FnOnce(&mut String)) {
        if !std::mem::take(&mut self.is_first) {
            self.text.push(',');
        }
        string(key, self.text);
        self.text.push(':');
        write(self.text);
    }

    /// One more field, unless it turns out to be null, false, or an empty text, list or object.
    pub(super) fn telling_field(&mut self, key: &str, write: impl FnOnce(&mut String)) {
        let (before, was_first) = (self.text.len(), self.is_first);
        let mut value = before;
        self.field(key, |text| {
            value = text.len();
            write(text);
        });
        if ["null", "false", "\"\"", "[]", "{}"].contains(&&self.text[value..]) {
            self.text.truncate(before);
            self.is_first = was_first;
        }
    }

    /// Ends.
    pub(super) fn close(self) {
        self.text.push('}');
    }
}

/// Writes a string. Few have anything to escape.
fn string(value: &str, text: &mut String) {
    if must_be_escaped(value) {
        return of(value, text);
    }
    text.reserve(value.len() + 2);
    text.push('"');
    text.push_str(value);
    text.push('"');
}

/// Whether there is a quote, a backslash or a control character (RFC 8259, section 7). Eight bytes are looked at as one
/// number: where a byte is less than `n`, taking `n` from each makes it negative, and it wasn't before.
fn must_be_escaped(value: &str) -> bool {
    const EACH: u64 = u64::from_ne_bytes([1; 8]);
    let one_is_less = |word: u64, n: u64| word.wrapping_sub(EACH * n) & !word & (EACH << 7) != 0;
    let one_is = |word: u64, byte: u8| one_is_less(word ^ (EACH * u64::from(byte)), 1);
    let bytes = value.as_bytes();
    match bytes.last_chunk() {
        None => bytes.iter().any(|byte| matches!(byte, ..0x20 | b'"' | b'\\')),
        // Some of the last eight have been looked at already, unless they are all.
        Some(last) => bytes.as_chunks().0.iter().chain([last]).any(|eight| {
            let word = u64::from_ne_bytes(*eight);
            one_is_less(word, 0x20) || one_is(word, b'"') || one_is(word, b'\\')
        }),
    }
}

/// Writes a value that holds no maps.
pub(super) fn of<T: Serialize + ?Sized>(value: &T, text: &mut String) {
    text.push_str(&serde_json::to_string(value).expect("texts, numbers and constants"));
}

/// The first `digits` hexadecimal digits of the SHA-256 of what is written; at most 64.
pub(super) fn digest(digits: usize, write: impl FnOnce(&mut String)) -> String {
    let mut text = String::with_capacity(USUAL_BYTES);
    write(&mut text);
    let mut digest = hex(&Sha256::digest(&text));
    digest.truncate(digits);
    digest
}

#[cfg(test)]
mod tests {
    use bumpalo::Bump;
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;
    use crate::admission::arena::Arena;

    fn written(value: &Value) -> String {
        text(Arena(&Bump::new()).value(value))
    }

    proptest! {
        #[test]
        fn strings_are_written_as_everybody_writes_them(value in r#"[a-z"\\\n\t\u{0}-\u{20}\u{7f}ä€\u{1F600}]{0,40}|.{0,40}"#) {
            prop_assert_eq!(written(&json!(value)), json!(value).to_string());
        }
    }

    #[test]
    fn keys_are_sorted_and_blanks_left_out() {
        let value = json!({"b": [1, {"d": null, "c": true}], "a": "x \"y\"\n", "": {}});
        assert_eq!(written(&value), r#"{"":{},"a":"x \"y\"\n","b":[1,{"c":true,"d":null}]}"#);
    }
}
