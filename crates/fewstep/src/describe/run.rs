//! Run folders.

use std::path::Path;

use fewstep_core::plan::Plan;
use fewstep_io::RunFolder;
use fewstep_io::run_folder::RUN_FILE;
use serde_json::Value;

use super::Description;
use crate::error::Result;
use crate::training::STATS;

/// What `run.json` says, how far the run came and which files it left. Reads only: the folder may belong to a run that is
/// still going on.
pub fn describe(path: &Path) -> Result<Description> {
    let folder = RunFolder::open_to_read(path)?;
    let run: Value = folder.read_json(RUN_FILE)?;
    let kind = run["kind"].as_str().unwrap_or("unknown kind");
    let mut info = Description::new(format!("run folder of {kind}"));
    if let Some(version) = run["provenance"]["fewstep"].as_str() {
        info = info.fact("fewstep", version);
    }
    if let Some(command) = run["provenance"]["command"].as_array() {
        let words: Vec<&str> = command.iter().filter_map(Value::as_str).collect();
        info = info.fact("command", words.join(" "));
    }
    for (key, value) in
        run.as_object().into_iter().flatten().filter(|(key, _)| !matches!(key.as_str(), "kind" | "provenance"))
    {
        info = info.silent(&key.replace('_', " "), value.clone());
    }
    // Long settings are for programs; who wants to read them finds them in the file.
    for (key, value) in run["task"].as_object().into_iter().flatten() {
        let key = key.replace('_', " ");
        if let (Some(name), Some(hash)) = (value["name"].as_str(), value["sha256"].as_str()) {
            info = info.fact(&key, name).fact(&format!("{key} sha256"), hash);
        } else if !(value.is_object() || value.is_array() || matches!(key.as_str(), "kind" | "path")) {
            info = info.fact(&key, value.clone());
        }
    }
    if let Ok(plan) = serde_json::from_value::<Plan>(run["task"]["plan"].clone()) {
        info = info.fact("sampler", format!("{}, {} network evaluations", plan.solver, plan.nfe()));
    }
    match folder.last_line::<Value>(STATS) {
        Ok(Some(last)) => {
            let words: Vec<String> =
                last.as_object().into_iter().flatten().map(|(key, value)| format!("{key} {value}")).collect();
            info = info.told("latest", last, words.join(", "));
        }
        Ok(None) => {}
        Err(error) => info = info.told("latest", Value::Null, error.to_string()),
    }
    let mut names: Vec<String> =
        path.read_dir()?.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    let shown = names.len().min(12);
    let more = if names.len() > shown { format!(" and {} more", names.len() - shown) } else { String::new() };
    let words = format!("{}{more}", names[..shown].join(", "));
    Ok(info.told("files", names, words))
}
