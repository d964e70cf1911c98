use std::path::Path;

use super::*;
use crate::contract::annotation;

fn data(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data").join(path)
}

fn read(path: &str) -> Vec<Document> {
    manifests::read(&[data(path)]).expect(path)
}

fn injected(path: &str) -> (Vec<Document>, Faults, String) {
    let mut documents = read(path);
    let mut messages = Vec::new();
    let installation = installation("registry.example/migration-gate:0.1.0".to_owned(), Delivery::default());
    let faults = inject(&mut documents, &installation, &mut messages);
    (documents, faults, String::from_utf8(messages).expect("text"))
}

#[test]
fn a_chart_comes_out_with_only_its_labelled_workloads_changed() {
    let (mut documents, faults, messages) = injected("manifests/chart.yaml");
    assert_eq!((faults, messages.as_str()), (Faults::default(), ""));
    let text = manifests::write(&documents).expect("written");
    let file = data("manifests/chart.injected.yaml");
    if std::env::var_os("UPDATE_SNAPSHOTS").is_some() {
        std::fs::write(&file, &text).expect("a writable work tree");
    }
    assert_eq!(text, std::fs::read_to_string(&file).expect("the snapshot"));
    strip(&mut documents);
    let original: Vec<Value> = read("manifests/chart.yaml").into_iter().map(|document| document.value).collect();
    let stripped: Vec<Value> = documents.into_iter().map(|document| document.value).collect();
    assert_eq!(stripped, original);
}

#[test]
fn a_refused_workload_is_named_with_its_file_and_document() {
    let (_, faults, messages) = injected("manifests/bad.yaml");
    assert_eq!(faults.denied, 3, "{messages}");
    let lines: Vec<&str> = messages.lines().collect();
    let at = |number: usize| format!("bad.yaml: document {number}: Deployment ");
    assert!(lines[0].starts_with("Error: ") && lines[0].contains(&(at(2) + "shop/misspelt: ")), "{}", lines[0]);
    assert!(lines[1].contains(&(at(3) + "unquoted: ")) && lines[1].contains("write \"true\""), "{}", lines[1]);
    assert!(lines[2].contains(&(at(4) + "in-a-list: ")) && lines[2].contains(annotation::COMMAND), "{}", lines[2]);
}
