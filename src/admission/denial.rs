//! Denials: why a workload is refused, in a sentence that says what was found, what is allowed and what to do.

use super::template::NotATemplate;
use crate::contract::annotation;
use crate::settings::SettingsError;

/// Why a workload is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Denial {
    /// The object isn't one that could be read.
    #[error("the object can't be read: {0}")]
    Unreadable(String),
    /// The pod template isn't one.
    #[error("{0}")]
    Template(#[from] NotATemplate),
    /// An annotation can't be accepted.
    #[error("{0}")]
    Settings(#[from] SettingsError),
    /// Nothing says what to run.
    #[error(
        "{command} is missing{}; allowed: a command, or {container} with the name of an init container to wrap; \
         example: {command}: alembic upgrade head",
        if *.misplaced { " on the workload (it stands on the pod template, where it has no effect)" } else { "" },
        command = annotation::COMMAND, container = annotation::CONTAINER,
    )]
    NoCommand {
        /// The annotation stands on the pod template.
        misplaced: bool,
    },
    /// The workload has no name yet, and no group that could give one to its record.
    #[error(
        "the workload has no name yet (generateName), and its record needs one; allowed: a name, or {group} for all \
         that share a database; example: {group}: orders-db",
        group = annotation::GROUP
    )]
    NoName,
    /// The template has no containers.
    #[error("spec.template.spec.containers is empty; the migration takes its image and environment from a container")]
    NoContainers,
    /// The annotation names a container that the template doesn't have.
    #[error(
        "{key}: found {found:?}, which is not in the pod template; allowed: one of {}; example: {key}: {}",
        .names.join(", "), .names.first().map_or("web", String::as_str),
        key = annotation::CONTAINER
    )]
    NoSuchContainer {
        /// The name in the annotation.
        found: String,
        /// The names in the template.
        names: Vec<String>,
    },
    /// The annotation names a native sidecar.
    #[error(
        "{key}: found {0:?}, an init container with restartPolicy Always, which never ends; allowed: an init container \
         that ends, or a container to copy; example: {key}: web",
        key = annotation::CONTAINER
    )]
    Sidecar(String),
    /// The init container to wrap leaves its command to the image.
    #[error(
        "{key}: init container {0:?} has no command, and the ENTRYPOINT of its image can't be seen here; allowed: a command \
         in that container, or {entrypoint} with what `crane config IMAGE` shows; example: {entrypoint}: /usr/bin/hydra",
        key = annotation::CONTAINER, entrypoint = annotation::ENTRYPOINT
    )]
    NoExplicitCommand(String),
    /// A program for an init container that names its own.
    #[error(
        "{key}: not allowed while init container {0:?} has a command, which is used; allowed: one of the two; example: \
         remove {key}",
        key = annotation::ENTRYPOINT
    )]
    TwoPrograms(String),
    /// A program without the init container whose arguments would follow it.
    #[error(
        "{key}: not allowed unless {container} names an init container, whose args follow it; allowed: that, or {command} \
         with the whole command; example: remove {key}",
        key = annotation::ENTRYPOINT, container = annotation::CONTAINER, command = annotation::COMMAND
    )]
    NothingWrapped,
    /// The init container to wrap says what happens when it fails, which is the controller's to decide.
    #[error(
        "{key}: init container {container:?} has {field}, with which a failed attempt may end its pod; allowed: an init \
         container without it, because the controller decides on retries; example: remove {field}",
        key = annotation::CONTAINER
    )]
    RestartRules {
        /// The init container.
        container: String,
        /// The field, with its value if that is a word.
        field: String,
    },
    /// An annotation that says what the wrapped container says itself.
    #[error(
        "{key}: not allowed while {container_key} names the init container {container:?}, whose own fields are used; \
         allowed: a change of that container, or the name of an app container; example: remove {key}",
        container_key = annotation::CONTAINER
    )]
    NotWithWrapped {
        /// The annotation.
        key: &'static str,
        /// The init container.
        container: String,
    },
    /// The pods run on Windows.
    #[error("found {0} in the pod template; allowed: Linux pods only, because the agent is a Linux program")]
    Windows(String),
    /// A name of ours.
    #[error("found a {what} named {name:?} in the pod template; that name is migration-gate's; rename it or remove it")]
    ReservedName {
        /// `container` or `volume`.
        what: &'static str,
        /// The name.
        name: String,
    },
    /// A mount of our volume, without the injection that it belongs to.
    #[error(
        "container {container:?} mounts the volume {volume:?}, which is migration-gate's; it is left over from an \
         injection whose note is gone: apply the original manifest"
    )]
    LeftOverMount {
        /// The container.
        container: String,
        /// Our volume.
        volume: String,
    },
    /// A mount where ours must be.
    #[error("container {container:?} mounts a volume at {path}, where migration-gate's must be; mount it elsewhere")]
    ReservedPath {
        /// The container.
        container: String,
        /// The path.
        path: String,
    },
    /// Nothing gives the container the variable with the database's URL.
    #[error(
        "{key}: found {variable:?}, which container {container:?} does not have in env, and it has no envFrom; \
         allowed: one of {}; example: {key}: DATABASE_URL",
        if .names.is_empty() { "its variables, of which there are none".to_owned() } else { .names.join(", ") },
        key = annotation::LOCK_ENV
    )]
    NoSuchVariable {
        /// The name in the annotation.
        variable: String,
        /// The container.
        container: String,
        /// The names that it has.
        names: Vec<String>,
    },
    /// The note of an injection can't be read.
    #[error(
        "{key} on the pod template can't be read, so what it replaced can't be restored; apply the original manifest, \
         without that annotation",
        key = annotation::INJECTED
    )]
    UnreadableNote,
    /// What the controller writes on pods stands in the template.
    #[error(
        "found the {what} {key} in the pod template; only migration-gate's controller sets it, on one pod at a time; \
         remove it from the template"
    )]
    PodsOnly {
        /// `annotation`, `label` or `finalizer`.
        what: &'static str,
        /// Its key.
        key: &'static str,
    },
}

impl Denial {
    /// The HTTP status that the API server passes on.
    pub(super) fn code(&self) -> u16 {
        match self {
            Denial::Unreadable(_) => 400,
            Denial::PodsOnly { .. } => 403,
            _ => 422,
        }
    }

    /// The machine-readable reason that belongs to the code. Source: apimachinery, metav1.StatusReason.
    pub(super) fn reason(&self) -> &'static str {
        match self.code() {
            400 => "BadRequest",
            403 => "Forbidden",
            _ => "Invalid",
        }
    }
}
