//! The patches of the usual shapes and the texts of all denials, as files that people have read.
//!
//! Each `tests/data/patches/NAME.yaml` is a Deployment; `NAME.answer.json` is what the webhook makes of it.

use super::*;

fn shapes() -> Vec<(String, Value)> {
    let mut shapes: Vec<_> = std::fs::read_dir(data("patches"))
        .expect("the folder")
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "yaml"))
        .map(|path| {
            let text = std::fs::read_to_string(&path).expect("a readable file");
            let name = path.file_stem().expect("a name").to_string_lossy().into_owned();
            (name, serde_saphyr::from_str(&text).unwrap_or_else(|e| panic!("{}: {e}", path.display())))
        })
        .collect();
    shapes.sort_by(|a, b| a.0.cmp(&b.0));
    shapes
}

#[test]
fn the_usual_shapes_get_the_patches_that_were_reviewed() {
    let shapes = shapes();
    assert!(shapes.len() >= 7, "{} shapes", shapes.len());
    for (name, object) in shapes {
        let outcome = create(&object);
        assert_eq!(outcome.decision, Decision::Injected, "{name}: {}", outcome.response);
        let answer = json!({ "patch": outcome.patch, "warnings": outcome.warnings() });
        let text = serde_json::to_string_pretty(&answer).expect("plain data");
        check_snapshot(&format!("patches/{name}.answer.json"), &(text + "\n"));
        assert_eq!(create(&outcome.object).decision, Decision::Kept, "{name}: injected again");
    }
}
