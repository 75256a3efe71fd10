//! Settings: a TOML file, single values, and what came of them.

use std::path::PathBuf;

use anyhow::{Context, Result, bail, ensure};
use fewstep::search::Documented;
use fewstep::settings::to_toml;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::ui;

/// What is said of settings.
#[derive(Clone, Debug, Default, clap::Args)]
#[command(next_help_heading = "Settings")]
pub struct SettingsArgs {
    /// TOML file with settings; --print-settings shows its form
    #[arg(long, value_name = "FILE")]
    pub settings: Option<PathBuf>,
    /// One setting of those that --print-settings shows; may be repeated
    #[arg(long = "set", value_name = "NAME=VALUE")]
    pub set: Vec<String>,
    /// Print every setting with its value and what it does, and do nothing
    #[arg(long)]
    pub print_settings: bool,
}

impl SettingsArgs {
    /// `defaults` with the file's values in their place, and then those that were named one by one.
    pub fn resolve<S: Serialize + DeserializeOwned>(&self, defaults: &S) -> Result<S> {
        let mut value = serde_json::to_value(defaults)?;
        if let Some(path) = &self.settings {
            let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
            let file: toml::Table = toml::from_str(&text).with_context(|| format!("{} is no TOML", path.display()))?;
            merge(&mut value, serde_json::to_value(file)?);
            // with the file's name, before anything of the command line's is in it
            serde_json::from_value::<S>(value.clone()).with_context(|| format!("cannot use {}", path.display()))?;
        }
        for text in &self.set {
            let (name, setting) = text.split_once('=').with_context(|| {
                format!("--set {text}: write a name, = and a value; --print-settings shows the names")
            })?;
            let parsed = toml::from_str::<toml::Table>(&format!("value = {setting}"));
            let one = match parsed.ok().and_then(|mut table| table.remove("value")) {
                Some(value) => serde_json::to_value(value)?,
                None => Value::from(setting), // a bare word
            };
            ensure!(name.split('.').all(|part| !part.is_empty()), "--set {text}: '{name}' is no name of a setting");
            if let Some(why) = value.pointer(&pointer(name)).and_then(|now| misfit(name, now, &one)) {
                bail!("--set {text}: {why}");
            }
            let parent = name.rsplit_once('.').map(|(parent, _)| parent);
            if let Some(parent) =
                parent.filter(|&parent| value.pointer(&pointer(parent)).is_some_and(|now| !now.is_object()))
            {
                bail!("--set {text}: {parent} is one value here, without parts: --set {parent}={setting}");
            }
            let nested = name.rsplit('.').fold(one, |inner, key| serde_json::json!({ key: inner }));
            merge(&mut value, nested);
            serde_json::from_value::<S>(value.clone()).with_context(|| format!("--set {text}"))?;
        }
        Ok(serde_json::from_value(value)?)
    }

    /// The settings that were named one by one.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.set.iter().filter_map(|text| Some(text.split_once('=')?.0))
    }

    /// Refuses those of `names` that the user set, as `why` says. (What a file sets to the default is not set: files may hold all.)
    pub fn refuse<S: Serialize + Default>(&self, settings: &S, names: &[&str], why: &str) -> Result<()> {
        let (now, usual) = (serde_json::to_value(settings)?, serde_json::to_value(S::default())?);
        for name in names {
            let place = pointer(name);
            let differs = now.pointer(&place) != usual.pointer(&place);
            let table = |set: &str| name.strip_prefix(set).is_some_and(|rest| rest.starts_with('.'));
            let sets = |set: &str| set == *name || differs && table(set);
            let typed = self.set.iter().rev().find(|text| text.split_once('=').is_some_and(|(set, _)| sets(set)));
            match (typed, &self.settings) {
                (Some(text), _) => bail!("--set {text} {why}"),
                (None, Some(path)) if differs => bail!("{name} in {} {why}", path.display()),
                _ => {}
            }
        }
        Ok(())
    }

    /// Prints settings as a file of them would be, if that was asked for: then there is nothing else to do.
    pub fn printed<S: Serialize + Documented>(&self, settings: &S) -> Result<bool> {
        if self.print_settings {
            ui::print(to_toml(settings)?.as_bytes())?;
        }
        Ok(self.print_settings)
    }
}

/// A setting's place in JSON.
fn pointer(name: &str) -> String {
    format!("/{}", name.replace('.', "/"))
}

/// Why a value cannot stand in the place of what a setting is now, where kinds of values tell.
fn misfit(name: &str, now: &Value, one: &Value) -> Option<String> {
    match (now, one) {
        (Value::Object(parts), one) if !one.is_object() => {
            let parts: Vec<String> = parts.keys().map(|part| format!("{name}.{part}")).collect();
            Some(format!("{name} is a group of settings: name one of {}", parts.join(", ")))
        }
        (Value::Number(now), Value::String(_) | Value::Bool(_)) => Some(format!("{name} is a number, such as {now}")),
        // what JSON has for nan and inf
        (Value::Number(now), Value::Null) => Some(format!("{name} is a finite number, such as {now}")),
        (Value::Number(now), Value::Number(one)) if now.is_u64() && !one.is_u64() => {
            Some(format!("{name} is a whole number of at least 0, such as {now}"))
        }
        (Value::Bool(_), one) if !one.is_boolean() => Some(format!("{name} is true or false")),
        (Value::Array(_), one) if !one.is_array() => Some(format!("{name} is a list: --set '{name}=[{one}]'")),
        _ => None,
    }
}

/// Puts `over` in the place of what `base` says of the same.
fn merge(base: &mut Value, over: Value) {
    match (base, over) {
        (Value::Object(base), Value::Object(over)) => {
            for (key, value) in over {
                merge(base.entry(key).or_insert(Value::Null), value);
            }
        }
        (base, over) => *base = over,
    }
}

#[cfg(test)]
mod tests {
    use fewstep::search::SearchSettings;

    use super::*;

    fn args(set: &[&str]) -> SettingsArgs {
        SettingsArgs { set: set.iter().map(|text| (*text).to_owned()).collect(), ..SettingsArgs::default() }
    }

    #[test]
    fn values_of_another_kind_are_told_so() {
        let error = |text: &str| args(&[text]).resolve(&SearchSettings::default()).unwrap_err().to_string();
        for (text, says) in [
            ("teacher.grid=lots", "teacher.grid is a number, such as"),
            ("teacher.grid=-3", "teacher.grid is a whole number of at least 0"),
            ("teacher=3", "teacher is a group of settings: name one of teacher."),
            ("teacher.grid.samples=3", "teacher.grid is one value here, without parts"),
            ("least_squares.robust=2", "least_squares.robust is true or false"),
        ] {
            assert!(error(text).contains(says), "{text}: {}", error(text));
        }
    }

    #[test]
    fn single_settings_come_after_a_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("settings.toml");
        std::fs::write(&path, "[teacher]\ngrid = 9\nsamples = 8\n").unwrap();
        let args = SettingsArgs { settings: Some(path), ..args(&["teacher.grid=33", "gits.metric=l1"]) };
        let found = args.resolve(&SearchSettings::default()).unwrap();
        assert_eq!((found.teacher.grid, found.teacher.samples), (33, 8));
        assert_eq!(found.gits.metric, fewstep::search::CostMetric::L1);
        assert_eq!(args.names().collect::<Vec<_>>(), ["teacher.grid", "gits.metric"]);
    }

    #[test]
    fn what_is_no_setting_is_refused_by_name() {
        let error = |set: &[&str]| format!("{:#}", args(set).resolve(&SearchSettings::default()).unwrap_err());
        assert!(error(&["teacher.gird=3"]).contains("gird"));
        assert!(error(&["teacher"]).contains("="));
        assert!(error(&["teacher.grid=many"]).contains("teacher.grid=many"));
        assert!(error(&["teacher..grid=2"]).contains("no name"));
    }

    #[test]
    fn what_cannot_be_is_refused_as_it_was_written() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("settings.toml");
        std::fs::write(&path, "[teacher]\ngrid = 21\n[oss]\nbeam = 9\n").unwrap();
        let refused = |set: &[&str], settings: Option<&PathBuf>, name: &str| {
            let args = SettingsArgs { settings: settings.cloned(), ..args(set) };
            let found = args.resolve(&SearchSettings::default()).unwrap();
            args.refuse(&found, &[name], "does not fit").err().map(|error| error.to_string())
        };
        let said = |set: &str| Some(format!("--set {set} does not fit"));
        assert_eq!(refused(&["teacher.grid=21"], None, "teacher.grid"), said("teacher.grid=21"));
        assert_eq!(refused(&["teacher={grid=3}"], None, "teacher.grid"), said("teacher={grid=3}"));
        assert_eq!(refused(&["teacher={grid=3}"], None, "teacher.samples"), None);
        assert_eq!(refused(&[], Some(&path), "teacher.grid"), None);
        let in_file = format!("oss.beam in {} does not fit", path.display());
        assert_eq!(refused(&["teacher.grid=3"], Some(&path), "oss.beam"), Some(in_file));
    }
}
