//! Targets are awaited before anything of the attempt exists.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, Ipv6Addr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::Duration;

use migration_gate_contract::{Outcome, pod};
use rustix::process::Signal;

use crate::pod::{Agent, Pod, SOON, until};

const RUN: &str = "echo ran >> $POD/ran";

/// A port on which nobody listens, kept from others by a socket that does not listen either.
fn closed_port() -> (rustix::fd::OwnedFd, u16) {
    use rustix::net::{AddressFamily, SocketAddrAny, SocketType, bind, getsockname, socket, sockopt};
    let socket = socket(AddressFamily::INET, SocketType::STREAM, None).expect("a socket");
    sockopt::set_socket_reuseaddr(&socket, true).expect("an option");
    bind(&socket, &std::net::SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).expect("a free port");
    let address: SocketAddrAny = getsockname(&socket).expect("bound");
    let address = std::net::SocketAddr::try_from(address).expect("an IPv4 address");
    (socket, address.port())
}

/// An agent that was told to run and waits for the target.
fn awaiting(pod: &Pod, target: &str) -> Agent {
    let agent = pod.start_with(&[&format!("--wait-for={target}")], RUN);
    agent.until_waiting();
    pod.order(1, Some(1));
    until("the wait", SOON, || pod.text("stderr").contains(&format!("waiting for {target}")).then_some(()));
    agent
}

#[test]
fn the_command_starts_when_its_target_listens_and_its_time_counts_from_then() {
    let pod = Pod::new();
    let (socket, port) = closed_port();
    // It says so after some seconds, which is more than the time limit of the attempt.
    let agent = awaiting(&pod, &format!("tcp://localhost:{port}"));
    assert!(!pod.below(pod::JOURNAL_PATH).exists(), "nothing of the attempt exists");
    assert_eq!(pod.message(), "");
    rustix::net::listen(&socket, 1).expect("bound");
    assert_eq!(agent.exit(), 0);
    assert_eq!(pod.outcome(), (1, Outcome::Succeeded, Some(0)));
}

#[test]
fn a_stop_while_targets_are_awaited_burns_no_attempt() {
    let pod = Pod::new();
    let (_socket, port) = closed_port();
    let agent = awaiting(&pod, &format!("tcp://127.0.0.1:{port}"));
    agent.signal(Signal::TERM);
    assert_eq!(agent.exit(), 75);
    assert_eq!(pod.outcome(), (1, Outcome::NotStarted, None));
    assert_eq!(pod.times_run(), 0);
}

#[test]
fn a_kill_while_targets_are_awaited_burns_no_attempt() {
    let pod = Pod::new();
    let (socket, port) = closed_port();
    let target = format!("tcp://127.0.0.1:{port}");
    awaiting(&pod, &target).kill();
    rustix::net::listen(&socket, 1).expect("bound");
    assert_eq!(pod.start_with(&[&format!("--wait-for={target}")], RUN).exit(), 75);
    assert_eq!(pod.outcome(), (1, Outcome::NotStarted, None));
    assert_eq!(pod.times_run(), 0);
}

#[test]
fn an_attempt_that_is_settled_meanwhile_is_left_and_the_next_is_taken_up() {
    let pod = Pod::new();
    let (socket, port) = closed_port();
    let agent = awaiting(&pod, &format!("tcp://127.0.0.1:{port}"));
    pod.settle(1);
    until("the wait to end", SOON, || {
        let threads = std::fs::read_dir(format!("/proc/{}/task", agent.pid())).expect("it runs").count();
        (threads == 1).then_some(())
    });
    rustix::net::listen(&socket, 1).expect("bound");
    pod.order(2, None);
    assert_eq!(agent.exit(), 0);
    assert_eq!(pod.outcome(), (2, Outcome::Succeeded, Some(0)));
    assert_eq!(pod.times_run(), 1);
}

#[test]
fn targets_are_awaited_one_after_the_other_and_all_of_them() {
    let pod = Pod::new();
    let first = TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).expect("a free port");
    let (socket, port) = closed_port();
    let targets = [
        format!("--wait-for=tcp://[::1]:{}", first.local_addr().expect("bound").port()),
        format!("--wait-for=tcp://127.0.0.1:{port}"),
    ];
    let agent = pod.start_with(&[&targets[0], &targets[1]], RUN);
    agent.until_waiting();
    pod.order(1, None);
    until("the wait for the second", SOON, || pod.text("stderr").contains("waiting for tcp://127").then_some(()));
    assert_eq!(pod.times_run(), 0);
    rustix::net::listen(&socket, 1).expect("bound");
    assert_eq!(agent.exit(), 0);
}

/// Serves the answers, one a connection, the last for ever; counts the connections.
fn serve(
    listener: TcpListener,
    answers: &'static [&'static str],
    wrap: impl Fn(&mut std::net::TcpStream, &dyn Fn(&mut dyn ReadWrite)) + Send + 'static,
) -> Arc<AtomicU32> {
    let count = Arc::new(AtomicU32::new(0));
    let counted = Arc::clone(&count);
    thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { continue };
            let number = counted.fetch_add(1, Ordering::SeqCst) as usize;
            let answer = answers[number.min(answers.len() - 1)];
            let _ = stream.set_read_timeout(Some(Duration::from_secs(5)));
            wrap(&mut stream, &|stream| {
                let mut request = [0; 1024];
                let length = stream.read(&mut request).unwrap_or(0);
                let request = String::from_utf8_lossy(&request[..length]);
                let known = request.starts_with("GET /healthz?ready=1 HTTP/1.1\r\nHost: localhost:");
                let answer = if known { answer } else { "HTTP/1.1 400 Bad Request\r\n\r\n" };
                let _ = stream.write_all(answer.as_bytes());
                let _ = stream.flush();
            });
        }
    });
    count
}

trait ReadWrite: Read + Write {}
impl<T: Read + Write> ReadWrite for T {}

const ANSWERS: &[&str] = &["HTTP/1.1 503 Unavailable\r\n\r\n", "", "rubbish\r\n", "HTTP/1.1 302 Found\r\n\r\n"];

fn runs_after_the_fourth_answer(scheme: &str, port: u16, count: &AtomicU32) {
    let pod = Pod::new();
    let agent = pod.start_with(&[&format!("--wait-for={scheme}://localhost:{port}/healthz?ready=1")], RUN);
    agent.until_waiting();
    pod.order(1, None);
    assert_eq!(agent.exit(), 0, "{}", pod.text("stderr"));
    assert_eq!(count.load(Ordering::SeqCst), 4);
    assert_eq!(pod.times_run(), 1);
}

#[test]
fn http_is_awaited_until_it_answers_well() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
    let port = listener.local_addr().expect("bound").port();
    let count = serve(listener, ANSWERS, |stream, answer| answer(stream));
    runs_after_the_fourth_answer("http", port, &count);
}

#[test]
fn https_is_awaited_until_it_answers_well_whatever_its_certificate() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
    let port = listener.local_addr().expect("bound").port();
    let issued = rcgen::generate_simple_self_signed(["somebody-else.example".to_owned()]).expect("a certificate");
    let key = rustls::pki_types::PrivateKeyDer::try_from(issued.signing_key.serialize_der()).expect("a key");
    let config = rustls::ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("known ones")
        .with_no_client_auth()
        .with_single_cert(vec![issued.cert.der().clone()], key)
        .expect("they fit");
    let config = Arc::new(config);
    let count = serve(listener, ANSWERS, move |stream, answer| {
        let mut connection = rustls::ServerConnection::new(Arc::clone(&config)).expect("a good configuration");
        answer(&mut rustls::Stream::new(&mut connection, stream));
    });
    runs_after_the_fourth_answer("https", port, &count);
}
