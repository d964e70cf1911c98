//! Values that many states share, stored once each, so that a state is a handful of numbers.

use std::collections::HashMap;
use std::fmt::Debug;
use std::hash::Hash;
use std::marker::PhantomData;
use std::sync::{LazyLock, PoisonError, RwLock};

/// A type whose values are stored once each, for the life of the process.
pub trait Interned: Eq + Hash + Debug + Send + Sync + Sized + 'static {
    /// Where they are stored.
    fn table() -> &'static Table<Self>;
}

/// Every value seen so far. Values are never dropped: a checker ends by ending its process.
#[derive(Debug)]
pub struct Table<T: 'static> {
    ids: RwLock<HashMap<&'static T, u32>>,
    values: RwLock<Vec<&'static T>>,
}

impl<T> Default for Table<T> {
    fn default() -> Table<T> {
        Table { ids: RwLock::default(), values: RwLock::default() }
    }
}

/// A table that is made on first use.
pub type Lazy<T> = LazyLock<Table<T>>;

/// The number of a value. Equal values have equal numbers.
pub struct Id<T> {
    number: u32,
    of: PhantomData<fn() -> T>,
}

impl<T: Interned> Id<T> {
    /// The number of this value.
    pub fn of(value: T) -> Id<T> {
        let table = T::table();
        let known = table.ids.read().unwrap_or_else(PoisonError::into_inner).get(&value).copied();
        let number = known.unwrap_or_else(|| {
            let mut ids = table.ids.write().unwrap_or_else(PoisonError::into_inner);
            if let Some(number) = ids.get(&value) {
                return *number;
            }
            let mut values = table.values.write().unwrap_or_else(PoisonError::into_inner);
            let value: &'static T = Box::leak(Box::new(value));
            let number = u32::try_from(values.len()).unwrap_or(u32::MAX);
            values.push(value);
            ids.insert(value, number);
            number
        });
        Id { number, of: PhantomData }
    }

    /// The value.
    pub fn get(self) -> &'static T {
        T::table().values.read().unwrap_or_else(PoisonError::into_inner)[self.number as usize]
    }

    /// The number, as a resourceVersion says it.
    pub fn number(self) -> u32 {
        self.number
    }

    /// The value with this number.
    pub fn numbered(number: u32) -> Id<T> {
        Id { number, of: PhantomData }
    }
}

impl<T> Clone for Id<T> {
    fn clone(&self) -> Id<T> {
        *self
    }
}

impl<T> Copy for Id<T> {}

impl<T> PartialEq for Id<T> {
    fn eq(&self, other: &Id<T>) -> bool {
        self.number == other.number
    }
}

impl<T> Eq for Id<T> {}

impl<T> PartialOrd for Id<T> {
    fn partial_cmp(&self, other: &Id<T>) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl<T> Ord for Id<T> {
    fn cmp(&self, other: &Id<T>) -> std::cmp::Ordering {
        self.number.cmp(&other.number)
    }
}

impl<T> Hash for Id<T> {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.number.hash(state);
    }
}

impl<T: Interned> Debug for Id<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.get().fmt(f)
    }
}

/// Makes these types interned.
#[macro_export]
macro_rules! interned {
    ($($type:ty),* $(,)?) => {
        $(impl $crate::intern::Interned for $type {
            fn table() -> &'static $crate::intern::Table<$type> {
                static TABLE: $crate::intern::Lazy<$type> = $crate::intern::Lazy::new($crate::intern::Table::default);
                &TABLE
            }
        })*
    };
}
