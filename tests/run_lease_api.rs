//! `migration-gate run` under a Lease, on a real API server.

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use migration_gate::contract::annotation;
use testcluster::{Cluster, Options, Profile};

const PROGRAM: &str = env!("CARGO_BIN_EXE_migration-gate");
const LIMIT: Duration = Duration::from_secs(90);

fn until<T>(what: &str, mut condition: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(value) = condition() {
            return value;
        }
        assert!(start.elapsed() < LIMIT, "waited {LIMIT:?} for {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn start(kubeconfig: &Path, lease: &str, arguments: &[&str], script: &str) -> Child {
    let mut program = Command::new(PROGRAM);
    program.args(["run", "--once", "v1"]).args(arguments);
    if !script.is_empty() {
        program.args(["--", "sh", "-c", script]);
    }
    program.env("MIGRATION_GATE_LOCK", format!("lease:default/{lease}")).env("KUBECONFIG", kubeconfig);
    program.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    program.spawn().expect("the program under test")
}

fn end(child: Child) -> Output {
    child.wait_with_output().expect("a child")
}

#[test]
fn leases_let_one_run_and_are_taken_over() {
    let cluster = Cluster::boot(Options::new("run-lease", Profile::Api)).expect("a cluster");
    let kubeconfig = cluster.kubeconfig();
    let folder = std::env::temp_dir().join(format!("migration-gate-lease-{}", std::process::id()));
    fs::create_dir_all(&folder).expect("a folder");
    let log = folder.join("log");
    let lines = || fs::read_to_string(&log).unwrap_or_default().lines().count();

    // Many at once: one run, and all end well.
    let script = format!("echo x >> {}; sleep 0.5", log.display());
    let starters: Vec<Child> = (0..20).map(|_| start(&kubeconfig, "many", &[], &script)).collect();
    for starter in starters {
        let output = end(starter);
        assert_eq!(output.status.code(), Some(0), "{output:?}");
    }
    assert_eq!(lines(), 1);
    let lease = cluster.get(&["lease", "many"]).expect("the Lease");
    let runs = lease["metadata"]["annotations"][annotation::RUNS].as_str().expect("the history").to_owned();
    assert!(runs.contains("\"state\":\"succeeded\""), "{runs}");
    assert_eq!(lease["spec"]["holderIdentity"].as_str().unwrap_or_default(), "", "it was released");
    let status = Command::new(PROGRAM)
        .args(["run", "--status", "--lock", "lease:default/many"])
        .env("KUBECONFIG", &kubeconfig)
        .output()
        .expect("the program");
    assert!(String::from_utf8_lossy(&status.stdout).contains("succeeded"), "{status:?}");

    // A killed holder is succeeded when its Lease was silent for 15 s, not before.
    fs::remove_file(&log).expect("the log");
    let mut holder = start(&kubeconfig, "killed", &[], &format!("echo x >> {}; sleep 600", log.display()));
    until("the first command", || (lines() == 1).then_some(()));
    let waiter = start(&kubeconfig, "killed", &[], &format!("echo x >> {}", log.display()));
    holder.kill().expect("it runs");
    let killed = Instant::now();
    holder.wait().expect("a child");
    until("the successor", || (lines() == 2).then_some(()));
    println!("take-over of a killed holder's Lease: {:?}", killed.elapsed());
    assert!(killed.elapsed() > Duration::from_secs(10), "{:?}", killed.elapsed());
    assert_eq!(end(waiter).status.code(), Some(0));

    // A Lease that another takes is lost, and the command with it.
    fs::remove_file(&log).expect("the log");
    let holder = start(&kubeconfig, "stolen", &[], &format!("echo x >> {}; sleep 600", log.display()));
    until("the command", || (lines() == 1).then_some(()));
    until("the theft", || {
        let patch = r#"{"spec":{"holderIdentity":"thief","leaseDurationSeconds":3600}}"#;
        cluster.kubectl(&["patch", "lease", "stolen", "--type", "merge", "-p", patch]).ok()
    });
    let output = end(holder);
    assert_eq!(output.status.code(), Some(75), "{output:?}");

    // Without rights, a sentence.
    cluster.kubectl(&["create", "serviceaccount", "poor"]).expect("an account");
    let token = cluster.kubectl(&["create", "token", "poor"]).expect("a token");
    let poor = folder.join("poor.yaml");
    let text = fs::read_to_string(&kubeconfig).expect("the kubeconfig");
    fs::write(&poor, text).expect("a file");
    let set = cluster
        .kubectl_command()
        .args(["--kubeconfig", &poor.to_string_lossy(), "config", "set-credentials", "poor", "--token", token.trim()])
        .status();
    assert!(set.expect("kubectl").success());
    let context = cluster
        .kubectl_command()
        .args(["--kubeconfig", &poor.to_string_lossy(), "config", "set-context", "--current", "--user", "poor"])
        .status();
    assert!(context.expect("kubectl").success());
    let output = end(start(&poor, "forbidden", &[], "true"));
    assert_eq!(output.status.code(), Some(77), "{output:?}");
    assert!(String::from_utf8_lossy(&output.stderr).contains("get and update on the Lease"), "{output:?}");

    // The rights in the documentation are enough.
    let text = include_str!("../docs/run.md").split("### Rights for a Lease").nth(1).expect("the section");
    let rights = text.split("```").nth(1).and_then(|block| block.strip_prefix("yaml\n")).expect("a block");
    cluster.kubectl(&["create", "namespace", "shop"]).expect("a namespace");
    cluster.kubectl(&["create", "serviceaccount", "shop", "-n", "shop"]).expect("an account");
    cluster.apply(rights).expect("the rights");
    let token = cluster.kubectl(&["create", "token", "shop", "-n", "shop"]).expect("a token");
    let set = cluster
        .kubectl_command()
        .args(["--kubeconfig", &poor.to_string_lossy(), "config", "set-credentials", "poor", "--token", token.trim()])
        .status();
    assert!(set.expect("kubectl").success());
    let mut program = Command::new(PROGRAM);
    program.args(["run", "--once", "v1", "--", "true"]).env("KUBECONFIG", &poor);
    for _ in 0..2 {
        let output = program.env("MIGRATION_GATE_LOCK", "lease:shop/shop-db").output().expect("the program");
        assert_eq!(output.status.code(), Some(0), "{output:?}");
    }
    fs::remove_dir_all(&folder).expect("the folder");
}
