//! A description, as words and as data from the same facts.

use std::path::Path;

use fewstep_report::{Table, is_control};
use serde_json::{Map, Value};

/// What is known of one file.
#[derive(Debug)]
pub struct Description {
    kind: String,
    facts: Vec<Fact>,
    tables: Vec<(&'static str, Table)>,
}

#[derive(Debug)]
struct Fact {
    name: String,
    value: Value,
    /// What the reader sees where it is not the value itself; empty for facts that only data shows.
    words: Option<String>,
}

impl Description {
    /// A file of this kind.
    pub fn new(kind: impl Into<String>) -> Self {
        Self { kind: kind.into(), facts: Vec::new(), tables: Vec::new() }
    }

    /// Adds a fact. Names are words with spaces; data has `_` for them.
    pub fn fact(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.facts.push(Fact { name: name.to_owned(), value: value.into(), words: None });
        self
    }

    /// Adds a fact that reads otherwise than its value.
    pub fn told(mut self, name: &str, value: impl Into<Value>, words: impl Into<String>) -> Self {
        self.facts.push(Fact { name: name.to_owned(), value: value.into(), words: Some(words.into()) });
        self
    }

    /// Adds a fact that only data shows.
    pub fn silent(self, name: &str, value: impl Into<Value>) -> Self {
        self.told(name, value, "")
    }

    /// Adds a table.
    pub fn table(mut self, name: &'static str, table: Table) -> Self {
        self.tables.push((name, table));
        self
    }

    /// For a terminal.
    pub fn to_text(&self, path: &Path, colour: bool) -> String {
        let mut text = format!("{}: {}\n", path.display(), printable(&self.kind));
        let shown: Vec<(String, String)> = self
            .facts
            .iter()
            .map(|fact| (printable(&fact.name), fact.words()))
            .filter(|(_, words)| !words.is_empty())
            .collect();
        let width = shown.iter().map(|(name, _)| name.chars().count()).max().unwrap_or(0);
        for (name, words) in shown {
            text += &format!("  {name:width$}  {words}\n");
        }
        for (_, table) in &self.tables {
            text += "\n";
            text += &table.to_terminal(colour);
        }
        text
    }

    /// For programs.
    pub fn to_json(&self, path: &Path) -> Value {
        let mut map = Map::new();
        map.insert("path".to_owned(), path.display().to_string().into());
        map.insert("kind".to_owned(), self.kind.clone().into());
        for fact in &self.facts {
            map.insert(fact.name.replace(' ', "_"), fact.value.clone());
        }
        for (name, table) in &self.tables {
            map.insert((*name).to_owned(), table.to_json());
        }
        Value::Object(map)
    }
}

impl Fact {
    fn words(&self) -> String {
        match (&self.words, &self.value) {
            (Some(words), _) => printable(words),
            (None, Value::String(text)) => printable(text),
            (None, Value::Null) => String::new(),
            (None, value) => value.to_string(),
        }
    }
}

/// Text from a file must not reach a terminal as commands to it.
pub(crate) fn printable(text: &str) -> String {
    text.chars().map(|c| if is_control(c) { ' ' } else { c }).collect()
}
