//! The invariants of ARCHITECTURE.md that can be read off the manifests and sources.

use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// What each crate may depend on among the workspace's own: `core <- io <- nn <- eval <- fewstep`, `core <- report <- fewstep`.
const MAY_USE: [(&str, &[&str]); 7] = [
    ("fewstep-core", &[]),
    ("fewstep-io", &["fewstep-core"]),
    ("fewstep-nn", &["fewstep-core", "fewstep-io"]),
    ("fewstep-eval", &["fewstep-core", "fewstep-io", "fewstep-nn"]),
    ("fewstep-report", &["fewstep-core"]),
    ("fewstep", &["fewstep-core", "fewstep-io", "fewstep-nn", "fewstep-eval", "fewstep-report"]),
    ("xtask", &[]),
];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_path_buf()
}

/// (package, its dependencies of every kind), as cargo understands the manifests.
fn packages() -> Vec<(String, Vec<String>)> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .args(["metadata", "--no-deps", "--offline", "--format-version", "1"])
        .current_dir(root())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: Value = serde_json::from_slice(&output.stdout).unwrap();
    let name = |value: &Value| value["name"].as_str().unwrap().to_string();
    let list = |value: &Value| value.as_array().unwrap().clone();
    list(&metadata["packages"])
        .iter()
        .map(|package| (name(package), list(&package["dependencies"]).iter().map(name).collect()))
        .collect()
}

/// The Rust sources below a folder, with their text.
fn sources(folder: &Path) -> Vec<(PathBuf, String)> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            found.extend(sources(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push((path.clone(), fs::read_to_string(&path).unwrap()));
        }
    }
    found
}

/// The lines of code in `text`: comments and docstrings may name anything.
fn code(text: &str) -> impl Iterator<Item = &str> {
    text.lines().map(|line| line.split("//").next().unwrap_or_default())
}

#[test]
fn dependencies_point_one_way() {
    let packages = packages();
    for (package, dependencies) in &packages {
        let allowed = MAY_USE.iter().find(|(name, _)| name == package);
        let (_, allowed) = allowed.unwrap_or_else(|| panic!("{package} is new: say here what it may use"));
        for dependency in dependencies.iter().filter(|name| packages.iter().any(|(package, _)| package == *name)) {
            assert!(allowed.contains(&dependency.as_str()), "{package} must not use {dependency}");
        }
    }
    assert_eq!(packages.len(), MAY_USE.len());
}

#[test]
fn only_fewstep_nn_names_libtorch() {
    for (package, dependencies) in packages() {
        let binds = dependencies.iter().any(|name| ["tch", "torch-sys"].contains(&name.as_str()));
        assert_eq!(binds, package == "fewstep-nn", "{package}");
    }
}

#[test]
fn fewstep_core_does_no_io() {
    let sources = sources(&root().join("crates/fewstep-core/src"));
    assert!(!sources.is_empty());
    for (path, text) in &sources {
        for forbidden in ["std::fs", "std::net", "std::process", "std::env", "println!", "eprintln!", "unsafe "] {
            assert!(!code(text).any(|line| line.contains(forbidden)), "{} has {forbidden}", path.display());
        }
    }
}

#[test]
fn schedules_are_computed_in_f64() {
    for (path, text) in sources(&root().join("crates/fewstep-core/src/schedule")) {
        // The levels of iDDPM networks are a table that their authors' code makes in f32; other numbers would be other levels.
        if path.ends_with("iddpm.rs") {
            continue;
        }
        assert!(!code(&text).any(|line| line.contains("f32")), "{} has f32", path.display());
    }
}
