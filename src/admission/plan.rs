//! The plan: which container's migration it will be, before anything is written.

use serde_json::{Map, Value, json};

use super::canonical::{Object, write};
use super::denial::Denial;
use super::fingerprint::{fingerprint, write_normal};
use super::injected::{is_our_container, is_our_volume, short_digest};
use super::template::{ANNOTATIONS, CONTAINERS, INIT_CONTAINERS, LABELS, Template, VOLUMES, name};
use crate::contract::{POD_FINALIZER, annotation, label, pod};
use crate::settings::Settings;

/// The fields of a container that its copy takes over. All others are about serving, not about migrating.
const COPIED: [&str; 8] =
    ["image", "imagePullPolicy", "env", "envFrom", "workingDir", "volumeMounts", "securityContext", "resources"];

/// What will be injected into a template that has nothing of ours in it.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Plan {
    /// How the migration's container comes about.
    pub(super) source: Source,
    /// The migration's container before the agent comes in: the user's command, and the fields that count.
    pub(super) container: Value,
    /// Which migration this is.
    pub(super) fingerprint: String,
}

/// How the migration's container comes about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Source {
    /// Ours, a copy of an app container.
    Copy,
    /// The user's init container of this name, wrapped in place.
    Wrap(String),
}

impl Plan {
    /// Decides what to inject into a stripped template.
    ///
    /// # Errors
    /// If the template can't be gated as the settings say.
    pub(super) fn new(template: &Template, settings: &Settings) -> Result<Plan, Denial> {
        check_platform(template)?;
        check_pods_only(template)?;
        check_names(template)?;
        let (source, container) = migration_container(template, settings)?;
        check_paths(&container)?;
        check_lock(&container, settings)?;
        let fingerprint = fingerprint(&container, template.list(VOLUMES), settings);
        Ok(Plan { source, container, fingerprint })
    }

    /// The digest of all that an injection is made from, whether or not it counts for the migration's identity.
    pub(super) fn inputs(&self, settings: &Settings) -> String {
        let policy = json!(pull_policy(&self.container));
        let mut fields = COPIED.map(|field| (field, self.container.get(field)));
        fields.sort_unstable_by_key(|(field, _)| *field);
        short_digest(|text| {
            let mut inputs = Object::open(text);
            inputs.field("container", |text| {
                let mut container = Object::open(text);
                for (field, value) in [("args", self.container.get("args")), ("command", self.container.get("command"))]
                    .into_iter()
                    .chain(fields)
                {
                    let value = if field == "imagePullPolicy" { Some(&policy) } else { value };
                    container.telling_field(field, |text| write_normal(field, value.unwrap_or(&Value::Null), text));
                }
                container.close();
            });
            // Only where it is asked for: every other injection keeps the digest that it has.
            if let Some(variable) = &settings.lock_env {
                inputs.field("lockEnv", |text| write(&json!(variable), text));
            }
            inputs.field("verify", |text| write(&json!(settings.verify), text));
            let addresses: Vec<&str> = settings.wait_for.iter().map(|address| address.as_str()).collect();
            inputs.field("waitFor", |text| write(&json!(addresses), text));
            inputs.close();
        })
    }
}

/// The pull policy that the API server gives a container without one. Source: Kubernetes, SetDefaults_Container.
fn pull_policy(container: &Value) -> &str {
    match container["imagePullPolicy"].as_str() {
        Some(policy) => policy,
        None if is_mutable(container["image"].as_str().unwrap_or_default()) => "Always",
        None => "IfNotPresent",
    }
}

/// Whether an image reference has neither a digest nor a tag other than `latest`.
pub(super) fn is_mutable(image: &str) -> bool {
    let (name, digest) = image.split_once('@').map_or((image, None), |(name, digest)| (name, Some(digest)));
    // A colon before the last slash belongs to the registry's port.
    let tag = name.rsplit('/').next().and_then(|last| last.split_once(':')).map(|(_, tag)| tag);
    digest.is_none() && matches!(tag, None | Some("latest"))
}

/// The agent is a Linux program.
fn check_platform(template: &Template) -> Result<(), Denial> {
    if template.spec("os")["name"] == "windows" {
        return Err(Denial::Windows("spec.os.name: windows"));
    }
    if template.spec("nodeSelector")["kubernetes.io/os"] == "windows" {
        return Err(Denial::Windows("nodeSelector kubernetes.io/os: windows"));
    }
    Ok(())
}

/// A template that carries what the controller writes on single pods would give it to all of them.
fn check_pods_only(template: &Template) -> Result<(), Denial> {
    for key in [annotation::SIGNAL, annotation::OPENED] {
        if template.entry(ANNOTATIONS, key).is_some() {
            return Err(Denial::PodsOnly { what: "annotation", key });
        }
    }
    if template.entry(LABELS, label::ROLE).is_some() {
        return Err(Denial::PodsOnly { what: "label", key: label::ROLE });
    }
    let finalizers = template.metadata("finalizers").as_array();
    if finalizers.is_some_and(|list| list.iter().any(|finalizer| finalizer == POD_FINALIZER)) {
        return Err(Denial::PodsOnly { what: "finalizer", key: POD_FINALIZER });
    }
    Ok(())
}

/// What a stripped template still has under our names is the user's own.
fn check_names(template: &Template) -> Result<(), Denial> {
    let containers = || template.list(INIT_CONTAINERS).iter().chain(template.list(CONTAINERS));
    if let Some(container) = containers().find(|container| is_our_container(name(container))) {
        return Err(Denial::ReservedName { what: "container", name: name(container).to_owned() });
    }
    for container in containers() {
        let mut mounts = container["volumeMounts"].as_array().into_iter().flatten();
        if let Some(mount) = mounts.find(|mount| is_our_volume(name(mount))) {
            let (container, volume) = (name(container).to_owned(), name(mount).to_owned());
            return Err(Denial::LeftOverMount { container, volume });
        }
    }
    Ok(())
}

/// Mount paths are unique within a container. Source: Kubernetes, core/validation, ValidateVolumeMounts.
fn check_paths(container: &Value) -> Result<(), Denial> {
    let ours = [pod::VOLUME_PATH, pod::SIGNAL_PATH, pod::AGENT_VOLUME_PATH];
    let mut paths = container["volumeMounts"].as_array().into_iter().flatten().filter_map(|m| m["mountPath"].as_str());
    match paths.find(|path| ours.contains(&path.trim_end_matches('/'))) {
        Some(path) => Err(Denial::ReservedPath { container: name(container).to_owned(), path: path.to_owned() }),
        None => Ok(()),
    }
}

/// The database's URL must come from somewhere. What `envFrom` gives can't be seen here.
fn check_lock(container: &Value, settings: &Settings) -> Result<(), Denial> {
    let Some(variable) = &settings.lock_env else { return Ok(()) };
    let names = || container["env"].as_array().into_iter().flatten().map(name);
    let has_more = container["envFrom"].as_array().is_some_and(|sources| !sources.is_empty());
    match has_more || names().any(|name| name == variable) {
        true => Ok(()),
        false => Err(Denial::NoSuchVariable {
            variable: variable.clone(),
            container: name(container).to_owned(),
            names: names().map(str::to_owned).collect(),
        }),
    }
}

/// The container that runs the migration, with the user's command in it.
fn migration_container(template: &Template, settings: &Settings) -> Result<(Source, Value), Denial> {
    let containers = template.list(CONTAINERS);
    let target = match &settings.container {
        None => containers.first().ok_or(Denial::NoContainers)?,
        Some(wanted) => {
            if let Some(container) = template.list(INIT_CONTAINERS).iter().find(|c| name(c) == wanted) {
                check_wrapping(container, settings)?;
                return Ok((Source::Wrap(wanted.clone()), container.clone()));
            }
            containers.iter().find(|c| name(c) == wanted).ok_or_else(|| no_such_container(template, wanted))?
        }
    };
    let Some(command) = &settings.command else {
        return Err(Denial::NoCommand { misplaced: template.entry(ANNOTATIONS, annotation::COMMAND).is_some() });
    };
    let mut copy = Map::new();
    for field in COPIED {
        if let Some(value) = target.get(field).filter(|value| !value.is_null()) {
            copy.insert(field.to_owned(), value.clone());
        }
    }
    copy.insert("name".to_owned(), target["name"].clone());
    copy.insert("command".to_owned(), json!(command));
    if let Some(image) = &settings.image {
        copy.insert("image".to_owned(), json!(image));
        // The target's pull policy is the API's default for the target's image, more often than not.
        copy.remove("imagePullPolicy");
    }
    if !settings.env.is_empty() {
        copy.insert("env".to_owned(), merged(&target["env"], &settings.env));
    }
    Ok((Source::Copy, Value::Object(copy)))
}

fn check_wrapping(container: &Value, settings: &Settings) -> Result<(), Denial> {
    let own_name = || name(container).to_owned();
    if container["restartPolicy"] == "Always" {
        return Err(Denial::Sidecar(own_name()));
    }
    for (key, is_set) in [
        (annotation::COMMAND, settings.command.is_some()),
        (annotation::IMAGE, settings.image.is_some()),
        (annotation::ENV, !settings.env.is_empty()),
    ] {
        if is_set {
            return Err(Denial::NotWithWrapped { key, container: own_name() });
        }
    }
    match container["command"].as_array() {
        Some(command) if !command.is_empty() && command.iter().all(Value::is_string) => Ok(()),
        _ => Err(Denial::NoExplicitCommand(own_name())),
    }
}

fn no_such_container(template: &Template, wanted: &str) -> Denial {
    let all = template.list(CONTAINERS).iter().chain(template.list(INIT_CONTAINERS));
    Denial::NoSuchContainer { found: wanted.to_owned(), names: all.map(|c| name(c).to_owned()).collect() }
}

/// The variables with the overrides: one of the same name takes the place of the first, the others follow.
fn merged(env: &Value, overrides: &[Value]) -> Value {
    let mut left: Vec<&Value> = overrides.iter().collect();
    let mut merged = Vec::new();
    for variable in env.as_array().into_iter().flatten() {
        if !overrides.iter().any(|o| name(o) == name(variable)) {
            merged.push(variable.clone());
        } else if let Some(at) = left.iter().position(|o| name(o) == name(variable)) {
            merged.push(left.remove(at).clone());
        }
    }
    merged.extend(left.into_iter().cloned());
    Value::Array(merged)
}
