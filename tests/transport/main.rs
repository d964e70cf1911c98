//! The webhook's process against everybody who can reach its port: always a proper answer, bounded memory, no panic.

#[path = "../support/mod.rs"]
mod support;

mod answers;
mod floods;
mod process;
mod served;
mod slow;
