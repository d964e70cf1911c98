//! The demonstration's rollouts as a test, on a real node with a real database. Each step checks what it shows; what
//! is asserted here is what the table must say.

use demo::{Result, Shop, steps};

use crate::site;

#[test]
fn five_rollouts_migrate_as_often_as_they_should_and_refuse_nobody() -> Result<()> {
    let shop = Shop::open_in(site(), "shop")?;

    let first = steps::first_rollout(&shop)?;
    assert_eq!(first.runs, 1);
    assert!(first.elected.is_some() && first.opened >= first.elected, "{first:?}");

    let scaled = steps::scale_up(&shop)?;
    assert_eq!((scaled.runs, scaled.elected), (0, None));

    let slow = steps::slow_migration(&shop)?;
    assert_eq!(slow.runs, 1);
    assert!(slow.failed.is_some_and(|(failed, asked)| failed == 0 && asked > 100), "{slow:?}");
    assert!(slow.opened.is_some_and(|opened| opened >= 10.0), "the migration takes ten seconds: {slow:?}");

    let failing = steps::failing_migration(&shop)?;
    assert_eq!((failing.runs, failing.opened), (2, None), "no gate opened");
    assert!(failing.failed.is_some_and(|(failed, _)| failed == 0), "{failing:?}");

    let back = steps::roll_back(&shop)?;
    assert_eq!((back.runs, back.elected), (0, None));
    assert!(back.failed.is_some_and(|(failed, _)| failed == 0), "{back:?}");

    let fenced = steps::second_fence(&shop)?;
    assert_eq!(fenced.runs, 1);
    Ok(())
}
