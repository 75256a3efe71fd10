//! `cargo xtask licenses`: the licences of everything that is built into the program, as `fewstep --licenses` prints them.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::tasks;

/// Where they stand.
const FILE: &str = "crates/fewstep-cli/THIRD-PARTY.txt";

/// What comes before the list.
const ABOUT: &str = "\
fewstep is licensed under MIT or Apache-2.0. The program holds the crates below, under the licences that follow the list. It runs on
libtorch, which it does not hold: its licence and those of what is in it stand in the wheel of PyTorch that libtorch is taken from.
The small networks that come with it were trained here on Fashion-MNIST (Zalando SE, MIT).
";

/// A crate that is built into the program.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Package {
    name: String,
    version: String,
    license: String,
    folder: PathBuf,
}

/// Writes the file anew.
pub fn write(root: &Path) -> Result<()> {
    let packages = packages(root)?;
    let mut text = ABOUT.to_owned();
    text.push('\n');
    for Package { name, version, license, .. } in &packages {
        writeln!(text, "{name} {version}  ({license})")?;
    }
    // one text for all that have the same
    let mut texts = BTreeMap::<String, Vec<String>>::new();
    for package in &packages {
        let mut own = texts_of(&package.folder)?;
        if own.is_empty() {
            // some name a licence and bring no text
            let Package { name, version, license, .. } = package;
            let known = [("Apache-2.0", "LICENSE-APACHE"), ("MIT", "LICENSE-MIT")];
            let text = known.iter().find(|(known, _)| license.contains(known));
            let (_, file) =
                text.with_context(|| format!("{name} {version} has no file with its licence, {license}"))?;
            own.push(read_text(&root.join(file))?);
        }
        for text in own {
            texts.entry(text).or_default().push(package.name.clone());
        }
    }
    let mut texts: Vec<_> = texts.into_iter().map(|(text, names)| (names, text)).collect();
    texts.sort();
    for (names, own) in texts {
        let names: Vec<_> = names.into_iter().collect::<BTreeSet<_>>().into_iter().collect();
        write!(text, "\n{}\n{}\n\n{own}", "=".repeat(120), names.join(", "))?;
    }
    fs::write(root.join(FILE), text).with_context(|| format!("cannot write {FILE}"))?;
    eprintln!("{} crates in {FILE}", packages.len());
    Ok(())
}

/// The crates that the program is built of on Linux, without ours.
fn packages(root: &Path) -> Result<Vec<Package>> {
    let mut metadata = tasks::cargo(root);
    metadata.args(["metadata", "--format-version", "1", "--locked", "--filter-platform", "x86_64-unknown-linux-gnu"]);
    let output = metadata.output().context("cannot start cargo")?;
    ensure!(output.status.success(), "cargo metadata: {}", String::from_utf8_lossy(&output.stderr));
    let metadata: Value = serde_json::from_slice(&output.stdout).context("cargo metadata is no JSON")?;
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let nodes: HashMap<String, Vec<Value>> =
        list(&metadata["resolve"]["nodes"]).into_iter().map(|node| (text(&node["id"]), list(&node["deps"]))).collect();
    let all: HashMap<String, Value> =
        list(&metadata["packages"]).into_iter().map(|package| (text(&package["id"]), package)).collect();
    let program = all.iter().find(|(_, package)| package["name"] == "fewstep-cli").context("there is no program")?.0;
    let (mut seen, mut queue) = (BTreeSet::from([program.clone()]), vec![program.clone()]);
    while let Some(id) = queue.pop() {
        for dependency in nodes.get(&id).into_iter().flatten() {
            // what only builds or tests it is not in it
            let built_in = list(&dependency["dep_kinds"]).iter().any(|kind| kind["kind"].is_null());
            let id = text(&dependency["pkg"]);
            if built_in && seen.insert(id.clone()) {
                queue.push(id);
            }
        }
    }
    let mut packages: Vec<Package> = seen
        .iter()
        .filter_map(|id| all.get(id))
        .filter(|package| !package["source"].is_null())
        .map(|package| Package {
            name: text(&package["name"]),
            version: text(&package["version"]),
            license: package["license"].as_str().unwrap_or("see its file").to_owned(),
            folder: PathBuf::from(text(&package["manifest_path"])).parent().unwrap_or(Path::new("")).to_owned(),
        })
        .collect();
    packages.sort();
    Ok(packages)
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

/// The licence files in a crate's folder, without what editors leave at ends of lines.
fn texts_of(folder: &Path) -> Result<Vec<String>> {
    let mut paths: Vec<PathBuf> = fs::read_dir(folder)
        .with_context(|| format!("cannot read {}", folder.display()))?
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| path.is_file() && is_license(path))
        .collect();
    paths.sort();
    paths.iter().map(|path| read_text(path)).collect()
}

fn read_text(path: &Path) -> Result<String> {
    let bytes = fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    let lines: Vec<String> = String::from_utf8_lossy(&bytes).lines().map(|line| line.trim_end().to_owned()).collect();
    Ok(lines.join("\n").trim_matches('\n').to_owned() + "\n")
}

fn is_license(path: &Path) -> bool {
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default().to_ascii_uppercase();
    let known = ["LICENSE", "LICENCE", "COPYING", "COPYRIGHT", "NOTICE", "UNLICENSE"];
    known.iter().any(|known| name.starts_with(known)) && ![".RS", ".TOML"].iter().any(|end| name.ends_with(end))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// After a dependency came or went: `cargo xtask licenses`.
    #[test]
    fn every_crate_of_the_program_is_listed_under_a_licence_that_is_allowed() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
        let packages = packages(root).unwrap();
        let file = fs::read_to_string(root.join(FILE)).unwrap();
        let allowed = fs::read_to_string(root.join("deny.toml")).unwrap();
        let listed: BTreeSet<&str> = file.lines().take_while(|line| !line.starts_with("===")).collect();
        for Package { name, version, license, .. } in &packages {
            assert!(
                listed.contains(format!("{name} {version}  ({license})").as_str()),
                "{name} {version} is not in {FILE}"
            );
            let options: Vec<&str> = license.split(" OR ").flat_map(|part| part.split('/')).collect();
            let one = options.iter().any(|option| {
                let parts = option.trim_matches(['(', ')', ' ']).split(" AND ");
                parts
                    .map(|part| part.trim_matches(['(', ')', ' ']))
                    .all(|part| allowed.contains(&format!("\"{part}\"")))
            });
            assert!(one, "{name} is licensed under {license}");
        }
        let listed = listed.iter().filter(|line| line.ends_with(')') && line.contains("  (")).count();
        assert_eq!(listed, packages.len(), "{FILE} lists crates that are not there any more");
    }
}
