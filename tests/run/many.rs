//! Fifty at once: one run, and all end well.

use std::time::{Duration, Instant};

use super::mariadb::mariadb;
use super::pgbouncer::Pooler;
use super::starter::{Folder, Running, assert_apart, new_name, postgres, start, witness};

const STARTERS: usize = 50;

fn fifty(url: &str, more: &[&str]) {
    let folder = Folder::new();
    let arguments: Vec<&str> = ["--once", "v1"].iter().chain(more).copied().collect();
    let started = Instant::now();
    let starters: Vec<Running> =
        (0..STARTERS).map(|_| start(url, &arguments, &witness(&folder.0, Duration::from_millis(500)))).collect();
    for starter in starters {
        let ended = starter.wait();
        assert_eq!(ended.code, Some(0), "{ended:?}");
    }
    println!("{STARTERS} starters ended {:?} after the first one's start", started.elapsed());
    assert_eq!(folder.lines("started").len(), 1);
    assert_eq!(folder.lines("finished").len(), 1);
    assert_apart(&folder);
    // And whoever comes later has nothing to do.
    let late = start(url, &arguments, &["false".to_owned()]).wait();
    assert_eq!(late.code, Some(0), "{late:?}");
    assert!(late.output.contains("v1 is done already: it succeeded at 20"), "{late:?}");
}

#[test]
fn fifty_starters_run_once_on_postgres() {
    let server = postgres();
    fifty(&server.create_database(&new_name("fifty")).expect("a database"), &[]);
}

#[test]
fn fifty_starters_run_once_on_mariadb() {
    let server = mariadb();
    fifty(&server.create_database(&new_name("fifty")), &[]);
}

#[test]
fn fifty_starters_run_once_on_a_lock_file() {
    let folder = Folder::new();
    fifty(&format!("file:{}", folder.file("lock").display()), &[]);
}

#[test]
fn fifty_starters_run_once_on_sqlite() {
    let folder = Folder::new();
    fifty(&format!("sqlite:{}", folder.file("app.db").display()), &[]);
}

#[test]
fn fifty_starters_run_once_behind_a_pooler_in_transaction_mode() {
    let server = postgres();
    let database = new_name("fifty");
    server.create_database(&database).expect("a database");
    let pooler = Pooler::start(&server);
    fifty(&pooler.url_of(&database), &["--lock-table", "migration_gate_lock"]);
}

#[test]
fn fifty_starters_run_once_with_a_lock_table_on_mariadb() {
    let server = mariadb();
    fifty(&server.create_database(&new_name("fifty")), &["--lock-table", "migration_gate_lock"]);
}

#[test]
fn a_failing_run_is_tried_so_many_times_and_no_more() {
    let server = postgres();
    let url = server.create_database(&new_name("failing")).expect("a database");
    let folder = Folder::new();
    let script = format!("echo x >> {}; echo no such column; exit 7", folder.file("tries").display());
    let command = ["sh", "-c", &script].map(str::to_owned);
    let starters: Vec<Running> = (0..12).map(|_| start(&url, &["--once", "v1", "--attempts", "2"], &command)).collect();
    for starter in starters {
        let ended = starter.wait();
        assert_eq!(ended.code, Some(7), "{ended:?}");
        assert!(ended.output.contains("no such column"), "{ended:?}");
    }
    assert_eq!(folder.lines("tries").len(), 2);
    let status = start(&url, &["--status"], &[]).wait();
    assert_eq!(status.output.matches("failed").count(), 2, "{status:?}");
    // One more is allowed, and one forgets.
    assert_eq!(start(&url, &["--once", "v1", "--attempts", "3"], &command).wait().code, Some(7));
    assert_eq!(folder.lines("tries").len(), 3);
    let forgot = start(&url, &["--once", "v1", "--forget"], &[]).wait();
    assert_eq!((forgot.code, forgot.output.contains("forgot 3 runs")), (Some(0), true), "{forgot:?}");
    assert_eq!(start(&url, &["--once", "v1"], &["true".to_owned()]).wait().code, Some(0));
}

#[test]
fn without_a_key_everybody_runs_one_after_the_other() {
    let server = postgres();
    let url = server.create_database(&new_name("each")).expect("a database");
    let folder = Folder::new();
    let starters: Vec<Running> =
        (0..5).map(|_| start(&url, &[], &witness(&folder.0, Duration::from_millis(60)))).collect();
    for starter in starters {
        assert_eq!(starter.wait().code, Some(0));
    }
    assert_eq!(folder.lines("finished").len(), 5);
    assert_apart(&folder);
}

#[test]
fn waiters_do_not_block_an_index_that_is_built_concurrently() {
    let server = postgres();
    let database = new_name("index");
    let url = server.create_database(&database).expect("a database");
    server.psql_in(&database, "CREATE TABLE t (a int)").expect("a table");
    let folder = Folder::new();
    let script = format!(
        "touch {here}; while [ ! -e {go} ]; do sleep 0.02; done; psql -X -q -c 'CREATE INDEX CONCURRENTLY i ON t (a)' '{url}'",
        here = folder.file("here").display(),
        go = folder.file("go").display(),
    );
    let first = start(&url, &["--once", "v1"], &["sh", "-c", &script].map(str::to_owned));
    super::starter::until("the command", super::starter::SOON, || folder.file("here").exists().then_some(()));
    let mut waiters: Vec<Running> = (0..5).map(|_| start(&url, &["--once", "v1"], &["false".to_owned()])).collect();
    for waiter in &mut waiters {
        waiter.says("waiting for");
    }
    std::fs::write(folder.file("go"), "").expect("a file");
    assert_eq!(first.wait().code, Some(0));
    for waiter in waiters {
        assert_eq!(waiter.wait().code, Some(0));
    }
}
