//! Addresses that are awaited before the command, so that a database that is not up yet burns no attempt.
//!
//! One is reached when, as for a kubelet's probe, a TCP connection opens, or a GET is answered with a status from 200 to
//! 399. Redirects are not followed, and certificates are not verified: what is asked is whether somebody serves there,
//! not who it is, and nothing secret is sent.

use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use std::{fmt, thread};

use crate::probe;
use crate::say::say;
use migration_gate_contract::Address;

/// Between two tries at one target.
const PAUSE: Duration = Duration::from_secs(1);
/// From a target's first try to the first word that it is awaited; then twice as long each time.
const FIRST_WORD: Duration = Duration::from_secs(5);
/// The longest time between two words.
const LONGEST_SILENCE: Duration = Duration::from_secs(5 * 60);

/// How a target is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheme {
    /// A TCP connection opens.
    Tcp,
    /// A GET over plain HTTP is answered well.
    Http,
    /// A GET over TLS is answered well, whatever the certificate.
    Https,
}

/// A target to await.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// How it is asked.
    pub scheme: Scheme,
    /// A name or an address, an IPv6 one without its brackets.
    pub host: String,
    /// The port.
    pub port: u16,
    /// What a GET asks for: the path and the query. Empty for TCP.
    pub path: String,
}

impl Target {
    /// Reads `tcp://host:port`, `http://host[:port][/path]` or `https://host[:port][/path]`.
    ///
    /// # Errors
    /// A sentence that names what is wrong. Here, other than in the annotation, that holds for a `$(NAME)` too: the
    /// kubelet leaves one standing if the container has no such variable.
    pub fn parse(text: &str) -> Result<Target, String> {
        Address::parse(text)?;
        if let Some(start) = text.find("$(") {
            return Err(format!("{text:?} names the variable {} that the container does not have", &text[start..]));
        }
        let malformed = || format!("{text:?} is not an address like tcp://host:port");
        let (scheme, rest) = text.split_once("://").ok_or_else(malformed)?;
        let (scheme, default_port) = match scheme {
            "tcp" => (Scheme::Tcp, None),
            "http" => (Scheme::Http, Some(80)),
            "https" => (Scheme::Https, Some(443)),
            _ => return Err(malformed()),
        };
        let (authority, path) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
        let path = path.split('#').next().unwrap_or_default();
        let path = match scheme {
            Scheme::Tcp => String::new(),
            Scheme::Http | Scheme::Https if path.starts_with('/') => path.to_owned(),
            Scheme::Http | Scheme::Https => format!("/{path}"),
        };
        let (host, port) = match authority.rsplit_once(':') {
            Some((host, port)) if !port.ends_with(']') => (host, Some(port.parse().map_err(|_| malformed())?)),
            _ => (authority, default_port),
        };
        let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        Ok(Target { scheme, host, port: port.ok_or_else(malformed)?, path })
    }

    /// Host and port as one writes them, IPv6 in brackets.
    pub fn authority(&self) -> String {
        let (host, port) = (&self.host, self.port);
        if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = match self.scheme {
            Scheme::Tcp => "tcp",
            Scheme::Http => "http",
            Scheme::Https => "https",
        };
        write!(f, "{scheme}://{}{}", self.authority(), self.path)
    }
}

/// A thread that awaits targets, one after the other: names are resolved by a call that blocks, and the agent must hear
/// its signals meanwhile. Dropped, it stops after the try that it is at.
#[derive(Debug)]
pub struct Waiter {
    done: UnixStream,
    abandoned: Arc<AtomicBool>,
}

impl Waiter {
    /// Starts to wait.
    ///
    /// # Errors
    /// There may be no room for another thread.
    pub fn start(targets: Vec<Target>) -> io::Result<Waiter> {
        let (done, tell) = UnixStream::pair()?;
        let abandoned = Arc::new(AtomicBool::new(false));
        let flag = Arc::clone(&abandoned);
        let wait = move || {
            if targets.iter().all(|target| reach(target, &flag)) {
                let _ = (&tell).write(b"!");
            }
        };
        thread::Builder::new().name("wait-for".to_owned()).stack_size(512 * 1024).spawn(wait)?;
        Ok(Waiter { done, abandoned })
    }

    /// Becomes readable when every target was reached.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.done.as_fd()
    }

    /// Whether every target was reached, once [`Waiter::fd`] is readable.
    pub fn reached(&self) -> bool {
        matches!((&self.done).read(&mut [0]), Ok(1))
    }
}

impl Drop for Waiter {
    fn drop(&mut self) {
        self.abandoned.store(true, Ordering::Relaxed);
    }
}

/// Tries until the target is reached; `false` if nobody waits for it any longer.
fn reach(target: &Target, abandoned: &AtomicBool) -> bool {
    let start = Instant::now();
    let mut next_word = FIRST_WORD;
    loop {
        let error = match probe::probe(target) {
            Ok(()) => {
                say(&format!("{target} answers after {} s", start.elapsed().as_secs()));
                return true;
            }
            Err(error) => error,
        };
        if abandoned.load(Ordering::Relaxed) {
            return false;
        }
        if start.elapsed() >= next_word {
            say(&format!("waiting for {target} for {} s now: {error}", start.elapsed().as_secs()));
            next_word = start.elapsed() + start.elapsed().min(LONGEST_SILENCE);
        }
        thread::sleep(PAUSE);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_is_taken_apart() {
        let target = |scheme, host: &str, port, path: &str| {
            Ok(Target { scheme, host: host.to_owned(), port, path: path.to_owned() })
        };
        for (text, expected) in [
            ("tcp://db.shop.svc:5432", target(Scheme::Tcp, "db.shop.svc", 5432, "")),
            ("tcp://[::1]:5432", target(Scheme::Tcp, "::1", 5432, "")),
            ("http://auth", target(Scheme::Http, "auth", 80, "/")),
            ("http://auth:8080/a:b@c", target(Scheme::Http, "auth", 8080, "/a:b@c")),
            ("http://auth?x=1#y", target(Scheme::Http, "auth", 80, "/?x=1")),
            ("https://[fe80::1]/healthz?ready=1", target(Scheme::Https, "fe80::1", 443, "/healthz?ready=1")),
        ] {
            assert_eq!(Target::parse(text), expected, "{text}");
        }
        for text in ["tcp://[::1]:5432", "https://auth:443/healthz"] {
            assert_eq!(Target::parse(text).expect("good").to_string(), text);
        }
    }

    #[test]
    fn a_variable_that_nobody_filled_in_is_refused() {
        assert!(Target::parse("tcp://$(DB_HOST):5432").expect_err("unresolved").contains("$(DB_HOST)"));
    }
}
