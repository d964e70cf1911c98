//! The alerts and the dashboard, asked of a real Prometheus that scraped a real run.

mod support;

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};

use serde_json::{Value, json};
use support::client::namespace;
use support::controller::{Controller, World};
use support::eventually;
use support::files::{Authority, Secret, bundle};
use support::webhook::{Webhook, register};
use testcluster::prometheus;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use migration_gate::contract::{annotation, label};

/// A Prometheus that scrapes every second.
struct Prometheus(SocketAddr);

impl Prometheus {
    fn start(world: &World, targets: &[SocketAddr]) -> Prometheus {
        let folder = world.cluster.folder("prometheus").expect("a folder");
        let alerts = folder.join("alerts.yaml");
        std::fs::write(&alerts, impatient().to_string()).expect("a file");
        let targets: Vec<String> = targets.iter().map(SocketAddr::to_string).collect();
        let config = json!({
            "global": { "scrape_interval": "1s", "evaluation_interval": "1s" },
            "rule_files": [alerts],
            "scrape_configs": [{ "job_name": "migration-gate", "static_configs": [{ "targets": targets }] }],
        });
        // JSON is YAML.
        let file = folder.join("prometheus.yml");
        std::fs::write(&file, config.to_string()).expect("a file");
        // Free a moment ago; nobody else binds here in between.
        let address = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).and_then(|free| free.local_addr()).expect("a port");
        let arguments = [
            format!("--config.file={}", file.display()),
            format!("--storage.tsdb.path={}", folder.join("data").display()),
            format!("--web.listen-address={address}"),
        ];
        let program = prometheus::program().expect("Prometheus");
        world.cluster.run("prometheus", &program, arguments).expect("it starts");
        Prometheus(address)
    }

    /// Asks; each answer is a set of labels and a number.
    async fn ask(&self, query: &str) -> Option<Vec<(BTreeMap<String, String>, f64)>> {
        let encoded: String = query.bytes().map(|byte| format!("%{byte:02X}")).collect();
        let mut stream = TcpStream::connect(self.0).await.ok()?;
        let request = format!("GET /api/v1/query?query={encoded} HTTP/1.0\r\nhost: test\r\n\r\n");
        stream.write_all(request.as_bytes()).await.ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.ok()?;
        let (_, body) = answer.split_once("\r\n\r\n")?;
        let body: Value = serde_json::from_str(body).ok()?;
        assert_eq!(body["status"], "success", "{query}: {body}");
        let samples = body["data"]["result"].as_array()?.iter().map(|sample| {
            let labels = serde_json::from_value(sample["metric"].clone()).expect("labels");
            (labels, sample["value"][1].as_str().and_then(|number| number.parse().ok()).expect("a number"))
        });
        Some(samples.collect())
    }

    /// Waits until a query gives one number that suits.
    async fn until(&self, query: &str, suits: impl Fn(f64) -> bool) {
        eventually(query, async || {
            let answers = self.ask(query).await?;
            (answers.len() == 1 && suits(answers[0].1)).then_some(())
        })
        .await;
    }
}

/// The alerts as they stand in the file.
fn rules() -> Value {
    serde_saphyr::from_str(include_str!("../deploy/monitoring/alerts.yaml")).expect("YAML")
}

/// The alerts, each raised a second after it is true: nobody here waits for minutes.
fn impatient() -> Value {
    let mut rules = rules();
    for rule in rules["groups"][0]["rules"].as_array_mut().expect("rules") {
        rule["for"] = json!("1s");
    }
    rules
}

/// The expressions of the alerts, by name.
fn alerts() -> BTreeMap<String, String> {
    let rules = rules()["groups"][0]["rules"].as_array().cloned().expect("rules");
    let text = |value: &Value| value.as_str().expect("text").to_owned();
    rules.iter().map(|rule| (text(&rule["alert"]), text(&rule["expr"]))).collect()
}

/// The queries of the dashboard, with Grafana's variables filled in as it would.
fn queries() -> Vec<String> {
    let dashboard: Value = serde_json::from_str(include_str!("../deploy/monitoring/dashboard.json")).expect("JSON");
    let panels = dashboard["panels"].as_array().expect("panels");
    let targets = panels.iter().flat_map(|panel| panel["targets"].as_array().expect("targets"));
    let filled = |query: &str| query.replace("$__rate_interval", "1m").replace("$__range", "1h");
    targets.map(|target| filled(target["expr"].as_str().expect("a query"))).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn alerts_and_dashboard_say_what_a_run_did() {
    let world = World::boot("t-monitoring").await;
    let host = world.cluster.host_address();
    let authority = Authority::new();
    let folder = world.cluster.folder("tls").expect("a folder").join("secret");
    let secret = Secret::new(folder, &authority.issue(&[host]));
    let webhook = Webhook::start(host, secret.path(), 0).await;
    register(&world.administrator, webhook.address, &bundle(&[&authority])).await;
    let controller = Controller::start(&world.cluster, "a");
    let prometheus = Prometheus::start(&world, &[webhook.health, controller.health]);
    prometheus.until("sum(migration_gate_leader)", |leaders| leaders == 1.0).await;
    // A counter's first increase is seen only if it was scraped before.
    prometheus.until(r#"sum(migration_gate_admissions_total{result="injected"})"#, |count| count == 0.0).await;

    // One that succeeds, with three pods; one that fails for good; one that was labelled where nobody looks.
    world.deploy("orders", 3).await;
    world.agents_run("orders", 3).await;
    let (runner, attempt) = world.elected("orders").await;
    prometheus.until(r#"max(migration_gate_migrations{phase="running"})"#, |running| running == 1.0).await;
    prometheus.until("max(migration_gate_waiting_pods)", |waiting| waiting == 3.0).await;
    prometheus.until("max(migration_gate_oldest_active_attempt_seconds)", |age| age >= 1.0).await;
    world.verdict(&runner, attempt, "succeeded").await;
    world.all_open("orders", 3).await;
    world.deploy_with("billing", 1, json!({ annotation::BACKOFF_LIMIT: "1" })).await;
    world.agents_run("billing", 1).await;
    let (runner, attempt) = world.elected("billing").await;
    world.verdict(&runner, attempt, "failed").await;
    namespace(&world.administrator, "gated", json!({ label::INJECT: label::INJECT_ENABLED })).await;
    let mut missed = json!({
        "apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": { "name": "missed", "labels": { label::GATED: label::GATED_TRUE }, "annotations": { annotation::COMMAND: "true" } },
        "spec": { "replicas": 0, "selector": { "matchLabels": { "app": "missed" } }, "template": {
            "metadata": { "labels": { "app": "missed" } },
            "spec": { "containers": [{ "name": "shop", "image": "shop:1" }] },
        } },
    });
    world.administrator.must_create("/apis/apps/v1/namespaces/shop/deployments", &missed).await;
    missed["metadata"]["name"] = json!("found");
    world.administrator.must_create("/apis/apps/v1/namespaces/gated/deployments", &missed).await;

    for (query, expected) in [
        (r#"sum(migration_gate_attempts_total{outcome="succeeded"})"#, 1.0),
        (r#"sum(migration_gate_attempts_total{outcome="failed"})"#, 1.0),
        ("sum(migration_gate_gates_opened_total)", 3.0),
        ("sum(migration_gate_gate_opening_seconds_count)", 3.0),
        ("max(migration_gate_waiting_pods)", 1.0),
        (r#"max(migration_gate_migrations{phase="failed"})"#, 1.0),
        ("max(migration_gate_workloads_without_gate)", 1.0),
        (r#"sum(migration_gate_admissions_total{result="injected"})"#, 1.0),
    ] {
        prometheus.until(query, |number| number == expected).await;
    }
    // Every panel shows something of it.
    for query in queries() {
        eventually(&query, async || prometheus.ask(&query).await.filter(|answers| !answers.is_empty())).await;
    }

    // Two alerts are right to fire now, and no other.
    let alerts = alerts();
    for (alert, expression) in &alerts {
        let fires = ["MigrationFailed", "MigrationGateInjectionMissed"].contains(&alert.as_str());
        let answers = prometheus.ask(expression).await.expect("an answer");
        assert_eq!(!answers.is_empty(), fires, "{alert}: {answers:?}");
    }
    eventually("Prometheus itself to raise it", async || {
        let raised = prometheus.ask(r#"ALERTS{alertname="MigrationFailed",alertstate="firing"}"#).await?;
        (raised.len() == 1).then_some(())
    })
    .await;
    controller.end();
    eventually("the alert that nobody leads", async || {
        prometheus.ask(&alerts["MigrationGateNoLeader"]).await.filter(|answers| !answers.is_empty())
    })
    .await;
    drop(webhook);
    world.cluster.down().expect("nothing is left behind");
}

#[test]
fn every_alert_waits_and_is_in_the_runbook_and_every_metric_is_ours() {
    let runbook = include_str!("../docs/operations.md");
    let mut metrics = migration_gate::metrics::Metrics::new();
    migration_gate::metrics::WebhookMetrics::register(metrics.registry());
    migration_gate::metrics::CertificateMetrics::register(metrics.registry());
    migration_gate::metrics::ControllerMetrics::register(metrics.registry());
    let known = metrics.text();
    let all = alerts();
    for rule in rules()["groups"][0]["rules"].as_array().expect("rules") {
        let alert = rule["alert"].as_str().expect("a name");
        assert!(runbook.contains(&format!("### {alert}\n")), "{alert} has no section in the runbook");
        let section = format!("docs/operations.md#{}", alert.to_lowercase());
        assert_eq!(rule["annotations"]["runbook"], section, "{alert} leads elsewhere");
        // One odd scrape wakes nobody.
        assert!(rule["for"].as_str().is_some_and(|wait| wait.ends_with('m')), "{alert} is raised at once");
    }
    for query in all.values().cloned().chain(queries()) {
        for word in query.split(|c: char| !c.is_ascii_alphanumeric() && c != '_') {
            let named = word.trim_end_matches("_bucket").trim_end_matches("_total");
            assert!(!word.starts_with("migration_gate") || known.contains(&format!("# TYPE {named} ")), "{word}");
        }
    }
}
