//! Commands in the documentation.
//!
//! A fence of `sh` runs as it stands, on fewer latents and images; one of `sh,needs-file` needs a file that the reader has, one of
//! `sh,hours` takes that long, and of both only the options are read.

use std::path::{Path, PathBuf};

use crate::support::Place;

/// A fenced block of commands, a line each: what ends in a backslash goes on.
struct Block {
    page: PathBuf,
    line: usize,
    mark: String,
    commands: Vec<String>,
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn pages() -> Vec<PathBuf> {
    let mut pages = vec![root().join("README.md"), root().join("ARCHITECTURE.md")];
    for folder in ["docs", "docs/experiments", "bench", "bench/results", "bench/cifar10"] {
        let files = std::fs::read_dir(root().join(folder)).unwrap().map(|entry| entry.unwrap().path());
        pages.extend(files.filter(|path| path.extension().is_some_and(|extension| extension == "md")));
    }
    pages.sort();
    pages
}

fn blocks() -> Vec<Block> {
    let mut blocks = Vec::new();
    for page in pages() {
        let text = std::fs::read_to_string(&page).unwrap();
        let mut open: Option<Block> = None;
        let mut of_text = false;
        for (number, line) in text.lines().enumerate() {
            let line_of_code = line.trim();
            if let Some(info) = line_of_code.strip_prefix("```") {
                match (open.take(), of_text) {
                    (Some(block), _) => blocks.push(block),
                    (None, true) => of_text = false,
                    (None, false) => {
                        let (language, mark) = info.split_once(',').unwrap_or((info, ""));
                        let (line, mark, page) = (number + 1, mark.to_owned(), page.clone());
                        of_text = language != "sh";
                        open = (!of_text).then(|| Block { page, line, mark, commands: Vec::new() });
                    }
                }
            } else if let Some(block) = &mut open {
                let code = line_of_code.split(" #").next().unwrap_or_default().trim_end();
                match block.commands.last_mut().filter(|last| last.ends_with('\\')) {
                    Some(last) => {
                        last.pop();
                        last.push_str(code);
                    }
                    None => block.commands.push(code.to_owned()),
                }
            } else {
                let indented = line.starts_with("    ") && !line_of_code.is_empty();
                let in_a_list = line_of_code.starts_with(['-', '*']) || of_text;
                assert!(!indented || in_a_list, "{}:{}: code stands in fences", page.display(), number + 1);
            }
        }
        assert!(open.is_none() && !of_text, "{}: a fence is not closed", page.display());
    }
    assert!(blocks.len() > 20, "only {} blocks of commands", blocks.len());
    blocks
}

impl Block {
    /// The commands in words, with where they stand.
    fn words(&self) -> impl Iterator<Item = (String, Vec<&str>)> {
        let place = format!("{}:{}", self.page.display(), self.line);
        self.commands.iter().map(move |command| (format!("{place}: {command}"), command.split_whitespace().collect()))
    }
}

#[test]
fn options_of_every_command_exist() {
    let place = Place::new();
    let mut found = 0;
    for block in blocks() {
        assert!(["", "needs-file", "hours"].contains(&block.mark.as_str()), "{}: {}", block.page.display(), block.mark);
        for (command, words) in block.words() {
            // A launcher may stand before it.
            let Some(start) = words.iter().position(|&word| word == "fewstep") else { continue };
            let mut arguments = words[start + 1..].to_vec();
            if let Some(end) = arguments.iter().position(|word| [">", "|", "&&"].contains(word)) {
                arguments.truncate(end);
            }
            arguments.push("--help"); // which is obeyed once everything before it was understood
            let run = place.run(&arguments);
            assert_eq!(run.code, 0, "{command}\n{}", run.stderr);
            found += 1;
        }
    }
    assert!(found > 40, "only {found} commands");
}

#[test]
fn commands_that_need_no_file_of_the_reader_s_run() {
    let mut made = 0;
    for block in blocks().iter().filter(|block| block.mark.is_empty()) {
        let place = Place::new();
        for (command, words) in block.words() {
            match words.as_slice() {
                [] => {}
                ["fewstep", arguments @ ..] => {
                    let fewer = [("0-999", "0-19")];
                    let mut arguments: Vec<_> = arguments
                        .iter()
                        .map(|&word| fewer.iter().find(|few| few.0 == word).map_or(word, |few| few.1))
                        .collect();
                    if arguments[0] == "plan" {
                        arguments.extend(["--set", "search.teacher.samples=4", "--set", "held_out.samples=2"]);
                    }
                    let run = place.run(&arguments);
                    assert_eq!(run.code, 0, "{command}\n{}", run.stderr);
                    made += 1;
                }
                // What builds is run by those who run this.
                ["cargo", "xtask", task, ..] => {
                    let tasks = std::fs::read_to_string(root().join("xtask/src/main.rs")).unwrap();
                    assert!(tasks.contains(&format!("\"{task}\" =>")), "{command}: there is no such task");
                }
                ["cargo", "run" | "test", ..] => {
                    let after = |option: &str| words.iter().skip_while(|&&word| word != option).nth(1);
                    let package = root().join("crates").join(after("-p").expect(&command));
                    assert!(package.exists(), "{command}: there is no such package");
                    if let Some(example) = after("--example") {
                        assert!(
                            package.join("examples").join(format!("{example}.rs")).exists(),
                            "{command}: no such example"
                        );
                    }
                }
                ["cargo", "install", "--path", path] | ["pip", "install", path] => {
                    assert!(root().join(path).is_dir(), "{command}: there is no such folder");
                }
                _ => panic!("{command}: a command that is not tested; mark the block with `needs-file` or `hours`"),
            }
        }
    }
    assert!(made > 5, "only {made} commands were run");
}
