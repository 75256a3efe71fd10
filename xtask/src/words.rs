//! `cargo xtask words`: names and words of which the project has a better one.

use std::path::Path;
use std::process::{Command, ExitCode};

use anyhow::{Context, Result, ensure};

/// Names of types, functions and modules, and what they are called.
const NAMES: [(&str, &str); 26] = [
    ("Studio", "image scorer"),
    ("Gallery", "result cache"),
    ("Lab", "experiment runner"),
    ("Bench", "evaluator"),
    ("Course", "trajectory data set"),
    ("Lessons", "training source"),
    ("Lesson", "minibatch"),
    ("Learner", "schedule optimiser"),
    ("Rein", "error penalty"),
    ("Look", "evaluation, or local feature model"),
    ("Seen", "feature moments"),
    ("View", "error space"),
    ("seen_by", "with_features or with_images"),
    ("looking_at", "with_features or with_images"),
    ("Held", "mean prediction"),
    ("Ends", "clipping histogram"),
    ("Between", "interpolation point"),
    ("settle", "interpolate weights"),
    ("elsewhere", "cross-plan evaluation"),
    ("AS_IT_CAME", "untuned"),
    ("First", "shared search"),
    ("judge", "held-out evaluator, or image scorer"),
    ("Spent", "cost"),
    ("Given", "plan file"),
    ("Kept", "cache entry"),
    ("Words", "arguments"),
];

/// Words of sentences, as a reader meets them in documents, comments and messages, and what to write.
const WORDS: [(&str, &str); 14] = [
    ("rein", "error penalty"),
    ("reins", "error penalties"),
    ("judge", "held-out evaluator, or image scorer"),
    ("judges", "held-out evaluators, or scores"),
    ("judged", "scored"),
    ("judging", "scoring"),
    ("of the way", "alpha, or the interpolation point"),
    ("settles between", "interpolates between"),
    ("settled between", "interpolated between"),
    ("both stages", "both phases"),
    ("what it learns from", "training data"),
    ("as it came", "untuned"),
    ("preconditioner", "parameterisation"),
    ("parameterization", "parameterisation"),
];

/// What tells of other versions, or was written by them.
const EXEMPT: [&str; 4] = ["CHANGELOG.md", "bench/results/", "testdata/", "xtask/src/words.rs"];

/// Looks through every tracked text.
pub fn check(root: &Path) -> Result<ExitCode> {
    let mut found = 0;
    for path in tracked(root, &["*.rs", "*.md", "*.py", "*.pyi", "*.sh", "*.toml"])? {
        if EXEMPT.iter().any(|exempt| path.starts_with(exempt)) {
            continue;
        }
        let text = std::fs::read_to_string(root.join(&path)).with_context(|| format!("cannot read {path}"))?;
        for (number, line) in text.lines().enumerate() {
            for (word, better) in faults(line) {
                eprintln!("{path}:{}: `{word}`: write {better}", number + 1);
                found += 1;
            }
        }
    }
    ensure!(found == 0, "{found} words that the project has better ones for (xtask/src/words.rs)");
    Ok(ExitCode::SUCCESS)
}

/// Files in the index, or new and not ignored, whose names fit one of the patterns; no links.
pub fn tracked(root: &Path, patterns: &[&str]) -> Result<Vec<String>> {
    let mut git = Command::new("git");
    git.args(["ls-files", "--cached", "--others", "--exclude-standard", "--"]).args(patterns).current_dir(root);
    let listed = git.output().context("cannot start git")?;
    ensure!(listed.status.success(), "git cannot list the project's files");
    let names = String::from_utf8(listed.stdout).context("names of files are not UTF-8")?;
    Ok(names
        .lines()
        .filter(|name| root.join(name).is_file() && !root.join(name).is_symlink())
        .map(str::to_owned)
        .collect())
}

/// The listed words of a line, with what to write.
fn faults(line: &str) -> Vec<(&'static str, &'static str)> {
    let names = NAMES.into_iter().filter(|(name, _)| {
        words_at(line, name).any(|at| {
            let before = line[..at].trim_end();
            ["struct", "enum", "trait", "type", "fn", "mod", "const", "class", "def"].iter().any(|kind| {
                before.strip_suffix(kind).is_some_and(|rest| !rest.ends_with(|c: char| c.is_alphanumeric() || c == '_'))
            })
        })
    });
    let lower = line.to_lowercase();
    names.chain(WORDS.into_iter().filter(|(word, _)| words_at(&lower, word).next().is_some())).collect()
}

/// Where `word` stands in `line` by itself.
fn words_at<'a>(line: &'a str, word: &'a str) -> impl Iterator<Item = usize> + 'a {
    let is_inside = |c: Option<char>| c.is_some_and(|c| c.is_alphanumeric() || c == '_');
    line.match_indices(word).map(|(at, _)| at).filter(move |&at| {
        !is_inside(line[..at].chars().next_back()) && !is_inside(line[at + word.len()..].chars().next())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_found_where_they_are_made() {
        assert_eq!(faults("pub struct Studio<'a> {"), [("Studio", "image scorer")]);
        assert_eq!(faults("    fn settle(&self) {"), [("settle", "interpolate weights")]);
        assert_eq!(faults("/// Held-out error; First, look at it. Given a plan."), []);
        assert_eq!(faults("struct Studios; fn first_settle() {}"), []);
    }

    #[test]
    fn words_are_found_in_sentences() {
        assert_eq!(faults("Half of the way to it."), [("of the way", "alpha, or the interpolation point")]);
        assert_eq!(faults("// The judge decides."), [("judge", "held-out evaluator, or image scorer")]);
        assert_eq!(faults("A reinforcement is prejudged; the plan's stage 1."), []);
    }
}
