//! Addresses that the agent awaits before the command.

use std::fmt;

/// An address to await: `tcp://host:port`, or an `http://` or `https://` URL.
///
/// It may hold `$(NAME)`, which Kubernetes replaces by the container's variable; then only its scheme is checked here.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Address(String);

impl Address {
    /// Checks one address.
    ///
    /// # Errors
    /// What is wrong with it, for people.
    pub fn parse(text: &str) -> Result<Address, String> {
        let wrong = |what: &str| Err(format!("{text} {what}"));
        if text.is_empty() {
            return Err("there is an empty address".to_owned());
        }
        if text.contains(|c: char| c.is_whitespace() || c.is_control()) {
            return wrong("has a blank in it");
        }
        let (rest, port_needed) = if let Some(rest) = text.strip_prefix("tcp://") {
            (rest, true)
        } else if let Some(rest) = text.strip_prefix("http://").or_else(|| text.strip_prefix("https://")) {
            (rest.split(['/', '?', '#']).next().unwrap_or_default(), false)
        } else {
            return wrong("starts with none of tcp://, http:// and https://");
        };
        if text.contains("$(") {
            return Ok(Address(text.to_owned()));
        }
        if rest.contains(['@', '/', '?', '#', ',']) {
            return wrong("has more than a host and a port");
        }
        let (host, port) = match rest.rsplit_once(':') {
            // In brackets, or the colons belong to the address itself.
            Some((host, port)) if !host.contains(':') || (host.starts_with('[') && host.ends_with(']')) => {
                (host, Some(port))
            }
            _ => (rest, None),
        };
        if host.is_empty() || (host.contains(':') && !(host.starts_with('[') && host.ends_with(']'))) {
            return wrong("has no host (an IPv6 address stands in brackets)");
        }
        match port.map(str::parse::<u16>) {
            Some(Ok(1..)) => {}
            Some(_) => return wrong("has a port that is not a number from 1 to 65535"),
            None if port_needed => return wrong("has no port"),
            None => {}
        }
        Ok(Address(text.to_owned()))
    }

    /// The address as it was written.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_have_a_scheme_a_host_and_where_needed_a_port() {
        for good in [
            "tcp://db:5432",
            "tcp://db.shop.svc.cluster.local:5432",
            "tcp://10.0.0.1:1",
            "tcp://[::1]:5432",
            "http://auth",
            "https://auth/healthz?ready=1",
            "http://[::1]/",
            "http://auth:8080/a:b@c",
            "tcp://$(DB_HOST):$(DB_PORT)",
        ] {
            assert!(Address::parse(good).is_ok(), "{good}: {:?}", Address::parse(good));
        }
        for bad in [
            "",
            "db:5432",
            "udp://db:53",
            "tcp://db",
            "tcp://:5432",
            "tcp://db:0",
            "tcp://db:65536",
            "tcp://db:pg",
            "tcp://::1:5432",
            "tcp://db:5432/x",
            "tcp://user@db:5432",
            "http://",
            "http:///x",
            "http://user:pw@auth/",
            "http://a b/",
            "tcp://a\n:1",
        ] {
            assert!(Address::parse(bad).is_err(), "{bad:?}");
        }
    }
}
