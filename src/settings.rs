//! Settings: what a workload's annotations ask for, checked once and typed.
//!
//! Every annotation in our domain is one of the known keys with a valid value, or the whole is refused with a sentence
//! that says which key, what was found, what is allowed, and an example.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use k8s_openapi::api::core::v1::EnvVar;
use serde_json::Value;

use crate::contract::{DOMAIN, annotation};
use crate::group::{GROUP_NAME_RULE, GroupName};

pub(crate) mod duration;
mod words;

pub use crate::contract::Address;

/// What a workload's annotations ask for.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Settings {
    /// The migration's command; never empty. `None` is right only where an init container is wrapped.
    pub command: Option<Vec<String>>,
    /// The container that is cloned, or the init container that is wrapped; the first container, if `None`.
    pub container: Option<String>,
    /// The program of a wrapped init container that leaves it to its image; never empty.
    pub entrypoint: Option<Vec<String>>,
    /// Another image for the migration.
    pub image: Option<String>,
    /// Environment variables, merged by name over the clone's: EnvVar objects as the user wrote them, unique by name.
    pub env: Vec<Value>,
    /// Free text that is part of the identity.
    pub revision: Option<String>,
    /// The names of the environment variables that count for the identity; all of them, if `None`.
    pub identity_env: Option<BTreeSet<String>>,
    /// The group that the workload shares its database with.
    pub group: Option<GroupName>,
    /// What the controller reads, and what never reaches the template.
    pub policy: Policy,
    /// What the agent awaits before the command, in this order.
    pub wait_for: Vec<Address>,
    /// The second command; never empty.
    pub verify: Option<Vec<String>>,
    /// The environment variable with the URL of the database that is locked while the migration runs.
    pub lock_env: Option<String>,
}

/// The settings that the controller reads from the workload whenever it needs them. Changing them rolls nothing out.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Policy {
    /// From the command's start until the agent ends it; whole seconds, at least one. Never, if `None`.
    pub timeout: Option<Duration>,
    /// Failed attempts before the migration is given up: 1 to [`BACKOFF_LIMIT_MAX`].
    pub backoff_limit: u32,
    /// Each new migration waits for an operator's approval.
    pub suspend: bool,
}

/// The default of [`Policy::backoff_limit`], as a Job's.
pub const BACKOFF_LIMIT_DEFAULT: u32 = 6;

/// The greatest [`Policy::backoff_limit`].
pub const BACKOFF_LIMIT_MAX: u32 = 1000;

impl Default for Policy {
    fn default() -> Policy {
        Policy { timeout: None, backoff_limit: BACKOFF_LIMIT_DEFAULT, suspend: false }
    }
}

/// An annotation that can't be accepted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{key}: {problem}; allowed: {allowed}; example: {example}")]
pub struct SettingsError {
    /// The annotation's key.
    pub key: String,
    /// What was found, and what is wrong with it.
    pub problem: String,
    /// What is allowed.
    pub allowed: String,
    /// One example of it.
    pub example: String,
}

/// The characters of a bad value that an error quotes.
const QUOTED_CHARS: usize = 60;

/// How much a key must be like the right one for that to be suggested: from 0 to 1, by Jaro and Winkler.
const ALIKE: f64 = 0.9;

/// How many characters longer or shorter it may be.
const LONGER: usize = 4;

impl Settings {
    /// Reads a workload's annotations. Those of other domains don't matter.
    ///
    /// # Errors
    /// For the first key, in their order, that is unknown or whose value isn't valid.
    pub fn parse(annotations: &BTreeMap<String, String>) -> Result<Settings, SettingsError> {
        let mut settings = Settings { policy: Policy::of(annotations)?, ..Settings::default() };
        for (key, value) in annotations {
            let rule = match rule(key) {
                Some(rule) => rule,
                None if is_ours(key) => return Err(unknown(key, value)),
                None => continue,
            };
            let bad = |problem: &dyn std::fmt::Display| rule.broken(value, problem);
            match rule.key {
                annotation::COMMAND => settings.command = Some(command(value).map_err(|e| bad(&e))?),
                annotation::CONTAINER => settings.container = Some(container(value).map_err(|e| bad(&e))?),
                annotation::ENTRYPOINT => settings.entrypoint = Some(command(value).map_err(|e| bad(&e))?),
                annotation::IMAGE => settings.image = Some(image(value).map_err(|e| bad(&e))?),
                annotation::ENV => settings.env = env(value).map_err(|e| bad(&e))?,
                annotation::REVISION => settings.revision = Some(value.clone()),
                annotation::IDENTITY_ENV => settings.identity_env = Some(names(value).map_err(|e| bad(&e))?),
                annotation::GROUP => {
                    settings.group = Some(GroupName::parse(value).map_err(|_| bad(&"not a group's name"))?);
                }
                annotation::WAIT_FOR => settings.wait_for = addresses(value).map_err(|e| bad(&e))?,
                annotation::LOCK_ENV => {
                    // Who takes it for the URL's place may have put a password there.
                    let shown = if value.contains("://") { "(a URL)" } else { value };
                    env_name(value).map_err(|_| rule.broken(shown, &"not the name of an environment variable"))?;
                    settings.lock_env = Some(value.clone());
                }
                annotation::VERIFY => settings.verify = Some(command(value).map_err(|e| bad(&e))?),
                _ => {}
            }
        }
        Ok(settings)
    }
}

impl Policy {
    /// Reads only the annotations that the controller needs; other keys, even bad ones, don't matter.
    ///
    /// # Errors
    /// For the first of the three whose value isn't valid.
    pub fn of(annotations: &BTreeMap<String, String>) -> Result<Policy, SettingsError> {
        let mut policy = Policy::default();
        if let Some(value) = annotations.get(annotation::BACKOFF_LIMIT) {
            policy.backoff_limit = match value.parse() {
                Ok(limit @ 1..=BACKOFF_LIMIT_MAX) => limit,
                _ => return Err(RULE_BACKOFF_LIMIT.broken(value, &"not such a number")),
            };
        }
        if let Some(value) = annotations.get(annotation::SUSPEND) {
            policy.suspend = match value.as_str() {
                "true" => true,
                "false" => false,
                _ => return Err(RULE_SUSPEND.broken(value, &"neither of the two")),
            };
        }
        if let Some(value) = annotations.get(annotation::TIMEOUT) {
            policy.timeout = Some(duration::parse(value).map_err(|e| RULE_TIMEOUT.broken(value, &e))?);
        }
        Ok(policy)
    }
}

/// Whether a key is in our domain.
pub(crate) fn is_ours(key: &str) -> bool {
    key.strip_prefix(DOMAIN).is_some_and(|rest| rest.starts_with('/'))
}

/// Whether an annotation of a workload has a part in the pod template: all of ours but the controller's.
pub(crate) fn reaches_template(key: &str) -> bool {
    is_ours(key) && ![annotation::TIMEOUT, annotation::BACKOFF_LIMIT, annotation::SUSPEND].contains(&key)
}

/// What one key allows, for messages.
struct Rule {
    key: &'static str,
    allowed: &'static str,
    example: &'static str,
}

const COMMAND_RULE: &str = "one line of shell words (no shell is started), or a JSON array of strings";
const RULE_TIMEOUT: Rule = Rule {
    key: annotation::TIMEOUT,
    allowed: "whole hours, minutes and seconds, from 1s to 8760h",
    example: "30m, or 1h30m",
};
const RULE_BACKOFF_LIMIT: Rule = Rule {
    key: annotation::BACKOFF_LIMIT,
    allowed: "the number of failed attempts before it gives up, from 1 (never retried) to 1000",
    example: "6",
};
const RULE_SUSPEND: Rule = Rule { key: annotation::SUSPEND, allowed: "true or false", example: "true" };

const RULES: [Rule; 14] = [
    Rule {
        key: annotation::COMMAND,
        allowed: COMMAND_RULE,
        example: r#"alembic upgrade head, or ["sh", "-c", "a && b"]"#,
    },
    Rule {
        key: annotation::CONTAINER,
        allowed: "the name of a container or of an init container of the pod template",
        example: "web",
    },
    Rule {
        key: annotation::ENTRYPOINT,
        allowed: COMMAND_RULE,
        example: r#"/usr/bin/hydra, or ["/tini", "--", "hydra"]"#,
    },
    Rule {
        key: annotation::IMAGE,
        allowed: "an image reference without blanks",
        example: "registry.example/orders-migrations:1.4.2",
    },
    Rule {
        key: annotation::ENV,
        allowed: "a JSON array of EnvVar objects, each with a name of its own",
        example: r#"[{"name": "DB_USER", "value": "owner"}]"#,
    },
    Rule { key: annotation::REVISION, allowed: "any text", example: "2" },
    Rule {
        key: annotation::IDENTITY_ENV,
        allowed: "names of environment variables, separated by commas",
        example: "DB_NAME,DB_SCHEMA",
    },
    Rule { key: annotation::GROUP, allowed: GROUP_NAME_RULE, example: "orders-db" },
    RULE_TIMEOUT,
    RULE_BACKOFF_LIMIT,
    RULE_SUSPEND,
    Rule {
        key: annotation::WAIT_FOR,
        allowed: "tcp://HOST:PORT, http://HOST and https://HOST addresses, separated by commas",
        example: "tcp://db:5432,http://auth:8080/healthz",
    },
    Rule { key: annotation::VERIFY, allowed: COMMAND_RULE, example: "alembic current --check-heads" },
    Rule {
        key: annotation::LOCK_ENV,
        allowed: "the name of an environment variable of the migration's container, which holds the database's URL",
        example: "DATABASE_URL",
    },
];

fn rule(key: &str) -> Option<&'static Rule> {
    RULES.iter().find(|rule| rule.key == key)
}

impl Rule {
    fn broken(&self, found: &str, problem: &dyn std::fmt::Display) -> SettingsError {
        SettingsError {
            key: self.key.to_owned(),
            problem: format!("found {}: {problem}", quoted(found)),
            allowed: self.allowed.to_owned(),
            example: self.example.to_owned(),
        }
    }
}

/// A value for a message: quoted, on one line, cut.
fn quoted(value: &str) -> String {
    let mut text: String = value.chars().take(QUOTED_CHARS).collect();
    if text.len() < value.len() {
        text.push('…');
    }
    // Values are often JSON, so double quotes stay as they are.
    format!("'{}'", text.replace(char::is_control, "\u{fffd}"))
}

/// A key of our domain that nobody sets on a workload, or that doesn't exist.
fn unknown(key: &str, value: &str) -> SettingsError {
    let known = || RULES.iter().map(|rule| &rule.key[DOMAIN.len() + 1..]).collect::<Vec<_>>().join(", ");
    if [annotation::SIGNAL, annotation::OPENED, annotation::INJECTED].contains(&key) {
        return SettingsError {
            key: key.to_owned(),
            problem: "it is written by migration-gate on pods and pod templates, and means nothing here".to_owned(),
            allowed: known(),
            example: format!("remove it: kubectl annotate deployment NAME {key}-"),
        };
    }
    // All of them begin with the domain, which says nothing, and keys of quite another length need no look.
    let likeness = |rule: &Rule| strsim::jaro_winkler(&rule.key[DOMAIN.len()..], &key[DOMAIN.len()..]);
    let near = RULES
        .iter()
        .filter(|rule| rule.key.len().abs_diff(key.len()) <= LONGER)
        .map(|rule| (likeness(rule), rule))
        .filter(|(likeness, _)| *likeness >= ALIKE)
        .max_by(|(a, _), (b, _)| a.total_cmp(b));
    SettingsError {
        key: key.to_owned(),
        problem: match near {
            Some((_, rule)) => format!("unknown annotation; did you mean {}?", rule.key),
            None => format!("unknown annotation with the value {}", quoted(value)),
        },
        allowed: known(),
        example: match near {
            Some((_, rule)) => format!("{}: {}", rule.key, rule.example),
            None => format!("{}: {}", annotation::COMMAND, "alembic upgrade head"),
        },
    }
}

/// Reads a command: a JSON array, or one line of shell words.
pub(crate) fn command(value: &str) -> Result<Vec<String>, String> {
    if !value.trim_start().starts_with('[') {
        return words::split(value).map_err(|e| e.to_string());
    }
    let words: Vec<String> = serde_json::from_str(value).map_err(|e| format!("not a JSON array of strings: {e}"))?;
    match words.first().map(String::as_str) {
        None => Err("the array is empty".to_owned()),
        Some("") => Err("the program's name is empty".to_owned()),
        Some(_) if words.iter().any(|word| word.contains('\0')) => Err("a NUL can't be passed to a program".to_owned()),
        Some(_) => Ok(words),
    }
}

fn container(value: &str) -> Result<String, &'static str> {
    // A container's name is a DNS label (RFC 1123), as a group's is.
    GroupName::parse(value).map(String::from).map_err(|_| "not a container's name")
}

fn image(value: &str) -> Result<String, &'static str> {
    match value {
        "" => Err("it is empty"),
        _ if value.contains(|c: char| c.is_whitespace() || c.is_control()) => Err("there is a blank in it"),
        _ => Ok(value.to_owned()),
    }
}

fn names(value: &str) -> Result<BTreeSet<String>, String> {
    if value.trim().is_empty() {
        return Ok(BTreeSet::new());
    }
    value.split(',').map(str::trim).map(|name| env_name(name).map(|()| name.to_owned())).collect()
}

fn addresses(value: &str) -> Result<Vec<Address>, String> {
    value.split(',').map(|address| Address::parse(address.trim())).collect()
}

/// Source: Kubernetes, EnvVar.name, as relaxed in 1.30: printable ASCII characters but `=`.
fn env_name(name: &str) -> Result<(), String> {
    match name.bytes().all(|b| (b' '..=b'~').contains(&b) && b != b'=') && !name.is_empty() {
        true => Ok(()),
        false => Err(format!("{} is not the name of an environment variable", quoted(name))),
    }
}

/// Checks the variables as strictly as the API server would, because what it can't decode makes the patch fail.
fn env(value: &str) -> Result<Vec<Value>, String> {
    let variables: Vec<Value> = serde_json::from_str(value).map_err(|e| format!("not a JSON array: {e}"))?;
    let mut seen = BTreeSet::new();
    for variable in &variables {
        let typed: EnvVar =
            serde_json::from_value(variable.clone()).map_err(|e| format!("{}: {e}", quoted(&variable.to_string())))?;
        env_name(&typed.name)?;
        if serde_json::to_value(&typed).ok().as_ref() != Some(variable) {
            return Err(format!("{} has a field that EnvVar doesn't have", quoted(&variable.to_string())));
        }
        if typed.value.is_some() && typed.value_from.is_some() {
            return Err(format!("{} has both value and valueFrom", quoted(&typed.name)));
        }
        if !seen.insert(typed.name.clone()) {
            return Err(format!("{} is there twice", quoted(&typed.name)));
        }
    }
    Ok(variables)
}

#[cfg(test)]
mod tests;
