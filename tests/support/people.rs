//! People with kubeconfigs of their own, who call the program.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use kube::config::{AuthInfo, Kubeconfig};
use serde_json::json;
use testcluster::Cluster;

use super::client::Somebody;

/// Somebody with a kubeconfig.
pub struct Person {
    pub kubeconfig: PathBuf,
}

/// What a call came to.
#[derive(Debug)]
pub struct Said {
    pub code: i32,
    pub out: String,
    pub err: String,
}

impl Person {
    /// The administrator.
    pub fn administrator(cluster: &Cluster) -> Person {
        Person { kubeconfig: cluster.kubeconfig() }
    }

    /// A service account of a namespace, made if it isn't there, with a token, and with a ClusterRole in the namespace.
    pub async fn with_role(
        cluster: &Cluster,
        administrator: &Somebody,
        namespace: &str,
        name: &str,
        role: Option<&str>,
    ) -> Person {
        let accounts = format!("/api/v1/namespaces/{namespace}/serviceaccounts");
        let account = json!({ "apiVersion": "v1", "kind": "ServiceAccount", "metadata": { "name": name } });
        // The installation may have brought it.
        let _ = administrator.create(&accounts, &account).await;
        if let Some(role) = role {
            let binding = json!({
                "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding",
                "metadata": { "name": format!("{name}-{role}") },
                "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role },
                "subjects": [{ "kind": "ServiceAccount", "name": name, "namespace": namespace }],
            });
            let path = format!("/apis/rbac.authorization.k8s.io/v1/namespaces/{namespace}/rolebindings");
            administrator.must_create(&path, &binding).await;
        }
        let request = json!({ "apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {} });
        let token = administrator.must_create(&format!("{accounts}/{name}/token"), &request).await;
        let token = token["status"]["token"].as_str().expect("a token").to_owned();
        let kubeconfig = cluster.folder("people").expect("a folder").join(format!("{namespace}-{name}"));
        write(&cluster.kubeconfig(), &kubeconfig, namespace, token);
        Person { kubeconfig }
    }

    /// Calls the program.
    pub fn says(&self, arguments: &[&str]) -> Said {
        let output = tokio::task::block_in_place(|| self.command(arguments).output()).expect("the program was built");
        Said::of(output)
    }

    /// The program with these arguments, still to be started.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_migration-gate"));
        command.args(arguments).env("KUBECONFIG", &self.kubeconfig).stdin(Stdio::null());
        command
    }
}

impl Said {
    pub fn of(output: Output) -> Said {
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("text");
        Said { code: output.status.code().unwrap_or(-1), out: text(output.stdout), err: text(output.stderr) }
    }

    /// It went well and said this.
    pub fn has(&self, expected: &str) -> &Said {
        assert!(self.code == 0 && self.out.contains(expected), "{expected}: {self:#?}");
        self
    }

    /// It failed with this code and said this.
    pub fn fails(&self, code: i32, expected: &str) -> &Said {
        assert!(self.code == code && self.err.contains(expected), "{code} {expected}: {self:#?}");
        self
    }
}

/// The same cluster, with another user and namespace.
fn write(from: &Path, to: &Path, namespace: &str, token: String) {
    let mut kubeconfig = Kubeconfig::read_from(from).expect("the cluster's kubeconfig");
    kubeconfig.auth_infos[0].auth_info = Some(AuthInfo { token: Some(token.into()), ..AuthInfo::default() });
    kubeconfig.contexts[0].context.as_mut().expect("a context").namespace = Some(namespace.to_owned());
    std::fs::write(to, serde_saphyr::to_string(&kubeconfig).expect("YAML")).expect("a file");
}
