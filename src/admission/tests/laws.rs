//! The laws of injection, over arbitrary Deployments.

use proptest::prelude::*;

use super::arbitrary::deployment;
use super::*;

proptest! {
    #[test]
    fn every_workload_is_injected_and_stripped_to_what_it_was(object in deployment()) {
        let injected = create(&object);
        prop_assert_eq!(injected.decision, Decision::Injected, "{}", injected.response);
        prop_assert_eq!(&stripped(&injected.object), &object["spec"]["template"]);
    }

    #[test]
    fn injecting_twice_is_injecting_once(object in deployment(), by_upgraded in any::<bool>()) {
        let injected = create(&object).object;
        let installation = if by_upgraded { upgraded() } else { installation() };
        let again = admit_with(&installation, None, &injected);
        prop_assert_eq!(again.decision, Decision::Kept);
        prop_assert_eq!(again.patch, Value::Null);
    }

    #[test]
    fn injection_touches_nothing_but_its_own(object in deployment()) {
        let injected = create(&object).object;
        let (before, after) = (&object["spec"]["template"], &injected["spec"]["template"]);
        for part in ["metadata", "spec"] {
            for (field, value) in before[part].as_object().expect("an object") {
                match (value, &after[part][field]) {
                    (Value::Object(before), Value::Object(after)) => {
                        prop_assert!(before.iter().all(|(key, value)| after.get(key) == Some(value)), "{field}");
                    }
                    (Value::Array(before), Value::Array(after)) => {
                        let kept: Vec<_> = after.iter().filter(|entry| before.contains(entry)).collect();
                        let wrapped = usize::from(field == "initContainers" && is_wrapping(&object));
                        prop_assert_eq!(kept.len(), before.len() - wrapped, "{}", field);
                    }
                    (Value::Null, _) => {}
                    (before, after) => prop_assert_eq!(before, after),
                }
            }
        }
        prop_assert_eq!(&injected["metadata"], &object["metadata"]);
    }

    #[test]
    fn an_upgrade_changes_nothing_whatever_else_changes(
        object in deployment(), replicas in 0..9, carries in any::<bool>()
    ) {
        let injected = create(&object).object;
        let mut sent = if carries { injected.clone() } else { object };
        sent["spec"]["replicas"] = json!(replicas);
        sent["metadata"]["annotations"][annotation::TIMEOUT] = json!("2h");
        sent["metadata"]["annotations"]["example.com/x"] = json!("y");
        sent["metadata"]["labels"]["x"] = json!("y");
        let outcome = admit_with(&upgraded(), Some(&injected), &sent);
        prop_assert_eq!(outcome.decision, Decision::Kept);
        prop_assert_eq!(outcome.template(), &injected["spec"]["template"]);
    }

    /// Whatever the template was, the next one is injected as if it had never been another.
    #[test]
    fn a_change_gives_what_a_new_workload_would_get(
        old in deployment(), new in deployment(), carries in prop::collection::vec(any::<bool>(), 4)
    ) {
        prop_assume!(old["spec"]["template"] != new["spec"]["template"]);
        let injected = create(&old).object;
        // A merge leaves parts of the old injection in the new template.
        let mut sent = new.clone();
        let (from, to) = (&injected["spec"]["template"], &mut sent["spec"]["template"]);
        if carries[0] && to["metadata"]["annotations"].is_object() {
            to["metadata"]["annotations"][annotation::INJECTED] = from["metadata"]["annotations"][annotation::INJECTED].clone();
            for (is_carried, field) in [(carries[1], "volumes"), (carries[2], "initContainers")] {
                let ours = from["spec"][field].as_array().into_iter().flatten().filter(|entry| {
                    entry["name"].as_str().is_some_and(|name| name.starts_with("migration-gate"))
                });
                if let (true, Some(list)) = (is_carried, to["spec"][field].as_array_mut()) {
                    list.extend(ours.cloned());
                }
            }
            if carries[3] {
                to["spec"]["readinessGates"] = from["spec"]["readinessGates"].clone();
            }
        }
        prop_assume!(!carries[3] || !carries[0]);
        let outcome = update(&injected, &sent);
        prop_assert_eq!(outcome.decision, Decision::Injected);
        let expected = create(&new).object;
        prop_assert_eq!(stripped(&outcome.object), stripped(&sent));
        prop_assert_eq!(
            &outcome.template()["metadata"]["labels"][label::MIGRATION],
            &expected["spec"]["template"]["metadata"]["labels"][label::MIGRATION]
        );
    }
}

fn is_wrapping(object: &Value) -> bool {
    object["metadata"]["annotations"][annotation::CONTAINER].is_string()
}
