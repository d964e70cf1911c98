//! The agent as a process: really started, signalled, killed and restarted, below a directory that looks like its pod.

mod attempts;
mod confinement;
mod descendants;
mod endings;
mod journal;
mod output;
mod pod;
mod signals;
mod targets;
