//! The operator: says of a runner that is surely dead that it is, when a record asks; and, when the day is over, lets what
//! waits for its back-off be tried at once.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde_json::json;

use super::people::People;

/// How often the operator looks.
const LOOK: Duration = Duration::from_secs(1);
/// How long a record must have asked before the operator goes and sees.
const PATIENCE: Duration = Duration::from_secs(4);

/// Whether the day is over.
pub type Evening = Arc<AtomicBool>;

/// Works for ever.
pub async fn work(people: Arc<People>, evening: Evening) {
    let mut asked: HashMap<(String, u32), Instant> = HashMap::new();
    let mut retried: HashSet<(String, String)> = HashSet::new();
    loop {
        tokio::time::sleep(LOOK).await;
        let unaccounted = people.witness.books().unaccounted();
        asked.retain(|(record, attempt), _| unaccounted.iter().any(|one| (&one.0, one.1) == (record, *attempt)));
        for (record, attempt, pod_uid, fingerprint) in unaccounted {
            let since = asked.entry((record.clone(), attempt)).or_insert_with(Instant::now);
            if since.elapsed() > PATIENCE && !people.house.may_run(&pod_uid) {
                *since = Instant::now();
                let order = json!({ "action": "ConfirmDead", "attempt": attempt, "podUid": pod_uid });
                people.order(&record, &fingerprint, order).await;
            }
        }
        if !evening.load(Ordering::Relaxed) {
            retried.clear();
            continue;
        }
        let backing_off = people.witness.books().backing_off();
        for (record, fingerprint, latest) in backing_off {
            // Once: what fails for ever is to come to its end.
            if retried.insert((record.clone(), fingerprint.clone())) {
                people.order(&record, &fingerprint, json!({ "action": "Retry", "attempt": latest })).await;
            }
        }
    }
}
