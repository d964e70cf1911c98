//! The book of records: every version that was seen, as far as it matters later.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::fmt;
use std::time::Duration;

use super::facts::{Active, Attempt, Order, Record};

/// So many writes of one record within [`STORM_WITHIN`] are no work but a storm: an attempt takes three or four writes
/// and a second at least.
const STORM: usize = 200;
/// See [`STORM`].
const STORM_WITHIN: Duration = Duration::from_secs(10);

/// All records that ever were.
#[derive(Debug, Default)]
pub struct Records(HashMap<String, Vec<Book>>);

/// One record, from when it was made until it was deleted. Another of the same name has a book of its own.
#[derive(Debug)]
pub struct Book {
    /// The version that was seen last.
    pub last: Record,
    /// The number of its deletion.
    pub gone: Option<u64>,
    /// What succeeded, and the number from which on that may be on record.
    succeeded: HashMap<String, u64>,
    /// The attempts that were given.
    given: BTreeMap<u32, Given>,
    /// Every order that was ever in it.
    ordered: HashSet<Order>,
    writes: VecDeque<Duration>,
}

/// An attempt that a record gave to a pod.
#[derive(Clone, Debug)]
struct Given {
    pod_uid: String,
    from: u64,
}

/// What a version changed.
#[derive(Clone, Debug)]
pub enum Change {
    /// A migration is among those that succeeded.
    Succeeded(String),
    /// An attempt became active.
    Elected(Active),
    /// An attempt is active no more; what the record says of its end, if it does.
    Ended(Active, Option<Attempt>),
    /// What succeeded is on record no more.
    Forgot(Vec<String>),
    /// The number of attempts shrank.
    CountedBack(u32),
    /// An active attempt was replaced by another in one write.
    Replaced(Active, Active),
    /// An attempt number was given to a second pod.
    GivenTwice(Active),
    /// It was written more often than anything could need: than so many times within so long.
    Stormed(usize, Duration),
}

impl fmt::Display for Change {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Change::Succeeded(fingerprint) => write!(formatter, "{fingerprint} succeeded"),
            Change::Elected(active) => {
                write!(formatter, "attempt {} of {} is {}'s", active.attempt, active.fingerprint, active.pod_name)
            }
            Change::Ended(active, attempt) => {
                let unknown = Attempt::default();
                let Attempt { outcome, evidence, .. } = attempt.as_ref().unwrap_or(&unknown);
                let basis = evidence.as_ref().map_or_else(String::new, |basis| format!(", because {basis}"));
                write!(formatter, "attempt {} is over: {outcome}{basis}", active.attempt)
            }
            Change::Forgot(fingerprints) => write!(formatter, "it forgot {}", fingerprints.join(", ")),
            Change::CountedBack(from) => write!(formatter, "it counted {from} attempts before"),
            Change::Replaced(old, new) => write!(formatter, "attempt {} replaces {}", new.attempt, old.attempt),
            Change::GivenTwice(active) => write!(formatter, "attempt {} is given twice", active.attempt),
            Change::Stormed(writes, within) => write!(formatter, "more than {writes} writes within {within:?}"),
        }
    }
}

impl Records {
    /// Reads a version, and says what it changed. Where versions were missed before it, less can be said.
    pub fn read(&mut self, record: Record, missed: bool, now: Duration) -> Vec<Change> {
        let books = self.0.entry(record.key.clone()).or_default();
        if books.last().is_none_or(|book| book.last.uid != record.uid) {
            books.push(Book::new(&record));
        }
        match books.last_mut() {
            Some(book) => book.read(record, missed, now),
            None => Vec::new(),
        }
    }

    /// A record was deleted.
    pub fn remove(&mut self, key: &str, uid: &str, at: u64) {
        if let Some(book) = self.0.get_mut(key).and_then(|books| books.iter_mut().rfind(|book| book.last.uid == uid)) {
            book.gone = Some(at);
        }
    }

    /// The record of this name, if there is one now.
    #[must_use]
    pub fn now(&self, key: &str) -> Option<&Record> {
        self.0.get(key)?.last().filter(|book| book.gone.is_none()).map(|book| &book.last)
    }

    /// All records that are there now.
    pub fn all(&self) -> impl Iterator<Item = &Record> {
        self.0.values().filter_map(|books| books.last()).filter(|book| book.gone.is_none()).map(|book| &book.last)
    }

    /// How many records there ever were.
    #[must_use]
    pub fn ever(&self) -> usize {
        self.0.values().map(Vec::len).sum()
    }

    /// A record of this name may have said, before the write of this number, that the migration succeeded.
    #[must_use]
    pub fn said_success(&self, key: &str, fingerprint: &str, before: u64) -> bool {
        self.books(key).any(|book| book.succeeded.get(fingerprint).is_some_and(|from| *from < before))
    }

    /// A record of this name may have given, before the write of this number, this attempt to this pod.
    #[must_use]
    pub fn gave(&self, key: &str, attempt: u32, pod_uid: &str, before: u64) -> bool {
        let fits = |given: &Given| given.pod_uid == pod_uid && given.from < before;
        self.books(key).any(|book| book.given.get(&attempt).is_some_and(fits))
    }

    /// Some other record of the namespace ever said that the migration succeeded: a workload may have brought it along.
    #[must_use]
    pub fn known_elsewhere(&self, key: &str, fingerprint: &str) -> bool {
        let namespace = key.split('/').next().unwrap_or_default();
        let neighbours = self.0.iter().filter(|(other, _)| other.split('/').next() == Some(namespace));
        // An earlier record of the same name counts, too: the pods that it opened are what the next one starts from.
        neighbours.flat_map(|(other, books)| books.iter().map(move |book| (other, book))).any(|(other, book)| {
            let itself = other == key && book.gone.is_none();
            !itself && book.succeeded.contains_key(fingerprint)
        })
    }

    /// A record of this name was ever ordered to take a migration for succeeded.
    #[must_use]
    pub fn was_ordered(&self, key: &str, action: &str, fingerprint: &str) -> bool {
        let fits = |order: &Order| order.action == action && order.fingerprint == fingerprint;
        self.books(key).any(|book| book.ordered.iter().any(fits))
    }

    fn books(&self, key: &str) -> impl Iterator<Item = &Book> {
        self.0.get(key).into_iter().flatten()
    }
}

impl Book {
    fn new(record: &Record) -> Book {
        let nothing = Record { at: 0, status: super::facts::Status::default(), orders: Vec::new(), ..record.clone() };
        Book {
            last: nothing,
            gone: None,
            succeeded: HashMap::new(),
            given: BTreeMap::new(),
            ordered: HashSet::new(),
            writes: VecDeque::new(),
        }
    }

    fn read(&mut self, record: Record, missed: bool, now: Duration) -> Vec<Change> {
        let (before, after) = (&self.last.status, &record.status);
        let from = if missed { self.last.at + 1 } else { record.at };
        let mut changes = Vec::new();
        for fingerprint in &after.succeeded {
            if !self.succeeded.contains_key(fingerprint) {
                self.succeeded.insert(fingerprint.clone(), from);
                changes.push(Change::Succeeded(fingerprint.clone()));
            }
        }
        let forgotten: Vec<String> = before.succeeded.iter().filter(|one| !after.has_succeeded(one)).cloned().collect();
        if !forgotten.is_empty() {
            changes.push(Change::Forgot(forgotten));
        }
        if after.last_attempt < before.last_attempt {
            changes.push(Change::CountedBack(before.last_attempt));
        }
        let same = |one: &Active, other: &Active| one.attempt == other.attempt && one.pod_uid == other.pod_uid;
        let ended = before.active.as_ref().filter(|old| after.active.as_ref().is_none_or(|new| !same(old, new)));
        if let Some(old) = ended {
            let migration = after.migration(&old.fingerprint);
            let attempts = migration.map(|migration| migration.attempts.as_slice()).unwrap_or_default();
            let on_record = attempts.iter().find(|attempt| attempt.number == old.attempt).cloned();
            changes.push(Change::Ended(old.clone(), on_record));
            if let Some(new) = after.active.as_ref().filter(|_| !missed) {
                changes.push(Change::Replaced(old.clone(), new.clone()));
            }
        }
        let begun = after.active.as_ref().filter(|new| before.active.as_ref().is_none_or(|old| !same(old, new)));
        if let Some(new) = begun {
            let given = Given { pod_uid: new.pod_uid.clone(), from };
            let earlier = self.given.insert(new.attempt, given);
            if earlier.is_some_and(|earlier| earlier.pod_uid != new.pod_uid) {
                changes.push(Change::GivenTwice(new.clone()));
            }
            changes.push(Change::Elected(new.clone()));
        }
        self.ordered.extend(record.orders.iter().cloned());
        changes.extend(self.storm(now));
        self.last = record;
        changes
    }

    fn storm(&mut self, now: Duration) -> Option<Change> {
        self.writes.push_back(now);
        while self.writes.front().is_some_and(|first| *first + STORM_WITHIN < now) {
            self.writes.pop_front();
        }
        (self.writes.len() > STORM).then_some(Change::Stormed(STORM, STORM_WITHIN))
    }
}
