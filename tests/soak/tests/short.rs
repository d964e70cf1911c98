//! Two minutes of life. The hour is `make soak`.

use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use soak::{Arguments, Error, Result};

/// `SEED=...` repeats a life; without it each run is another one.
fn seed() -> Result<u64> {
    match std::env::var("SEED") {
        Ok(seed) => seed.parse().map_err(|error| Error::Unusable(format!("SEED={seed}: {error}"))),
        Err(_) => Ok(SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs() % 1_000_000),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_promise_is_broken_in_two_minutes_of_life() -> Result<()> {
    let program = std::env::var("MIGRATION_GATE_PROGRAM").map_err(|_| {
        Error::Unusable(
            "MIGRATION_GATE_PROGRAM names no program; `make test-soak` builds one and says where".to_owned(),
        )
    })?;
    let arguments = Arguments {
        seconds: 120,
        seed: seed()?,
        program: Path::new(&program).to_owned(),
        name: "t-soak".to_owned(),
        without: Vec::new(),
        largest: None,
        keep_going: false,
    };
    let report = soak::live(&arguments).await?;
    println!("{report}");
    assert!(report.is_clean(), "\n{report}");
    Ok(())
}
