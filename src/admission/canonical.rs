//! Canonical JSON and its digest: the same bytes for the same value, whoever wrote it in whatever order.

use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::group::hex;

/// Writes the value as JSON without insignificant blanks, the keys of every object sorted by their bytes.
pub(super) fn write(value: &Value, text: &mut Vec<u8>) {
    match value {
        Value::Object(fields) => {
            let mut object = Object::open(text);
            for (key, value) in fields {
                object.field(key, |text| write(value, text));
            }
            object.close();
        }
        Value::Array(items) => list(items, text, write),
        Value::String(value) => string(value, text),
        plain => escaped(plain, text),
    }
}

/// Writes a list.
pub(super) fn list<'v>(
    items: impl IntoIterator<Item = &'v Value>,
    text: &mut Vec<u8>,
    mut write: impl FnMut(&'v Value, &mut Vec<u8>),
) {
    text.push(b'[');
    for (index, item) in items.into_iter().enumerate() {
        if index > 0 {
            text.push(b',');
        }
        write(item, text);
    }
    text.push(b']');
}

/// An object that is being written, in the order of its keys: serde_json's own maps have it as long as nothing turns on
/// its feature `preserve_order`, which a test would notice.
pub(super) struct Object<'t> {
    text: &'t mut Vec<u8>,
    is_first: bool,
}

impl<'t> Object<'t> {
    /// Begins.
    pub(super) fn open(text: &'t mut Vec<u8>) -> Object<'t> {
        text.push(b'{');
        Object { text, is_first: true }
    }

    /// One more field.
    pub(super) fn field(&mut self, key: &str, write: impl FnOnce(&mut Vec<u8>)) {
        if !std::mem::take(&mut self.is_first) {
            self.text.push(b',');
        }
        string(key, self.text);
        self.text.push(b':');
        write(self.text);
    }

    /// One more field, unless it turns out to be null, false, or an empty text, list or object.
    pub(super) fn telling_field(&mut self, key: &str, write: impl FnOnce(&mut Vec<u8>)) {
        let (before, was_first) = (self.text.len(), self.is_first);
        let mut value = before;
        self.field(key, |text| {
            value = text.len();
            write(text);
        });
        if [&b"null"[..], b"false", b"\"\"", b"[]", b"{}"].contains(&&self.text[value..]) {
            self.text.truncate(before);
            self.is_first = was_first;
        }
    }

    /// Ends.
    pub(super) fn close(self) {
        self.text.push(b'}');
    }
}

/// Writes a string. Few have anything to escape (RFC 8259, section 7), and that can be seen of many bytes at a time.
fn string(value: &str, text: &mut Vec<u8>) {
    let must_escape = |byte: u8| (byte < 0x20) | (byte == b'"') | (byte == b'\\');
    if value.bytes().fold(false, |found, byte| found | must_escape(byte)) {
        return escaped(value, text);
    }
    text.reserve(value.len() + 2);
    text.push(b'"');
    text.extend_from_slice(value.as_bytes());
    text.push(b'"');
}

fn escaped<T: serde::Serialize + ?Sized>(value: &T, text: &mut Vec<u8>) {
    serde_json::to_writer(text, value).expect("a text, number or constant, written to memory");
}

/// The first `digits` hexadecimal digits of the SHA-256 of what is written; at most 64.
pub(super) fn digest(digits: usize, write: impl FnOnce(&mut Vec<u8>)) -> String {
    let mut text = Vec::with_capacity(1024);
    write(&mut text);
    let mut digest = hex(&Sha256::digest(&text));
    digest.truncate(digits);
    digest
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    proptest! {
        #[test]
        fn strings_are_written_as_everybody_writes_them(value in r#"[a-z"\\\n\t\u{0}-\u{20}\u{7f}ä€\u{1F600}]{0,40}|.{0,40}"#) {
            let mut text = Vec::new();
            write(&json!(value), &mut text);
            prop_assert_eq!(String::from_utf8_lossy(&text), json!(value).to_string());
        }
    }

    #[test]
    fn keys_are_sorted_and_blanks_left_out() {
        let value = json!({"b": [1, {"d": null, "c": true}], "a": "x \"y\"\n", "": {}});
        let mut text = Vec::new();
        write(&value, &mut text);
        assert_eq!(String::from_utf8_lossy(&text), r#"{"":{},"a":"x \"y\"\n","b":[1,{"c":true,"d":null}]}"#);
    }
}
