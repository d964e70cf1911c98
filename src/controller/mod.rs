//! The controller: elects one waiting pod, records the outcome, opens the gates.
//!
//! [`watch`] turns watch events into the values of an [`index`]; [`decide`] turns a [`snapshot`] of one group into
//! actions, weighing [`evidence`] and writing the next [`record`]; [`apply`] alone writes to the cluster. [`work`] runs
//! this for each group that changed, as long as the [`lease`] is held.

pub mod apply;
pub mod decide;
pub mod evidence;
pub mod index;
pub mod lease;
pub mod live;
pub mod objects;
pub mod queue;
pub mod record;
pub mod snapshot;
pub mod standing;
pub mod story;
pub mod watch;
pub mod work;
