//! Which writes failed and which questions were asked without an effect, and when each may be tried again.
//!
//! Each has a back-off of its own, for two reasons. What fails must not be repeated because something else happened in the
//! group, or a write that one pod refuses would be sent again with each event of a rollout. And it must hold up nothing
//! else: the other pods of that rollout open without a delay.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Duration;

use tokio::time::Instant;

use crate::api_error::ApiFailure;

use super::decision::Action;
use super::evidence::Question;
use super::objects::GroupKey;
use super::snapshot::{Asked, Pod, Record};

/// The first wait. A race that was lost is normally known to the watch by then.
const FIRST: Duration = Duration::from_millis(100);
/// The longest wait: a pod that could open must not wait for a back-off that grew.
const MOST: Duration = Duration::from_secs(10);
/// The first wait before a question is asked again.
const ASK_FIRST: Duration = Duration::from_secs(1);
/// The longest wait before that.
const ASK_MOST: Duration = Duration::from_secs(5);
/// So many conflicts in a row are no race that one loses by chance.
const RACES: u32 = 4;
/// How long it is remembered that something failed which is not wanted any more.
const MEMORY: Duration = Duration::from_secs(30);

/// What is tried: a kind of write to one object, or a question about one.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Target {
    /// The write with this name, to the object with this UID; the record that is to be made has none yet.
    Write(&'static str, String),
    /// This question.
    Question(Question, Option<Asked>),
    /// To come to rest.
    Rest,
}

impl Target {
    /// What an action of a decision on this record is about. An opening is about each of its pods: [`Target::pass`].
    pub(super) fn of(action: &Action, record: Option<&Record>) -> Target {
        let uid = match action {
            Action::CreateRecord(_) | Action::Open(_) => "",
            Action::Own(record, _)
            | Action::Protect(record)
            | Action::Release(record)
            | Action::Delete(record)
            | Action::WriteStatus(record, _) => &record.uid,
            Action::Signal(pod, ..) | Action::Settle(pod, _) => &pod.uid,
            Action::Complain(record) => &record.uid,
            Action::Look(question, active) => {
                return Target::Question(*question, Asked::subject(*question, record, active.as_deref()));
            }
        };
        Target::Write(action.name(), uid.to_owned())
    }

    /// The pass of a pod.
    pub(super) fn pass(pod: &Pod) -> Target {
        Target::Write(super::apply::OPEN, pod.uid.clone())
    }
}

/// What is to wait, of one group.
#[derive(Debug, Default)]
pub(super) struct Backoffs(HashMap<Target, Backoff>);

#[derive(Debug)]
struct Backoff {
    /// How often in a row it failed.
    times: u32,
    /// From when it may be tried, if the group is looked at anyway.
    earliest: Instant,
    /// When the group is to be looked at for it.
    latest: Instant,
    /// The version with which a race was lost: with another one it may be tried at once.
    lost_with: Option<String>,
}

impl Backoff {
    fn holds_up(&self, version: Option<&str>, now: Instant) -> bool {
        let raced_anew = self.lost_with.as_deref().zip(version).is_some_and(|(lost, version)| lost != version);
        now < self.earliest && !raced_anew
    }
}

impl Backoffs {
    /// Takes out those actions, and of an opening those pods, that must wait. Returns when the first of them is due.
    pub(super) fn sift(&mut self, actions: &mut Vec<Action>, record: Option<&Record>, now: Instant) -> Option<Instant> {
        self.0.retain(|_, backoff| now < backoff.latest + MEMORY);
        if self.0.is_empty() {
            return None;
        }
        let mut due: Option<Instant> = None;
        let mut waits = |target: &Target, version: Option<&str>| {
            let backoff = self.0.get(target).filter(|backoff| backoff.holds_up(version, now));
            due = due.into_iter().chain(backoff.map(|backoff| backoff.latest)).min();
            backoff.is_some()
        };
        actions.retain_mut(|action| {
            if let Action::Open(pods) = action {
                pods.retain(|pod| !waits(&Target::pass(pod), None));
                return !pods.is_empty();
            }
            !waits(&Target::of(action, record), action.version())
        });
        due
    }

    /// It went well.
    pub(super) fn went_well(&mut self, target: &Target) {
        self.0.remove(target);
    }

    /// It failed, naming this version if it names one.
    pub(super) fn failed(
        &mut self,
        key: &GroupKey,
        target: Target,
        version: Option<&str>,
        failure: ApiFailure,
        now: Instant,
    ) {
        let least = match failure {
            // That was an answer: what follows from it is decided at once.
            ApiFailure::NamespaceTerminating => return,
            ApiFailure::Transient { retry_after } => retry_after.unwrap_or_default(),
            _ => Duration::ZERO,
        };
        let times = self.wait(key, target.clone(), least, now);
        if let Some(backoff) = self.0.get_mut(&target).filter(|_| times <= RACES && failure == ApiFailure::Conflict) {
            backoff.lost_with = version.map(str::to_owned);
        }
    }

    /// A question is asked. Whatever comes of it: when it is asked again soon, it waits from then on.
    pub(super) fn asked(&mut self, key: &GroupKey, question: Target, now: Instant) {
        match self.0.get(&question) {
            Some(before) if now < before.latest + ASK_MOST => _ = self.wait(key, question, Duration::ZERO, now),
            _ => _ = self.0.insert(question, Backoff { times: 0, earliest: now, latest: now, lost_with: None }),
        }
    }

    /// It helped nothing: a question that is asked again with the answer at hand, or decisions without an end.
    pub(super) fn in_vain(&mut self, key: &GroupKey, target: Target, now: Instant) {
        self.wait(key, target, Duration::ZERO, now);
    }

    /// When it may be tried, if that is not now.
    pub(super) fn due(&self, target: &Target, now: Instant) -> Option<Instant> {
        self.0.get(target).filter(|backoff| backoff.holds_up(None, now)).map(|backoff| backoff.latest)
    }

    /// Nothing is wanted any more, so that nothing fails: only what was asked is still remembered.
    pub(super) fn nothing_fails(&mut self) {
        self.0.retain(|target, _| matches!(target, Target::Question(..)));
    }

    /// Whether nothing is remembered.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn wait(&mut self, key: &GroupKey, target: Target, least: Duration, now: Instant) -> u32 {
        let (first, most) = match target {
            Target::Write(..) | Target::Rest => (FIRST, MOST),
            Target::Question(..) => (ASK_FIRST, ASK_MOST),
        };
        let times = self.0.get(&target).map_or(0, |backoff| backoff.times);
        let wait = first.saturating_mul(1 << times.min(16)).min(most);
        // What failed together in many groups, because the API server was away, does not come back together; and of one
        // group, what is nearly due goes along with what is.
        let wait = jittered(wait, (key, times)).max(least.min(most));
        let (earliest, latest) = (now + wait * 3 / 4, now + wait);
        self.0.insert(target, Backoff { times: times + 1, earliest, latest, lost_with: None });
        times + 1
    }
}

/// Three quarters of a time, and a part of the rest that is the seed's own.
fn jittered(time: Duration, seed: impl Hash) -> Duration {
    let mut hasher = DefaultHasher::new();
    seed.hash(&mut hasher);
    time * 3 / 4 + time / 4 * u32::from(hasher.finish() as u8) / u32::from(u8::MAX)
}

#[cfg(test)]
mod tests {
    use super::super::decision::{PodRef, RecordRef, Settlement};
    use super::super::pods::Pods;
    use super::super::testing::pod;
    use super::*;

    const FORBIDDEN: ApiFailure = ApiFailure::Forbidden;

    fn key() -> GroupKey {
        GroupKey { namespace: "shop".to_owned(), name: "shop.deployment".to_owned() }
    }

    fn opening(names: &[&str]) -> Vec<Action> {
        vec![Action::Open(names.iter().map(|name| pod(name)).collect::<Vec<_>>().into())]
    }

    fn left(actions: &[Action]) -> Vec<&str> {
        let [Action::Open(pods)] = actions else { panic!("not an opening: {actions:?}") };
        pods.iter().map(|pod| pod.name.as_str()).collect()
    }

    fn mark(version: &str) -> Vec<Action> {
        let at = PodRef { name: "a".to_owned(), uid: "uid-of-a".to_owned(), resource_version: version.to_owned() };
        vec![Action::Settle(at, Settlement::fence(1))]
    }

    /// When it is tried, if somebody looks all the time: the seconds after the first failure.
    fn tries(mut fail: impl FnMut(&mut Backoffs, Instant), wanted: impl Fn() -> Vec<Action>, seconds: u64) -> Vec<f64> {
        let (mut backoffs, start) = (Backoffs::default(), Instant::now());
        fail(&mut backoffs, start);
        let mut tries = Vec::new();
        for step in 1..seconds * 100 {
            let now = start + Duration::from_millis(step * 10);
            let mut actions = wanted();
            backoffs.sift(&mut actions, None, now);
            if !actions.is_empty() {
                tries.push((now - start).as_secs_f64());
                fail(&mut backoffs, now);
            }
        }
        tries
    }

    #[test]
    fn what_fails_waits_longer_and_longer_however_often_it_is_looked_at() {
        let fail = |backoffs: &mut Backoffs, now| {
            backoffs.failed(&key(), Target::pass(&pod("a")), None, FORBIDDEN, now);
        };
        let tries = tries(fail, || opening(&["a"]), 300);
        let waits: Vec<f64> = tries.windows(2).map(|pair| pair[1] - pair[0]).collect();
        assert!(tries[0] >= 0.05 && tries[0] <= 0.11, "{tries:?}");
        assert!(waits.iter().take(6).zip(waits.iter().skip(1)).all(|(one, next)| next > one), "they grow: {waits:?}");
        let last = waits.last().expect("several");
        assert!((5.6..=10.1).contains(last), "three quarters of three quarters of the most, at least: {waits:?}");
        assert!(tries.len() <= 60, "{}", tries.len());
    }

    #[test]
    fn what_fails_holds_up_nothing_else_and_says_when_it_is_due() {
        let (mut backoffs, now) = (Backoffs::default(), Instant::now());
        backoffs.failed(&key(), Target::pass(&pod("a")), None, FORBIDDEN, now);
        let mut actions = opening(&["a", "b"]);
        let due = backoffs.sift(&mut actions, None, now).expect("a is due some time");
        assert_eq!(left(&actions), ["b"]);
        assert!(due > now && due <= now + FIRST);
        assert_eq!(backoffs.sift(&mut opening(&["b"]), None, now), None, "nobody wants a any more");
        let mut actions = opening(&["a"]);
        assert_eq!(backoffs.sift(&mut actions, None, due), None);
        assert_eq!(left(&actions), ["a"]);
    }

    #[test]
    fn a_success_is_the_end_of_the_wait() {
        let (mut backoffs, now) = (Backoffs::default(), Instant::now());
        for _ in 0..9 {
            backoffs.failed(&key(), Target::pass(&pod("a")), None, FORBIDDEN, now);
        }
        backoffs.went_well(&Target::pass(&pod("a")));
        assert!(backoffs.is_empty());
        backoffs.failed(&key(), Target::pass(&pod("a")), None, FORBIDDEN, now);
        let due = backoffs.sift(&mut opening(&["a"]), None, now).expect("it waits");
        assert!(due <= now + FIRST, "from the beginning");
    }

    #[test]
    fn a_lost_race_is_run_again_with_a_newer_version_but_not_for_ever() {
        let (mut backoffs, now) = (Backoffs::default(), Instant::now());
        let mut lost = 0;
        for version in 1..20 {
            let (mut actions, version) = (mark(&version.to_string()), version.to_string());
            backoffs.sift(&mut actions, None, now);
            if let Some(action) = actions.first() {
                lost += 1;
                let target = Target::of(action, None);
                backoffs.failed(&key(), target, Some(&version), ApiFailure::Conflict, now);
            }
            assert!(backoffs.sift(&mut mark(&version), None, now).is_some(), "the same version can't win");
        }
        assert_eq!(lost, RACES + 1);
    }

    #[test]
    fn a_server_that_asks_for_time_gets_it() {
        let (mut backoffs, now) = (Backoffs::default(), Instant::now());
        let busy = ApiFailure::Transient { retry_after: Some(Duration::from_secs(3)) };
        backoffs.failed(&key(), Target::pass(&pod("a")), None, busy, now);
        let due = backoffs.sift(&mut opening(&["a"]), None, now).expect("it waits");
        assert_eq!(due, now + Duration::from_secs(3));
    }

    #[test]
    fn a_dying_namespace_is_an_answer() {
        let mut backoffs = Backoffs::default();
        let create = Target::of(&Action::CreateRecord(Vec::new()), None);
        backoffs.failed(&key(), create, None, ApiFailure::NamespaceTerminating, Instant::now());
        assert!(backoffs.is_empty());
    }

    #[test]
    fn a_question_is_repeated_once_at_once_and_then_ever_more_slowly() {
        let question = || vec![Action::Look(Question::Pods, None)];
        let ask = |backoffs: &mut Backoffs, now| backoffs.asked(&key(), Target::of(&question()[0], None), now);
        let tries = tries(ask, question, 60);
        assert!(tries[0] < 0.02, "{tries:?}");
        assert!((10..25).contains(&tries.len()), "{tries:?}");
        let vain = |backoffs: &mut Backoffs, now| backoffs.in_vain(&key(), Target::of(&question()[0], None), now);
        let tries = super::tests::tries(vain, question, 60);
        assert!(tries[0] >= 0.5, "the answer was there: {tries:?}");
    }

    #[test]
    fn groups_do_not_come_back_together() {
        let due = |name: u32| {
            let (mut backoffs, now) = (Backoffs::default(), Instant::now());
            let key = GroupKey { name: name.to_string(), ..key() };
            backoffs.failed(&key, Target::pass(&pod("a")), None, FORBIDDEN, now);
            backoffs.sift(&mut opening(&["a"]), None, now).expect("it waits") - now
        };
        let all: std::collections::BTreeSet<Duration> = (0..64).map(due).collect();
        assert!(all.len() > 32, "{all:?}");
    }

    #[test]
    fn what_is_not_wanted_any_more_is_forgotten() {
        let (mut backoffs, now) = (Backoffs::default(), Instant::now());
        let at = RecordRef { name: "r".to_owned(), uid: "u".to_owned(), resource_version: "1".to_owned() };
        backoffs.failed(&key(), Target::of(&Action::Protect(at), None), Some("1"), FORBIDDEN, now);
        backoffs.sift(&mut Vec::new(), None, now + FIRST + MEMORY);
        assert!(backoffs.is_empty());
        backoffs.failed(&key(), Target::pass(&pod("a")), None, FORBIDDEN, now);
        backoffs.asked(&key(), Target::of(&Action::Look(Question::Pods, None), None), now);
        backoffs.nothing_fails();
        let mut actions = vec![Action::Open(Pods::from(vec![pod("a")])), Action::Look(Question::Pods, None)];
        assert_eq!(backoffs.sift(&mut actions, None, now), None);
        assert_eq!(actions.len(), 2);
    }
}
