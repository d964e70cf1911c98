//! A watch that yields every version of the objects at a path in its order, and says where it may have missed some.

use std::collections::HashMap;
use std::time::Duration;

use futures::StreamExt;
use kube::core::WatchEvent;
use serde_json::Value;

use crate::api::Api;

/// Between two tries.
const PAUSE: Duration = Duration::from_millis(200);

/// What a watch says.
#[derive(Clone, Debug)]
pub enum Word {
    /// This version was written.
    Version(Value),
    /// The object is gone; this was its last version, under the number of the deletion.
    Gone(Value),
    /// Everything up to this number was said.
    UpTo(u64),
    /// What follows was read as it is now: versions since the last word may be missing, and what is not said before
    /// [`Word::Whole`] may have gone.
    Missed,
    /// What is there has been said.
    Whole,
}

/// The number of a version. All objects of a cluster share one count, so that numbers tell what came first.
///
/// Kubernetes promises that for objects of the same kind; for all of them it is etcd's revision.
#[must_use]
pub fn number(object: &Value) -> u64 {
    object["metadata"]["resourceVersion"].as_str().and_then(|text| text.parse().ok()).unwrap_or(0)
}

/// Watches for ever, until `hear` says that nobody listens any more.
pub async fn watch(api: Api, path: String, mut hear: impl FnMut(Word) -> bool) {
    let mut known: HashMap<String, Value> = HashMap::new();
    let mut since: Option<u64> = None;
    loop {
        let from = match since {
            Some(from) => from,
            None => {
                let Ok(list) = api.get(&path).await else {
                    tokio::time::sleep(PAUSE).await;
                    continue;
                };
                let from = number(&list);
                for word in after_a_list(&mut known, list) {
                    if !hear(word) {
                        return;
                    }
                }
                since = Some(from);
                from
            }
        };
        let Ok(events) = api.watch(&path, &from.to_string()).await else {
            tokio::time::sleep(PAUSE).await;
            continue;
        };
        let mut events = std::pin::pin!(events);
        while let Some(event) = events.next().await {
            let word = match event {
                Ok(WatchEvent::Added(object) | WatchEvent::Modified(object)) => {
                    known.insert(uid(&object), object["metadata"].clone());
                    since = since.max(Some(number(&object)));
                    Word::Version(object)
                }
                Ok(WatchEvent::Deleted(object)) => {
                    known.remove(&uid(&object));
                    since = since.max(Some(number(&object)));
                    Word::Gone(object)
                }
                Ok(WatchEvent::Bookmark(bookmark)) => {
                    since = since.max(bookmark.metadata.resource_version.parse().ok());
                    Word::UpTo(since.unwrap_or(0))
                }
                // The API server no longer has what came after that version.
                Ok(WatchEvent::Error(_)) => {
                    since = None;
                    break;
                }
                Err(_) => break,
            };
            if !hear(word) {
                return;
            }
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// What a list tells somebody who knew these objects.
fn after_a_list(known: &mut HashMap<String, Value>, mut list: Value) -> Vec<Word> {
    let (from, items) = (number(&list), list["items"].take());
    let items = match items {
        Value::Array(items) => items,
        _ => Vec::new(),
    };
    let mut before = std::mem::take(known);
    let mut words = vec![Word::Missed];
    for item in items {
        let metadata = item["metadata"].clone();
        let same = before.remove(&uid(&item)).is_some_and(|old| old["resourceVersion"] == metadata["resourceVersion"]);
        known.insert(uid(&item), metadata);
        if !same {
            words.push(Word::Version(item));
        }
    }
    // Their last versions are not known, nor when they went: as of now they are not there.
    let gone = before.into_values().map(|mut metadata| {
        metadata["resourceVersion"] = from.to_string().into();
        Word::Gone(serde_json::json!({ "metadata": metadata }))
    });
    words.extend(gone);
    words.push(Word::UpTo(from));
    words.push(Word::Whole);
    words
}

fn uid(object: &Value) -> String {
    object["metadata"]["uid"].as_str().unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn object(uid: &str, version: &str) -> Value {
        json!({ "metadata": { "name": uid, "uid": uid, "resourceVersion": version } })
    }

    #[test]
    fn a_list_says_what_changed_and_what_went() {
        let mut known: HashMap<String, Value> = [("a", "1"), ("b", "2"), ("c", "3")]
            .map(|(uid, at)| (uid.into(), object(uid, at)["metadata"].clone()))
            .into();
        let list = json!({ "metadata": { "resourceVersion": "9" }, "items": [object("a", "1"), object("b", "7")] });
        let words = after_a_list(&mut known, list);
        let told: Vec<String> = words
            .iter()
            .map(|word| match word {
                Word::Version(object) => format!("{}@{}", uid(object), number(object)),
                Word::Gone(object) => format!("-{}@{}", uid(object), number(object)),
                Word::UpTo(to) => format!("to {to}"),
                Word::Missed => "missed".to_owned(),
                Word::Whole => "whole".to_owned(),
            })
            .collect();
        assert_eq!(told, ["missed", "b@7", "-c@9", "to 9", "whole"]);
        assert_eq!(known.len(), 2);
    }
}
