//! Warnings: what is allowed, but may not be what the user wants. `kubectl` shows them beside its own output.

use std::fmt;

use migration_gate_run::Scheme;

use super::json::Json;
use super::plan::{Plan, Source, is_mutable};
use super::template::{ANNOTATIONS, CONTAINERS, INIT_CONTAINERS, LABELS, Template, name};
use super::workload::{HELM_HOOK, Workload};
use crate::contract::annotation;
use crate::settings::{Policy, Settings};

/// The characters that a warning may have. Source: Kubernetes API, AdmissionResponse.warnings.
const CHARS: usize = 120;

/// The characters of a name that a warning quotes.
const NAME_CHARS: usize = 40;

/// The default of `progressDeadlineSeconds`. Source: Kubernetes, SetDefaults_Deployment.
const PROGRESS_DEADLINE_SECONDS: i64 = 600;

/// Database proxies and meshes, by the name of their container or of their image.
const PROXIES: [&str; 11] = [
    "alloydb-auth-proxy",
    "cloud-sql-proxy",
    "cloud_sql_proxy",
    "cloudsql-proxy",
    "consul-dataplane",
    "envoy",
    "istio-proxy",
    "kuma-sidecar",
    "linkerd-proxy",
    "pgbouncer",
    "proxysql",
];

/// Who puts a proxy into pods when they are created, which the workload only shows by a key on its pod template: the key,
/// its values that ask for one, and the keys that make it a native sidecar.
const MESHES: [(&str, &[&str], &[&str]); 4] = [
    ("sidecar.istio.io/inject", &["true"], &["sidecar.istio.io/nativeSidecar"]),
    (
        "linkerd.io/inject",
        &["enabled", "ingress"],
        &["config.linkerd.io/proxy-enable-native-sidecar", "config.alpha.linkerd.io/proxy-enable-native-sidecar"],
    ),
    ("consul.hashicorp.com/connect-inject", &["true"], &[]),
    ("kuma.io/sidecar-injection", &["enabled", "true"], &[]),
];

/// Vault's injector adds an init container that fetches the secrets: behind all others, unless the second key is true.
const VAULT: (&str, &str) = ("vault.hashicorp.com/agent-inject", "vault.hashicorp.com/agent-init-first");

/// The programs of k8s-wait-for, and its image's name. Source: github.com/groundnuty/k8s-wait-for, wait_for.sh.
const WAIT_FOR: [&str; 2] = ["k8s-wait-for", "wait_for.sh"];

/// What they and kubectl call Jobs.
const JOBS: [&str; 6] = ["job", "jobs", "job.batch", "jobs.batch", "job-wr", "job-we"];

/// A warning on one line, of at most 120 characters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Warning(String);

impl Warning {
    fn new(text: String) -> Warning {
        Warning(cut(&text, CHARS))
    }
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A text of any length as warnings, broken between words.
pub(super) fn in_pieces(text: &str) -> Vec<Warning> {
    let mut pieces: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        match pieces.last_mut() {
            Some(piece) if piece.chars().count() + 1 + word.chars().count() <= CHARS => {
                piece.push(' ');
                piece.push_str(word);
            }
            _ => pieces.push(word.to_owned()),
        }
    }
    pieces.into_iter().map(Warning::new).collect()
}

/// It asks for a gate, but nothing says what to run, and the template has nothing of ours.
pub(super) fn ungated() -> Warning {
    Warning::new(format!("not gated: no {} says what to run; pods start without a migration", annotation::COMMAND))
}

/// About how the Deployment rolls out.
pub(super) fn of_timing(workload: &Workload<'_>, policy: &Policy) -> Vec<Warning> {
    let mut warnings = Vec::new();
    let deadline = workload.spec.progress_deadline_seconds.unwrap_or(PROGRESS_DEADLINE_SECONDS);
    if let Some(timeout) = policy.timeout.map(|timeout| timeout.as_secs())
        && i64::try_from(timeout).is_ok_and(|timeout| timeout > deadline)
    {
        warnings.push(Warning::new(format!(
            "progressDeadlineSeconds {deadline} is shorter than the migration's timeout {timeout}s: a rollout may be given up early"
        )));
    }
    let strategy = workload.spec.strategy.as_ref();
    if strategy.is_some_and(|strategy| strategy.r#type.as_deref() == Some("Recreate")) {
        warnings.push(Warning::new("strategy Recreate: no pod serves while the migration runs".to_owned()));
    }
    let rolling = strategy.and_then(|strategy| strategy.rolling_update.as_ref());
    if rolling.is_some_and(|rolling| rolling.max_unavailable == "100%") {
        warnings
            .push(Warning::new("maxUnavailable 100%: no pod may be left to serve while the migration runs".to_owned()));
    }
    warnings
}

/// About who makes and deletes the Deployment.
pub(super) fn of_owner(workload: &Workload<'_>) -> Option<Warning> {
    workload.annotations().contains_key(HELM_HOOK).then(|| {
        Warning::new(format!(
            "{HELM_HOOK}: Helm deletes the Deployment at each upgrade, and its record of migrations goes with it"
        ))
    })
}

/// About what is in the template.
pub(super) fn of_template(stripped: &Template<'_>, plan: &Plan<'_>, settings: &Settings) -> Vec<Warning> {
    let mut warnings = Vec::new();
    let image = plan.container.at("image").text().unwrap_or_default();
    if is_mutable(image) {
        warnings.push(Warning::new(format!(
            "image {:?} can change without a new migration: use a fixed tag or a digest",
            cut(image, NAME_CHARS)
        )));
    }
    if let Some(variable) = &settings.lock_env {
        warnings.extend(of_lock(plan.container, variable));
    }
    let target = match plan.source {
        Source::Copy => {
            settings.container.as_deref().or_else(|| stripped.list(CONTAINERS).first().map(|first| name(*first)))
        }
        Source::Wrap(_) => None,
    };
    for container in stripped.list(CONTAINERS).iter().copied() {
        if Some(name(container)) != target && is_proxy(container) {
            warnings.push(Warning::new(format!(
                "the migration can't reach {:?} before it starts: make that proxy a native sidecar",
                cut(name(container), NAME_CHARS)
            )));
        }
    }
    if let Source::Wrap(wrapped) = plan.source {
        warnings.extend(of_wrapped(stripped, wrapped, settings));
    }
    let waiting = stripped.list(INIT_CONTAINERS).iter().filter(|container| waits_for_job(**container));
    warnings.extend(waiting.map(|container| {
        Warning::new(format!(
            "init container {:?} waits for a Job and hangs once that is deleted: still needed?",
            cut(name(*container), NAME_CHARS)
        ))
    }));
    warnings.extend(of_injectors(stripped));
    warnings
}

/// About a wrapped init container and those that start after it.
fn of_wrapped(stripped: &Template<'_>, wrapped: Json<'_>, settings: &Settings) -> Vec<Warning> {
    let mut warnings = Vec::new();
    if settings.entrypoint.is_some() && wrapped.at("args").is_hollow() {
        warnings.push(Warning::new(format!(
            "{:?} has no args: {} runs alone, not the image's CMD",
            cut(name(wrapped), NAME_CHARS),
            annotation::ENTRYPOINT
        )));
    }
    let behind = stripped.list(INIT_CONTAINERS).iter().skip_while(|container| name(**container) != name(wrapped));
    let sidecars = behind.copied().filter(|container| container.at("restartPolicy") == *"Always");
    warnings.extend(sidecars.filter(|sidecar| is_proxy(*sidecar)).map(|sidecar| {
        Warning::new(format!(
            "the migration can't reach {:?}, which starts after it: put that sidecar before it",
            cut(name(sidecar), NAME_CHARS)
        ))
    }));
    warnings
}

/// About what others put into pods only when they are created. They come after us, so all that can be seen is the wish.
fn of_injectors(stripped: &Template<'_>) -> Vec<Warning> {
    let value = |key: &str| stripped.entry(ANNOTATIONS, key).or_else(|| stripped.entry(LABELS, key));
    let is_true = |key: &str| value(key) == Some("true");
    let meshes = MESHES.iter().filter(|(key, values, native)| {
        value(key).is_some_and(|found| values.contains(&found)) && !native.iter().any(|key| is_true(key))
    });
    let mut warnings: Vec<Warning> = meshes
        .map(|(key, ..)| Warning::new(format!("{key}: the migration can't use a proxy that isn't a native sidecar")))
        .collect();
    let (inject, first) = VAULT;
    if is_true(inject) && !is_true(first) {
        warnings.push(Warning::new(format!("{inject}: its secrets come after the migration; add {first}: \"true\"")));
    }
    warnings
}

/// About a lock's URL that stands in the template, as far as it can be seen. The value itself may hold a secret.
fn of_lock(container: Json<'_>, variable: &str) -> Option<Warning> {
    let named = container.at("env").list().iter().find(|entry| name(**entry) == variable)?;
    let value = named.at("value").text().filter(|value| !value.starts_with("$("))?;
    let shown = cut(variable, NAME_CHARS);
    match Scheme::of(value) {
        Some(Scheme::Database | Scheme::Lease) => None,
        Some(Scheme::File) => Some(Warning::new(format!(
            "{shown} names a file, which only pods that share its volume can lock: use the URL of a database"
        ))),
        None => Some(Warning::new(format!(
            "{shown} is not the URL of a database that can be locked: the migration will fail, see migration-gate run"
        ))),
    }
}

/// Whether a container waits for a Job: with k8s-wait-for, or with `kubectl wait`, also inside a shell's line.
fn waits_for_job(container: Json<'_>) -> bool {
    let words = || {
        let lines = ["command", "args"].into_iter().flat_map(|field| container.at(field).list());
        let is_blank = |c: char| c.is_whitespace() || "'\";&|()=".contains(c);
        lines.filter_map(|line| line.text()).flat_map(move |line| line.split(is_blank))
    };
    let runs = |program: &str| {
        image_name(container) == program || words().any(|word| word.rsplit('/').next() == Some(program))
    };
    let names_job = || {
        let mut kinds = words().map(|word| word.split_once('/').map_or(word, |(kind, _)| kind));
        kinds.any(|kind| JOBS.contains(&kind))
    };
    let is_waiting = || words().any(|word| word == "wait") && runs("kubectl");
    (is_waiting() || WAIT_FOR.iter().any(|program| runs(program))) && names_job()
}

fn is_proxy(container: Json<'_>) -> bool {
    PROXIES.contains(&name(container)) || PROXIES.contains(&image_name(container))
}

/// The last part of a container's image, without tag and digest.
fn image_name(container: Json<'_>) -> &str {
    let image = container.at("image").text().unwrap_or_default().rsplit('/').next().unwrap_or_default();
    image.split(['@', ':']).next().unwrap_or_default()
}

/// The text's first characters, with a sign that there were more.
fn cut(text: &str, chars: usize) -> String {
    if text.chars().count() <= chars {
        return text.to_owned();
    }
    text.chars().take(chars - 1).chain(['…']).collect()
}
