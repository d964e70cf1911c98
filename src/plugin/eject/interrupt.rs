//! Ctrl-C while something is waited for: what was begun for one workload is put back, and nothing else is begun.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::super::problem::Problem;

static INTERRUPTED: AtomicBool = AtomicBool::new(false);

/// From now on the first Ctrl-C only ends what waits; the second one ends the process, as everywhere.
pub(super) fn listen() {
    tokio::spawn(async {
        // Where signals can't be listened to, the first one ends the process, too.
        if tokio::signal::ctrl_c().await.is_ok() {
            INTERRUPTED.store(true, Ordering::Relaxed);
            let _ = tokio::signal::ctrl_c().await;
            std::process::exit(130);
        }
    });
}

/// Waits a moment.
///
/// # Errors
/// If a Ctrl-C came.
pub(super) async fn pause(moment: Duration) -> Result<(), Problem> {
    tokio::time::sleep(moment).await;
    match INTERRUPTED.load(Ordering::Relaxed) {
        true => Err(Problem::Usage("interrupted; call it again to go on".to_owned())),
        false => Ok(()),
    }
}
