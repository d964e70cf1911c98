//! The controller is killed after it signalled a pod and before the record says so. Meanwhile somebody deletes the pod and
//! takes its finalizer off: nothing but the pod itself says then that its migration may run.

use serde_json::json;

use crate::arena::{Arena, LIMIT};
use crate::case::Case;
use crate::proxy::{Point, Side, Write};
use crate::run::{Injected, judge};
use crate::shape::Shape;
use crate::writes::{Outside, with_own_controller};
use crate::{Result, Row};

/// What people call it.
pub const STRIPPED: &str = "controller SIGKILLed after the signal, pod deleted and stripped of its finalizer";

/// Does so, so many times.
///
/// # Errors
/// When the controller can't be started, or the cluster not be asked.
pub fn strip(arena: &Arena, times: usize) -> Result<Row> {
    with_own_controller(arena, |outside| {
        let mut row = Row::new(STRIPPED);
        for _ in 0..times {
            once(arena, outside, &mut row)?;
        }
        Ok(row)
    })
}

fn once(arena: &Arena, outside: &Outside<'_>, row: &mut Row) -> Result<()> {
    // The first thing that is written to a pod is its signal.
    let mut controller = outside.start_until(Point { write: Write::First("/pods/"), side: Side::After })?;
    let case = Case::open(arena, Shape::STUBBORN)?;
    arena.wait("the controller to die", LIMIT, || {
        Ok(outside.struck(&mut controller).map(drop).ok_or_else(|| case.story()))
    })?;
    let run = case.wait_for_run()?;
    case.finish_from(run.attempt + 1)?;
    let pod = case.pod_path(&run.pod);
    arena.api.delete(&pod, None)?;
    arena.api.merge(&pod, &json!({ "metadata": { "finalizers": null } }))?;
    let injected = Injected::now();
    outside.let_through();
    let controller = outside.start()?;
    let ready = case.wait_until_ready(LIMIT);
    row.add(judge(case, ready, injected, STRIPPED)?);
    drop(controller);
    Ok(())
}
