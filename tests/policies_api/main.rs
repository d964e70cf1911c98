//! The policies that guard a gate, on a real API server, with real identities at every door.

#[path = "../support/mod.rs"]
mod support;

mod cost;
mod doors;
mod identity;
mod people;
mod records;
mod workloads;

use migration_gate::contract::{CONDITION, POD_FINALIZER, annotation, label, pod};

#[tokio::test(flavor = "multi_thread")]
async fn only_the_controller_touches_a_gate() {
    let (cluster, people) = people::boot("t-policies").await;
    doors::pods_are_created_with_nothing_of_the_controllers(&people).await;
    doors::nobody_else_changes_what_is_guarded(&people).await;
    doors::the_controller_and_the_fireman_may(&people).await;
    doors::subresources_are_no_way_around(&people).await;
    doors::bindings_carry_nothing(&people).await;
    doors::what_was_guarded_stays_guarded_when_it_is_there(&people).await;
    doors::a_kubelet_is_never_refused(&people).await;
    doors::the_controller_keeps_to_gated_pods(&people).await;
    identity::nobody_gives_a_pod_an_identity(&people).await;
    identity::an_identity_is_as_the_webhook_writes_it(&people).await;
    identity::workloads_controllers_make_gated_pods(&people).await;
    identity::no_other_template_leads_to_gated_pods(&people).await;
    identity::replica_sets_are_their_deployments(&people).await;
    identity::a_deployment_is_of_its_own_group(&people).await;
    identity::what_migrates_stays(&people).await;
    records::orders_are_no_way_to_the_lock(&people).await;
    records::no_garbage_collector_takes_off_the_lock(&people).await;
    records::the_garbage_collector_works_on(&people).await;
    records::a_namespace_goes_with_its_records(&people).await;
    workloads::workloads_wait_for_their_gate(&cluster, &people).await;
}

/// The names of the init containers are no secret, but the tests of the installation should not need them.
#[test]
fn the_policies_spell_the_contract() {
    let text = include_str!("../../webhook-config/policies.yaml");
    for word in [
        CONDITION,
        POD_FINALIZER,
        annotation::SIGNAL,
        annotation::OPENED,
        annotation::INJECTED,
        annotation::COMMAND,
        annotation::CONTAINER,
        label::GATE,
        label::MIGRATION,
        label::ROLE,
        label::GATED,
        label::INJECT,
    ] {
        assert!(text.contains(&format!("{word}'")) || text.contains(&format!("{word}:")), "{word}");
    }
    assert!(!text.contains(pod::MIGRATE_CONTAINER));
}
