//! One try at one target.

use std::io::{self, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, StreamOwned};

use crate::tls_anybody;
use crate::wait_for::{Scheme, Target};

/// How long one try may take, apart from resolving the name.
const LIMIT: Duration = Duration::from_secs(5);
/// The bytes of an answer in which its status must be found.
const STATUS_LINE: usize = 64;

/// Tries once.
///
/// # Errors
/// Why it was not reached, for people.
pub fn probe(target: &Target) -> Result<(), String> {
    let deadline = Instant::now() + LIMIT;
    let stream = connect(target, deadline).map_err(|error| error.to_string())?;
    let answer = match target.scheme {
        Scheme::Tcp => return Ok(()),
        Scheme::Http => get(target, stream, deadline),
        Scheme::Https => tls(target, stream).and_then(|stream| get(target, stream, deadline)),
    };
    match answer.map_err(|error| error.to_string())? {
        200..=399 => Ok(()),
        status => Err(format!("it answers with status {status}")),
    }
}

fn connect(target: &Target, deadline: Instant) -> io::Result<TcpStream> {
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    for address in (target.host.as_str(), target.port).to_socket_addrs()? {
        match TcpStream::connect_timeout(&address, left(deadline)?) {
            Ok(stream) => {
                stream.set_read_timeout(Some(left(deadline)?))?;
                stream.set_write_timeout(Some(left(deadline)?))?;
                return Ok(stream);
            }
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// The time until the deadline.
fn left(deadline: Instant) -> io::Result<Duration> {
    match deadline.saturating_duration_since(Instant::now()) {
        Duration::ZERO => Err(io::ErrorKind::TimedOut.into()),
        left => Ok(left),
    }
}

/// Asks for the path; returns the status of the answer.
fn get(target: &Target, mut stream: impl Read + Write, deadline: Instant) -> io::Result<u16> {
    let (path, host) = (&target.path, target.authority());
    let fields = format!("Host: {host}\r\nUser-Agent: migration-gate\r\nConnection: close\r\n");
    // In one piece, because it is one packet then.
    stream.write_all(format!("GET {path} HTTP/1.1\r\n{fields}\r\n").as_bytes())?;
    stream.flush()?;
    let (mut line, mut filled) = ([0; STATUS_LINE], 0);
    // Each read has a time limit; who sends single bytes slowly has one too.
    while filled < line.len() && !line[..filled].contains(&b'\n') && left(deadline).is_ok() {
        match stream.read(&mut line[filled..])? {
            0 => break,
            read => filled += read,
        }
    }
    status(&line[..filled]).ok_or_else(|| io::Error::other("its answer is not HTTP"))
}

/// The status in the first line of an answer.
fn status(line: &[u8]) -> Option<u16> {
    let mut words = str::from_utf8(line.split(|byte| *byte == b'\n').next()?).ok()?.split_ascii_whitespace();
    words.next()?.strip_prefix("HTTP/")?;
    words.next()?.parse().ok()
}

fn tls(target: &Target, stream: TcpStream) -> io::Result<StreamOwned<ClientConnection, TcpStream>> {
    let config = ClientConfig::builder_with_provider(Arc::new(tls_anybody::provider()))
        .with_safe_default_protocol_versions()
        .map_err(io::Error::other)?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(tls_anybody::Anybody))
        .with_no_client_auth();
    let name = ServerName::try_from(target.host.clone()).map_err(io::Error::other)?;
    let connection = ClientConnection::new(Arc::new(config), name).map_err(io::Error::other)?;
    Ok(StreamOwned::new(connection, stream))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_is_read_from_the_first_line() {
        assert_eq!(status(b"HTTP/1.1 200 OK\r\nA: b"), Some(200));
        assert_eq!(status(b"HTTP/1.0 503\r\n"), Some(503));
        for answer in [&b""[..], b"SSH-2.0-x 200\r\n", b"HTTP/1.1\r\n", b"HTTP/1.1 \xff\r\n"] {
            assert_eq!(status(answer), None, "{answer:?}");
        }
    }
}
