//! Settings as text: TOML with every setting, its value and what it does.

use fewstep_search::Documented;
use fewstep_search::documented::Setting;
use serde::Serialize;
use toml::{Table, Value};

use crate::error::{Error, Result};

/// Settings wider than this do not push the comments of others to the right.
const WIDEST: usize = 36;

/// Settings as a TOML file of them, with a comment for each; what is not set stands in a comment.
///
/// # Errors
/// If they cannot be written as TOML.
pub fn to_toml<S: Serialize + Documented>(settings: &S) -> Result<String> {
    let values = Table::try_from(settings).map_err(|error| Error::Input(format!("settings are no TOML: {error}")))?;
    let mut text = String::new();
    write_table(S::SETTINGS, &values, "", &mut text);
    Ok(text)
}

/// The single settings of a table, then the tables in it: in TOML they come last.
fn write_table(settings: &[Setting], values: &Table, place: &str, text: &mut String) {
    let single = settings.iter().filter(|setting| setting.table.is_empty());
    let lines: Vec<(String, &str)> = single.map(|setting| (line(setting, values), setting.about())).collect();
    let widths = lines.iter().map(|(line, _)| line.chars().count());
    let width = widths.filter(|width| *width <= WIDEST).max().unwrap_or_default();
    for (line, about) in lines {
        *text += &format!("{line:width$}  # {about}\n");
    }
    for setting in settings.iter().filter(|setting| !setting.table.is_empty()) {
        let place = if place.is_empty() { setting.name.to_owned() } else { format!("{place}.{}", setting.name) };
        let gap = if text.is_empty() { "" } else { "\n" };
        *text += &format!("{gap}# {}\n[{place}]\n", setting.about());
        let values = values.get(setting.name).and_then(Value::as_table);
        write_table(setting.table, values.unwrap_or(&Table::new()), &place, text);
    }
}

/// `name = value`, in a comment where there is no value.
fn line(setting: &Setting, values: &Table) -> String {
    match values.get(setting.name) {
        Some(value) => format!("{} = {value}", setting.name),
        None => format!("# {} =", setting.name),
    }
}

#[cfg(test)]
mod tests {
    use std::fmt::Debug;

    use serde::de::DeserializeOwned;

    use super::*;
    use crate::compare::CompareSettings;
    use crate::evaluate::EvalSettings;
    use crate::fitting::FitSettings;
    use crate::reproduce::{Preset, ReproduceSettings};
    use crate::sampling::SampleSettings;
    use crate::training::TrainSettings;

    /// Every value has its line with help, and the text means what the settings mean.
    fn holds<S: Serialize + DeserializeOwned + Documented + PartialEq + Debug>(settings: &S) -> String {
        let text = to_toml(settings).unwrap();
        assert_eq!(toml::from_str::<S>(&text).unwrap(), *settings, "{text}");
        let values = Table::try_from(settings).unwrap();
        every_value_has_help(S::SETTINGS, &values, &text);
        text
    }

    fn every_value_has_help(settings: &[Setting], values: &Table, text: &str) {
        for (name, value) in values {
            let setting = settings.iter().find(|setting| setting.name == name);
            let setting = setting.unwrap_or_else(|| panic!("{name} has no help"));
            let about = setting.about();
            assert!(!about.is_empty() && !about.contains('\n') && text.contains(about), "{name}: {about}");
            match value {
                Value::Table(inner) => every_value_has_help(setting.table, inner, text),
                value => assert!(text.contains(&format!("{name} = {value}")), "{name}: {text}"),
            }
        }
    }

    #[test]
    fn every_setting_of_every_command_is_printed_with_its_help_and_read_back() {
        holds(&SampleSettings::default());
        holds(&EvalSettings::default());
        holds(&CompareSettings::default());
        holds(&FitSettings::default());
        holds(&ReproduceSettings::of(Preset::Small));
        holds(&ReproduceSettings::of(Preset::Paper));
        let text = holds(&TrainSettings::default());
        let unset =
            "# grid_every =       # Images between two sample grids; 0 for none, a tenth of all where nothing is said.";
        assert!(text.contains(unset), "{text}");
        assert!(text.contains("\n# Constants of the optimiser.\n[training.adam]\nbeta1 = 0.9       # Decay"), "{text}");
    }
}
