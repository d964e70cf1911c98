use std::path::Path;

use super::super::manifests;
use super::*;

fn lint(path: &str) -> (String, Faults) {
    let path = Path::new("tests/data").join(path);
    explain(&mut manifests::read(&[path]).expect("readable"))
}

#[test]
fn it_says_what_would_happen() {
    let (text, faults) = lint("manifests/chart.yaml");
    assert_eq!(faults, Faults::default());
    let lines: Vec<&str> = text.lines().collect();
    let place = |number: usize| format!("tests/data/manifests/chart.yaml: document {number}: Deployment ");
    assert!(lines[0].starts_with(&(place(2) + "shop/orders: gated; migration ")), "{}", lines[0]);
    assert!(
        lines[0].ends_with(" of orders.deployment: a copy of a container runs in orders:1.4.2: alembic upgrade head")
    );
    assert!(lines[1].starts_with(&(place(3) + "shop/worker: not gated")), "{}", lines[1]);
    assert!(lines[2].starts_with(&(place(4) + "shop/billing: gated; ")), "{}", lines[2]);
    assert!(lines[2].ends_with("init container migrate is wrapped: rails db:migrate"), "{}", lines[2]);
    assert_eq!(lines.len(), 3);
}

#[test]
fn it_says_why_something_is_not_gated() {
    let (text, faults) = lint("manifests/bad.yaml");
    assert_eq!(faults.denied, 3);
    assert!(
        text.contains("not gated: it has migration-gate.dev/command, but no label migration-gate.dev/gated: \"true\"")
    );
    assert!(text.contains("not gated: label migration-gate.dev/gated is 'yes', not 'true'"), "{text}");
}
