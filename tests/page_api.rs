//! The page, as a real browser shows it, of a real API server's objects.

mod support;

use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::path::Path;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use support::browser::{Browser, Window};
use support::client::{MERGE, namespace};
use support::controller::{Controller, FINGERPRINT, World};
use support::eventually;
use support::files::{Authority, Secret};
use support::https::{Answer, Door};
use testcluster::{Options, Profile};

use migration_gate::contract::annotation;

const LEASE: &str = "/apis/coordination.k8s.io/v1/namespaces/shop/leases/migration-gate-controller";
const DESK: Window = Window { width: 1080, height: 1096, scale: 1.0, scheme: "light" };
const PHONE: Window = Window { width: 390, height: 844, scale: 2.0, scheme: "light" };
/// Where pictures go, if somebody wants them: `make page-picture`.
const PICTURES: &str = "MIGRATION_GATE_PICTURES";
/// A log as nobody should write it.
const HOSTILE: &str = "</pre><script>document.title='taken'</script><img src=x onerror=alert(1)>";

/// A controller with a page.
struct Served {
    world: World,
    controller: Controller,
    address: SocketAddr,
    authority: Authority,
    secret: Secret,
}

impl Served {
    /// One that another one is before: it only watches.
    async fn behind(name: &str) -> Served {
        // Nobody is there to say that the node lives.
        let options = Options::new(name, Profile::Api);
        let world =
            World::boot_with(options.argument("kube-controller-manager", "--node-monitor-grace-period=1h")).await;
        let host = IpAddr::V4(Ipv4Addr::LOCALHOST);
        let authority = Authority::new();
        let folder = world.cluster.folder("tls").expect("a folder").join("secret");
        // It has no certificate yet, and starts all the same.
        let tls = folder.clone();
        // Free a moment ago; nobody else binds here in between.
        let address = TcpListener::bind((host, 0)).and_then(|free| free.local_addr()).expect("a port");
        world.hold_the_lease().await;
        let page = ["--page-listen", &address.to_string(), "--page-tls-dir", tls.to_str().expect("a path")];
        let controller = Controller::start_with(&world.cluster, "a", &page);
        controller.is_ready().await;
        eventually("the word that the page waits", async || {
            controller.log().contains("the page waits for a certificate").then_some(())
        })
        .await;
        let secret = Secret::new(folder, &authority.issue(&[host]));
        let served = Served { world, controller, address, authority, secret };
        eventually("the page", async || served.get("/").await.filter(|answer| answer.status == 200)).await;
        served
    }

    async fn get(&self, path: &str) -> Option<Answer> {
        self.get_with(path, "").await
    }

    async fn get_with(&self, path: &str, header: &str) -> Option<Answer> {
        let mut connection = Door::new(self.address, &self.authority.certificate).open().await.ok()?;
        let request = format!("GET {path} HTTP/1.1\r\nhost: localhost\r\n{header}\r\n");
        connection.send(request.as_bytes()).await.ok()?;
        connection.answer().await.ok()
    }

    async fn json(&self, path: &str) -> Value {
        let answer = self.get(path).await.expect("an answer");
        assert_eq!(answer.status, 200, "{path}: {}", answer.text());
        serde_json::from_slice(&answer.body).expect("JSON")
    }

    fn url(&self, path: &str) -> String {
        format!("https://{}{path}", self.address)
    }
}

impl World {
    /// Another replica has the lease, as long as it says so now and then.
    async fn hold_the_lease(&self) {
        let lease = json!({ "apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
            "metadata": { "name": "migration-gate-controller" },
            "spec": { "holderIdentity": "another", "leaseDurationSeconds": 15 } });
        self.administrator.must_create(LEASE.rsplit_once('/').expect("a path").0, &lease).await;
        let administrator = self.administrator.clone();
        tokio::spawn(async move {
            for round in 0.. {
                let beat = json!({ "metadata": { "annotations": { "beat": round.to_string() } } });
                let Ok(lease) = administrator.patch(LEASE, MERGE, &beat).await else { return };
                if lease["spec"]["holderIdentity"] != "another" {
                    return;
                }
                tokio::time::sleep(Duration::from_secs(2)).await;
            }
        });
    }

    async fn let_go_of_the_lease(&self) {
        let free = json!({ "spec": { "holderIdentity": "" } });
        self.administrator.patch(LEASE, MERGE, &free).await.expect("the lease is there");
    }

    /// A record with a status, as another leader may have written it.
    async fn record(&self, space: &str, name: &str, status: Value) {
        let path = format!("/apis/migration-gate.dev/v1alpha1/namespaces/{space}/migrationgates");
        let record = json!({ "apiVersion": "migration-gate.dev/v1alpha1", "kind": "MigrationGate",
            "metadata": { "name": format!("{name}.deployment") }, "spec": {} });
        self.administrator.must_create(&path, &record).await;
        let path = format!("{path}/{name}.deployment/status");
        // Each attempt ran in a pod of its own workload.
        let status = status.to_string().replace("POD", name);
        let status: Value = serde_json::from_str(&status).expect("JSON");
        self.administrator.patch(&path, MERGE, &json!({ "status": status })).await.expect("the status is taken");
    }
}

fn ago(seconds: i64) -> String {
    let time = Timestamp::now() - SignedDuration::from_secs(seconds);
    time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// An attempt that began and ended so many seconds ago.
fn attempt(number: u32, outcome: &str, began: i64, ended: i64) -> Value {
    let code = if outcome == "Succeeded" { 0 } else { 1 };
    json!({ "number": number, "pod": format!("POD-69cf9b84d9-{number}md4v"), "node": "node-1", "outcome": outcome,
        "exitCode": code, "elected": ago(began), "started": ago(began), "ended": ago(ended), "recorded": ago(ended) })
}

fn migration(print: &str, image: &str, command: &str, phase: &str, attempts: Value) -> Value {
    let failures = attempts.as_array().expect("attempts").iter().filter(|each| each["outcome"] == "Failed").count();
    json!({ "fingerprint": print, "image": image, "command": command, "phase": phase, "attempts": attempts,
        "failures": failures })
}

fn status(phase: &str, message: &str, migrations: Value) -> Value {
    let image = migrations.as_array().and_then(|all| all.last()).expect("one")["image"].clone();
    let last =
        migrations[0]["attempts"].as_array().and_then(|all| all.last()).map_or(json!(0), |last| last["number"].clone());
    json!({ "phase": phase, "message": message, "migrations": migrations, "image": image, "lastAttempt": last })
}

/// One group of each kind.
async fn scenes(world: &World) {
    for space in ["catalog", "crm", "search"] {
        namespace(&world.administrator, space, json!({})).await;
    }
    for (name, pods) in [("orders", 3), ("billing", 2), ("reports", 1)] {
        world.deploy_with(name, pods, json!({ annotation::BACKOFF_LIMIT: "4" })).await;
        world.agents_run(name, pods as usize).await;
    }
    if std::env::var_os(PICTURES).is_some() {
        // A picture of pods that have waited for a while is worth the wait.
        tokio::time::sleep(Duration::from_secs(50)).await;
    }
    let migrated = |phase, attempts| {
        migration(FINGERPRINT, "registry.example/orders:2.8.0", "alembic upgrade head", phase, attempts)
    };
    let tried = json!([attempt(6, "Failed", 47, 44), attempt(7, "Interrupted", 33, 28)]);
    let mut orders = status("Running", "attempt 8 runs", json!([migrated("Running", tried)]));
    let pod = world.pods("orders").await.remove(0);
    orders["active"] = json!({ "fingerprint": FINGERPRINT, "attempt": 8, "podName": pod["metadata"]["name"],
        "podUid": pod["metadata"]["uid"], "nodeName": "node-1", "electedAt": ago(7), "signalledAt": ago(7) });
    orders["migrations"][0]["attempts"][0]["logTail"] = json!(
        "INFO  [alembic.runtime.migration] Running upgrade 4f1c -> 9ab2, add order_lines.total\n\
         sqlalchemy.exc.OperationalError: (psycopg2.errors.LockNotAvailable) canceling statement due to lock timeout"
    );
    orders["lastAttempt"] = json!(8);
    world.record("shop", "orders", orders).await;

    let tried = json!([
        attempt(1, "Failed", 46, 44),
        attempt(2, "Failed", 34, 31),
        attempt(3, "Failed", 11, 9),
        attempt(4, "Failed", 5, 3)
    ]);
    let mut billing = status(
        "Failed",
        &format!("migration {FINGERPRINT} failed and has no attempts left: relation \"order_lines\" does not exist"),
        json!([migrated("Failed", tried)]),
    );
    billing["migrations"][0]["image"] = json!("registry.example/billing:3.1.4");
    billing["migrations"][0]["attempts"][3]["logTail"] = json!(format!(
        "goose run: 00007_lines.sql\n{HOSTILE}\n\u{1b}[31mERROR\u{1b}[0m: relation \"order_lines\" does not exist"
    ));
    world.record("shop", "billing", billing).await;

    let mut reports = status(
        "Pending",
        "waits",
        json!([migrated("Pending", json!([attempt(1, "Failed", 21, 18), attempt(2, "Failed", 6, 2)]))]),
    );
    reports["message"] = json!(format!("migration {FINGERPRINT} is tried again after {}", ago(-18)));
    reports["migrations"][0]["image"] = json!("registry.example/reports:0.9.1");
    reports["migrations"][0]["command"] = json!("flask db upgrade");
    world.record("shop", "reports", reports).await;

    let print = "ab".repeat(16);
    let waits = migration(&print, "registry.example/contacts:12", "rails db:migrate", "Suspended", json!([]));
    let mut contacts = status(
        "Suspended",
        &format!("migration {print} waits for an approval, because contacts is suspended"),
        json!([waits]),
    );
    contacts["conditions"] = json!([{ "type": "Migrated", "status": "False", "lastTransitionTime": ago(4000), "reason": "Suspended", "message": "" }]);
    world.record("crm", "contacts", contacts).await;

    for (space, name, image, tries) in [
        (
            "catalog",
            "products",
            "registry.example/products:41",
            json!([attempt(11, "Failed", 9000, 8990), attempt(12, "Succeeded", 8980, 8932)]),
        ),
        ("catalog", "prices", "registry.example/prices:7.2", json!([attempt(3, "Succeeded", 90000, 89998)])),
        (
            "search",
            "indexer",
            "registry.example/indexer:2026.11",
            json!([attempt(20, "NotStarted", 4000, 4000), attempt(21, "Succeeded", 3998, 3930)]),
        ),
        (
            "search",
            "suggest",
            "registry.example/suggest:1.0.3",
            json!([attempt(2, "TimedOut", 7300, 5500), attempt(3, "Succeeded", 5480, 4100)]),
        ),
    ] {
        let print = format!("{:0>32}", space.len() + image.len());
        let done = migration(&print, image, "goose up", "Succeeded", tries);
        world.record(space, name, status("Succeeded", &format!("migration {print} succeeded"), json!([done]))).await;
    }
}

/// Keeps a picture where pictures are wanted; whatever it shows, it isn't empty.
fn keep(browser: &mut Browser, name: &str) {
    let picture = browser.picture();
    assert!(picture.len() > 10_000, "{name} shows nothing: {} bytes", picture.len());
    if let Some(folder) = std::env::var_os(PICTURES) {
        let file = Path::new(&folder).join(name);
        std::fs::write(&file, &picture).expect("a file");
        println!("{}: {} bytes", file.display(), picture.len());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_browser_shows_what_happens_as_it_happens() {
    let mut served = Served::behind("t-page").await;
    let mut browser = Browser::start(&served.world.cluster);
    browser.look_through(DESK);
    browser.go(&served.url("/"));
    assert!(browser.text().contains("No workload has asked for a migration yet"), "{}", browser.text());

    scenes(&served.world).await;
    browser
        .until("document.querySelectorAll('.card').length == 4 && document.querySelectorAll('ul.rest li').length == 4")
        .await;
    looks(&mut browser, &served).await;
    answers(&served).await;
    without_scripts(&mut browser, &served);

    let address = served.world.administrator.clone();
    for (space, name) in [("shop", "orders"), ("shop", "billing"), ("shop", "reports"), ("crm", "contacts")] {
        let path = format!("/apis/migration-gate.dev/v1alpha1/namespaces/{space}/migrationgates/{name}.deployment");
        address.delete(&path, &json!({})).await.expect("it is there");
    }
    browser.scripts(true);
    lives(&mut browser, &served).await;

    // A new certificate is served as soon as its files are there.
    let second = Authority::new();
    served.secret.swap(&second.issue(&[served.address.ip()]));
    served.authority = second;
    eventually("the new certificate", async || served.get("/").await).await;
    assert!(browser.complaints().is_empty(), "{:#?}", browser.complaints());
    drop(browser);
    served.controller.end();
    served.world.cluster.down().expect("nothing is left behind");
}

/// Everything is there, nothing is taken for markup, and it fits a desk and a phone.
async fn looks(browser: &mut Browser, served: &Served) {
    let text = browser.text();
    for words in [
        "a watches; another one acts",
        "2 held",
        "1 running",
        "1 waiting",
        "4 at rest",
        "shop/orders",
        "3 pods wait",
        "Failed",
        "registry.example/billing:3.1.4",
        "has no attempts left",
        "4 of 4 failures",
        "ERROR: relation \"order_lines\" does not exist",
        "tried again in",
        "waits for an approval",
        "catalog/prices",
    ] {
        assert!(text.contains(words), "{words:?} in {text}");
    }
    keep(browser, "page.png");
    browser.look_through(Window { scheme: "dark", ..DESK });
    keep(browser, "page-dark.png");
    let wide = "document.documentElement.scrollWidth - document.documentElement.clientWidth";
    for (window, name) in [(PHONE, "page-phone.png"), (Window { scheme: "dark", ..PHONE }, "page-phone-dark.png")] {
        browser.look_through(window);
        assert_eq!(browser.ask(wide), 0, "a phone's reader would have to scroll sideways");
        keep(browser, name);
    }
    browser.look_through(DESK);
    browser.go(&served.url("/groups/shop/billing.deployment"));
    let text = browser.text();
    for words in [
        HOSTILE,
        "kubectl migration-gate retry billing -n shop",
        "exit code 1",
        "Waiting pods (2)",
        "waits, and could run it",
    ] {
        assert!(text.contains(words), "{words:?} in {text}");
    }
    assert_eq!(browser.ask("document.querySelectorAll('main script, main img').length"), 0);
    keep(browser, "page-group.png");
    browser.go(&served.url("/?show=held&find=BILL"));
    assert_eq!(browser.ask("document.querySelectorAll('.card').length"), 1);
    assert_eq!(browser.ask("document.querySelector('#find').value"), "BILL");
}

/// What programs see, and what every answer says.
async fn answers(served: &Served) {
    let list = served.json("/api/groups").await;
    assert_eq!(list["counts"], json!([["held", 2], ["running", 1], ["waiting", 1], ["rest", 4]]));
    let billing = served.json("/api/groups/shop/billing.deployment").await;
    assert_eq!(billing["mood"], "held");
    assert_eq!(billing["migration"]["attempts"][3]["outcome"], "Failed");
    let page = served.get("/").await.expect("an answer");
    for line in [
        "content-security-policy: default-src 'none'; script-src 'self'; style-src 'self';",
        "x-content-type-options: nosniff",
        "referrer-policy: no-referrer",
        "x-frame-options: deny",
        "cache-control: no-store",
    ] {
        assert!(page.head.contains(line), "{line} in {}", page.head);
    }
    for (path, status) in [("/groups/shop/nobody", 404), ("/api/groups/shop/nobody", 404), ("/nothing", 404)] {
        assert_eq!(served.get(path).await.map(|answer| answer.status), Some(status), "{path}");
    }
    // At rest, nothing is sent again.
    let rest = served.get("/?show=rest&find=prices").await.expect("an answer");
    let tag = rest.head.lines().find_map(|line| line.strip_prefix("etag: ")).expect("a tag").to_owned();
    let again =
        served.get_with("/?show=rest&find=prices", &format!("if-none-match: {tag}\r\n")).await.expect("an answer");
    assert_eq!((again.status, again.body.len()), (304, 0));
}

/// The same with scripts off: complete, and loaded anew by itself, unless that is not wanted.
fn without_scripts(browser: &mut Browser, served: &Served) {
    browser.scripts(false);
    browser.go(&served.url("/"));
    let text = browser.text();
    for words in ["shop/orders", "3 pods wait", "catalog/prices", "This page is loaded anew every 10 seconds"] {
        assert!(text.contains(words), "{words:?} in {text}");
    }
    assert_eq!(browser.ask("document.querySelectorAll('meta[http-equiv=refresh]').length"), 1);
    browser.go(&served.url("/?still=1"));
    assert_eq!(browser.ask("document.querySelectorAll('meta[http-equiv=refresh]').length"), 0);
    assert!(!browser.text().contains("loaded anew"));
}

/// From a follower's page to a leader's, a migration fails and another attempt succeeds, all without a reload.
async fn lives(browser: &mut Browser, served: &Served) {
    let world = &served.world;
    browser.go(&served.url("/?find=ledger"));
    browser.ask("window.stayed = true; window.moved = 0; new PerformanceObserver((list) => { for (const e of list.getEntries()) window.moved += e.value; }).observe({ type: 'layout-shift' }); 0");
    world.let_go_of_the_lease().await;
    browser.until("document.querySelector('.replica').innerText.includes('leads')").await;
    world.deploy("ledger", 2).await;
    browser.until("document.querySelector('.card')?.innerText.includes('2 pods wait') ?? false").await;
    world.agents_run("ledger", 2).await;
    let (runner, attempt) = world.elected("ledger").await;
    browser.until("document.querySelector('.badge b').innerText == 'Running' && document.querySelectorAll('rect.bar.runs').length == 1").await;
    // A person goes on from where they are with the keyboard, and stays there.
    browser.ask("document.querySelector('.card h2 a').focus(); window.moved = 0; 0");
    browser.press("Tab", 9);
    world.verdict(&runner, attempt, "failed").await;
    browser
        .until("document.querySelector('.card details summary')?.innerText.includes('the last line') ?? false")
        .await;
    browser.until("document.querySelectorAll('rect.bar.bad').length == 1").await;
    browser.ask("document.querySelector('.card details').open = true; document.querySelector('.card details summary').focus(); 0");
    let runs = "document.querySelectorAll('rect.bar.runs').length == 1";
    let (runner, attempt) = next_attempt(world, "ledger", attempt).await;
    browser.until(runs).await;
    world.verdict(&runner, attempt, "succeeded").await;
    browser.until("document.querySelector('.badge b').innerText == 'Succeeded' && document.querySelectorAll('rect.bar.good').length == 1").await;
    assert_eq!(browser.ask("document.querySelector('.card details').open"), true, "what a person opened stays open");
    assert_eq!(browser.ask("document.activeElement.nodeName"), "SUMMARY", "and where they were is where they are");
    assert_eq!(browser.ask("window.stayed"), true, "the page was loaded anew");
    let moved = browser.ask("window.moved").as_f64().expect("a number");
    println!("cumulative layout shift over a failure and a success: {moved:.4}");
    assert!(moved < 0.01, "things moved under the reader's eyes: {moved}");
}

/// Waits for an attempt after this one.
async fn next_attempt(world: &World, name: &str, before: u64) -> (Value, u64) {
    eventually("the next attempt", async || {
        world.agents_run(name, 2).await;
        let (runner, attempt) = world.elected(name).await;
        (attempt > before).then_some((runner, attempt))
    })
    .await
}
