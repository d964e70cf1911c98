//! The platform: the agent is a Linux program, so pods that can only run on Windows are refused.

use super::denial::Denial;
use super::json::Json;
use super::template::{CONTAINERS, INIT_CONTAINERS, Template};

/// The labels of a node that name its system; the second is the one of before Kubernetes 1.14.
const SYSTEM: [&str; 2] = ["kubernetes.io/os", "beta.kubernetes.io/os"];

const LINUX: &str = "linux";
const WINDOWS: &str = "windows";

/// Refuses what can only run on Windows.
pub(super) fn check_platform(template: &Template<'_>) -> Result<(), Denial> {
    let system = template.spec("os").at("name");
    if system == *WINDOWS {
        return Err(Denial::Windows("spec.os.name: windows".to_owned()));
    }
    let selector = template.spec("nodeSelector");
    if let Some(key) = SYSTEM.iter().find(|key| selector.at(key) == *WINDOWS) {
        return Err(Denial::Windows(format!("nodeSelector {key}: windows")));
    }
    let affinity = template.spec("affinity").at("nodeAffinity").at("requiredDuringSchedulingIgnoredDuringExecution");
    // One of the terms is enough for a node; one that asks for nothing fits none.
    let mut terms = affinity.at("nodeSelectorTerms").list().iter().filter(|term| !is_empty(**term)).peekable();
    if terms.peek().is_some() && terms.all(|term| term.at("matchExpressions").list().iter().any(excludes_linux)) {
        return Err(Denial::Windows("a nodeAffinity that no Linux node fits".to_owned()));
    }
    // On a Linux node they have no effect.
    let is_linux = system == *LINUX || SYSTEM.iter().any(|key| selector.at(key) == *LINUX);
    let has_options = |holder: Json<'_>| !holder.at("securityContext").at("windowsOptions").is_hollow();
    let mut containers = template.list(CONTAINERS).iter().chain(template.list(INIT_CONTAINERS));
    let of_pod = !template.spec("securityContext").at("windowsOptions").is_hollow();
    if (of_pod || containers.any(|container| has_options(*container))) && !is_linux {
        return Err(Denial::Windows("windowsOptions, and no nodeSelector kubernetes.io/os: linux".to_owned()));
    }
    Ok(())
}

fn is_empty(term: Json<'_>) -> bool {
    term.at("matchExpressions").is_hollow() && term.at("matchFields").is_hollow()
}

/// Whether an expression about a node's labels keeps Linux nodes out and Windows nodes in.
fn excludes_linux(expression: &Json<'_>) -> bool {
    let names = |system: &str| expression.at("values").list().iter().any(|value| *value == *system);
    let is_about_system = expression.at("key").text().is_some_and(|key| SYSTEM.contains(&key));
    is_about_system
        && match expression.at("operator").text() {
            Some("In") => names(WINDOWS) && !names(LINUX),
            Some("NotIn") => names(LINUX),
            _ => false,
        }
}
