//! Inject: the gate, the agent and the migration's container come into a template that has nothing of ours in it.

use serde_json::{Map, Value, json};

use super::injected::{Injected, REPLACED, TERMINATION_DEFAULTS, Wrapped, rest, written};
use super::plan::{Plan, Source};
use super::strip::WRAPPED_MOUNTS;
use super::template::{
    ANNOTATIONS, CHANGEABLE, INIT_CONTAINERS, LABELS, READINESS_GATES, Template, VOLUMES, is_hollow, name,
};
use super::{AgentDelivery, Installation};
use crate::contract::{CONDITION, annotation, label, pod};
use crate::settings::Settings;

/// Injects into a stripped template.
pub(super) fn inject(
    mut template: Template,
    plan: Plan,
    settings: &Settings,
    record: &str,
    installation: &Installation,
) -> Template {
    let mut note = Injected {
        hollow: hollow(&template, &plan),
        inputs: plan.inputs(settings),
        rest: String::new(),
        version: installation.version.to_owned(),
        wrapped: wrapped(&plan),
        written: Map::new(),
    };
    template.list_mut(READINESS_GATES).push(json!({ "conditionType": CONDITION }));
    let labels = template.map_mut(LABELS);
    labels.insert(label::GATE.to_owned(), json!(record));
    labels.insert(label::MIGRATION.to_owned(), json!(plan.fingerprint));
    template.list_mut(VOLUMES).extend(volumes(installation));

    let install = match installation.delivery {
        AgentDelivery::InstallContainer => Some(install(&plan.container, settings, installation)),
        AgentDelivery::ImageVolume => None,
    };
    let source = plan.source.clone();
    let migration = with_agent(plan, settings, installation);
    note.written = written(&migration);
    let init_containers = template.list_mut(INIT_CONTAINERS);
    match &source {
        Source::Copy => init_containers.push(migration),
        Source::Wrap(wrapped) => {
            for container in init_containers.iter_mut().filter(|container| name(container) == wrapped) {
                container.clone_from(&migration);
            }
        }
    }
    if let Some(install) = install {
        init_containers.insert(0, install);
    }

    note.rest = rest(&template, note.migration_container());
    template.map_mut(ANNOTATIONS).insert(annotation::INJECTED.to_owned(), json!(note.to_text()));
    template
}

/// What wrapping is about to replace.
fn wrapped(plan: &Plan) -> Option<Wrapped> {
    let Source::Wrap(container) = &plan.source else { return None };
    let replaced = REPLACED.iter().filter_map(|field| Some(((*field).to_owned(), plan.container.get(field)?.clone())));
    Some(Wrapped { container: container.clone(), replaced: replaced.collect() })
}

/// The collections that are there, but hold nothing, and are about to hold something of ours.
fn hollow(stripped: &Template, plan: &Plan) -> Map<String, Value> {
    let of_template =
        CHANGEABLE.iter().filter_map(|place| Some((place.field.to_owned(), stripped.hollow(*place)?.clone())));
    let mounts = plan.container.get("volumeMounts").filter(|mounts| is_hollow(mounts));
    let of_wrapped = mounts.filter(|_| plan.source != Source::Copy).map(|m| (WRAPPED_MOUNTS.to_owned(), m.clone()));
    of_template.chain(of_wrapped).collect()
}

/// The migration's container with the agent in front of the user's command.
fn with_agent(plan: Plan, settings: &Settings, installation: &Installation) -> Value {
    let agent = match installation.delivery {
        AgentDelivery::InstallContainer => pod::AGENT_PATH.to_owned(),
        AgentDelivery::ImageVolume => format!("{}{}", pod::AGENT_VOLUME_PATH, pod::IMAGE_AGENT_PATH),
    };
    let Plan { source, mut container, fingerprint } = plan;
    if source == Source::Copy {
        container["name"] = json!(pod::MIGRATE_CONTAINER);
    }
    container["args"] = Value::Array(arguments(&container, &fingerprint, settings, installation));
    container["command"] = json!([agent]);
    for (field, value) in TERMINATION_DEFAULTS {
        container[field] = json!(value);
    }
    let mounts = &mut container["volumeMounts"];
    if !mounts.is_array() {
        *mounts = Value::Array(Vec::new());
    }
    if let Some(mounts) = mounts.as_array_mut() {
        mounts.push(json!({ "name": pod::VOLUME, "mountPath": pod::VOLUME_PATH }));
        mounts.push(json!({ "name": pod::SIGNAL_VOLUME, "mountPath": pod::SIGNAL_PATH, "readOnly": true }));
        if installation.delivery == AgentDelivery::ImageVolume {
            mounts.push(json!({ "name": pod::AGENT_VOLUME, "mountPath": pod::AGENT_VOLUME_PATH, "readOnly": true }));
        }
    }
    container
}

/// The agent's arguments: its options, `--`, and the user's command. Kubernetes replaces `$(NAME)` in all of them, as
/// it does in a container's own command and args.
fn arguments(container: &Value, fingerprint: &str, settings: &Settings, installation: &Installation) -> Vec<Value> {
    let wait_for = settings.wait_for.iter().map(|address| format!("{}={address}", pod::WAIT_FOR_OPTION));
    let verify = settings.verify.iter().flatten().map(|word| format!("{}={word}", pod::VERIFY_WORD_OPTION));
    let lock = settings.lock_env.iter().flat_map(|variable| {
        let program = match installation.delivery {
            AgentDelivery::InstallContainer => pod::PROGRAM_PATH.to_owned(),
            AgentDelivery::ImageVolume => format!("{}{}", pod::AGENT_VOLUME_PATH, pod::IMAGE_PROGRAM_PATH),
        };
        [
            format!("{}={variable}", pod::LOCK_ENV_OPTION),
            // A migration that another cluster has done under this name is done.
            format!("{}={}", pod::LOCK_KEY_OPTION, fingerprint),
            format!("{}={program}", pod::LOCK_PROGRAM_OPTION),
        ]
    });
    let options = wait_for.chain(verify).chain(lock).chain([pod::COMMAND_SEPARATOR.to_owned()]).map(Value::String);
    let command = ["command", "args"].into_iter().flat_map(|field| container[field].as_array()).flatten();
    options.chain(command.cloned()).collect()
}

/// The container that copies the agent into the volume, and the whole program only where a lock is asked for. It has the
/// target's resources and security context, so whatever quota, limit range or security policy accepted the target
/// accepts it.
fn install(target: &Value, settings: &Settings, installation: &Installation) -> Value {
    let mut command = vec![pod::IMAGE_AGENT_PATH, pod::INSTALL_ARGUMENT, pod::AGENT_PATH];
    if settings.lock_env.is_some() {
        command.extend([pod::IMAGE_PROGRAM_PATH, pod::PROGRAM_PATH]);
    }
    let mut install = json!({
        "name": pod::INSTALL_CONTAINER,
        "image": installation.agent_image,
        "command": command,
        "volumeMounts": [{ "name": pod::VOLUME, "mountPath": pod::VOLUME_PATH }],
    });
    for field in ["resources", "securityContext"] {
        if let Some(value) = target.get(field) {
            install[field] = value.clone();
        }
    }
    install
}

/// Our volumes, with the API's defaults written out, so that they look the same before and after it adds them.
fn volumes(installation: &Installation) -> Vec<Value> {
    let file =
        |path: &str, field: &str| json!({ "path": path, "fieldRef": { "apiVersion": "v1", "fieldPath": field } });
    let of_annotation = |path: &str, key: &str| file(path, &format!("metadata.annotations['{key}']"));
    let items = [
        of_annotation(pod::SIGNAL_FILE, annotation::SIGNAL),
        of_annotation(pod::OPENED_FILE, annotation::OPENED),
        file(pod::POD_UID_FILE, "metadata.uid"),
    ];
    let mut volumes = vec![
        json!({ "name": pod::VOLUME, "emptyDir": {} }),
        json!({ "name": pod::SIGNAL_VOLUME, "downwardAPI": { "defaultMode": 420, "items": items } }),
    ];
    if installation.delivery == AgentDelivery::ImageVolume {
        volumes.push(json!({ "name": pod::AGENT_VOLUME, "image": { "reference": installation.agent_image } }));
    }
    volumes
}
