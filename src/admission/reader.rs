//! A deserializer that reads the fields that somebody asks for, and goes [past](super::past) all others.
//!
//! What is asked for is read by serde_json, value by value. What can't be read, or is written in a way that hardly
//! anybody writes it in, is an error here: whoever gets one reads the text again with serde_json, which knows what to
//! say about it.

use std::fmt;

use serde::de::value::BorrowedStrDeserializer;
use serde::de::{Deserialize, DeserializeSeed, Deserializer, Error as _, MapAccess, Visitor};
use serde::forward_to_deserialize_any;
use serde_json::de::StrRead;
use serde_json::value::RawValue;
use serde_json::{Deserializer as Json, Error};

use super::past::past_value;

/// Reads the fields of a text that `T` asks for.
///
/// # Errors
/// If they can't be read, or not like this. The message says little.
pub(super) fn read<'a, T: Deserialize<'a>>(text: &'a str) -> Result<T, Error> {
    let mut reader = Reader { text, at: 0 };
    let value = T::deserialize(&mut reader)?;
    if reader.peek().is_some() { Err(another_way()) } else { Ok(value) }
}

/// A value as it is written, which is read later or never.
#[derive(Clone, Copy, Debug)]
pub(super) struct Text<'a>(pub(super) &'a str);

impl<'de: 'a, 'a> Deserialize<'de> for Text<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;

        impl<'de> Visitor<'de> for Either {
            type Value = Text<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("any value")
            }

            /// From the reader.
            fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Self::Value, E> {
                Ok(Text(text))
            }

            /// From serde_json.
            fn visit_newtype_struct<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
                <&RawValue>::deserialize(deserializer).map(|raw| Text(raw.get()))
            }
        }

        deserializer.deserialize_newtype_struct(TEXT, Either)
    }
}

/// The name of [`Text`] between the two.
const TEXT: &str = "migration-gate text";

fn another_way() -> Error {
    Error::custom("it can't be read like this")
}

struct Reader<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Reader<'a> {
    /// The next byte that is no blank.
    fn peek(&mut self) -> Option<u8> {
        let rest = self.text.as_bytes().get(self.at..)?;
        let blanks = rest.iter().take_while(|byte| matches!(byte, b' ' | b'\t' | b'\n' | b'\r')).count();
        self.at += blanks;
        rest.get(blanks).copied()
    }

    fn expect(&mut self, byte: u8) -> Result<(), Error> {
        if self.peek() != Some(byte) {
            return Err(another_way());
        }
        self.at += 1;
        Ok(())
    }

    /// The next value's text.
    fn value(&mut self) -> Result<&'a str, Error> {
        self.peek();
        let rest = self.text.get(self.at..).ok_or_else(another_way)?;
        let value = past_value(rest.as_bytes()).and_then(|length| rest.get(..length)).ok_or_else(another_way)?;
        self.at += value.len();
        Ok(value)
    }

    /// The next value, read by serde_json.
    fn by_serde_json<T>(&mut self, read: impl FnOnce(&mut Json<StrRead<'a>>) -> Result<T, Error>) -> Result<T, Error> {
        let mut json = Json::from_str(self.value()?);
        let value = read(&mut json)?;
        json.end().map(|()| value)
    }

    /// A string without an escape or a control character.
    fn plain_string(&mut self) -> Option<&'a str> {
        let bytes = self.text.as_bytes().get(self.at..)?;
        let length = bytes.get(1..)?.iter().position(|byte| matches!(byte, b'"' | b'\\' | ..0x20))?;
        if bytes[0] != b'"' || bytes[1 + length] != b'"' {
            return None;
        }
        let start = self.at + 1;
        self.at = start + length + 1;
        self.text.get(start..start + length)
    }
}

impl<'de> Deserializer<'de> for &mut Reader<'de> {
    type Error = Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        if self.peek() == Some(b'"')
            && let Some(text) = self.plain_string()
        {
            return visitor.visit_borrowed_str(text);
        }
        self.by_serde_json(|json| json.deserialize_any(visitor))
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        self.by_serde_json(|json| json.deserialize_enum(name, variants, visitor))
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, name: &'static str, visitor: V) -> Result<V::Value, Error> {
        match name {
            TEXT => visitor.visit_borrowed_str(self.value()?),
            _ => visitor.visit_newtype_struct(self),
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.peek() {
            // Nothing else that is JSON begins with it.
            Some(b'n') => match self.value()? {
                "null" => visitor.visit_none(),
                _ => Err(another_way()),
            },
            _ => visitor.visit_some(self),
        }
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.value()?;
        visitor.visit_unit()
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.expect(b'{')?;
        visitor.visit_map(Fields { reader: self, is_first: true })
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        _fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        self.deserialize_map(visitor)
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit unit_struct seq tuple
        tuple_struct identifier
    }
}

/// An object that is being read.
struct Fields<'r, 'a> {
    reader: &'r mut Reader<'a>,
    is_first: bool,
}

impl<'de> MapAccess<'de> for Fields<'_, 'de> {
    type Error = Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Error> {
        if self.reader.peek() == Some(b'}') {
            self.reader.at += 1;
            return Ok(None);
        }
        if !std::mem::take(&mut self.is_first) {
            self.reader.expect(b',')?;
            self.reader.peek();
        }
        let key = self.reader.plain_string().ok_or_else(another_way)?;
        self.reader.expect(b':')?;
        seed.deserialize(BorrowedStrDeserializer::new(key)).map(Some)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Error> {
        seed.deserialize(&mut *self.reader)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::admission::tests::trees::json_value;
    use crate::admission::workload::Workload;
    use crate::contract::{annotation, label};

    /// What both read, in words: what serde_json reads the reader reads, or says that it can't.
    fn both(text: &str) -> (Option<String>, Option<String>) {
        let words = |read: Result<Workload<'_>, Error>| read.ok().map(|workload| format!("{workload:?}"));
        (words(read(text)), words(serde_json::from_str(text)))
    }

    fn workload() -> impl Strategy<Value = serde_json::Value> {
        // serde_json takes a list for a struct, which nobody writes.
        let other = || json_value().prop_filter("a list", |value| !value.is_array());
        let any_of = |likely: serde_json::Value| prop_oneof![4 => Just(likely), 1 => other()];
        let ours = json!({ label::GATED: "true", annotation::COMMAND: "a \"b\" \\ é\n", "other": "\"{" });
        let metadata = (any_of(json!("orders")), any_of(ours), json_value(), any_of(json!("2026-11-21T10:00:00Z")));
        let spec = (any_of(json!(600)), any_of(json!({ "rollingUpdate": { "maxUnavailable": "25%" } })), json_value());
        (metadata, spec).prop_map(|((name, map, managed, deletion), (deadline, strategy, template))| {
            json!({
                "kind": "Deployment",
                "metadata": {
                    "name": name, "labels": map, "annotations": map, "managedFields": managed, "deletionTimestamp": deletion,
                },
                "spec": { "progressDeadlineSeconds": deadline, "strategy": strategy, "template": template },
                "status": template,
            })
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]

        #[test]
        fn it_reads_what_serde_json_reads(workload in workload()) {
            for text in [workload.to_string(), serde_json::to_string_pretty(&workload).expect("JSON")] {
                let (ours, theirs) = both(&text);
                // A name with an escape in it is one of an unusual kind.
                prop_assert!(ours == theirs || ours.is_none() && text.contains('\\'), "{ours:?}, not {theirs:?}: {text}");
            }
        }

        #[test]
        fn it_reads_nothing_else_from_what_is_broken(workload in workload(), at in any::<prop::sample::Index>(), byte in "[\"\\\\{}\\[\\],:0a\u{1} ]") {
            let mut text = workload.to_string();
            let at = at.index(text.len());
            prop_assume!(text.is_char_boundary(at) && text.is_char_boundary(at + 1));
            text.replace_range(at..=at, &byte);
            let (ours, theirs) = both(&text);
            if let (Some(ours), Some(theirs)) = (&ours, &theirs) {
                prop_assert_eq!(ours, theirs, "{}", text);
            }
            // Where it doesn't read what can be read, serde_json is asked. That must stay rare, or it is of no use.
            if theirs.is_some() && ours.is_none() {
                prop_assert!(text.contains('\\') || text.contains('\u{1}'), "{}", text);
            }
        }
    }

    #[test]
    fn what_is_written_in_an_unusual_way_is_left_to_serde_json() {
        assert!(read::<Workload<'_>>(r#"{"metadata":{"name":"a"}}"#).is_ok());
        for text in [
            r#"{"metadata":{"na\u006de":"a"}}"#,
            r#"[{"name":"a"}]"#,
            r#"{"metadata":{"name":"a"},}"#,
            r#"{,"metadata":{"name":"a"}}"#,
            r#"{"metadata" {"name":"a"}}"#,
            r#"{"metadata":{"name":"a"}} x"#,
            r#"{"metadata":{"name":"a""#,
            r#"{"metadata":{"name":"a"},"metadata":{}}"#,
            r#"{"spec":{"progressDeadlineSeconds":12x}}"#,
            "{\"metadata\":{\"name\":\"a\u{1}\"}}",
            r#"{"metadata":nulls}"#,
            r#"{"metadata":{"labels":no {"a":"b"}}}"#,
            "",
        ] {
            assert!(read::<Workload<'_>>(text).is_err(), "{text}");
        }
    }
}
