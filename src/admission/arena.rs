//! The arena: where the trees of one review live, read from text or put together.

use std::fmt;

use bumpalo::Bump;
use serde::de::{DeserializeSeed, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::Value;

use super::json::{Field, Json, Number};

/// The values that one text may hold, lists and objects among them. Within what etcd accepts (1.5 MiB) only a list of
/// numbers could have more. Without a limit, a template of nothing but zeros would take twenty times its own size.
const VALUES: usize = 1 << 19;

/// Memory for trees. It all goes at once, with the review.
#[derive(Clone, Copy, Debug)]
pub(super) struct Arena<'a>(pub(super) &'a Bump);

impl<'a> Arena<'a> {
    /// Reads a text. Where a key is there twice, the last one counts.
    ///
    /// # Errors
    /// If it isn't JSON, is nested more than 128 levels deep, or holds more than [`VALUES`].
    pub(super) fn read(self, text: &'a str) -> Result<Json<'a>, serde_json::Error> {
        let mut deserializer = serde_json::Deserializer::from_str(text);
        let mut open = Open { left: VALUES, ..Open::default() };
        let value = Reader { arena: self, open: &mut open }.deserialize(&mut deserializer)?;
        deserializer.end()?;
        Ok(value)
    }

    /// A copy of the text.
    pub(super) fn string(self, text: &str) -> &'a str {
        self.0.alloc_str(text)
    }

    /// A copy of the text, as JSON.
    pub(super) fn text(self, text: &str) -> Json<'a> {
        Json::Text(self.string(text))
    }

    /// A list of the items.
    pub(super) fn list(self, items: impl IntoIterator<Item = Json<'a>>) -> Json<'a> {
        let items: Vec<Json<'a>> = items.into_iter().collect();
        Json::List(self.0.alloc_slice_copy(&items))
    }

    /// A list of copies of the texts.
    pub(super) fn texts<'t>(self, texts: impl IntoIterator<Item = &'t str>) -> Json<'a> {
        self.list(texts.into_iter().map(|text| self.text(text)))
    }

    /// An object of the fields, in whatever order they come; of those with the same key the last.
    pub(super) fn object(self, fields: impl IntoIterator<Item = Field<'a>>) -> Json<'a> {
        let fields: Vec<Field<'a>> = fields.into_iter().collect();
        self.object_of(&fields)
    }

    /// The object with these fields in it, instead of its own where they have the same key.
    pub(super) fn with(self, object: Json<'a>, fields: impl IntoIterator<Item = Field<'a>>) -> Json<'a> {
        self.object(object.fields().iter().copied().chain(fields))
    }

    /// The object without the fields that don't suit; the very same one, if all do.
    pub(super) fn keep_fields(self, object: Json<'a>, suits: impl Fn(&Field<'a>) -> bool) -> Json<'a> {
        match object.fields().iter().all(&suits) {
            true => object,
            false => self.object(object.fields().iter().copied().filter(suits)),
        }
    }

    /// The list without the entries that don't suit; the very same one, if all do.
    pub(super) fn keep_entries(self, list: Json<'a>, suits: impl Fn(Json<'a>) -> bool) -> Json<'a> {
        match list.list().iter().all(|entry| suits(*entry)) {
            true => list,
            false => self.list(list.list().iter().copied().filter(|entry| suits(*entry))),
        }
    }

    /// The list with these entries behind its own.
    pub(super) fn extended(self, list: Json<'a>, entries: impl IntoIterator<Item = Json<'a>>) -> Json<'a> {
        self.list(list.list().iter().copied().chain(entries))
    }

    /// A copy of the value.
    pub(super) fn value(self, value: &Value) -> Json<'a> {
        match value {
            Value::Null => Json::Null,
            Value::Bool(value) => Json::Bool(*value),
            Value::Number(number) => Json::Number(match (number.as_u64(), number.as_i64()) {
                (Some(whole), _) => Number::Whole(whole),
                (None, Some(negative)) => Number::Negative(negative),
                // Whatever serde_json's number is, it is one of the three.
                (None, None) => Number::Float(number.as_f64().unwrap_or_default()),
            }),
            Value::String(text) => self.text(text),
            Value::Array(items) => self.list(items.iter().map(|item| self.value(item))),
            Value::Object(fields) => self.object(fields.iter().map(|(key, value)| self.field(key, value))),
        }
    }

    fn field(self, key: &str, value: &Value) -> Field<'a> {
        (self.string(key), self.value(value))
    }

    fn object_of(self, fields: &[Field<'a>]) -> Json<'a> {
        let fields = self.0.alloc_slice_copy(fields);
        if fields.is_sorted_by(|a, b| a.0 < b.0) {
            return Json::Object(fields);
        }
        fields.sort_by_key(|(key, _)| *key);
        let mut count = 0;
        for at in 0..fields.len() {
            if count > 0 && fields[count - 1].0 == fields[at].0 {
                count -= 1;
            }
            fields[count] = fields[at];
            count += 1;
        }
        Json::Object(&fields[..count])
    }
}

/// What has been read of the lists and objects that are still open: an inner one's after its outer one's.
#[derive(Default)]
struct Open<'a> {
    items: Vec<Json<'a>>,
    fields: Vec<Field<'a>>,
    /// The values that may still come.
    left: usize,
}

/// Reads a value.
struct Reader<'o, 'a> {
    arena: Arena<'a>,
    open: &'o mut Open<'a>,
}

impl<'a> Reader<'_, 'a> {
    /// For the next value inside.
    fn inner(&mut self) -> Reader<'_, 'a> {
        Reader { arena: self.arena, open: &mut *self.open }
    }
}

impl<'de: 'a, 'a> DeserializeSeed<'de> for Reader<'_, 'a> {
    type Value = Json<'a>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Json<'a>, D::Error> {
        let left = self.open.left.checked_sub(1);
        self.open.left = left.ok_or_else(|| D::Error::custom(format!("more than {VALUES} values")))?;
        deserializer.deserialize_any(self)
    }
}

impl<'de: 'a, 'a> Visitor<'de> for Reader<'_, 'a> {
    type Value = Json<'a>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Json<'a>, E> {
        Ok(Json::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Json<'a>, E> {
        Ok(Json::Bool(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Json<'a>, E> {
        Ok(Json::Number(Number::Whole(value)))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Json<'a>, E> {
        Ok(Json::Number(Number::Negative(value)))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Json<'a>, E> {
        Ok(Json::Number(Number::Float(value)))
    }

    fn visit_str<E>(self, text: &str) -> Result<Json<'a>, E> {
        Ok(self.arena.text(text))
    }

    fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Json<'a>, E> {
        Ok(Json::Text(text))
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut list: A) -> Result<Json<'a>, A::Error> {
        let start = self.open.items.len();
        while let Some(item) = list.next_element_seed(self.inner())? {
            self.open.items.push(item);
        }
        let list = self.arena.0.alloc_slice_copy(&self.open.items[start..]);
        self.open.items.truncate(start);
        Ok(Json::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut object: A) -> Result<Json<'a>, A::Error> {
        let start = self.open.fields.len();
        while let Some(key) = object.next_key_seed(Key(self.arena))? {
            let value = object.next_value_seed(self.inner())?;
            self.open.fields.push((key, value));
        }
        let object = self.arena.object_of(&self.open.fields[start..]);
        self.open.fields.truncate(start);
        Ok(object)
    }
}

/// Reads a key.
struct Key<'a>(Arena<'a>);

impl<'de: 'a, 'a> DeserializeSeed<'de> for Key<'a> {
    type Value = &'a str;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<&'a str, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl<'de: 'a, 'a> Visitor<'de> for Key<'a> {
    type Value = &'a str;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_str<E>(self, key: &str) -> Result<&'a str, E> {
        Ok(self.0.string(key))
    }

    fn visit_borrowed_str<E>(self, key: &'de str) -> Result<&'a str, E> {
        Ok(key)
    }
}
