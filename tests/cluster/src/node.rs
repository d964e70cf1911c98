//! A node: containerd, the kubelet and kube-proxy in a sandbox with a network of its own.

use std::fs;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use serde_json::{Value, json};

use crate::command::{self, command};
use crate::component::Component;
use crate::control_plane::{Endpoints, Files};
use crate::error::{At, Error, Result};
use crate::image::Image;
use crate::network::{self, Plan};
use crate::pki::User;
use crate::sandbox::Place;
use crate::state::{Layout, Site};
use crate::tools::{self, Tool};

/// Inside the sandbox; `/run` is its own.
const SOCKET: &str = "/run/containerd/containerd.sock";
const SANDBOX_IMAGE: &str = "docker.io/local/pause:1";

/// The name that the API knows the node by.
pub(crate) fn name(index: usize) -> String {
    format!("node-{index}")
}

/// The control group that holds the node's pods.
pub(crate) fn cgroup(cluster: &str, index: usize) -> String {
    format!("testcluster-{cluster}-{index}")
}

/// What the sandbox's init does first, in shell: makes those of the machine's folders private that a node
/// writes to whatever its configuration says, and keeps the kubelet from changing the machine's kernel.
pub(crate) fn setup(layout: &Layout) -> Result<String> {
    let kept = [layout.folder().to_owned(), tools::cache_folder()?];
    let mut script = String::from(
        "mount -t tmpfs -o mode=0755 node /run\n\
         mount -t tmpfs -o mode=0755 node /var/log\n\
         mkdir -p /run/lock /run/containerd /run/kept /run/tunables\n",
    );
    for (index, folder) in kept.iter().enumerate() {
        let folder = quoted(folder)?;
        script.push_str(&format!("mkdir /run/kept/{index}\nmount --bind {folder} /run/kept/{index}\n"));
    }
    script.push_str("mount -t tmpfs -o mode=0755 node /var/lib\n");
    for (index, folder) in kept.iter().enumerate() {
        let folder = quoted(folder)?;
        script.push_str(&format!("mkdir -p {folder}\nmount --move /run/kept/{index} {folder}\n"));
    }
    // The values that a kubelet wants to see; it would set them for the whole machine.
    for (index, (file, value)) in [
        ("vm/overcommit_memory", "1"),
        ("vm/panic_on_oom", "0"),
        ("kernel/panic", "10"),
        ("kernel/panic_on_oops", "1"),
        ("kernel/keys/root_maxkeys", "1000000"),
        ("kernel/keys/root_maxbytes", "25000000"),
    ]
    .iter()
    .enumerate()
    {
        script.push_str(&format!(
            "echo {value} > /run/tunables/{index}\nmount --bind /run/tunables/{index} /proc/sys/{file}\n"
        ));
    }
    Ok(script)
}

fn quoted(path: &Path) -> Result<String> {
    match path.to_str() {
        Some(text) if !text.contains('\'') => Ok(format!("'{text}'")),
        _ => Err(Error::Invalid(format!("{}: this path can't be used in a shell", path.display()))),
    }
}

/// The container runtime.
pub(crate) fn containerd(layout: &Layout, index: usize) -> Result<Component> {
    let folder = layout.node(index);
    let networks = folder.join("cni");
    fs::create_dir_all(&networks).at(&networks)?;
    write(&networks.join("10-pods.conflist"), &pod_network(&folder, index).to_string())?;
    let config = folder.join("containerd.toml");
    write(&config, &containerd_config(&folder, &networks))?;
    let program = tools::path(Tool::Containerd)?;
    // The shim is beside it and is found by PATH.
    let path = std::env::var("PATH").unwrap_or_default();
    let beside = program.parent().unwrap_or(Path::new("/")).display().to_string();
    Ok(Component::new(format!("containerd-{index}"), Site::Node(index), program)
        .arguments([format!("--config={}", config.display())])
        .environment("PATH", format!("{beside}:{path}:/usr/local/sbin:/usr/sbin:/sbin:/usr/bin:/bin")))
}

fn containerd_config(folder: &Path, networks: &Path) -> String {
    format!(
        r#"version = 3
root = "{root}"
state = "/run/containerd"
disabled_plugins = ["io.containerd.nri.v1.nri", "io.containerd.snapshotter.v1.btrfs", "io.containerd.snapshotter.v1.zfs",
  "io.containerd.snapshotter.v1.devmapper", "io.containerd.snapshotter.v1.erofs", "io.containerd.snapshotter.v1.blockfile",
  "io.containerd.tracing.processor.v1.otlp"]

[grpc]
address = "{SOCKET}"

[plugins.'io.containerd.internal.v1.opt']
path = "{opt}"

[plugins.'io.containerd.cri.v1.images'.pinned_images]
sandbox = "{SANDBOX_IMAGE}"

[plugins.'io.containerd.cri.v1.runtime']
restrict_oom_score_adj = true
netns_mounts_under_state_dir = true
enable_cdi = false

[plugins.'io.containerd.cri.v1.runtime'.cni]
bin_dirs = ["/usr/lib/cni"]
conf_dir = "{networks}"

[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc]
runtime_type = "io.containerd.runc.v2"
"#,
        root = folder.join("containerd").display(),
        opt = folder.join("opt").display(),
        networks = networks.display(),
    )
}

/// A link of its own for each pod: all of its packets are routed, also those to pods on the same node, so
/// that kube-proxy's rules see both directions. (On a bridge they do only with a kernel module more.)
fn pod_network(folder: &Path, index: usize) -> Value {
    json!({
        "cniVersion": "1.0.0",
        "name": "pods",
        "plugins": [{
            "type": "ptp",
            "ipMasq": false,
            "ipam": {
                "type": "host-local",
                "dataDir": folder.join("addresses"),
                "ranges": [[{"subnet": network::pods_of(index)}]],
                "routes": [{"dst": "0.0.0.0/0"}],
            },
        }, {"type": "portmap", "capabilities": {"portMappings": true}}],
    })
}

/// The kubelet.
pub(crate) fn kubelet(
    layout: &Layout,
    files: &Files,
    endpoints: &Endpoints,
    plan: Plan,
    group: &str,
    index: usize,
) -> Result<Component> {
    let (folder, name) = (layout.node(index), name(index));
    let address = plan.node(index).to_string();
    let user = format!("system:node:{name}");
    let client = files.kubeconfig(endpoints, &name, &User { name: &user, group: Some("system:nodes") })?;
    let server = files.authority().server(&format!("{name}-server"), &[&name, &address])?;
    let pods = layout.create(&format!("logs/pods-{index}"))?;
    let config = json!({
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "address": address,
        "authentication": {
            "anonymous": {"enabled": false},
            "webhook": {"enabled": true},
            "x509": {"clientCAFile": files.authority().certificate()},
        },
        "authorization": {"mode": "Webhook"},
        "tlsCertFile": server.certificate,
        "tlsPrivateKeyFile": server.key,
        "containerRuntimeEndpoint": format!("unix://{SOCKET}"),
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": format!("/{group}"),
        "failCgroupV1": false,
        "failSwapOn": false,
        "podLogsDir": pods,
        "volumePluginDir": folder.join("volume-plugins"),
        "resolvConf": "",
        // Nobody answers there, at once; without it every pod gets a warning about that.
        "clusterDNS": [network::DNS_SERVICE],
        "clusterDomain": "cluster.local",
        // A test machine's disk may be nearly full, and images can't be pulled again.
        "evictionHard": {},
        "imageGCHighThresholdPercent": 100,
        "imageMaximumGCAge": "0s",
        "serializeImagePulls": false,
    });
    let file = folder.join("kubelet.json");
    write(&file, &format!("{config:#}"))?;
    Ok(Component::new(format!("kubelet-{index}"), Site::Node(index), tools::path(Tool::Kubelet)?).arguments([
        format!("--config={}", file.display()),
        format!("--kubeconfig={}", client.display()),
        format!("--root-dir={}", folder.join("kubelet").display()),
        format!("--cert-dir={}", folder.join("certificates").display()),
        format!("--hostname-override={name}"),
        format!("--node-ip={address}"),
        "--v=2".into(),
    ]))
}

/// kube-proxy.
pub(crate) fn kube_proxy(layout: &Layout, files: &Files, endpoints: &Endpoints, index: usize) -> Result<Component> {
    let user = User { name: "system:kube-proxy", group: None };
    let client = files.kubeconfig(endpoints, &format!("kube-proxy-{index}"), &user)?;
    let config = json!({
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "mode": "nftables",
        "clusterCIDR": network::PODS,
        "hostnameOverride": name(index),
        "clientConnection": {"kubeconfig": client},
        // The table of connections belongs to the whole machine; its size is not ours to change.
        "conntrack": {"maxPerCore": 0, "min": 0},
    });
    let file = layout.node(index).join("kube-proxy.json");
    write(&file, &format!("{config:#}"))?;
    let proxy = Component::new(format!("kube-proxy-{index}"), Site::Node(index), tools::path(Tool::KubeProxy)?);
    Ok(proxy.arguments([format!("--config={}", file.display())]))
}

/// Whether containerd takes requests.
pub(crate) fn containerd_answers(node: Place) -> bool {
    // A process's root shows the mounts that only it has.
    let socket = format!("/proc/{}/root{SOCKET}", node.init().pid());
    UnixStream::connect(socket).is_ok()
}

/// Gives an image archive to a node's container runtime.
pub(crate) fn import(node: Place, archive: &Path) -> Result<()> {
    // Through standard input: the node may not see the folder that it lies in.
    let file = fs::File::open(archive).at(archive)?;
    let mut ctr = node.command(tools::path(Tool::Ctr)?);
    ctr.args(["--address", SOCKET, "--namespace", "k8s.io", "images", "import", "--local", "-"]);
    let output = ctr.stdin(Stdio::from(file)).output().map_err(|error| command::not_started(&ctr, &error))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    Err(Error::Command { command: command::line(&ctr), status: output.status.to_string(), output: said })
}

/// The image of the process that holds a pod's network while its containers come and go.
pub(crate) fn pause_image(layout: &Layout) -> Result<PathBuf> {
    let archive = layout.file("pause.tar");
    Image::new(SANDBOX_IMAGE)
        .file("/busybox", busybox()?, 0o755)
        .entrypoint(["/busybox", "sleep", "2147483647"])
        .user("65535:65535")
        .build(&archive)?;
    Ok(archive)
}

/// Debian's statically linked busybox, for images that need a shell or small tools.
///
/// # Errors
/// When it is not installed.
pub fn busybox() -> Result<PathBuf> {
    let found = command::run(command("sh").args(["-c", "command -v busybox"]))?;
    Ok(PathBuf::from(found.trim()))
}

fn write(path: &Path, text: &str) -> Result<()> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).at(folder)?;
    }
    fs::write(path, text).at(path)
}
