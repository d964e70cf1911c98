//! The holder is killed in mid-run: its command dies, and another takes over.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rustix::process::Signal;

use super::mariadb::mariadb;
use super::starter::{
    Folder, Running, SOON, assert_apart, children, is_alive, is_long, new_name, postgres, start, until, witness,
};

/// Kills the holder so many times at a random moment; each time the next one takes over. Returns how long that took.
fn kill_holders(url: &str, times: usize) -> Vec<Duration> {
    let folder = Folder::new();
    let long = Duration::from_secs(600);
    // Kills are interruptions, which have a cap of their own: each waiter has its own key.
    let wrapper = || start(url, &["--once", &new_name("k")], &witness(&folder.0, long));
    let mut holder = wrapper();
    let mut taken = Vec::new();
    for round in 1..=times {
        until("a command", SOON, || (folder.lines("started").len() == round).then_some(()));
        let mut next = wrapper();
        next.says("waiting for");
        // Somewhere in the run: the witness beats fifty times a second.
        let random = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.subsec_micros());
        std::thread::sleep(Duration::from_millis(u64::from(random % 150)));
        let command: i32 = folder.lines("started").last().expect("started").parse().expect("a number");
        assert!(is_alive(command));
        let killed = Instant::now();
        holder.signal(Signal::KILL);
        until("the killed one's command to die", SOON, || (!is_alive(command)).then_some(()));
        until("a successor", SOON, || (folder.lines("started").len() == round + 1).then_some(()));
        taken.push(killed.elapsed());
        drop(std::mem::replace(&mut holder, next));
    }
    std::fs::write(folder.file("finish"), "").expect("a file");
    assert_eq!(holder.wait().code, Some(0));
    assert_apart(&folder);
    taken.sort_unstable();
    println!("take-over after a kill, {times} times: median {:?}, worst {:?}", taken[times / 2], taken[times - 1]);
    taken
}

#[test]
fn a_killed_holder_is_succeeded_within_two_seconds_on_postgres() {
    let server = postgres();
    let url = server.create_database(&new_name("killed")).expect("a database");
    let taken = kill_holders(&url, if is_long() { 200 } else { 6 });
    // A busy machine starts processes late; the bound is measured by the long version.
    assert!(taken[taken.len() / 2] < Duration::from_secs(2), "{taken:?}");
}

#[test]
fn a_killed_holder_is_succeeded_within_two_seconds_on_mariadb() {
    let server = mariadb();
    let taken = kill_holders(&server.create_database(&new_name("killed")), if is_long() { 50 } else { 3 });
    assert!(taken[taken.len() / 2] < Duration::from_secs(2), "{taken:?}");
}

#[test]
fn a_killed_holder_is_succeeded_within_two_seconds_on_a_lock_file() {
    let folder = Folder::new();
    let url = format!("file:{}", folder.file("lock").display());
    let taken = kill_holders(&url, if is_long() { 50 } else { 3 });
    assert!(taken[taken.len() / 2] < Duration::from_secs(2), "{taken:?}");
}

#[test]
fn whatever_of_the_three_is_killed_nothing_lives_on() {
    let server = postgres();
    let url = server.create_database(&new_name("three")).expect("a database");
    for victim in ["wrapper", "guard", "both"] {
        let folder = Folder::new();
        // A command with a child and a grandchild that ignore all they can.
        let script = format!(
            "trap '' TERM HUP INT; sh -c 'trap \"\" TERM HUP; sleep 600 & echo $! > {0}; wait' & sleep 600 & echo $! > {1}; echo $$ > {2}; wait; wait; sleep 600",
            folder.file("grandchild").display(),
            folder.file("child").display(),
            folder.file("leader").display(),
        );
        let starter: Running = start(&url, &["--once", victim], &["sh", "-c", &script].map(str::to_owned));
        let number = |name: &str| folder.lines(name).first().and_then(|line| line.parse::<i32>().ok());
        let all = until("three processes", SOON, || Some([number("leader")?, number("child")?, number("grandchild")?]));
        let wrapper = starter.pid().as_raw_nonzero().get();
        let guard = children(wrapper)[0];
        let kill = |pid: i32| {
            let pid = rustix::process::Pid::from_raw(pid).expect("a number");
            rustix::process::kill_process(pid, Signal::KILL).expect("it is alive");
        };
        match victim {
            "wrapper" => kill(wrapper),
            "guard" => kill(guard),
            _ => {
                kill(guard);
                kill(wrapper);
            }
        }
        // With both gone nobody is left to find grandchildren; the command itself dies all the same.
        let must_die = if victim == "both" { &all[..1] } else { &all[..] };
        until(&format!("all to die after {victim}"), SOON, || {
            (!must_die.iter().any(|pid| is_alive(*pid))).then_some(())
        });
        let ended = starter.wait();
        if victim == "guard" {
            assert_eq!(ended.code, Some(137), "{ended:?}");
        }
        for pid in all.into_iter().filter(|pid| is_alive(*pid)) {
            kill(pid);
        }
    }
}
