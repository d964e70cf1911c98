//! Deployments as people write them.

use serde_json::{Value, json};

use migration_gate::contract::{annotation, label};

/// The shop's image with this tag.
pub fn image(tag: &str) -> String {
    format!("registry.example/shop:{tag}")
}

/// A Deployment without any wish, and without pods.
pub fn plain(name: &str) -> Value {
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {"name": name},
        "spec": {
            "replicas": 0,
            "selector": {"matchLabels": {"app": name}},
            "template": {
                "metadata": {"labels": {"app": name}},
                "spec": {"containers": [{
                    "name": "web", "image": image("1.0"),
                    "env": [{"name": "DATABASE_URL", "value": "postgres://db/shop"}],
                }]},
            },
        },
    })
}

/// One that asks for a gate.
pub fn gated(name: &str) -> Value {
    let mut deployment = plain(name);
    deployment["metadata"]["labels"] = json!({ label::GATED: label::GATED_TRUE });
    deployment["metadata"]["annotations"] = json!({ annotation::COMMAND: "alembic upgrade head" });
    deployment
}
