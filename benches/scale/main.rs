//! What very many groups, one very large group, and very many new groups at once cost the controller.
//!
//! A real API server and the real controller; workloads, ReplicaSets and pods are made as their controllers would, and what a
//! kubelet would say is said here. `make bench-scale`; smaller numbers are chosen by `SCALE_GROUPS`, `SCALE_PODS` (of each
//! group), `SCALE_NEW` (groups at once), `SCALE_LARGE` (pods of the one large group) and `SCALE_REST` (seconds).

mod large;
mod many;
mod new;
#[path = "../support/mod.rs"]
mod support;

use support::{Result, number};

#[tokio::main]
async fn main() -> Result<()> {
    let (large, new) = (number("SCALE_LARGE", 10_000)?, number("SCALE_NEW", 1000)?);
    let (groups, pods) = (number("SCALE_GROUPS", 5000)?, number("SCALE_PODS", 10)?);
    if large > 0 {
        large::measure(large)?;
    }
    if new > 0 {
        new::measure(new).await?;
    }
    if groups > 0 {
        many::measure(groups, pods).await?;
    }
    Ok(())
}

/// A size as people read it.
fn megabytes(bytes: u64) -> String {
    format!("{:.1} MB", bytes as f64 / 1e6)
}
