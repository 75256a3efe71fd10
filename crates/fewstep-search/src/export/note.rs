//! What a tool's user has to know beside the exported text.

/// A note for the tool's user. It names a setting of the search as data, because the command line and Python spell settings each in
/// their own way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    text: String,
    setting: Option<Setting>,
}

/// A value of a setting of the search, which a note advises.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Setting {
    /// The table of [`SearchSettings`](crate::SearchSettings) that has it.
    pub table: &'static str,
    /// Its name there.
    pub name: &'static str,
    /// The advised value.
    pub value: bool,
}

impl Note {
    /// A note whose last words are a setting: `text`, a space, and the setting as the caller spells it.
    pub(super) fn ending_with(text: &str, setting: Setting) -> Self {
        Self { text: text.to_owned(), setting: Some(setting) }
    }

    /// The note in words, one line or more, with its setting as `spell` writes it.
    pub fn in_words(&self, spell: impl Fn(&Setting) -> String) -> String {
        match &self.setting {
            Some(setting) => format!("{} {}", self.text, spell(setting)),
            None => self.text.clone(),
        }
    }

    /// The setting that the note advises.
    pub fn setting(&self) -> Option<&Setting> {
        self.setting.as_ref()
    }
}

impl From<String> for Note {
    fn from(text: String) -> Self {
        Self { text, setting: None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_setting_is_spelled_by_whoever_shows_the_note() {
        let setting = Setting { table: "oss", name: "grid", value: true };
        let note = Note::ending_with("set", setting);
        assert_eq!(
            note.in_words(|setting| format!("{}.{}={}", setting.table, setting.name, setting.value)),
            "set oss.grid=true"
        );
        assert_eq!(Note::from("as it is".to_owned()).in_words(|_| unreachable!()), "as it is");
    }
}
