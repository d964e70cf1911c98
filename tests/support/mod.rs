//! What the tests with a real API server share: requests as anybody, and the webhook as a process.
#![allow(dead_code, reason = "each test program uses a part of it")]

pub mod browser;
pub mod client;
pub mod controller;
pub mod deployments;
pub mod files;
pub mod https;
pub mod injector;
pub mod people;
pub mod webhook;
pub mod workloads;

use std::time::Duration;

/// Nothing that is waited for takes longer than this, unless it is broken.
pub const LIMIT: Duration = Duration::from_secs(60);

/// Looks again and again until `look` returns something.
pub async fn eventually<T>(what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let start = std::time::Instant::now();
    loop {
        if let Some(seen) = look().await {
            return seen;
        }
        assert!(start.elapsed() < LIMIT, "{what}: not within {LIMIT:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
