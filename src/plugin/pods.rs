//! Pods as people see them: the controller's facts, and what the kubelet says that it doesn't need to know.

use std::collections::HashMap;

use k8s_openapi::api::core::v1::{ContainerState, ContainerStatus, Pod};

use super::terminal::harmless;
use crate::contract::pod::runs_agent;
use crate::controller::objects::{GroupKey, PodObject};
use crate::controller::snapshot;

/// Why a container waits whose image can't be had. Source: pkg/kubelet/images and k8s.io/cri-api/pkg/errors.
const IMAGE_ERRORS: [&str; 7] = [
    "ErrImagePull",
    "ImagePullBackOff",
    "InvalidImageName",
    "ErrImageNeverPull",
    "ImageInspectError",
    "RegistryUnavailable",
    "SignatureValidationFailed",
];

/// The controller's view of a pod; `None` for one that isn't gated.
pub(crate) fn facts(pod: &Pod) -> Option<(GroupKey, snapshot::Pod)> {
    let value = serde_json::to_value(pod).ok()?;
    serde_json::from_value::<PodObject>(value).ok()?.facts()
}

/// How many pods of each group wait for their gate.
pub(crate) fn waiting(pods: &[Pod]) -> HashMap<(String, String), u32> {
    let mut counts = HashMap::new();
    for (key, pod) in pods.iter().filter_map(facts) {
        if pod.is_alive() && !pod.is_open() {
            *counts.entry((key.namespace, key.name)).or_default() += 1;
        }
    }
    counts
}

/// The name of the init container that the agent runs in.
pub(crate) fn agent_container(pod: &Pod) -> Option<String> {
    let containers = pod.spec.as_ref()?.init_containers.as_ref()?;
    containers
        .iter()
        .find(|each| each.command.as_ref().is_some_and(|command| runs_agent(command)))
        .map(|each| each.name.clone())
}

/// What keeps a pod from getting as far as its agent, in the kubelet's or the scheduler's words.
pub(crate) fn trouble(pod: &Pod) -> Option<String> {
    let status = pod.status.as_ref()?;
    let conditions = status.conditions.as_deref().unwrap_or_default();
    let unscheduled = conditions.iter().find(|each| each.type_ == "PodScheduled" && each.status == "False");
    if let Some(condition) = unscheduled {
        let why = condition.message.as_deref().or(condition.reason.as_deref()).unwrap_or("no reason is given");
        return Some(format!("it is not scheduled: {why}"));
    }
    let containers = status.init_container_statuses.iter().flatten().chain(status.container_statuses.iter().flatten());
    containers.into_iter().find_map(waits).or_else(|| stage(pod))
}

/// The image that a pod waits for in vain, in the kubelet's words.
pub(crate) fn image_error(pod: &Pod) -> Option<String> {
    let status = pod.status.as_ref()?;
    let containers = status.init_container_statuses.iter().flatten().chain(status.container_statuses.iter().flatten());
    containers.into_iter().find_map(|container| {
        let waiting = container.state.as_ref()?.waiting.as_ref()?;
        let reason = waiting.reason.as_deref().filter(|reason| IMAGE_ERRORS.contains(reason))?;
        let message = waiting.message.as_deref().map_or_else(String::new, |text| format!(": {}", harmless(text)));
        Some(format!(
            "the image {} of its container {} can't be had: {reason}{message}",
            container.image, container.name
        ))
    })
}

/// The init container that a pod has got to, where that is not the agent's yet: without an error, a slow one.
fn stage(pod: &Pod) -> Option<String> {
    let agent = agent_container(pod)?;
    let statuses = pod.status.as_ref()?.init_container_statuses.as_ref()?;
    let at = statuses.iter().find(|status| {
        let ended = status.state.as_ref().and_then(|state| state.terminated.as_ref());
        // A sidecar has done its part once it has started.
        ended.is_none_or(|ended| ended.exit_code != 0) && status.started != Some(true)
    })?;
    match at.state.as_ref() {
        Some(ContainerState { running: Some(_), .. }) if at.name != agent => {
            Some(format!("its init container {} still runs", at.name))
        }
        Some(ContainerState { waiting: Some(_), .. }) => Some(format!(
            "its container {} has not started yet; the image {} may still be on its way",
            at.name, at.image
        )),
        _ => None,
    }
}

/// The containers that keep a pod from being ready although its gate is open.
pub(crate) fn unready(pod: &Pod) -> Vec<String> {
    let statuses = pod.status.iter().flat_map(|status| status.container_statuses.iter().flatten());
    let not_ready = statuses.filter(|status| !status.ready);
    not_ready.map(|status| waits(status).unwrap_or_else(|| format!("container {} is not ready", status.name))).collect()
}

/// Whether the kubelet says that the pod is ready.
pub(crate) fn is_ready(pod: &Pod) -> bool {
    let conditions = pod.status.as_ref().and_then(|status| status.conditions.as_ref());
    conditions.into_iter().flatten().any(|condition| condition.type_ == "Ready" && condition.status == "True")
}

fn waits(status: &ContainerStatus) -> Option<String> {
    let ContainerState { waiting: Some(waiting), .. } = status.state.as_ref()? else { return None };
    let reason = waiting.reason.as_deref().filter(|reason| !matches!(*reason, "PodInitializing" | ""))?;
    let message = waiting.message.as_deref().map_or_else(String::new, |message| format!(": {message}"));
    Some(format!("container {} waits: {reason}{message}", status.name))
}
