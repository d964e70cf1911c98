//! A namespace in audit mode: nothing is changed or refused, and warnings say what would be.

use super::*;

fn audit(old: Option<&Value>, new: &Value) -> (Value, Vec<String>) {
    let text = a_review(old, new).to_string();
    let answer = review(text.as_bytes(), &installation(), Mode::Audit).expect("a review");
    assert_eq!(answer.decision, Decision::Audited);
    let answer: Value = serde_json::from_slice(&answer.body).expect("an answer is JSON");
    let response = answer["response"].clone();
    let warnings = response["warnings"].as_array().into_iter().flatten().filter_map(Value::as_str);
    let warnings: Vec<String> = warnings.map(str::to_owned).collect();
    assert!(warnings.iter().all(|warning| warning.chars().count() <= 120), "{warnings:?}");
    (response, warnings)
}

#[test]
fn what_would_be_is_said_and_not_done() {
    let injected = create(&orders()).object;
    let unlabelled = {
        let mut object = injected.clone();
        object["metadata"]["labels"] = json!({});
        object
    };
    let mut bad = orders();
    bad["metadata"]["annotations"][annotation::COMMAND] = json!("");
    let mut nonsense = orders();
    nonsense["metadata"]["annotations"]["migration-gate.dev/comand"] = json!("x");
    for (old, new, expected) in [
        (None, &orders(), "would be gated; one pod runs, in orders:1: alembic upgrade head"),
        (None, &bad, "would be refused: "),
        (None, &nonsense, "would be refused: "),
        (Some(&injected), &unlabelled, "its gate would be taken out"),
        (Some(&injected), &orders(), "its gate would be put back as it was"),
    ] {
        let (response, warnings) = audit(old, new);
        assert_eq!(response["allowed"], true);
        assert_eq!(response["patch"], Value::Null, "{new}");
        assert!(warnings.join(" ").contains(&format!("migration-gate audit: {expected}")), "{expected}: {warnings:?}");
    }
}

#[test]
fn what_would_stay_is_not_mentioned() {
    let injected = create(&orders()).object;
    assert_eq!(audit(Some(&injected), &injected).1, Vec::<String>::new());
}

#[test]
fn a_denials_sentence_is_told_to_its_end() {
    let mut object = orders();
    object["metadata"]["annotations"][annotation::TIMEOUT] = json!("forever and a day ".repeat(12));
    let denial = create(&object).message().to_owned();
    let (_, warnings) = audit(None, &object);
    let told = warnings.join(" ");
    assert!(warnings.len() > 1, "{warnings:?}");
    let words = |text: &str| text.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
    assert!(words(&told).ends_with(&words(&denial)), "{told}\n{denial}");
}
