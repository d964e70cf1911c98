//! JSON that borrows: a pod template as a tree of values that cost nothing to copy.
//!
//! A tree's texts lie in the review's bytes, its lists and objects in an [`Arena`](super::arena::Arena). Nothing in it ever
//! changes: what changes a template builds the few lists and objects that differ, and shares the rest.

use std::ptr;

use serde_json::Value;

/// Objects of more fields are searched by halves.
const FEW_FIELDS: usize = 16;

/// A JSON value.
#[derive(Clone, Copy, Debug)]
pub(super) enum Json<'a> {
    Null,
    Bool(bool),
    Number(Number),
    Text(&'a str),
    List(&'a [Json<'a>]),
    /// Sorted by its keys, of which none is there twice.
    Object(&'a [Field<'a>]),
}

/// A field of an object.
pub(super) type Field<'a> = (&'a str, Json<'a>);

/// A number, as JSON's readers tell them apart.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Number {
    Whole(u64),
    Negative(i64),
    Float(f64),
}

impl<'a> Json<'a> {
    /// An object's field; `None` if it is absent, or if this is no object.
    pub(super) fn get(self, key: &str) -> Option<Json<'a>> {
        let fields = self.fields();
        let at = match fields.len() > FEW_FIELDS {
            true => fields.binary_search_by_key(&key, |(name, _)| name).ok(),
            false => fields.iter().position(|(name, _)| *name == key),
        };
        at.map(|at| fields[at].1)
    }

    /// An object's field; null if there is none.
    pub(super) fn at(self, key: &str) -> Json<'a> {
        self.get(key).unwrap_or(Json::Null)
    }

    /// The text, if this is one.
    pub(super) fn text(self) -> Option<&'a str> {
        match self {
            Json::Text(text) => Some(text),
            _ => None,
        }
    }

    /// A list's entries; none, if this is no list.
    pub(super) fn list(self) -> &'a [Json<'a>] {
        match self {
            Json::List(list) => list,
            _ => &[],
        }
    }

    /// An object's fields; none, if this is no object.
    pub(super) fn fields(self) -> &'a [Field<'a>] {
        match self {
            Json::Object(fields) => fields,
            _ => &[],
        }
    }

    /// Whether this is a text.
    pub(super) fn is_text(self) -> bool {
        matches!(self, Json::Text(_))
    }

    /// Whether this is an object.
    pub(super) fn is_object(self) -> bool {
        matches!(self, Json::Object(_))
    }

    /// Whether this is null, `{}` or `[]`.
    pub(super) fn is_hollow(self) -> bool {
        matches!(self, Json::Null | Json::List([]) | Json::Object([]))
    }

    /// The same value with memory of its own.
    pub(super) fn to_value(self) -> Value {
        match self {
            Json::Null => Value::Null,
            Json::Bool(value) => value.into(),
            Json::Number(Number::Whole(value)) => value.into(),
            Json::Number(Number::Negative(value)) => value.into(),
            Json::Number(Number::Float(value)) => value.into(),
            Json::Text(text) => text.into(),
            Json::List(list) => list.iter().map(|item| item.to_value()).collect(),
            Json::Object(fields) => fields.iter().map(|(key, value)| ((*key).to_owned(), value.to_value())).collect(),
        }
    }
}

/// What is shared is equal without a look at it.
impl PartialEq for Json<'_> {
    fn eq(&self, other: &Json<'_>) -> bool {
        match (self, other) {
            (Json::Null, Json::Null) => true,
            (Json::Bool(a), Json::Bool(b)) => a == b,
            (Json::Number(a), Json::Number(b)) => a == b,
            (Json::Text(a), Json::Text(b)) => a == b,
            (Json::List(a), Json::List(b)) => ptr::eq(*a, *b) || a == b,
            (Json::Object(a), Json::Object(b)) => ptr::eq(*a, *b) || a == b,
            _ => false,
        }
    }
}

impl PartialEq<str> for Json<'_> {
    fn eq(&self, other: &str) -> bool {
        self.text() == Some(other)
    }
}
