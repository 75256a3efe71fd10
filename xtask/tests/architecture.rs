//! The invariants of ARCHITECTURE.md that can be read off the manifests and sources.

use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// What each crate may depend on among the workspace's own: `core <- search`, `core <- io`, then `nn <- eval <- fewstep <- fewstep-cli`.
const MAY_USE: [(&str, &[&str]); 10] = [
    ("fewstep-core", &[]),
    ("fewstep-search", &["fewstep-core"]),
    ("fewstep-io", &["fewstep-core"]),
    ("fewstep-report", &["fewstep-core"]),
    ("fewstep-nn", &["fewstep-core", "fewstep-search", "fewstep-io"]),
    ("fewstep-eval", &["fewstep-core", "fewstep-search", "fewstep-io", "fewstep-nn"]),
    ("fewstep", &["fewstep-core", "fewstep-search", "fewstep-io", "fewstep-report", "fewstep-nn", "fewstep-eval"]),
    (
        "fewstep-cli",
        &["fewstep", "fewstep-core", "fewstep-search", "fewstep-io", "fewstep-report", "fewstep-nn", "fewstep-eval"],
    ),
    ("fewstep-python", &["fewstep-core", "fewstep-search"]),
    ("xtask", &[]),
];

/// Crates that other programs build on.
const LIBRARIES: [&str; 7] =
    ["fewstep-core", "fewstep-search", "fewstep-io", "fewstep-report", "fewstep-nn", "fewstep-eval", "fewstep"];

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

/// Whoever finds a plan needs no tensor library, at whatever distance; nor does the Python module.
#[test]
fn searches_build_without_libtorch() {
    for package in ["fewstep-search", "fewstep-python"] {
        builds_without_libtorch(package);
    }
}

fn builds_without_libtorch(package: &str) {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut tree = Command::new(cargo);
    tree.args(["tree", "--offline", "--edges", "normal,build", "--prefix", "none", "-p", package]);
    let output = tree.current_dir(root()).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let tree = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(tree.contains("fewstep-core"), "{tree}");
    for forbidden in ["tch ", "torch-sys ", "fewstep-nn "] {
        assert!(!tree.lines().any(|line| line.starts_with(forbidden)), "{tree}");
    }
}

/// What libraries use of other people's, all of it. Nothing here knows arguments, terminals or signals.
const LIBRARIES_USE: &[&str] = &[
    "base64",
    "cc",
    "flate2",
    "half",
    "image",
    "indexmap",
    "insta",
    "nalgebra",
    "proptest",
    "rand",
    "rand_chacha",
    "rand_distr",
    "resvg",
    "roxmltree",
    "rustix",
    "safetensors",
    "serde",
    "serde_json",
    "sha2",
    "strsim",
    "tar",
    "tch",
    "tempfile",
    "thiserror",
    "toml",
    "unicode-width",
    "zip",
];

/// Libraries leave arguments, terminals, signals and output to whoever calls them.
#[test]
fn libraries_know_no_command_line() {
    const WORDS: [&str; 12] = [
        "println!",
        "print!(",
        "dbg!",
        "stdout()",
        "stderr()",
        "std::env::args",
        "env::set_var",
        "process::exit",
        "IsTerminal",
        "sigaction",
        "signal(",
        "mallopt",
    ];
    let packages = packages();
    for library in LIBRARIES {
        let (_, dependencies) = packages.iter().find(|(name, _)| name == library).unwrap();
        for other in dependencies.iter().filter(|name| !name.starts_with("fewstep")) {
            let known = LIBRARIES_USE.contains(&other.as_str());
            assert!(known, "{library} uses {other}: say in this test that it knows no arguments, terminals or signals");
        }
        for (path, text) in library_sources(library) {
            for forbidden in WORDS {
                assert!(!code(&text).any(|line| line.contains(forbidden)), "{} has {forbidden}", path.display());
            }
        }
    }
}

/// The sources of a library, without its tests: what they do is theirs.
fn library_sources(library: &str) -> Vec<(PathBuf, String)> {
    let sources = sources(&root().join("crates").join(library).join("src"));
    assert!(!sources.is_empty(), "{library} has no sources");
    let is_test = |path: &Path| path.ends_with("tests.rs") || path.components().any(|part| part.as_os_str() == "tests");
    let sources = sources.into_iter().filter(|(path, _)| !is_test(path));
    sources.map(|(path, text)| (path, without_tests(&text))).collect()
}

/// `text` without the items that `#[cfg(test)]` stands before, as rustfmt writes them: up to the next line that ends an item at their
/// own indentation.
fn without_tests(text: &str) -> String {
    let mut kept = String::new();
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        if line.trim() != "#[cfg(test)]" {
            kept.push_str(line);
            kept.push('\n');
            continue;
        }
        let indent = &line[..line.len() - line.trim_start().len()];
        let ends = |line: &&str| match line.strip_prefix(indent) {
            Some(rest) => rest == "}" || !rest.starts_with([' ', '#']) && rest.ends_with([';', ',', '}']),
            None => false,
        };
        let _ = lines.by_ref().find(ends);
    }
    kept
}

#[test]
fn tests_within_sources_are_told_from_sources() {
    let text = "fn a() {}\n#[cfg(test)]\nuse b;\nfn c() {\n    #[cfg(test)]\n    d();\n    e();\n}\n#[cfg(test)]\nmod tests {\n    fn f() {\n    }\n}\nfn g() {}\n";
    assert_eq!(without_tests(text), "fn a() {}\nfn c() {\n    e();\n}\nfn g() {}\n");
}

/// A library's errors are types of its own.
#[test]
fn every_library_that_fails_has_a_type_of_its_errors() {
    for library in LIBRARIES {
        let sources = sources(&root().join("crates").join(library).join("src"));
        let fails = sources.iter().any(|(_, text)| text.contains("-> Result<"));
        let typed = sources.iter().any(|(_, text)| text.contains("thiserror::Error"));
        assert!(!fails || typed, "{library} has no error type");
        for (path, text) in library_sources(library) {
            let is_text = |line: &str| {
                let public = line.trim_start().starts_with("pub fn")
                    || line.trim_start().starts_with("fn ") && line.ends_with(';');
                public
                    && line
                        .split_once("->")
                        .is_some_and(|(_, answer)| answer.contains("Result<") && answer.contains(", String>"))
                    || line.contains("type Err = String")
            };
            let found = code(&text).find(|line| is_text(line));
            assert_eq!(found, None, "{}: an error is a type, not a text", path.display());
        }
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
