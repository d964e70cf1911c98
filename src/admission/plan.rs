//! The plan: which container's migration it will be, before anything is written.

use serde_json::Value;

use super::arena::Arena;
use super::canonical::{self, Object};
use super::denial::Denial;
use super::fingerprint::{fingerprint, write_normal};
use super::injected::{find, is_our_container, is_our_volume, short_digest};
use super::json::{Field, Json};
use super::platform::check_platform;
use super::template::{ANNOTATIONS, CONTAINERS, INIT_CONTAINERS, LABELS, NotATemplate, Template, VOLUMES, name};
use crate::contract::{POD_FINALIZER, annotation, label, pod};
use crate::settings::Settings;

/// The fields of a container that its copy takes over. All others are about serving, not about migrating.
const COPIED: [&str; 8] =
    ["image", "imagePullPolicy", "env", "envFrom", "workingDir", "volumeMounts", "securityContext", "resources"];

/// What will be injected into a template that has nothing of ours in it.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Plan<'a> {
    /// How the migration's container comes about.
    pub(super) source: Source<'a>,
    /// The migration's container before the agent comes in: the user's command, and the fields that count.
    pub(super) container: Json<'a>,
    /// Which migration this is.
    pub(super) fingerprint: String,
}

/// How the migration's container comes about.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Source<'a> {
    /// Ours, a copy of an app container.
    Copy,
    /// This init container of the user's, wrapped in place.
    Wrap(Json<'a>),
}

impl<'a> Plan<'a> {
    /// Decides what to inject into a stripped template.
    ///
    /// # Errors
    /// If the template can't be gated as the settings say.
    pub(super) fn new(template: &Template<'a>, settings: &Settings, arena: Arena<'a>) -> Result<Plan<'a>, Denial> {
        check_platform(template)?;
        check_pods_only(template)?;
        check_names(template)?;
        let (source, container) = migration_container(template, settings, arena)?;
        check_paths(container)?;
        check_lock(container, settings)?;
        let fingerprint = fingerprint(container, template.list(VOLUMES), settings);
        Ok(Plan { source, container, fingerprint })
    }

    /// The digest of what an injection is made from beside what the fingerprint covers.
    pub(super) fn inputs(&self, settings: &Settings) -> String {
        let policy = Json::Text(pull_policy(self.container));
        let names_variables = settings.identity_env.is_some();
        short_digest(|text| {
            let mut inputs = Object::open(text);
            inputs.field("container", |text| {
                let mut container = Object::open(text);
                let mut field = |field, value| container.telling_field(field, |text| write_normal(field, value, text));
                for list in ["env", "envFrom"].into_iter().filter(|_| names_variables) {
                    field(list, self.container.at(list));
                }
                field("imagePullPolicy", policy);
                field("resources", self.container.at("resources"));
                field("securityContext", self.container.at("securityContext"));
                container.close();
            });
            // Only where it is asked for: every other injection keeps the digest that it has.
            if let Some(variable) = &settings.lock_env {
                inputs.field("lockEnv", |text| canonical::of(variable, text));
            }
            let addresses: Vec<&str> = settings.wait_for.iter().map(|address| address.as_str()).collect();
            inputs.field("waitFor", |text| canonical::of(&addresses, text));
            inputs.close();
        })
    }
}

/// The pull policy that the API server gives a container without one. Source: Kubernetes, SetDefaults_Container.
fn pull_policy(container: Json<'_>) -> &str {
    match container.at("imagePullPolicy").text() {
        Some(policy) => policy,
        None if is_mutable(container.at("image").text().unwrap_or_default()) => "Always",
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

/// A template that carries what the controller writes on single pods would give it to all of them.
fn check_pods_only(template: &Template<'_>) -> Result<(), Denial> {
    for key in [annotation::SIGNAL, annotation::OPENED] {
        if template.entry(ANNOTATIONS, key).is_some() {
            return Err(Denial::PodsOnly { what: "annotation", key });
        }
    }
    if template.entry(LABELS, label::ROLE).is_some() {
        return Err(Denial::PodsOnly { what: "label", key: label::ROLE });
    }
    if template.metadata("finalizers").list().iter().any(|finalizer| *finalizer == *POD_FINALIZER) {
        return Err(Denial::PodsOnly { what: "finalizer", key: POD_FINALIZER });
    }
    Ok(())
}

/// What a stripped template still has under our names is the user's own.
fn check_names(template: &Template<'_>) -> Result<(), Denial> {
    let containers = || template.list(INIT_CONTAINERS).iter().chain(template.list(CONTAINERS)).copied();
    if let Some(container) = containers().find(|container| is_our_container(name(*container))) {
        return Err(Denial::ReservedName { what: "container", name: name(container).to_owned() });
    }
    for container in containers() {
        let mut mounts = container.at("volumeMounts").list().iter();
        if let Some(mount) = mounts.find(|mount| is_our_volume(name(**mount))) {
            let (container, volume) = (name(container).to_owned(), name(*mount).to_owned());
            return Err(Denial::LeftOverMount { container, volume });
        }
    }
    Ok(())
}

/// Mount paths are unique within a container. Source: Kubernetes, core/validation, ValidateVolumeMounts.
fn check_paths(container: Json<'_>) -> Result<(), Denial> {
    let ours = [pod::VOLUME_PATH, pod::SIGNAL_PATH, pod::AGENT_VOLUME_PATH];
    let mut paths = container.at("volumeMounts").list().iter().filter_map(|mount| mount.at("mountPath").text());
    match paths.find(|path| ours.contains(&path.trim_end_matches('/'))) {
        Some(path) => Err(Denial::ReservedPath { container: name(container).to_owned(), path: path.to_owned() }),
        None => Ok(()),
    }
}

/// The database's URL must come from somewhere. What `envFrom` gives can't be seen here.
fn check_lock(container: Json<'_>, settings: &Settings) -> Result<(), Denial> {
    let Some(variable) = &settings.lock_env else { return Ok(()) };
    let names = || container.at("env").list().iter().map(|variable| name(*variable));
    let has_more = !container.at("envFrom").list().is_empty();
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
fn migration_container<'a>(
    template: &Template<'a>,
    settings: &Settings,
    arena: Arena<'a>,
) -> Result<(Source<'a>, Json<'a>), Denial> {
    let containers = template.list(CONTAINERS);
    let target = match &settings.container {
        None => *containers.first().ok_or(Denial::NoContainers)?,
        Some(wanted) => {
            if let Some(container) = find(template, INIT_CONTAINERS, wanted) {
                check_wrapping(container, settings)?;
                return Ok((Source::Wrap(container), with_entrypoint(container, settings, arena)));
            }
            find(template, CONTAINERS, wanted).ok_or_else(|| no_such_container(template, wanted))?
        }
    };
    if settings.entrypoint.is_some() {
        return Err(Denial::NothingWrapped);
    }
    let Some(command) = &settings.command else {
        return Err(Denial::NoCommand { misplaced: template.entry(ANNOTATIONS, annotation::COMMAND).is_some() });
    };
    let mut copy: Vec<Field<'a>> = Vec::with_capacity(COPIED.len() + 4);
    let copied = COPIED.iter().filter_map(|field| Some((*field, target.get(field)?)));
    // The target's pull policy is the API's default for the target's image, more often than not.
    let is_of_image = |field: &str| field == "imagePullPolicy" && settings.image.is_some();
    copy.extend(copied.filter(|(field, value)| *value != Json::Null && !is_of_image(field)));
    copy.push(("name", target.at("name")));
    copy.push(("command", arena.texts(command.iter().map(String::as_str))));
    copy.extend(settings.image.iter().map(|image| ("image", arena.text(image))));
    if !settings.env.is_empty() {
        copy.push(("env", merged(target.at("env"), &settings.env, arena)));
    }
    Ok((Source::Copy, arena.object(copy)))
}

fn check_wrapping(container: Json<'_>, settings: &Settings) -> Result<(), Denial> {
    let own_name = || name(container).to_owned();
    if container.at("restartPolicy") == *"Always" {
        return Err(Denial::Sidecar(own_name()));
    }
    // Nobody has seen yet what a kubelet makes of them when the agent exits.
    if let Some(policy) = container.at("restartPolicy").text() {
        return Err(Denial::RestartRules { container: own_name(), field: format!("restartPolicy: {policy}") });
    }
    if !container.at("restartPolicyRules").is_hollow() {
        return Err(Denial::RestartRules { container: own_name(), field: "restartPolicyRules".to_owned() });
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
    for field in ["command", "args"] {
        let value = container.at(field);
        // The words that can't be taken over would be lost.
        if !value.is_hollow() && (value.list().is_empty() || !value.list().iter().all(|word| word.is_text())) {
            let at = format!(".spec.initContainers[{}].{field}", name(container));
            return Err(NotATemplate::Part(at, "a list of strings").into());
        }
    }
    match (container.at("command").list().is_empty(), &settings.entrypoint) {
        (true, None) => Err(Denial::NoExplicitCommand(own_name())),
        (false, Some(_)) => Err(Denial::TwoPrograms(own_name())),
        (true, Some(_)) | (false, None) => Ok(()),
    }
}

/// The init container to wrap, with the program that it leaves to its image: the same migration as one that names it.
fn with_entrypoint<'a>(container: Json<'a>, settings: &Settings, arena: Arena<'a>) -> Json<'a> {
    let Some(entrypoint) = &settings.entrypoint else { return container };
    arena.with(container, [("command", arena.texts(entrypoint.iter().map(String::as_str)))])
}

fn no_such_container(template: &Template<'_>, wanted: &str) -> Denial {
    let all = template.list(CONTAINERS).iter().chain(template.list(INIT_CONTAINERS));
    Denial::NoSuchContainer {
        found: wanted.to_owned(),
        names: all.map(|container| name(*container).to_owned()).collect(),
    }
}

/// The variables with the overrides: one of the same name takes the place of the first, the others follow.
fn merged<'a>(env: Json<'a>, overrides: &[Value], arena: Arena<'a>) -> Json<'a> {
    let overrides: Vec<Json<'a>> = overrides.iter().map(|variable| arena.value(variable)).collect();
    let mut left = overrides.clone();
    let mut merged = Vec::new();
    for variable in env.list() {
        let is_of_its_name = |other: &Json<'a>| name(*other) == name(*variable);
        if !overrides.iter().any(is_of_its_name) {
            merged.push(*variable);
        } else if let Some(at) = left.iter().position(is_of_its_name) {
            merged.push(left.remove(at));
        }
    }
    arena.list(merged.into_iter().chain(left))
}
