//! The witness: it reads the API with watches of its own, is told by the kubelets which commands really ran, and
//! compares both with what is promised. It shares nothing with the controller but the contract, and writes nothing.
//!
//! [`facts`] is what it reads; [`records`], [`pods`], [`workloads`], [`runs`] and [`told`] are its books, which say what
//! each version changed; `of_pods` and `of_records` judge each change, and [`calm`] judges what is left when nothing changes any more.

pub mod blame;
pub mod calm;
mod claims;
pub mod facts;
mod of_pods;
mod of_records;
mod pods;
mod records;
mod runs;
mod told;
mod workloads;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde_json::Value;

use crate::chronicle::Chronicle;
use crate::watching::{Word, number};

use blame::{Blame, Blames, Promise};
use claims::{Basis, Claim, Claims};
use facts::{Pod, Record, Workload, key};
use told::Told;

pub use runs::{Run, Truth};

/// The lines of the chronicle that are told with each broken promise.
const LINES: usize = 40;

/// The kinds of object that are watched.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Object {
    /// Groups' records.
    Record,
    /// Pods.
    Pod,
    /// Workloads.
    Workload,
    /// Events.
    Event,
}

impl Object {
    /// All kinds, each with the path of all of its objects.
    pub const ALL: [(Object, &'static str); 4] = [
        (Object::Record, "/apis/migration-gate.dev/v1alpha1/migrationgates"),
        (Object::Pod, "/api/v1/pods"),
        (Object::Workload, "/apis/apps/v1/deployments"),
        (Object::Event, "/apis/events.k8s.io/v1/events"),
    ];
}

/// The witness. Copies are the same one.
#[derive(Clone)]
pub struct Witness(Arc<Mutex<Books>>);

/// All that it knows.
pub struct Books {
    chronicle: Chronicle,
    records: records::Records,
    pods: pods::Pods,
    workloads: workloads::Workloads,
    runs: runs::Runs,
    told: Told,
    claims: Claims,
    blames: Blames,
    /// Kinds whose versions are being missed now.
    missing: Vec<Object>,
    /// Since when each kind is watched without a break.
    seeing: HashMap<Object, Duration>,
    /// Applications that run, by the pod's UID.
    apps: HashMap<String, Duration>,
    /// When each success was first on record, by record and fingerprint.
    since: HashMap<(String, String), Duration>,
    /// When anything last went forward: an attempt ended, a gate opened, a pod or a record went.
    forward: Duration,
    /// Successes that a pod reported while the record had its attempt active.
    reported: Vec<Reported>,
    /// What was counted.
    pub figures: Figures,
}

/// A success that was reported in time.
#[derive(Clone, Debug)]
struct Reported {
    record: String,
    record_uid: String,
    fingerprint: String,
    pod: String,
    attempt: u32,
}

/// What was counted.
#[derive(Clone, Debug, Default)]
pub struct Figures {
    /// Versions that were read, of each kind.
    pub versions: BTreeMap<Object, usize>,
    /// How often each kind's versions may have been missed.
    pub breaks: BTreeMap<Object, usize>,
    /// Attempts by how they ended on record.
    pub outcomes: BTreeMap<String, usize>,
    /// Gates that opened.
    pub opened: usize,
    /// The longest time from a success on record to a gate that was waiting for it, and whose that was.
    pub slowest: Option<(Duration, String)>,
    /// Gated pods that were made by somebody who is not a workload's controller.
    pub foreign: usize,
    /// Pods that somebody copied, and those that nobody was let copy.
    pub copies: (usize, usize),
}

impl Witness {
    /// One that writes what it sees into this chronicle.
    #[must_use]
    pub fn new(chronicle: Chronicle) -> Witness {
        Witness(Arc::new(Mutex::new(Books {
            chronicle,
            records: records::Records::default(),
            pods: pods::Pods::default(),
            workloads: workloads::Workloads::default(),
            runs: runs::Runs::default(),
            told: Told::default(),
            claims: Claims::default(),
            blames: Blames::default(),
            missing: Vec::new(),
            seeing: HashMap::new(),
            apps: HashMap::new(),
            since: HashMap::new(),
            forward: Duration::ZERO,
            reported: Vec::new(),
            figures: Figures::default(),
        })))
    }

    /// Its books.
    pub fn books(&self) -> MutexGuard<'_, Books> {
        // A panic in it ends the life with a failure anyway.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Books {
    /// What a watch of these objects says.
    pub fn hear(&mut self, kind: Object, word: Word) {
        match word {
            Word::Missed => {
                self.missing.push(kind);
                self.seeing.remove(&kind);
                *self.figures.breaks.entry(kind).or_default() += 1;
            }
            Word::Whole => {
                self.missing.retain(|missing| *missing != kind);
                self.seeing.insert(kind, self.chronicle.now());
            }
            Word::UpTo(_) => {}
            Word::Version(object) => {
                *self.figures.versions.entry(kind).or_default() += 1;
                match kind {
                    Object::Record => self.record(Record::of(&object)),
                    Object::Pod => self.pod(Pod::of(&object)),
                    Object::Workload => self.workload(Workload::of(&object)),
                    Object::Event => self.told.read(&object),
                }
            }
            Word::Gone(object) => self.gone(kind, &object),
        }
    }

    fn gone(&mut self, kind: Object, object: &Value) {
        let part = |name: &str| object["metadata"][name].as_str().unwrap_or_default();
        let (name, uid) = (key(part("namespace"), part("name")), part("uid"));
        let now = self.chronicle.now();
        match kind {
            Object::Record => {
                self.records.remove(&name, uid, number(object));
                self.chronicle.note([name], "record: gone");
            }
            Object::Pod => {
                let gate = self.pods.last(uid).and_then(|pod| pod.gate.clone());
                if let Some(gate) = gate {
                    self.chronicle.note([gate, name], "pod: gone");
                }
                self.pods.remove(uid);
            }
            Object::Workload => {
                self.workloads.remove(uid, now);
                self.chronicle.note([name], "workload: gone");
            }
            Object::Event => return,
        }
        self.forward = now;
    }

    /// Time passed.
    pub fn tick(&mut self) {
        let now = self.chronicle.now();
        let seeing = self.seeing.get(&Object::Record).copied();
        for claim in self.claims.settle(&self.records, seeing, now) {
            self.blame(claim.promise, claim.about, claim.what);
        }
    }

    /// A controller or the API server was hurt from then until then.
    pub fn disturbed(&mut self, from: Duration, until: Duration) {
        self.told.disturb(from, until);
    }

    /// Somebody tried to copy a pod; whether the API server took it.
    pub fn copied(&mut self, taken: bool) {
        let (made, refused) = &mut self.figures.copies;
        *(if taken { made } else { refused }) += 1;
    }

    /// A command begins.
    pub fn began(&mut self, run: Run) {
        let about = [run.gate.clone(), run.app.clone(), run.pod.clone()];
        let text = format!("run: attempt {} of {} begins in {}", run.attempt, run.fingerprint, run.pod);
        self.chronicle.note(about.clone(), text);
        let (clashes, again) = self.runs.begin(run.clone());
        for other in clashes {
            let what = format!(
                "attempt {} of {} began in {} while attempt {} of {} ran in {} (since {:.1} s)",
                run.attempt,
                run.gate,
                run.pod,
                other.attempt,
                other.gate,
                other.pod,
                run.began.saturating_sub(other.began).as_secs_f64()
            );
            let about = [about.to_vec(), vec![other.gate, other.pod]].concat();
            self.blame(Promise::SingleRunner, about, what);
        }
        if let Some(first) = again {
            let what = format!(
                "attempt {} began a second time in {}; the first began {:.1} s before",
                run.attempt,
                run.pod,
                run.began.saturating_sub(first.began).as_secs_f64()
            );
            self.blame(Promise::AttemptOnce, about.to_vec(), what);
        }
    }

    /// The command in this pod ended.
    pub fn ended(&mut self, pod_uid: &str, truth: Truth) {
        let now = self.chronicle.now();
        if let Some(run) = self.runs.end(pod_uid, truth, now) {
            let about = [run.gate.clone(), run.app.clone(), run.pod.clone()];
            self.chronicle.note(about, format!("run: attempt {} in {} ends: {truth:?}", run.attempt, run.pod));
        }
    }

    /// The application's containers were started, after the agent saw its pod's pass in the version of this number, if
    /// it did.
    pub fn app_started(&mut self, pod: &Pod, passed_at: Option<u64>) {
        self.apps.insert(pod.uid.clone(), self.chronicle.now());
        if self.runs.succeeded_in(&pod.uid) {
            return;
        }
        let gate = pod.gate.clone().unwrap_or_default();
        let about = vec![gate.clone(), pod.app.clone(), pod.key.clone()];
        let what = format!("the application in {} started before its migration had succeeded", pod.key);
        match passed_at {
            Some(before) => {
                let basis = Basis::Success { fingerprint: pod.fingerprint.clone() };
                let claim = Claim { record: gate, basis, before, promise: Promise::NoEarlyStart, what, about };
                self.claims.add(claim, self.chronicle.now());
            }
            None => self.blame(Promise::NoEarlyStart, about, what),
        }
    }

    /// A promise was seen broken.
    pub fn blame(&mut self, promise: Promise, about: Vec<String>, what: String) {
        if self.blames.know(promise, &about, &what) {
            return;
        }
        let (at, before) = (self.chronicle.now(), self.chronicle.about(&about, LINES));
        let text = format!("BROKEN {promise}: {what}");
        eprintln!("[soak {:8.1}s] {text}", at.as_secs_f64());
        self.chronicle.note(about.clone(), text);
        self.blames.add(Blame { promise, at, what, about, before });
    }

    /// All that was seen broken.
    #[must_use]
    pub fn blames(&self) -> &[Blame] {
        self.blames.all()
    }

    fn workload(&mut self, workload: Workload) {
        let now = self.chronicle.now();
        self.workloads.read(workload, now);
    }
    /// The commands that ran, and how many of them ended in each way.
    #[must_use]
    pub fn runs(&self) -> (usize, [usize; 4]) {
        self.runs.counts()
    }

    /// The records that there ever were.
    #[must_use]
    pub fn records_ever(&self) -> usize {
        self.records.ever()
    }

    /// The gated pods that there ever were.
    #[must_use]
    pub fn pods_ever(&self) -> usize {
        self.pods.ever()
    }

    /// The signals, passes and starts of applications that were traced to what a record had said before.
    #[must_use]
    pub fn claims_proven(&self) -> usize {
        self.claims.proven
    }

    /// The events that were read.
    #[must_use]
    pub fn events_read(&self) -> usize {
        self.told.count()
    }
}
