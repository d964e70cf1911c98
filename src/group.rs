//! Groups: which workloads share one migration lock, and what their record is called.
//!
//! A group is one workload by itself, or all workloads of a namespace whose `group` annotation says the same. Its
//! record's name is also a label value on every gated pod, so it must be valid as both: a label value ends at 63
//! characters, and an object's name may not hold `.-`.

use std::fmt;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::contract::LABEL_VALUE_CHARS;

/// The kinds of workload that can be gated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum WorkloadKind {
    /// apps/v1 Deployment.
    Deployment,
}

impl WorkloadKind {
    /// The kind as the API spells it.
    pub fn kind(self) -> &'static str {
        match self {
            WorkloadKind::Deployment => "Deployment",
        }
    }

    /// The API group and version, as in `apiVersion`.
    pub fn api_version(self) -> &'static str {
        match self {
            WorkloadKind::Deployment => "apps/v1",
        }
    }

    /// The kind of this `apiVersion` and `kind`; `None` if it can't be gated.
    pub fn of(api_version: &str, kind: &str) -> Option<WorkloadKind> {
        match (api_version, kind) {
            ("apps/v1", "Deployment") => Some(WorkloadKind::Deployment),
            _ => None,
        }
    }

    /// All of them.
    pub const ALL: [WorkloadKind; 1] = [WorkloadKind::Deployment];

    /// The last part of the record's name.
    fn suffix(self) -> &'static str {
        match self {
            WorkloadKind::Deployment => "deployment",
        }
    }
}

impl fmt::Display for WorkloadKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.kind())
    }
}

/// The usual kinds, by API group, that start pods and can't be gated: a label on one of them has no effect. Whatever else
/// holds a pod template is another such kind; these are known without one. A kind that becomes gated leaves this list.
pub const UNGATED: [(&str, &str); 9] = [
    ("", "Pod"),
    ("", "ReplicationController"),
    ("apps", "DaemonSet"),
    ("apps", "ReplicaSet"),
    ("apps", "StatefulSet"),
    ("argoproj.io", "Rollout"),
    ("batch", "CronJob"),
    ("batch", "Job"),
    ("serving.knative.dev", "Service"),
];

/// The value of a `group` annotation: a DNS label (RFC 1123), so that it has no dot and can't be taken for a workload.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct GroupName(String);

/// What a group's name may be, for messages.
pub const GROUP_NAME_RULE: &str = "1 to 63 lower-case letters, digits and '-', with a letter or digit at both ends";

/// The text isn't a group's name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a group's name, which is {GROUP_NAME_RULE}")]
pub struct GroupNameError(pub String);

impl GroupName {
    /// Checks the text of a `group` annotation.
    ///
    /// # Errors
    /// If it isn't a DNS label.
    pub fn parse(text: &str) -> Result<GroupName, GroupNameError> {
        let bytes = text.as_bytes();
        let inner = |b: &u8| b.is_ascii_lowercase() || b.is_ascii_digit() || *b == b'-';
        let ends = !text.starts_with('-') && !text.ends_with('-');
        if (1..=63).contains(&bytes.len()) && ends && bytes.iter().all(inner) {
            Ok(GroupName(text.to_owned()))
        } else {
            Err(GroupNameError(text.to_owned()))
        }
    }

    /// The name as it was written.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for GroupName {
    type Error = GroupNameError;

    fn try_from(text: String) -> Result<GroupName, GroupNameError> {
        GroupName::parse(&text)
    }
}

impl From<GroupName> for String {
    fn from(name: GroupName) -> String {
        name.0
    }
}

impl fmt::Display for GroupName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A group within its namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Group<'a> {
    /// One workload by itself.
    Workload {
        /// Its kind.
        kind: WorkloadKind,
        /// Its name.
        name: &'a str,
    },
    /// All workloads whose `group` annotation has this value.
    Named(&'a GroupName),
}

impl<'a> Group<'a> {
    /// The group of a workload with these settings' `group`.
    pub fn of(group: Option<&'a GroupName>, kind: WorkloadKind, name: &'a str) -> Group<'a> {
        match group {
            Some(group) => Group::Named(group),
            None => Group::Workload { kind, name },
        }
    }
}

/// The name of the group's record, which is also the value of the label that says to which group a pod belongs:
/// `orders.deployment` or `orders-db.group`.
///
/// A name of more than 63 characters becomes its first 50, `-`, and the first 12 hexadecimal digits of the SHA-256 of
/// the whole. Where the cut would leave a dot before the `-`, which no object's name may hold, the dot goes too.
pub fn record_name(group: Group<'_>) -> String {
    let name = match group {
        Group::Workload { kind, name } => format!("{name}.{}", kind.suffix()),
        Group::Named(name) => format!("{name}.group"),
    };
    if name.len() <= LABEL_VALUE_CHARS {
        return name;
    }
    let digest = hex(&Sha256::digest(name.as_bytes()));
    let head: String = name.chars().take(50).collect();
    format!("{}-{}", head.trim_end_matches('.'), &digest[..12])
}

/// Bytes as lower-case hexadecimal digits.
pub(crate) fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    bytes.iter().flat_map(|b| [DIGITS[usize::from(b >> 4)], DIGITS[usize::from(b & 15)]]).map(char::from).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn of_deployment(name: &str) -> String {
        record_name(Group::Workload { kind: WorkloadKind::Deployment, name })
    }

    #[test]
    fn names_say_what_they_stand_for() {
        assert_eq!(of_deployment("orders"), "orders.deployment");
        let group = GroupName::parse("orders-db").expect("a DNS label");
        assert_eq!(record_name(Group::Named(&group)), "orders-db.group");
        assert_eq!(of_deployment("orders-db.group"), "orders-db.group.deployment");
    }

    #[test]
    fn a_kind_is_gated_or_not() {
        for kind in WorkloadKind::ALL {
            assert_eq!(WorkloadKind::of(kind.api_version(), kind.kind()), Some(kind));
            let group = kind.api_version().split_once('/').map_or("", |(group, _)| group);
            assert!(!UNGATED.contains(&(group, kind.kind())), "{kind} can be gated");
        }
    }

    #[test]
    fn long_names_are_cut_and_told_apart() {
        let (a, b) = (format!("{}a", "x".repeat(60)), format!("{}b", "x".repeat(60)));
        assert_ne!(of_deployment(&a), of_deployment(&b));
        assert_eq!(of_deployment(&a).len(), 63);
        // Frozen: the name is in every gated pod's label.
        assert_eq!(of_deployment(&"x".repeat(60)), format!("{}-d4e39e6e1c58", "x".repeat(50)));
        let dotted = format!("{}.{}", "x".repeat(49), "y".repeat(20));
        assert!(of_deployment(&dotted).starts_with(&format!("{}-", "x".repeat(49))), "{}", of_deployment(&dotted));
    }

    #[test]
    fn group_names_are_dns_labels() {
        for good in ["a", "orders-db", "0", &"x".repeat(63)] {
            assert_eq!(GroupName::parse(good).expect(good).as_str(), good);
        }
        for bad in ["", "-a", "a-", "A", "a.b", "a_b", "a b", "é", &"x".repeat(64)] {
            assert!(GroupName::parse(bad).is_err(), "{bad:?}");
        }
    }

    proptest! {
        /// Source: apimachinery/pkg/util/validation, IsDNS1123Subdomain and IsValidLabelValue.
        #[test]
        fn record_names_are_valid_as_names_and_as_label_values(
            name in "[a-z0-9]([a-z0-9-]{0,30}[a-z0-9])?(\\.[a-z0-9]([a-z0-9-]{0,30}[a-z0-9])?){0,5}"
        ) {
            let record = of_deployment(&name);
            prop_assert!(record.len() <= 63);
            for part in record.split('.') {
                prop_assert!(!part.is_empty() && !part.starts_with('-') && !part.ends_with('-'), "{record}");
            }
        }
    }
}
