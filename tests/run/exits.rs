//! Exit codes, sentences, signals and secrets.

use std::fs;
use std::process::{Child, Command, Stdio};

use rustix::process::Signal;
use testcluster::postgres::Server;

use super::mariadb::{MariaDb, free_address, run, spawn_to_die_with_us};
use super::starter::{Folder, LOOPBACK, SOON, new_name, postgres, program, start, start_program, until};

const TRUE: &[&str] = &["true"];

fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

/// Runs with this URL; expects the code and the words, and no secret.
fn refused(url: &str, arguments: &[&str], code: i32, said: &str) {
    let ended = start(url, arguments, &words(TRUE)).wait();
    assert_eq!(ended.code, Some(code), "{ended:?}");
    assert!(ended.output.contains(said), "not {said:?}: {}", ended.output);
    for secret in ["testcluster", "testmariadb", "Geheim42"] {
        assert!(!ended.output.contains(secret), "a secret in: {}", ended.output);
    }
}

#[test]
fn every_bad_input_has_a_sentence_and_a_code() {
    let server = postgres();
    let database = new_name("bad");
    let url = server.create_database(&database).expect("a database");
    let role = new_name("role");
    server
        .psql_in(
            &database,
            &format!(
                "CREATE ROLE {role} LOGIN PASSWORD 'Geheim42'; REVOKE CREATE ON SCHEMA public FROM PUBLIC; \
                 CREATE ROLE {role}_ro LOGIN SUPERUSER PASSWORD 'Geheim42'; \
                 ALTER ROLE {role}_ro SET default_transaction_read_only = on"
            ),
        )
        .expect("roles");
    let address = server.address().to_string();
    let with = |who: &str| url.replace("postgres:testcluster", who);
    refused(&with("postgres:Geheim42"), &[], 77, "password authentication failed");
    refused(&with(&format!("{role}:Geheim42")), &[], 77, "permission denied for schema public");
    refused(&with(&format!("{role}_ro:Geheim42")), &[], 73, "read-only transaction");
    refused(&url.replace(&database, "nowhere"), &[], 78, "database \"nowhere\" does not exist");
    let unknown = url.replace(&address, "no-such-host.invalid");
    refused(&unknown, &["--wait", "1s"], 69, "no-such-host.invalid");
    let nobody = url.replace(&address, &free_address().to_string());
    refused(&nobody, &["--wait", "1s"], 69, "Connection refused");
    refused(&url.replace("sslmode=disable", "sslmode=require"), &[], 78, "TLS");
    refused(&url, &["--history-table", "missing.runs"], 78, "schema \"missing\" does not exist");
    refused("oracle://app:Geheim42@db/x", &[], 64, "allowed: postgres://");
    refused("postgres://app:Geheim42@db", &[], 64, "names no database");
    refused(&url, &["--once", ""], 64, "is the variable that it comes from set?");
    refused(&url, &["--history-table", "a;b"], 64, "a table's name is");
    refused(&url, &["--attempts", "0"], 64, "--attempts");
    refused(&url, &["--lost-grace", "3m"], 64, "a successor waits for as long");
    refused(&url, &["--lock-env", "NO_SUCH_VARIABLE"], 64, "NO_SUCH_VARIABLE is not set");
    refused("file:/tmp/x", &["--lock-table", "t"], 64, "--lock-table is for");
    refused("file:/nowhere/x", &[], 78, "/nowhere/x");
    refused("sqlite:/nowhere/x.db", &[], 78, "unable to open database file");
    refused("lease:shop/orders", &[], 78, "no way to the API server");
}

#[test]
fn a_read_only_mariadb_and_one_without_rights_are_told_apart() {
    let server = MariaDb::start();
    let url = server.create_database("shop");
    server.sql("CREATE USER poor@'%' IDENTIFIED BY 'Geheim42'; GRANT SELECT ON shop.* TO poor@'%'");
    let poor = url.replace("app:testmariadb", "poor:Geheim42");
    refused(&poor, &[], 77, "CREATE command denied");
    refused(&url.replace("testmariadb", "Geheim42"), &[], 77, "Access denied for user");
    refused(&url.replace("/shop", "/nowhere"), &[], 78, "Unknown database");
    server.sql("SET GLOBAL read_only = 1");
    refused(&url, &[], 73, "read-only replica");
}

/// A server of PostgreSQL that only replays: a copy of the data of one that was stopped, on a port of its own.
struct Standby {
    process: Child,
    url: String,
    _folder: Folder,
}

impl Standby {
    fn of(mut server: Server, database: &str) -> Standby {
        let folder = Folder::new();
        let (data, address) = (folder.file("data"), free_address());
        let url = server.url_of(database).replace(&server.address().to_string(), &address.to_string());
        let original = server.log().with_file_name("data");
        server.kill();
        run(Command::new("cp").arg("-a").args([&original, &data]));
        let _ = fs::remove_file(data.join("postmaster.pid"));
        fs::write(data.join("standby.signal"), "").expect("a file");
        run(Command::new("chown").arg("-R").arg(format!("--reference={}", original.display())).arg(&folder.0));
        let newest = fs::read_dir("/usr/lib/postgresql").expect("PostgreSQL").flatten().map(|entry| entry.path()).max();
        let program = newest.expect("a version").join("bin/postgres");
        let mut command = match rustix::process::geteuid().is_root() {
            true => Command::new("setpriv"),
            false => Command::new("env"),
        };
        if rustix::process::geteuid().is_root() {
            command.args(["--reuid", "postgres", "--regid", "postgres", "--clear-groups", "--pdeathsig", "KILL", "--"]);
        }
        command.arg(program).arg("-D").arg(&data).args(["-c", "listen_addresses=127.0.0.1", "-c", "hot_standby=on"]);
        command.args(["-c", &format!("port={}", address.port()), "-c", "max_connections=300"]);
        command.args(["-c", &format!("unix_socket_directories={}", folder.0.display())]);
        command.args(["-c", "dynamic_shared_memory_type=mmap", "-c", "shared_buffers=32MB"]).current_dir(&folder.0);
        let log = fs::File::create(folder.file("log")).expect("a file");
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        Standby { process: spawn_to_die_with_us(command), url, _folder: folder }
    }
}

impl Drop for Standby {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[test]
fn a_replica_of_postgres_is_refused() {
    let server = Server::start(LOOPBACK).expect("a server of its own");
    let url = server.create_database("replica").expect("a database");
    assert_eq!(start(&url, &["--once", "v1"], &words(TRUE)).wait().code, Some(0));
    let standby = Standby::of(server, "replica");
    refused(&standby.url, &["--once", "v2"], 73, "read-only replica, where a lock excludes nobody");
    // What is done is known there too, and needs no lock.
    refused(&standby.url, &["--once", "v1"], 0, "v1 is done already");
}

#[test]
fn a_full_disk_is_noticed_before_anything_is_run() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("skipped: it takes root to mount a small disk");
        return;
    }
    let folder = Folder::new();
    for url in ["file:disk/lock", "sqlite:disk/app.db"] {
        // The disk is in a mount namespace of its own, and goes with it.
        let script = format!(
            "mkdir -p disk && mount -t tmpfs -o size=64k none disk && touch disk/lock disk/app.db disk/app.db.default.lock && \
             (cat /dev/zero > disk/fill; true) 2>/dev/null; exec {} run -- touch {}",
            program(),
            folder.file("ran").display()
        );
        let mut shell = Command::new("unshare");
        shell.args(["--mount", "sh", "-c", &script]).current_dir(&folder.0).env("MIGRATION_GATE_LOCK", url);
        let ended = start_program(shell).wait();
        assert_eq!(ended.code, Some(73), "{url}: {ended:?}");
        assert!(!folder.file("ran").exists());
    }
}

#[test]
fn a_full_disk_of_the_server_is_noticed_before_anything_is_run() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("skipped: it takes root to mount a small disk");
        return;
    }
    struct Disk(Folder);
    impl Drop for Disk {
        fn drop(&mut self) {
            run(Command::new("umount").arg("--lazy").arg(self.0.file("disk")));
        }
    }
    let disk = Disk(Folder::new());
    let path = disk.0.file("disk");
    fs::create_dir(&path).expect("a folder");
    run(Command::new("mount").args(["-t", "tmpfs", "-o", "size=256k,mode=0777", "none"]).arg(&path));
    let space = path.join("space");
    fs::create_dir(&space).expect("a folder");
    run(Command::new("chown").arg("postgres").arg(&space));
    let server = Server::start(LOOPBACK).expect("a server of its own");
    let url = server.create_database("full").expect("a database");
    server.psql(&format!("CREATE TABLESPACE small LOCATION '{}'", space.display())).expect("a tablespace");
    server.psql("ALTER DATABASE \"full\" SET default_tablespace = small").expect("a setting");
    let first = start(&url, &["--once", "v1"], &words(TRUE)).wait();
    assert_eq!(first.code, Some(0), "{first:?}");
    // The row's page is there; what does not fit is the long output of many runs.
    let _ = fs::write(path.join("fill"), vec![0; 256 * 1024]);
    let noise = words(&["sh", "-c", "head -c 4000 /dev/urandom | base64; exit 1"]);
    let mut codes = Vec::new();
    for _ in 0..8 {
        let ended = start(&url, &[], &noise).wait();
        codes.push(ended.code);
        if ended.code == Some(73) || ended.output.contains("could not be recorded") {
            assert!(ended.output.contains("make room on the server's disk"), "{ended:?}");
            return;
        }
    }
    panic!("the disk was never full: {codes:?}");
}

#[test]
fn the_commands_own_end_is_passed_on() {
    let folder = Folder::new();
    let url = format!("file:{}", folder.file("lock").display());
    for (command, code) in [
        (&["sh", "-c", "exit 3"][..], 3),
        (&["sh", "-c", "kill -9 $$"], 137),
        (&["no-such-program"], 127),
        (&["/etc/passwd"], 126),
        (&["sh", "-c", "exit 0"], 0),
    ] {
        let ended = start(&url, &[], &words(command)).wait();
        assert_eq!(ended.code, Some(code), "{command:?}: {ended:?}");
    }
    let verified = start(&url, &["--verify", "sh -c 'echo checked; exit 4'"], &words(&["echo", "migrated"])).wait();
    assert_eq!(verified.code, Some(4), "{verified:?}");
    let status = start(&url, &["--status"], &[]).wait().output;
    assert!(status.contains("migrated\nchecked"), "{status}");
}

#[test]
fn what_takes_too_long_is_ended_and_a_report_says_what_came_of_it() {
    let folder = Folder::new();
    let url = format!("file:{}", folder.file("lock").display());
    let report = folder.file("report");
    let report_option = format!("--report={}", report.display());
    let outcome = || fs::read_to_string(&report).expect("a report");
    for (more, command, code, said) in [
        (&["--once", "v1"][..], &["true"][..], 0, "succeeded"),
        (&["--once", "v1"], &["false"], 0, "succeeded"),
        (&["--once", "v2", "--timeout", "1s"], &["sleep", "600"], 124, "timedOut"),
        (&["--once", "v2", "--timeout", "1m"], &["sh", "-c", "exit 75"], 75, "failed"),
        (&["--once", "v2"], &["sh", "-c", "kill $(cut -d' ' -f4 /proc/$PPID/stat); sleep 600"], 143, "interrupted"),
    ] {
        let arguments = [&[report_option.as_str()], more].concat();
        let ended = start(&url, &arguments, &words(command)).wait();
        assert_eq!(ended.code, Some(code), "{command:?}: {ended:?}");
        assert_eq!(outcome(), format!(r#"{{"outcome":"{said}"}}"#), "{command:?}");
    }
    let status = start(&url, &["--status"], &[]).wait().output;
    assert!(status.contains("124") && status.contains("interrupted"), "{status}");
    // It is asked to write the report before it can say that all went well.
    let nowhere = start(&url, &["--report", "/nowhere/report"], &words(TRUE)).wait();
    assert_eq!(nowhere.code, Some(73), "{nowhere:?}");
}

#[test]
fn a_signal_reaches_the_command_and_the_history() {
    let folder = Folder::new();
    let url = format!("file:{}", folder.file("lock").display());
    let script = format!(
        "trap 'echo got it; exit 0' TERM; touch {}; while :; do sleep 0.02; done",
        folder.file("here").display()
    );
    let starter = start(&url, &["--once", "v1"], &words(&["sh", "-c", &script]));
    until("the command", SOON, || folder.file("here").exists().then_some(()));
    // Who waits for the lock just ends.
    let mut waiter = start(&url, &["--once", "v1"], &words(TRUE));
    waiter.says("waiting for");
    waiter.signal(Signal::TERM);
    assert_eq!(waiter.wait().code, Some(143));
    starter.signal(Signal::TERM);
    let ended = starter.wait();
    assert_eq!(ended.code, Some(143), "a shell that traps SIGTERM ends with 0 and has not done its work: {ended:?}");
    assert!(ended.output.contains("got it"), "{ended:?}");
    assert!(start(&url, &["--status"], &[]).wait().output.contains("interrupted"));
    assert_eq!(start(&url, &["--once", "v1"], &words(TRUE)).wait().code, Some(0));
}

#[test]
fn secrets_are_nowhere() {
    let server = postgres();
    let database = new_name("secret");
    let url = server.create_database(&database).expect("a database");
    let folder = Folder::new();
    let script = format!(
        "echo connecting to {url}; echo password testcluster; touch {}; while [ ! -e {} ]; do sleep 0.02; done; exit 1",
        folder.file("here").display(),
        folder.file("go").display(),
    );
    let from_file = folder.file("url");
    fs::write(&from_file, format!("{url}\n")).expect("a file");
    let mut by_file = Command::new(program());
    by_file.args(["run", "--once", "v1", "--lock-file"]).arg(&from_file).args(["--", "sh", "-c", ". \"$0\""]);
    let file = folder.file("script");
    fs::write(&file, script).expect("a file");
    by_file.arg(&file);
    let starter = start_program(by_file);
    until("the command", SOON, || folder.file("here").exists().then_some(()));
    let processes = Command::new("ps").args(["-e", "-o", "args"]).output().expect("ps").stdout;
    let processes = String::from_utf8_lossy(&processes);
    let ours = processes.lines().filter(|line| line.contains("migration-gate") || line.contains("guard"));
    for line in ours.filter(|line| line.contains(&folder.0.to_string_lossy().into_owned())) {
        assert!(!line.contains("testcluster@"), "{line}");
    }
    fs::write(folder.file("go"), "").expect("a file");
    assert_eq!(starter.wait().code, Some(1));
    let rows = server.psql_in(&database, "SELECT * FROM migration_gate_runs").expect("the table");
    assert!(rows.contains("password ***") && !rows.contains("testcluster"), "{rows}");
    let seen = start(&url, &[], &words(&["sh", "-c", "env"])).wait();
    assert!(seen.code == Some(0) && !seen.output.contains("testcluster"), "the command has the lock's URL: {seen:?}");
    let noted = {
        let mut by_argument = Command::new(program());
        by_argument.args(["run", "--lock", &url, "--", "true"]);
        start_program(by_argument).wait()
    };
    assert!(noted.output.contains("everybody on this host can see the password"), "{noted:?}");
}

#[test]
fn a_newer_history_is_not_misread() {
    let server = postgres();
    let database = new_name("newer");
    let url = server.create_database(&database).expect("a database");
    assert_eq!(start(&url, &["--once", "v1"], &words(TRUE)).wait().code, Some(0));
    server.psql_in(&database, "UPDATE migration_gate_runs SET version = 2").expect("the table");
    refused(&url, &["--once", "v1"], 78, "a newer migration-gate wrote");
}

#[test]
fn a_database_that_is_not_up_yet_is_awaited() {
    let mut server = Server::start(LOOPBACK).expect("a server of its own");
    let url = server.create_database("late").expect("a database");
    server.kill();
    let mut starter = start(&url, &["--once", "v1"], &words(TRUE));
    starter.says("waiting for up to");
    server.run().expect("it starts");
    assert_eq!(starter.wait().code, Some(0));
}
