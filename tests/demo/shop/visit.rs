//! A customer: a new connection for each request, fifty times a second, because that is what notices a gap.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::{Value, json};

use crate::Failure;

const PAUSE: Duration = Duration::from_millis(20);
const LIMIT: Duration = Duration::from_secs(5);

/// Asks until the standard input ends, then prints a line of JSON: requests, failures, and which releases answered.
pub(crate) fn visit(address: &str) -> Result<ExitCode, Failure> {
    static OVER: AtomicBool = AtomicBool::new(false);
    let address: SocketAddr = address.parse()?;
    std::thread::spawn(|| {
        // Its end is the sign to stop; what it says does not matter.
        let _ = std::io::stdin().read_to_end(&mut Vec::new());
        OVER.store(true, Ordering::Relaxed);
    });
    let mut asked: u64 = 0;
    let (mut failures, mut releases) = (BTreeMap::<String, u64>::new(), BTreeMap::<String, u64>::new());
    while !OVER.load(Ordering::Relaxed) {
        asked += 1;
        match ask(address) {
            Ok(answer) => *releases.entry(answer["release"].to_string()).or_default() += 1,
            Err(error) => *failures.entry(error.to_string()).or_default() += 1,
        }
        std::thread::sleep(PAUSE);
    }
    let failed: u64 = failures.values().sum();
    println!("{}", json!({ "asked": asked, "failed": failed, "failures": failures, "releases": releases }));
    Ok(ExitCode::SUCCESS)
}

fn ask(address: SocketAddr) -> Result<Value, Failure> {
    let mut connection = TcpStream::connect_timeout(&address, LIMIT)?;
    connection.set_read_timeout(Some(LIMIT))?;
    connection.write_all(b"GET / HTTP/1.1\r\nHost: shop\r\nConnection: close\r\n\r\n")?;
    let mut answer = String::new();
    connection.read_to_string(&mut answer)?;
    let (head, body) = answer.split_once("\r\n\r\n").ok_or("the answer was cut")?;
    if !head.starts_with("HTTP/1.1 200 ") {
        return Err(format!("{} {body}", head.lines().next().unwrap_or_default()).into());
    }
    Ok(serde_json::from_str(body)?)
}
