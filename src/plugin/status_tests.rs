//! The table, from records as the controller writes them.

use serde_json::json;

use super::*;

const ONE: &str = "0123456789abcdef0123456789abcdef";

fn record(name: &str, owner: &str, status: serde_json::Value) -> MigrationGate {
    serde_json::from_value(json!({
        "apiVersion": "migration-gate.dev/v1alpha1", "kind": "MigrationGate",
        "metadata": { "namespace": "shop", "name": name, "ownerReferences": [
            { "apiVersion": "apps/v1", "kind": "Deployment", "name": owner, "uid": "u" }] },
        "spec": {}, "status": status,
    }))
    .expect("a record")
}

fn attempt(number: u32, outcome: &str, tail: Option<&str>) -> serde_json::Value {
    json!({ "number": number, "pod": format!("orders-{number}"), "outcome": outcome, "exitCode": 1,
        "elected": "2026-11-21T10:00:00Z", "recorded": "2026-11-21T10:00:05Z", "logTail": tail })
}

fn migration(phase: &str, attempts: &[serde_json::Value]) -> serde_json::Value {
    json!({ "fingerprint": ONE, "image": "orders:2", "command": "alembic upgrade head", "phase": phase, "attempts": attempts })
}

fn records() -> Vec<MigrationGate> {
    vec![
        record(
            "orders.deployment",
            "orders",
            json!({
                "phase": "Running", "lastAttempt": 3, "waiting": 1, "image": "orders:2",
                "message": "attempt 3 runs",
                "active": { "fingerprint": ONE, "attempt": 3, "podName": "orders-3", "podUid": "u",
                    "electedAt": "2026-11-21T10:08:48Z" },
                "migrations": [migration("Running", &[attempt(2, "Failed", None)])],
            }),
        ),
        record(
            "billing.deployment",
            "billing",
            json!({
                "phase": "Failed", "lastAttempt": 6, "waiting": 3, "image": "orders:2", "message": "it failed",
                "migrations": [migration("Failed", &[attempt(6, "Failed", Some("Traceback\nno such table: orders\n"))])],
            }),
        ),
        record(
            "stock.deployment",
            "stock",
            json!({ "phase": "Suspended", "message": format!("migration {ONE} waits for an approval, because stock is suspended"),
                "migrations": [migration("Suspended", &[])],
                "conditions": [{ "type": "Migrated", "status": "False", "lastTransitionTime": "2026-11-21T08:09:00Z",
                    "reason": "Suspended", "message": "" }] }),
        ),
        record("new.deployment", "new", json!({})),
    ]
}

fn rows() -> Vec<Row> {
    let waiting = HashMap::from([(("shop".to_owned(), "orders.deployment".to_owned()), 2)]);
    let mut rows: Vec<Row> = records().iter().map(|record| row(record, Some(&waiting))).collect();
    rows[0].last_line = Some("ALTER TABLE orders".to_owned());
    rows
}

fn now() -> Timestamp {
    "2026-11-21T10:09:00Z".parse().expect("a time")
}

#[test]
fn the_table_says_what_goes_on() {
    let text = table(&rows(), Spread::OneNamespace, Detail::Short, now(), None).render(&Screen::PLAIN);
    let expected = "\
WORKLOAD   MIGRATION   PHASE       ATTEMPT   RUNNER     SINCE   WAITING   LAST LINE
orders     01234567    Running     3         orders-3   12s     2         ALTER TABLE orders
billing    01234567    Failed      6         orders-6   8m55s   0         no such table: orders
stock      01234567    Suspended   -         -          2h0m    0         waits for an approval, because stock is suspended
new        -           Unknown     -         -          -       0         -
";
    assert_eq!(text, expected);
}

#[test]
fn wide_and_everywhere_has_whole_names() {
    let text = table(&rows()[..1], Spread::AllNamespaces, Detail::Whole, now(), Some(1)).render(&Screen::PLAIN);
    let expected = format!(
        "\
NAMESPACE   WORKLOAD   MIGRATION                          PHASE       ATTEMPT   RUNNER     SINCE   WAITING   RECORD              IMAGE      LAST LINE
shop        orders     {ONE}   ⠙ Running   3         orders-3   12s     2         orders.deployment   orders:2   ALTER TABLE orders
"
    );
    assert_eq!(text, expected);
}

#[test]
fn without_the_right_to_pods_the_records_count_stands() {
    assert_eq!(row(&records()[0], None).waiting, 1);
}
