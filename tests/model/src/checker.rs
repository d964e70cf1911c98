//! The model as the checker sees it, and the promises as properties.

use std::sync::Arc;

use migration_gate::migration::MigrationGateStatus;
use stateright::{Model, Property};

use crate::config::Config;
use crate::step::Step;
use crate::view::Decisions;
use crate::world::{Broken, GROUPS, State};

/// A configuration with the decisions made in it so far.
#[derive(Clone, Debug)]
pub struct Cluster {
    /// What it consists of.
    pub config: Config,
    /// The decisions.
    pub decisions: Arc<Decisions>,
    start: State,
}

impl Cluster {
    /// A cluster in which the group's record was made, and every agent waits for its signal; or, if the configuration
    /// says so, one in which nothing has happened yet.
    pub fn new(config: Config) -> Cluster {
        let decisions = Arc::default();
        let start = config.beginning();
        let mut cluster = Cluster { config, decisions, start };
        if !cluster.config.cold {
            cluster.start = cluster.warm(start);
        }
        cluster
    }

    /// The same for walks, in which each controller has a life of its own.
    pub fn to_walk(config: Config) -> Cluster {
        Cluster::new(Config { distinct: true, ..config })
    }

    /// The state in which it begins.
    pub fn start(&self) -> State {
        self.start
    }

    /// The first controller makes the record while no agent runs; then the agents start, and everybody is up to date.
    fn warm(&self, mut state: State) -> State {
        let prepares = |step: &Step| matches!(step, Step::See(..) | Step::Decide(0, ..) | Step::Deliver(0, ..));
        let starts = |step: &Step| matches!(step, Step::Start(_) | Step::Act(_) | Step::Publish(_) | Step::See(..));
        self.run(&mut state, &prepares);
        self.run(&mut state, &starts);
        state.faults = self.config.faults;
        state
    }

    fn run(&self, state: &mut State, wanted: &dyn Fn(&Step) -> bool) {
        // Bounded: a start that needs more steps is a defect of the model.
        for _ in 0..200 {
            let mut steps = Vec::new();
            self.config.steps(state, &self.decisions, &mut steps);
            let Some(step) = steps.into_iter().find(wanted) else { return };
            *state = self.config.next(state, &self.decisions, step);
        }
    }
}

impl Model for Cluster {
    type State = State;
    type Action = Step;

    fn init_states(&self) -> Vec<State> {
        vec![self.start]
    }

    fn actions(&self, state: &State, steps: &mut Vec<Step>) {
        if state.ghost.broken.is_none() {
            self.config.steps(state, &self.decisions, steps);
        }
    }

    fn next_state(&self, state: &State, step: Step) -> Option<State> {
        let next = self.config.next(state, &self.decisions, step);
        (next != *state).then_some(next)
    }

    fn within_boundary(&self, state: &State) -> bool {
        let within = |status: &MigrationGateStatus| status.last_attempt <= u32::from(self.config.attempts);
        (0..GROUPS).all(|group| state.status(group).is_none_or(within)) && state.ghost.lost < 3
    }

    fn properties(&self) -> Vec<Property<Cluster>> {
        fn holds(state: &State, broken: Broken) -> bool {
            state.ghost.broken != Some(broken)
        }
        vec![
            Property::always("I1 single runner", |cluster: &Cluster, state: &State| {
                let runners: Vec<usize> = state.runners().collect();
                let clash = |one: usize, other: usize| one < other && cluster.config.excludes(state, one, other);
                !runners.iter().any(|one| runners.iter().any(|other| clash(*one, *other)))
                    && holds(state, Broken::TwoRunners)
            }),
            Property::always("I2 gate soundness", |_, state| holds(state, Broken::UnsoundGate)),
            Property::always("I3 no early start", |_, state| holds(state, Broken::EarlyStart)),
            Property::always("I4 an attempt runs at most once", |_, state| holds(state, Broken::RanTwice)),
            Property::always("I5 no outcome is lost", |_, state| holds(state, Broken::LostSuccess)),
            Property::always("an attempt is over only if it is", |_, state| holds(state, Broken::FalseEnd)),
            Property::always("no stranger is elected", |_, state| holds(state, Broken::StrangerElected)),
            Property::always("nothing runs without approval", |_, state| holds(state, Broken::Unapproved)),
            Property::always("a time limit holds", |_, state| holds(state, Broken::Unlimited)),
            Property::always("I7 no attempt beyond the limit", |_, state| holds(state, Broken::TooManyAttempts)),
        ]
    }
}
