//! How the pods of a case are made, and how their migration behaves.

/// How soon the database lets go of the locks of a client that went away without a word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Patience {
    /// Within seconds, as it must where a machine is switched off.
    Short,
    /// Never: a client behind a partition keeps its locks, and whoever else starts is noticed.
    Endless,
}

/// Whether the pod's containers see each other's processes. If they do, the agent is not PID 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Processes {
    /// Each container has its own.
    Own,
    /// They share them.
    Shared,
}

/// How long the pods stay on a node that can't be reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Loyalty {
    /// A few seconds; then Kubernetes deletes them and makes others.
    Short,
    /// As long as it takes.
    Endless,
}

/// What the migration does when it gets SIGTERM.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Temper {
    /// It ends at once.
    Meek,
    /// It goes on until SIGKILL.
    Stubborn,
}

/// How a case's pods are made.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    /// The database's patience.
    pub patience: Patience,
    /// The pods' processes.
    pub processes: Processes,
    /// Their loyalty to their node.
    pub loyalty: Loyalty,
    /// How many pods there are.
    pub replicas: u32,
    /// How the migration ends.
    pub temper: Temper,
    /// How many seconds a pod that is deleted has until SIGKILL.
    pub grace: u32,
    /// How many seconds it may take, if that is limited.
    pub time_limit: Option<u32>,
}

impl Shape {
    /// The usual one.
    pub const USUAL: Shape = Shape {
        patience: Patience::Short,
        processes: Processes::Own,
        loyalty: Loyalty::Short,
        replicas: 2,
        temper: Temper::Meek,
        grace: 5,
        time_limit: None,
    };

    /// The one for faults that end the migration: it does not heed SIGTERM.
    pub const STUBBORN: Shape = Shape { temper: Temper::Stubborn, grace: 30, ..Shape::USUAL };
}
