//! Addresses to listen on, as Kubernetes programs take them.

use std::fmt;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::str::FromStr;

use tokio::net::{TcpListener, TcpSocket};

/// Connections that wait to be accepted. What comes beyond is dropped by the system and tries again after a second, which
/// an API server doesn't have; the usual 128 are fewer than a busy one opens after a restart. Linux takes at most
/// net.core.somaxconn.
const QUEUE: u32 = 4096;

/// An address to listen on: `1.2.3.4:8443`, `[::1]:8443`, or `:8443` for all addresses of the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ListenAddress {
    /// All addresses: of both IP versions, or of version 4 alone where the machine has no version 6.
    All {
        /// The port; 0 lets the system choose.
        port: u16,
    },
    /// One address.
    One(SocketAddr),
}

/// A text that is no address to listen on.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("'{found}' is no address to listen on; write ADDRESS:PORT, [IPV6]:PORT, or :PORT for all addresses")]
pub struct NoAddress {
    found: String,
}

/// Why nobody listens.
#[derive(Debug, thiserror::Error)]
#[error("can't listen on {address}: {error}")]
pub struct CannotListen {
    address: ListenAddress,
    error: io::Error,
}

impl FromStr for ListenAddress {
    type Err = NoAddress;

    fn from_str(text: &str) -> Result<ListenAddress, NoAddress> {
        let parsed = match text.strip_prefix(':') {
            Some(port) => port.parse().ok().map(|port| ListenAddress::All { port }),
            None => text.parse().ok().map(ListenAddress::One),
        };
        parsed.ok_or_else(|| NoAddress { found: text.to_owned() })
    }
}

impl fmt::Display for ListenAddress {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ListenAddress::All { port } => write!(formatter, ":{port}"),
            ListenAddress::One(address) => address.fmt(formatter),
        }
    }
}

impl ListenAddress {
    /// Whether only this machine, or this pod, can reach it.
    pub fn is_loopback(self) -> bool {
        matches!(self, ListenAddress::One(address) if address.ip().is_loopback())
    }

    /// Listens.
    ///
    /// # Errors
    /// The system's reason, with the address.
    pub fn listen(self) -> Result<TcpListener, CannotListen> {
        let bound = match self {
            ListenAddress::One(address) => listen_on(address),
            ListenAddress::All { port } => match listen_on((Ipv6Addr::UNSPECIFIED, port).into()) {
                // The machine has no IPv6, or none that may be used; a port that is taken is another matter.
                Err(error) if error.kind() != io::ErrorKind::AddrInUse => {
                    listen_on((Ipv4Addr::UNSPECIFIED, port).into())
                }
                bound => bound,
            },
        };
        bound.map_err(|error| CannotListen { address: self, error })
    }
}

/// As `TcpListener::bind`, but with a longer queue.
fn listen_on(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = match address {
        SocketAddr::V4(_) => TcpSocket::new_v4()?,
        SocketAddr::V6(_) => TcpSocket::new_v6()?,
    };
    // A restarted server must not wait for the connections of the one before.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(QUEUE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_and_shown() {
        for text in ["127.0.0.1:8443", "[::1]:8443", ":8443", ":0"] {
            assert_eq!(text.parse::<ListenAddress>().expect("an address").to_string(), text);
        }
        for text in ["", "8443", ":", ":x", ":70000", "localhost:8443", "::1:8443"] {
            assert_eq!(text.parse::<ListenAddress>(), Err(NoAddress { found: text.to_owned() }));
        }
    }

    #[tokio::test]
    async fn a_port_that_is_taken_is_named() {
        let first = ListenAddress::All { port: 0 }.listen().expect("a free port");
        let port = first.local_addr().expect("an address").port();
        let error = ListenAddress::All { port }.listen().expect_err("taken");
        assert!(error.to_string().starts_with(&format!("can't listen on :{port}: ")), "{error}");
    }
}
