//! The node profile, booted for real: pods run and are reached, nodes are cut off and killed, and nothing stays.
//! Needs root.

mod shared;

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::{Value, json};
use shared::{LIMIT, Owner, forget_logs, left_of};
use testcluster::image::Image;
use testcluster::progress::Seen;
use testcluster::{Cluster, Options, Profile, Result, busybox, postgres};

const WEB: &str = "docker.io/local/web:1";

/// An image from nothing but busybox and a page.
fn web_image(cluster: &Cluster) -> Result<PathBuf> {
    let archive = cluster.folder("images")?.join("web.tar");
    Image::new(WEB)
        .file("/bin/busybox", busybox()?, 0o755)
        .text("/page/index.html", "hello\n", 0o644)
        .entrypoint(["/bin/busybox", "httpd", "-f", "-p", "8080", "-h", "/page"])
        .user("65532:65532")
        .build(&archive)?;
    Ok(archive)
}

fn web_pod(cluster: &Cluster, name: &str, node: usize) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": name, "labels": {"app": "web", "pod": name}},
        "spec": {
            "nodeName": cluster.node_name(node),
            "terminationGracePeriodSeconds": 0,
            // A pod of a node that is gone has to stay for when it is back.
            "tolerations": [{"operator": "Exists"}],
            "containers": [{
                "name": "web", "image": WEB, "imagePullPolicy": "IfNotPresent",
                "ports": [{"containerPort": 8080}],
                "readinessProbe": {"httpGet": {"port": 8080, "path": "/"}, "periodSeconds": 1},
                "securityContext": {"runAsNonRoot": true, "readOnlyRootFilesystem": true},
            }],
        },
    })
}

fn address_of(cluster: &Cluster, pod: &str) -> Result<SocketAddr> {
    let found = cluster.get(&["pod", pod])?;
    let address = found["status"]["podIP"].as_str().unwrap_or_default();
    Ok((address.parse::<Ipv4Addr>().expect("a pod that was Ready has an address"), 8080).into())
}

/// Fetches a page from inside a node: `Ok` if it comes, or why not. (The wget of a statically linked busybox
/// crashes in the C library's look-up of names.)
fn fetch(cluster: &Cluster, node: usize, address: SocketAddr) -> Result<(), String> {
    let busybox = busybox().map_err(|error| error.to_string())?;
    let mut client = cluster.node_command(node, &busybox.display().to_string()).map_err(|error| error.to_string())?;
    client.args(["nc", "-w", "2", &address.ip().to_string(), &address.port().to_string()]);
    let client = client.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let mut client = client.map_err(|error| error.to_string())?;
    // A client that could not connect says so itself.
    let _ = client.stdin.take().map(|mut input| input.write_all(b"GET / HTTP/1.0\r\n\r\n"));
    let output = client.wait_with_output().map_err(|error| error.to_string())?;
    let (page, error) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    if page.ends_with("hello\n") { Ok(()) } else { Err(format!("{page}{error}")) }
}

fn wait_for_page(cluster: &Cluster, node: usize, address: SocketAddr) -> Result<()> {
    let what = format!("the page at {address} seen from node {node}");
    cluster.wait_for(&what, LIMIT, || Ok(Seen::from(fetch(cluster, node, address))))
}

fn wait_until_ready_is(cluster: &Cluster, node: usize, wanted: bool) -> Result<()> {
    let name = cluster.node_name(node);
    cluster.wait_for(&format!("{name} to be ready: {wanted}"), LIMIT, || {
        let found = cluster.get(&["node", &name])?;
        let conditions = found["status"]["conditions"].as_array().cloned().unwrap_or_default();
        let ready = conditions.iter().any(|one| one["type"] == "Ready" && one["status"] == "True");
        Ok(if ready == wanted { Seen::Done(()) } else { Seen::NotYet(format!("ready: {ready}")) })
    })
}

/// The machine's links and routes to this cluster.
fn links(host: IpAddr) -> String {
    let prefix = format!("{host}/30");
    let output = Command::new("ip").args(["-4", "-o", "addr"]).output().expect("iproute2 is there");
    String::from_utf8_lossy(&output.stdout).lines().filter(|line| line.contains(&prefix)).collect()
}

#[test]
fn a_pod_runs_is_reached_reaches_the_machine_and_nothing_stays() -> Result<()> {
    let cluster = Cluster::boot(Options::new("t-node", Profile::Node { nodes: 1 }))?;
    cluster.load_image(&web_image(&cluster)?)?;
    cluster.apply(&web_pod(&cluster, "web", 0).to_string())?;
    cluster.apply(
        &json!({
            "apiVersion": "v1", "kind": "Service", "metadata": {"name": "web"},
            "spec": {"type": "NodePort", "selector": {"app": "web"}, "clusterIP": "10.96.7.7",
                "ports": [{"port": 80, "targetPort": 8080, "nodePort": 30080}]},
        })
        .to_string(),
    )?;
    cluster.wait_for_condition("pod/web", "default", "Ready", LIMIT)?;
    wait_for_page(&cluster, 0, (Ipv4Addr::new(10, 96, 7, 7), 80).into())?;

    let mut page = String::new();
    let mut client = TcpStream::connect((cluster.node_address(0)?, 30080)).expect("NodePorts are open to this machine");
    client.write_all(b"GET / HTTP/1.0\r\n\r\n").and_then(|()| client.read_to_string(&mut page)).expect("it answers");
    assert!(page.ends_with("hello\n"), "{page}");
    assert_eq!(cluster.kubectl(&["exec", "web", "--", "/bin/busybox", "id", "-u"])?, "65532\n");

    let database = postgres::Server::start(cluster.host_address())?;
    let (host, port) = (database.address().ip().to_string(), database.address().port().to_string());
    cluster.kubectl(&[
        "exec",
        "web",
        "--",
        "/bin/busybox",
        "nc",
        "-w",
        "5",
        &host,
        &port,
        "-e",
        "/bin/busybox",
        "true",
    ])?;
    let mut routes = cluster.node_command(0, "ip")?;
    let routes = routes.args(["route", "show", "default"]).output().expect("iproute2 is there");
    assert!(routes.status.success() && routes.stdout.is_empty(), "no packet can leave the machine");

    drop(database);
    let host = cluster.host_address();
    assert!(!links(host).is_empty());
    cluster.down()?;
    assert_eq!(left_of("t-node"), Vec::<String>::new());
    assert_eq!(links(host), "");
    Ok(())
}

#[test]
fn a_node_is_cut_off_healed_killed_and_started() -> Result<()> {
    let options = Options::new("t-nodes", Profile::Node { nodes: 2 })
        .argument("kube-controller-manager", "--node-monitor-grace-period=12s");
    let cluster = Cluster::boot(options)?;
    cluster.load_image(&web_image(&cluster)?)?;
    for node in 0..2 {
        cluster.apply(&web_pod(&cluster, &format!("web-{node}"), node).to_string())?;
    }
    for node in 0..2 {
        cluster.wait_for_condition(&format!("pod/web-{node}"), "default", "Ready", LIMIT)?;
    }
    let far = address_of(&cluster, "web-1")?;
    wait_for_page(&cluster, 0, far)?;

    cluster.partition_from_api(1)?;
    wait_until_ready_is(&cluster, 1, false)?;
    wait_for_page(&cluster, 0, far)?;
    cluster.heal(1)?;
    wait_until_ready_is(&cluster, 1, true)?;

    cluster.partition(1)?;
    assert!(fetch(&cluster, 0, far).is_err(), "pods are cut off too");
    wait_for_page(&cluster, 1, far)?;
    wait_until_ready_is(&cluster, 1, false)?;
    cluster.heal(1)?;
    wait_until_ready_is(&cluster, 1, true)?;
    wait_for_page(&cluster, 0, far)?;

    cluster.kill_node(1)?;
    assert!(cluster.node_command(1, "true").is_err(), "it is switched off");
    wait_until_ready_is(&cluster, 1, false)?;
    assert!(fetch(&cluster, 0, far).is_err());
    cluster.start_node(1)?;
    wait_until_ready_is(&cluster, 1, true)?;
    cluster.wait_for("the pod to be started again", LIMIT, || {
        let pod = cluster.get(&["pod", "web-1"])?;
        let restarts = pod["status"]["containerStatuses"][0]["restartCount"].as_u64().unwrap_or_default();
        Ok(if restarts > 0 { Seen::Done(()) } else { Seen::NotYet(format!("{restarts} restarts")) })
    })?;
    cluster.wait_for_condition("pod/web-1", "default", "Ready", LIMIT)?;

    cluster.component("containerd-0")?.kill()?;
    cluster.component("containerd-0")?.restart()?;
    wait_for_page(&cluster, 0, address_of(&cluster, "web-0")?)?;
    cluster.down()?;
    assert_eq!(left_of("t-nodes"), Vec::<String>::new());
    Ok(())
}

#[test]
fn a_killed_owner_takes_its_node_along() {
    let (owner, cluster) = Owner::start("t-orphan", "node");
    cluster.load_image(&web_image(&cluster).expect("busybox is there")).expect("it is a good image");
    cluster.apply(&web_pod(&cluster, "web", 0).to_string()).expect("it is a good pod");
    cluster.wait_for_condition("pod/web", "default", "Ready", LIMIT).expect("it runs");
    drop(owner);
    std::thread::sleep(Duration::from_secs(1));
    let running =
        left_of("t-orphan").into_iter().filter(|left| !left.starts_with("control") && !left.starts_with("file"));
    assert_eq!(running.collect::<Vec<_>>(), Vec::<String>::new(), "no process and no mount outlives the owner");

    // A start under any name clears away the rest.
    drop(Cluster::boot(Options::new("t-after", Profile::Api)).expect("it boots"));
    assert_eq!(left_of("t-orphan"), Vec::<String>::new());
    forget_logs("t-orphan");
}
