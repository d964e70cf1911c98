//! What it costs: `make bench-run` prints it, with a release build.

use std::fs;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use super::starter::{Folder, Running, SOON, is_long, new_name, postgres, program, start, until};

fn median(mut all: Vec<Duration>) -> Duration {
    all.sort_unstable();
    all[all.len() / 2]
}

fn time(url: &str, arguments: &[&str]) -> Duration {
    let mut starter = Command::new(program());
    starter.arg("run").args(arguments).args(["--", "true"]).env("MIGRATION_GATE_LOCK", url);
    starter.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let started = Instant::now();
    assert!(starter.status().expect("the program under test").success());
    started.elapsed()
}

#[test]
fn figures() {
    if !is_long() {
        return;
    }
    let server = postgres();
    let url = server.create_database(&new_name("figures")).expect("a database");
    let bare = median(
        (0..40)
            .map(|_| {
                let started = Instant::now();
                assert!(Command::new("true").status().expect("true").success());
                started.elapsed()
            })
            .collect(),
    );
    time(&url, &["--once", "done"]);
    let done = median((0..40).map(|_| time(&url, &["--once", "done"])).collect());
    let ran = median((0..40).map(|number| time(&url, &["--once", &format!("run-{number}")])).collect());
    println!("`true` bare: {bare:?}; over it, when already done: {:?}; when run: {:?}", done - bare, ran - bare);

    let folder = Folder::new();
    let script = format!("touch {0}/here; while [ ! -e {0}/go ]; do sleep 0.02; done", folder.0.display());
    let holder = start(&url, &["--once", "fifty"], &["sh", "-c", &script].map(str::to_owned));
    until("the command", SOON, || folder.file("here").exists().then_some(()));
    let mut waiters: Vec<Running> = (0..50).map(|_| start(&url, &["--once", "fifty"], &["false".to_owned()])).collect();
    for waiter in &mut waiters {
        waiter.says("waiting for");
    }
    let status = fs::read_to_string(format!("/proc/{}/status", waiters[0].pid().as_raw_nonzero())).expect("it waits");
    let memory = status.lines().filter(|line| line.starts_with("VmRSS") || line.starts_with("RssAnon"));
    println!("memory of one that waits: {}", memory.collect::<Vec<_>>().join(", "));
    fs::write(folder.file("go"), "").expect("a file");
    assert_eq!(holder.wait().code, Some(0));
    let released = Instant::now();
    for waiter in waiters {
        assert_eq!(waiter.wait().code, Some(0));
    }
    println!("from the release to the last of 50 waiters: {:?}", released.elapsed());
    let size = fs::metadata(program()).expect("the program").len();
    println!("size of the program: {:.1} MB", size as f64 / 1e6);
}
