//! The webhook's process: what it serves, and how it starts and ends.

mod body;
mod routes;

pub use body::BodyLimits;
pub use routes::{NoReview, PATH, Reviewed, Reviewer, router};
