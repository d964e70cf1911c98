//! Reviews of any bytes: the webhook never panics, answers whatever has a UID, as it would without its own reader, and its
//! patches apply and settle.
//!
//! libFuzzer runs here on the stable toolchain and without cargo-fuzz: what that adds is a memory sanitizer, which finds
//! nothing in a program without `unsafe`, and needs a nightly toolchain, which not every machine has.
#![no_main]
#![allow(dead_code, unused_imports, reason = "other parts of the program use the rest of these modules")]

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use libfuzzer_sys::fuzz_target;
use migration_gate_contract as contract;
use program::{admission, group, settings};
use serde_json::{Value, json};

#[path = "../../src"]
mod program {
    pub mod admission;
    pub mod group;
    pub mod settings;
}

fuzz_target!(|bytes: &[u8]| {
    let Some(response) = answer(bytes) else { return };
    // A name with an escape in it is left to serde_json: read by that alone, the review gets the same answer.
    if let Some(rest) = bytes.strip_prefix(b"{")
        && let Some(slowly) = answer(&[br#"{"\u0078":0,"#, rest].concat())
    {
        assert_eq!(response, slowly);
    }
    let Some(patch) = response["patch"].as_str() else { return };
    assert_eq!(response["allowed"], true, "a denial with a patch");
    let patch = BASE64_STANDARD.decode(patch).expect("base64");
    let patch: json_patch::Patch = serde_json::from_slice(&patch).expect("a JSON Patch");
    let Ok(mut review) = serde_json::from_slice::<Value>(bytes) else { return };
    // Written anew, names that were there twice are gone, and long fractions are not quite the same: another review.
    if answer(review.to_string().as_bytes()) != Some(response.clone()) {
        return;
    }
    let object = &mut review["request"]["object"];
    json_patch::patch(object, &patch).expect("the patch applies");

    // Called again, as `reinvocationPolicy: IfNeeded` may, it has nothing left to change.
    let again = answer(review.to_string().as_bytes()).expect("a review like the first");
    assert_eq!((&again["allowed"], &again["patch"]), (&json!(true), &Value::Null), "{again}");
});

/// What the webhook answers, if it is a review that can be answered.
fn answer(bytes: &[u8]) -> Option<Value> {
    let installation = admission::Installation {
        agent_image: "registry.example/migration-gate:1.0".to_owned(),
        delivery: admission::AgentDelivery::InstallContainer,
        version: "1.0.0",
    };
    let answer = admission::review(bytes, &installation, admission::Mode::Enforce).ok()?;
    let answer: Value = serde_json::from_slice(&answer.body).expect("the answer is JSON");
    assert!(answer["response"]["uid"].as_str().is_some_and(|uid| !uid.is_empty()), "{answer}");
    Some(answer["response"].clone())
}
