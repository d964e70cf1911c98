//! What happens to a workload in each situation, through its life.

use proptest::prelude::*;

use super::*;
use crate::contract::{CONDITION, POD_FINALIZER, pod};

#[test]
fn unlabelled_workloads_are_untouched() {
    let unlabelled = with(&orders(), "/metadata/labels", Value::Null);
    assert_eq!(create(&unlabelled).decision, Decision::Ignored);
    let off = with(&orders(), "/metadata/labels/migration-gate.dev~1gated", json!("false"));
    assert_eq!(create(&off).decision, Decision::Ignored);
}

#[test]
fn other_requests_are_untouched() {
    for (field, value) in [
        ("operation", json!("DELETE")),
        ("operation", json!("CONNECT")),
        ("subResource", json!("status")),
        ("subResource", json!("scale")),
        ("kind", json!({"group": "apps", "version": "v1", "kind": "StatefulSet"})),
        ("kind", json!({"group": "apps", "version": "v1beta1", "kind": "Deployment"})),
        ("kind", json!({"group": "", "version": "v1", "kind": "Pod"})),
    ] {
        let mut review_value = a_review(None, &orders());
        review_value["request"][field] = value.clone();
        let answer = review(review_value.to_string().as_bytes(), &installation(), Mode::Enforce).expect("an answer");
        assert_eq!(answer.decision, Decision::Ignored, "{field}: {value}");
    }
}

#[test]
fn a_workload_that_is_being_deleted_passes() {
    let injected = create(&orders()).object;
    let terminating = with(&injected, "/metadata/deletionTimestamp", json!("2026-11-21T10:00:00Z"));
    let broken = annotated(&terminating, annotation::TIMEOUT, "soon");
    assert_eq!(update(&injected, &broken).decision, Decision::Ignored);
}

#[test]
fn taking_the_label_off_takes_the_injection_out() {
    for object in [orders(), wrapping(), with_entrypoint()] {
        let injected = create(&object).object;
        let unlabelled = with(&injected, "/metadata/labels/migration-gate.dev~1gated", Value::Null);
        let outcome = update(&injected, &unlabelled);
        assert_eq!(outcome.decision, Decision::Stripped);
        assert_eq!(outcome.template(), &object["spec"]["template"]);
    }
}

#[test]
fn what_was_there_but_empty_is_so_again() {
    for hollow in [Value::Null, json!([])] {
        let mut object = wrapping();
        let template = &mut object["spec"]["template"];
        template["metadata"]["annotations"] = if hollow.is_null() { Value::Null } else { json!({}) };
        template["spec"]["readinessGates"] = hollow.clone();
        template["spec"]["volumes"] = hollow.clone();
        template["spec"]["initContainers"][0]["volumeMounts"] = hollow.clone();
        let injected = create(&object).object;
        let unlabelled = with(&injected, "/metadata/labels", Value::Null);
        assert_eq!(update(&injected, &unlabelled).template(), &object["spec"]["template"], "{hollow}");
    }
}

#[test]
fn taking_the_label_off_is_never_refused() {
    let mut injected = create(&orders()).object;
    injected["metadata"]["annotations"] = json!({ annotation::TIMEOUT: "soon", "migration-gate.dev/x": "" });
    injected["spec"]["template"]["metadata"]["annotations"] = json!({ annotation::INJECTED: "{" });
    injected["metadata"]["labels"] = json!({});
    let outcome = update(&orders(), &injected);
    assert_eq!(outcome.decision, Decision::Stripped);
    assert_eq!(outcome.template(), &orders()["spec"]["template"]);
}

#[test]
fn a_generated_name_needs_a_group() {
    let unnamed = with(&orders(), "/metadata/name", Value::Null);
    assert!(create(&unnamed).message().contains("generateName"));
    assert_eq!(create(&annotated(&unnamed, annotation::GROUP, "orders-db")).decision, Decision::Injected);
}

#[test]
fn the_agent_by_image_volume_is_the_same_migration() {
    let by_image = Installation { delivery: AgentDelivery::ImageVolume, ..installation() };
    let outcome = admit_with(&by_image, None, &orders());
    assert_eq!(init_containers(&outcome.object), [pod::MIGRATE_CONTAINER]);
    let migration = &create(&orders()).object["spec"]["template"]["metadata"]["labels"][label::MIGRATION];
    assert_eq!(&outcome.template()["metadata"]["labels"][label::MIGRATION], migration);
    assert_eq!(
        outcome.template()["spec"]["initContainers"][0]["command"],
        json!(["/migration-gate-image/migration-gate-agent"])
    );
    assert_eq!(admit_with(&by_image, None, &outcome.object).decision, Decision::Kept);
    let unlabelled = with(&outcome.object, "/metadata/labels", Value::Null);
    assert_eq!(update(&outcome.object, &unlabelled).template(), &orders()["spec"]["template"]);
}

/// The object with a lock in the database that a variable with this value names.
fn locked(object: &Value, value: Value) -> Value {
    let mut variable = json!({ "name": "DATABASE_URL" });
    let field = if value.is_object() { "valueFrom" } else { "value" };
    variable[field] = value;
    let object = annotated(object, annotation::LOCK_ENV, "DATABASE_URL");
    with(&object, "/spec/template/spec/containers/0/env", json!([variable]))
}

#[test]
fn a_lock_brings_the_whole_program_along_and_stays_the_same_migration() {
    let plain = with(&locked(&orders(), json!("postgres://db/x")), "/metadata/annotations", {
        json!({ annotation::COMMAND: "alembic upgrade head" })
    });
    let (without, with_lock) =
        (create(&plain), update(&create(&plain).object, &locked(&orders(), json!("postgres://db/x"))));
    assert_eq!(with_lock.decision, Decision::Injected);
    let of = |outcome: &Outcome| outcome.template()["metadata"]["labels"][label::MIGRATION].clone();
    assert_eq!(of(&without), of(&with_lock), "adopting the second fence must not migrate again");
    let container = |outcome: &Outcome, at: usize| outcome.template()["spec"]["initContainers"][at].clone();
    assert_eq!(container(&without, 0)["command"], json!([pod::IMAGE_AGENT_PATH, "install", pod::AGENT_PATH]));
    let whole = json!([pod::IMAGE_AGENT_PATH, "install", pod::AGENT_PATH, pod::IMAGE_PROGRAM_PATH, pod::PROGRAM_PATH]);
    assert_eq!(container(&with_lock, 0)["command"], whole);
    let key = format!("--lock-key={}", of(&with_lock).as_str().expect("a fingerprint"));
    let program = format!("--lock-program={}", pod::PROGRAM_PATH);
    let arguments = json!(["--lock-env=DATABASE_URL", key, program, "--", "alembic", "upgrade", "head"]);
    assert_eq!(container(&with_lock, 1)["args"], arguments);

    // Taking it out is a change too; a variable of envFrom can't be seen, and an image volume holds the program itself.
    assert_eq!(update(&with_lock.object, &plain).object, without.object);
    let source = json!([{ "secretRef": { "name": "database" } }]);
    let unseen = annotated(&orders(), annotation::LOCK_ENV, "DATABASE_URL");
    let unseen = create(&with(&unseen, "/spec/template/spec/containers/0/envFrom", source));
    assert_eq!((unseen.decision, unseen.warnings().len()), (Decision::Injected, 0));
    let installation = Installation { delivery: AgentDelivery::ImageVolume, ..installation() };
    let mounted = admit_with(&installation, None, &locked(&orders(), json!("postgres://db/x")));
    let program = format!("--lock-program={}{}", pod::AGENT_VOLUME_PATH, pod::IMAGE_PROGRAM_PATH);
    assert_eq!(container(&mounted, 0)["args"][2], json!(program));
}

#[test]
fn a_url_that_can_be_seen_to_be_wrong_is_warned_of_without_its_value() {
    let reference = json!({ "secretKeyRef": { "name": "database", "key": "url" } });
    for fine in [json!("postgresql+psycopg://u:p@db/x"), json!("mysql2://db/x"), json!("$(SCHEME)://db/x"), reference] {
        assert_eq!(create(&locked(&orders(), fine.clone())).warnings(), Vec::<&str>::new(), "{fine}");
    }
    for wrong in ["jdbc:postgresql://db/x?password=Geheim42", "Geheim42", "sqlite:///data/Geheim42.db"] {
        let outcome = create(&locked(&orders(), json!(wrong)));
        let warnings = outcome.warnings();
        assert!(warnings.len() == 1 && warnings[0].starts_with("DATABASE_URL "), "{wrong}: {warnings:?}");
        assert!(!warnings[0].contains("Geheim42"), "{warnings:?}");
    }
}

#[test]
fn policy_is_checked_but_never_reaches_the_template() {
    let injected = create(&orders()).object;
    for (key, value) in [(annotation::TIMEOUT, "30m"), (annotation::BACKOFF_LIMIT, "1"), (annotation::SUSPEND, "true")]
    {
        let outcome = update(&injected, &annotated(&injected, key, value));
        assert_eq!((outcome.decision, outcome.patch), (Decision::Kept, Value::Null), "{key}");
        let outcome = update(&injected, &annotated(&injected, key, "?"));
        assert_eq!(outcome.decision, Decision::Denied, "{key}");
    }
    // The default of progressDeadlineSeconds is ten minutes.
    for (timeout, warnings) in [("30m", 1), ("601s", 1), ("600s", 0)] {
        let outcome = update(&injected, &annotated(&injected, annotation::TIMEOUT, timeout));
        assert_eq!(outcome.warnings().len(), warnings, "{}", outcome.response);
    }
}

#[test]
fn what_is_not_a_review_is_an_error() {
    for bytes in [
        &b""[..],
        b"{}",
        b"null",
        b"[]",
        b"\xff",
        b"{\"apiVersion\":\"admission.k8s.io/v1\",\"kind\":\"AdmissionReview\"}",
        b"{\"apiVersion\":\"admission.k8s.io/v1beta1\",\"kind\":\"AdmissionReview\",\"request\":null}",
    ] {
        assert!(review(bytes, &installation(), Mode::Enforce).is_err(), "{}", String::from_utf8_lossy(bytes));
    }
    let mut no_uid = a_review(None, &orders());
    no_uid["request"]["uid"] = json!("");
    assert!(review(no_uid.to_string().as_bytes(), &installation(), Mode::Enforce).is_err());
}

#[test]
fn whatever_the_object_is_there_is_an_answer_to_its_uid() {
    let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    let text = |object: &str| a_review(None, &json!("OBJECT")).to_string().replace("\"OBJECT\"", object);
    let with_template =
        |template: &str| text(&orders().to_string().replace(r#""metadata":{"labels":{"app":"orders"}}"#, template));
    for review_text in [
        text("null"),
        text("1"),
        text(r#"{"metadata": 1}"#),
        text(r#"{"metadata": {"labels": {"a": 1}}}"#),
        with_template(&format!(r#""metadata":{deep}"#)),
        with_template(r#""metadata":null"#),
        with_template(r#""metadata":{"annotations":{"a":[]}}"#),
    ] {
        let answer = review(review_text.as_bytes(), &installation(), Mode::Enforce).expect("a review");
        assert_eq!(answer.decision, Decision::Denied, "{}", &review_text[..80]);
        assert!(String::from_utf8_lossy(&answer.body).contains("705ab4f5-6393-11e8-b7cc-42010a800002"));
    }
}

/// A required nodeAffinity with these terms, each the expressions about labels that must all fit.
fn affinity(terms: Value) -> Value {
    let terms: Vec<Value> = terms
        .as_array()
        .expect("a list")
        .iter()
        .map(|expressions| json!({ "matchExpressions": expressions }))
        .collect();
    json!({"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": terms}}})
}

fn system(operator: &str, system: &str) -> Value {
    json!({"key": "kubernetes.io/os", "operator": operator, "values": [system]})
}

#[test]
fn what_a_linux_node_can_run_is_not_refused() {
    let zone = json!({"key": "topology.kubernetes.io/zone", "operator": "In", "values": ["windows"]});
    let (on_windows, off_linux) = (system("In", "windows"), system("NotIn", "linux"));
    let both = json!({"key": "kubernetes.io/os", "operator": "In", "values": ["windows", "linux"]});
    for (terms, is_refused) in [
        (json!([]), false),
        (json!([[]]), false),
        (json!([[zone.clone()]]), false),
        (json!([[system("In", "linux")]]), false),
        (json!([[system("NotIn", "windows")]]), false),
        (json!([[both]]), false),
        // One of the terms is enough for a node.
        (json!([[on_windows.clone()], [zone.clone()]]), false),
        (json!([[on_windows.clone()], []]), true),
        (json!([[zone, on_windows.clone()], [off_linux]]), true),
    ] {
        let outcome = create(&with(&orders(), "/spec/template/spec/affinity", affinity(terms.clone())));
        assert_eq!(outcome.decision == Decision::Denied, is_refused, "{terms}: {}", outcome.response);
    }
    let preferred = json!({"nodeAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [{
        "weight": 1, "preference": {"matchExpressions": [on_windows]},
    }]}});
    assert_eq!(create(&with(&orders(), "/spec/template/spec/affinity", preferred)).decision, Decision::Injected);
    // A chart may give its options to all of its pods; on Linux they have no effect.
    for (options, is_refused) in [(json!({"hostProcess": true}), true), (json!({}), false), (Value::Null, false)] {
        let mut object = orders();
        let spec = &mut object["spec"]["template"]["spec"];
        spec["containers"][0]["securityContext"] = json!({"windowsOptions": options});
        assert_eq!(create(&object).decision == Decision::Denied, is_refused, "{options}");
        let on_linux = with(&object, "/spec/template/spec/nodeSelector", json!({"kubernetes.io/os": "linux"}));
        assert_eq!(create(&on_linux).decision, Decision::Injected, "{options}");
    }
}

/// What is refused once is not refused where nothing changed: a rule that is new must not stop a scale-up.
#[test]
fn a_workload_from_before_a_rule_is_kept() {
    let injected = create(&orders()).object;
    let with_options = |object: &Value| {
        with(object, "/spec/template/spec/securityContext", json!({"windowsOptions": {"hostProcess": false}}))
    };
    let (old, new) = (with_options(&injected), with(&with_options(&injected), "/spec/replicas", json!(9)));
    assert_eq!(update(&old, &new).decision, Decision::Kept);
}

#[test]
fn a_program_is_put_before_the_args_of_a_wrapped_container() {
    let outcome = create(&with_entrypoint());
    let migrate = &outcome.template()["spec"]["initContainers"][1];
    assert_eq!(migrate["args"], json!(["--", "alembic", "upgrade", "head"]));
    // The same migration as with the program in the container, and each can become the other.
    let migration = |outcome: &Outcome| outcome.template()["metadata"]["labels"][label::MIGRATION].clone();
    let explicit = create(&wrapping());
    assert_eq!(migration(&explicit), migration(&outcome));
    for (from, to) in [(with_entrypoint(), wrapping()), (wrapping(), with_entrypoint())] {
        let moved = update(&create(&from).object, &to);
        assert_eq!((moved.decision, &moved.object), (Decision::Injected, &create(&to).object));
        let unlabelled = with(&moved.object, "/metadata/labels", Value::Null);
        assert_eq!(update(&moved.object, &unlabelled).template(), &to["spec"]["template"]);
    }
    // An edit of the annotation alone leaves what was injected in the template.
    let edited = update(&outcome.object, &annotated(&outcome.object, annotation::ENTRYPOINT, "python -m alembic"));
    assert_eq!(edited.decision, Decision::Injected);
    let args = &edited.template()["spec"]["initContainers"][1]["args"];
    assert_eq!(args, &json!(["--", "python", "-m", "alembic", "upgrade", "head"]));
    assert_ne!(migration(&edited), migration(&outcome));
    let removed = with(&outcome.object, "/metadata/annotations/migration-gate.dev~1entrypoint", Value::Null);
    assert!(update(&outcome.object, &removed).message().contains("has no command"));
}

/// Every denial, provoked. The texts are reviewed as a whole in `tests/data/denials.txt`.
#[test]
fn denials_say_what_was_found_and_what_is_allowed() {
    let object = orders();
    let template = "/spec/template";
    let at = |pointer: &str, value: Value| with(&object, &format!("{template}{pointer}"), value);
    let wrapped = wrapping();
    let cases = vec![
        ("no command", with(&object, "/metadata/annotations", Value::Null)),
        ("the command on the template", {
            let misplaced = with(&object, "/metadata/annotations", Value::Null);
            with(&misplaced, "/spec/template/metadata/annotations", json!({ annotation::COMMAND: "a" }))
        }),
        ("two commands in one", annotated(&object, annotation::COMMAND, "alembic upgrade head && ./seed")),
        ("a variable", annotated(&object, annotation::COMMAND, "goose -dsn $DSN up")),
        ("a misspelt key", annotated(&object, "migration-gate.dev/time-out", "30m")),
        ("an unknown key", annotated(&object, "migration-gate.dev/database", "pg")),
        ("a key of ours", annotated(&object, annotation::SIGNAL, "{}")),
        ("no unit", annotated(&object, annotation::TIMEOUT, "600")),
        ("no retries", annotated(&object, annotation::BACKOFF_LIMIT, "0")),
        ("not a boolean", annotated(&object, annotation::SUSPEND, "yes")),
        ("no port", annotated(&object, annotation::WAIT_FOR, "tcp://db")),
        ("no variable for the lock", annotated(&object, annotation::LOCK_ENV, "DATABASE_URL")),
        ("a URL for the lock's variable", annotated(&object, annotation::LOCK_ENV, "postgres://db/x?sslmode=disable")),
        ("not JSON", annotated(&object, annotation::ENV, "DB_USER=owner")),
        ("a bad variable", annotated(&object, annotation::ENV, r#"[{"name": "A", "valueFrom": {"secretRef": {}}}]"#)),
        ("a bad group", annotated(&object, annotation::GROUP, "Orders_DB")),
        ("no such container", annotated(&object, annotation::CONTAINER, "app")),
        ("a sidecar", with(&wrapped, "/spec/template/spec/initContainers/0/restartPolicy", json!("Always"))),
        ("the image's own command", with(&wrapped, "/spec/template/spec/initContainers/0/command", Value::Null)),
        ("a command for a wrapped container", annotated(&wrapped, annotation::COMMAND, "alembic upgrade head")),
        ("two programs for a wrapped container", annotated(&wrapped, annotation::ENTRYPOINT, "alembic")),
        ("a program for a copied container", annotated(&object, annotation::ENTRYPOINT, "alembic")),
        ("a program for no container", {
            with(&object, "/metadata/annotations", json!({ annotation::ENTRYPOINT: "alembic" }))
        }),
        ("a program and a command", annotated(&with_entrypoint(), annotation::COMMAND, "alembic upgrade head")),
        ("a program that needs a shell", annotated(&with_entrypoint(), annotation::ENTRYPOINT, "cd /app && ./run")),
        ("args that are no list", with(&with_entrypoint(), "/spec/template/spec/initContainers/0/args", json!("up"))),
        ("a number in args", with(&with_entrypoint(), "/spec/template/spec/initContainers/0/args", json!(["up", 5]))),
        ("a restart policy", with(&wrapped, "/spec/template/spec/initContainers/0/restartPolicy", json!("Never"))),
        ("another restart policy", {
            with(&wrapped, "/spec/template/spec/initContainers/0/restartPolicy", json!("OnFailure"))
        }),
        ("restart rules", {
            let rules = json!([{"action": "Restart", "exitCodes": {"operator": "In", "values": [42]}}]);
            with(&wrapped, "/spec/template/spec/initContainers/0/restartPolicyRules", rules)
        }),
        ("no name", with(&object, "/metadata/name", Value::Null)),
        ("no containers", at("/spec/containers", json!([]))),
        ("not a template", at("/spec/containers", json!("web"))),
        ("Windows", at("/spec/os", json!({"name": "windows"}))),
        ("Windows by its node", at("/spec/nodeSelector", json!({"kubernetes.io/os": "windows"}))),
        ("Windows by its node's old label", at("/spec/nodeSelector", json!({"beta.kubernetes.io/os": "windows"}))),
        ("Windows by affinity", at("/spec/affinity", affinity(json!([[system("In", "windows")]])))),
        ("Windows by its options", at("/spec/securityContext", json!({"windowsOptions": {"hostProcess": false}}))),
        ("our container's name", at("/spec/containers/0/name", json!(pod::MIGRATE_CONTAINER))),
        ("our volume's name", at("/spec/volumes", json!([{"name": pod::VOLUME}]))),
        ("our volume, mounted", {
            at("/spec/containers/0/volumeMounts", json!([{"name": pod::SIGNAL_VOLUME, "mountPath": "/x"}]))
        }),
        ("our path", at("/spec/containers/0/volumeMounts", json!([{"name": "x", "mountPath": "/migration-gate/"}]))),
        ("an unreadable note", at("/metadata/annotations", json!({ annotation::INJECTED: "{}" }))),
        ("a signal", at("/metadata/annotations", json!({ annotation::SIGNAL: "{}" }))),
        ("a pass", at("/metadata/annotations", json!({ annotation::OPENED: "{}" }))),
        ("a runner", at("/metadata/labels", json!({ label::ROLE: label::ROLE_RUNNER }))),
        ("a finalizer", at("/metadata/finalizers", json!([POD_FINALIZER]))),
    ];
    let mut text = String::new();
    for (what, object) in cases {
        let outcome = create(&object);
        assert_eq!(outcome.decision, Decision::Denied, "{what}");
        let status = &outcome.response["status"];
        assert_eq!(status["status"], "Failure");
        assert!(outcome.message().chars().count() <= 400, "{what}: {}", outcome.message());
        text.push_str(&format!(
            "{what}: {} {}\n  {}\n\n",
            status["code"],
            status["reason"].as_str().unwrap_or_default(),
            outcome.message()
        ));
    }
    check_snapshot("denials.txt", &text);
}

#[test]
fn the_gate_is_there_once() {
    let own_gate = with(&orders(), "/spec/template/spec/readinessGates", json!([{"conditionType": CONDITION}]));
    let outcome = create(&own_gate);
    assert_eq!(outcome.template()["spec"]["readinessGates"], json!([{"conditionType": CONDITION}]));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn any_bytes_get_an_answer_or_an_error(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = review(&bytes, &installation(), Mode::Enforce);
    }

    /// Any part of a review replaced by anything, or cut off anywhere.
    #[test]
    fn any_damaged_review_gets_an_answer_or_an_error(
        from in 0usize..1500, length in 0usize..300, with in "[\\[\\]{}\",:a-z0-9 \\\\]{0,20}"
    ) {
        let injected = create(&wrapping()).object;
        let text = a_review(Some(&wrapping()), &injected).to_string();
        let from = from.min(text.len());
        let to = (from + length).min(text.len());
        if text.is_char_boundary(from) && text.is_char_boundary(to) {
            let damaged = format!("{}{with}{}", &text[..from], &text[to..]);
            let _ = review(damaged.as_bytes(), &installation(), Mode::Enforce);
            let _ = review(&text.as_bytes()[..from], &installation(), Mode::Enforce);
        }
    }
}
