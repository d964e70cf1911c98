//! Inject: the gate, the agent and the migration's container come into a template that has nothing of ours in it.

use super::arena::Arena;
use super::injected::{Injected, TERMINATION_DEFAULTS, Wrapped, replaced, rest, written};
use super::json::{Field, Json, Number};
use super::plan::{Plan, Source};
use super::strip::WRAPPED_MOUNTS;
use super::template::{ANNOTATIONS, CHANGEABLE, INIT_CONTAINERS, LABELS, READINESS_GATES, Template, VOLUMES, name};
use super::{AgentDelivery, Installation};
use crate::contract::{CONDITION, annotation, label, pod};
use crate::settings::Settings;

/// The default of a downward API volume's `defaultMode`, 0644. Source: Kubernetes, core/v1 defaults.
const DEFAULT_MODE: u64 = 0o644;

/// Injects into a stripped template.
pub(super) fn inject<'a>(
    stripped: &Template<'a>,
    plan: &Plan<'a>,
    settings: &Settings,
    record: &str,
    installation: &Installation,
    arena: Arena<'a>,
) -> Template<'a> {
    let migration = with_agent(plan, settings, installation, arena);
    let install = match installation.delivery {
        AgentDelivery::InstallContainer => Some(install(plan.container, settings, installation, arena)),
        AgentDelivery::ImageVolume => None,
    };
    let gate = arena.object([("conditionType", Json::Text(CONDITION))]);
    let labels = [(label::GATE, arena.text(record)), (label::MIGRATION, arena.text(&plan.fingerprint))];

    let mut template = *stripped;
    template.change(READINESS_GATES, |gates| arena.extended(gates, [gate]));
    template.change(LABELS, |map| arena.with(map, labels));
    template.change(VOLUMES, |list| arena.extended(list, volumes(installation, arena)));
    template.change(INIT_CONTAINERS, |list| {
        let theirs = list.list().iter().copied();
        match plan.source {
            Source::Copy => arena.list(install.into_iter().chain(theirs).chain([migration])),
            Source::Wrap(wrapped) => {
                let replaced = theirs.map(|theirs| if name(theirs) == name(wrapped) { migration } else { theirs });
                arena.list(install.into_iter().chain(replaced))
            }
        }
    });

    let wrapped = wrapped(plan, arena);
    let note = Injected {
        hollow: hollow(stripped, plan, arena),
        inputs: arena.string(&plan.inputs(settings)),
        rest: arena.string(&rest(&template, wrapped.map_or(pod::MIGRATE_CONTAINER, |wrapped| wrapped.container))),
        version: installation.version,
        wrapped,
        written: written(migration, arena),
    };
    let note = arena.text(&note.to_text(arena));
    template.change(ANNOTATIONS, |map| arena.with(map, [(annotation::INJECTED, note)]));
    template
}

/// What wrapping is about to replace.
fn wrapped<'a>(plan: &Plan<'a>, arena: Arena<'a>) -> Option<Wrapped<'a>> {
    let Source::Wrap(container) = plan.source else { return None };
    Some(Wrapped { container: name(container), replaced: arena.object(replaced(container)) })
}

/// The collections that are there, but hold nothing, and are about to hold something of ours.
fn hollow<'a>(stripped: &Template<'a>, plan: &Plan<'a>, arena: Arena<'a>) -> Json<'a> {
    let of_template = CHANGEABLE.iter().filter_map(|place| Some((place.field, stripped.hollow(*place)?)));
    let mounts = plan.container.get("volumeMounts").filter(|mounts| mounts.is_hollow());
    let of_wrapped = mounts.filter(|_| plan.source != Source::Copy).map(|mounts| (WRAPPED_MOUNTS, mounts));
    arena.object(of_template.chain(of_wrapped))
}

/// The migration's container with the agent in front of the user's command.
fn with_agent<'a>(plan: &Plan<'a>, settings: &Settings, installation: &Installation, arena: Arena<'a>) -> Json<'a> {
    let agent = match installation.delivery {
        AgentDelivery::InstallContainer => Json::Text(pod::AGENT_PATH),
        AgentDelivery::ImageVolume => Json::Text(pod::VOLUME_AGENT_PATH),
    };
    let mut ours = vec![
        mount(arena, pod::VOLUME, pod::VOLUME_PATH, false),
        mount(arena, pod::SIGNAL_VOLUME, pod::SIGNAL_PATH, true),
    ];
    if installation.delivery == AgentDelivery::ImageVolume {
        ours.push(mount(arena, pod::AGENT_VOLUME, pod::AGENT_VOLUME_PATH, true));
    }
    let mut fields: Vec<Field<'a>> = vec![
        ("args", arena.list(arguments(plan, settings, installation, arena))),
        ("command", arena.list([agent])),
        ("volumeMounts", arena.extended(plan.container.at("volumeMounts"), ours)),
    ];
    fields.extend(TERMINATION_DEFAULTS.map(|(field, value)| (field, Json::Text(value))));
    if plan.source == Source::Copy {
        fields.push(("name", Json::Text(pod::MIGRATE_CONTAINER)));
    }
    arena.with(plan.container, fields)
}

fn mount<'a>(arena: Arena<'a>, volume: &'static str, path: &'static str, is_read_only: bool) -> Json<'a> {
    let read_only = is_read_only.then_some(("readOnly", Json::Bool(true)));
    arena.object([("name", Json::Text(volume)), ("mountPath", Json::Text(path))].into_iter().chain(read_only))
}

/// The agent's arguments: its options, `--`, and the user's command. Kubernetes replaces `$(NAME)` in all of them, as
/// it does in a container's own command and args.
fn arguments<'a>(
    plan: &Plan<'a>,
    settings: &Settings,
    installation: &Installation,
    arena: Arena<'a>,
) -> impl Iterator<Item = Json<'a>> {
    let option = move |option: &str, value: &str| arena.text(&format!("{option}={value}"));
    let wait_for = settings.wait_for.iter().map(move |address| option(pod::WAIT_FOR_OPTION, address.as_str()));
    let verify = settings.verify.iter().flatten().map(move |word| option(pod::VERIFY_WORD_OPTION, word));
    let lock = settings.lock_env.iter().flat_map(move |variable| {
        let program = match installation.delivery {
            AgentDelivery::InstallContainer => pod::PROGRAM_PATH.to_owned(),
            AgentDelivery::ImageVolume => format!("{}{}", pod::AGENT_VOLUME_PATH, pod::IMAGE_PROGRAM_PATH),
        };
        [
            option(pod::LOCK_ENV_OPTION, variable),
            // A migration that another cluster has done under this name is done.
            option(pod::LOCK_KEY_OPTION, &plan.fingerprint),
            option(pod::LOCK_PROGRAM_OPTION, &program),
        ]
    });
    let options = wait_for.chain(verify).chain(lock).chain([Json::Text(pod::COMMAND_SEPARATOR)]);
    let command = ["command", "args"].into_iter().flat_map(|field| plan.container.at(field).list());
    options.chain(command.copied())
}

/// The container that copies the agent into the volume, and the whole program only where a lock is asked for. It has the
/// target's resources and security context, so whatever quota, limit range or security policy accepted the target
/// accepts it.
fn install<'a>(target: Json<'a>, settings: &Settings, installation: &Installation, arena: Arena<'a>) -> Json<'a> {
    let agent = [pod::IMAGE_AGENT_PATH, pod::INSTALL_ARGUMENT, pod::AGENT_PATH];
    let program = settings.lock_env.iter().flat_map(|_| [pod::IMAGE_PROGRAM_PATH, pod::PROGRAM_PATH]);
    let of_target = ["resources", "securityContext"].into_iter();
    let of_target = of_target.filter_map(|field| Some((field, target.get(field)?)));
    let ours = [
        ("name", Json::Text(pod::INSTALL_CONTAINER)),
        ("image", arena.text(&installation.agent_image)),
        ("command", arena.list(agent.into_iter().chain(program).map(Json::Text))),
        ("volumeMounts", arena.list([mount(arena, pod::VOLUME, pod::VOLUME_PATH, false)])),
    ];
    arena.object(ours.into_iter().chain(of_target))
}

/// Our volumes, with the API's defaults written out, so that they look the same before and after it adds them.
fn volumes<'a>(installation: &Installation, arena: Arena<'a>) -> impl Iterator<Item = Json<'a>> {
    let volume = move |name, field, source| arena.object([("name", Json::Text(name)), (field, source)]);
    let file = move |path, field: &str| {
        let field = arena.object([("apiVersion", Json::Text("v1")), ("fieldPath", arena.text(field))]);
        arena.object([("path", Json::Text(path)), ("fieldRef", field)])
    };
    let of_annotation = move |path, key: &str| file(path, &format!("metadata.annotations['{key}']"));
    let items = arena.list([
        of_annotation(pod::SIGNAL_FILE, annotation::SIGNAL),
        of_annotation(pod::OPENED_FILE, annotation::OPENED),
        file(pod::POD_UID_FILE, "metadata.uid"),
    ]);
    let mode = Json::Number(Number::Whole(DEFAULT_MODE));
    let signal = arena.object([("defaultMode", mode), ("items", items)]);
    let image = (installation.delivery == AgentDelivery::ImageVolume).then(|| {
        let reference = arena.object([("reference", arena.text(&installation.agent_image))]);
        volume(pod::AGENT_VOLUME, "image", reference)
    });
    let ours = [volume(pod::VOLUME, "emptyDir", Json::Object(&[])), volume(pod::SIGNAL_VOLUME, "downwardAPI", signal)];
    ours.into_iter().chain(image)
}
