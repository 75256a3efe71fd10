//! `cargo xtask book`: the documents as a site, by mdBook, in `target/book/site`.
//!
//! The pages are those of `docs/SUMMARY.md`, and stay where a reader of the repository finds them. They are copied, each under its path in
//! the repository, with every file that they link to, so that links hold on both.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, Result, bail, ensure};

use crate::tasks;
use crate::tools::MDBOOK;
use crate::words::tracked;

const SUMMARY: &str = "docs/SUMMARY.md";

/// Checks the links of all Markdown, and builds the site; a warning of mdBook's fails.
pub fn build(root: &Path) -> Result<ExitCode> {
    let pages = Pages::read(root)?;
    let broken = pages.broken_links(root);
    ensure!(broken.is_empty(), "links that lead nowhere:\n{}", broken.join("\n"));

    let book = tasks::target(root).join("book");
    if book.exists() {
        fs::remove_dir_all(&book).with_context(|| format!("cannot empty {}", book.display()))?;
    }
    let source = book.join("src");
    let copy = |path: &str| {
        let to = source.join(path);
        fs::create_dir_all(to.parent().unwrap_or(&source))?;
        fs::copy(root.join(path), to).with_context(|| format!("cannot copy {path}"))
    };
    let listed = pages.listed()?;
    for page in &listed {
        copy(page)?;
        for link in pages.links_of(page) {
            if root.join(&link.path).is_file() {
                ensure!(
                    listed.contains(&link.path) || !link.path.ends_with(".md"),
                    "{page}:{}: {} is no page of {SUMMARY}, so the site would lack it",
                    link.line,
                    link.path
                );
                copy(&link.path)?;
            }
        }
    }
    fs::write(source.join("SUMMARY.md"), pages.summary()?)?;
    fs::copy(root.join("docs/book.toml"), book.join("book.toml")).context("cannot copy docs/book.toml")?;

    let mdbook = MDBOOK.folder(root)?.join(MDBOOK.name);
    let built = std::process::Command::new(mdbook).arg("build").arg(&book).output().context("cannot start mdBook")?;
    let said = String::from_utf8_lossy(&built.stderr);
    ensure!(built.status.success() && !said.contains("WARN") && !said.contains("ERROR"), "mdBook: {said}");
    println!("{}", book.join("site/index.html").display());
    Ok(ExitCode::SUCCESS)
}

/// A link to a file of the project.
#[derive(Debug, PartialEq, Eq)]
struct Link {
    line: usize,
    /// From the root of the repository.
    path: String,
    /// The heading, as it stands behind the `#`.
    heading: Option<String>,
}

/// Every Markdown file of the project, by its path.
struct Pages(BTreeMap<String, String>);

impl Pages {
    fn read(root: &Path) -> Result<Self> {
        let read = |path: String| {
            let text = fs::read_to_string(root.join(&path)).with_context(|| format!("cannot read {path}"))?;
            Ok((path, text))
        };
        Ok(Self(tracked(root, &["*.md"])?.into_iter().map(read).collect::<Result<_>>()?))
    }

    fn links_of(&self, page: &str) -> Vec<Link> {
        self.0.get(page).map(|text| links(page, text)).unwrap_or_default()
    }

    fn broken_links(&self, root: &Path) -> Vec<String> {
        let mut broken = Vec::new();
        for page in self.0.keys() {
            for Link { line, path, heading } in self.links_of(page) {
                let is_there = root.join(&path).exists();
                let has_heading =
                    |heading: &String| self.0.get(&path).is_some_and(|text| anchors(text).contains(heading));
                if !is_there || heading.as_ref().is_some_and(|heading| !has_heading(heading)) {
                    let heading = heading.map(|heading| format!("#{heading}")).unwrap_or_default();
                    broken.push(format!("{page}:{line}: {path}{heading}"));
                }
            }
        }
        broken
    }

    fn summary_text(&self) -> Result<&String> {
        self.0.get(SUMMARY).with_context(|| format!("{SUMMARY} is missing"))
    }

    /// The pages of the site.
    fn listed(&self) -> Result<BTreeSet<String>> {
        let listed: BTreeSet<_> = links(SUMMARY, self.summary_text()?).into_iter().map(|link| link.path).collect();
        if let Some(missing) =
            self.0.keys().find(|path| path.starts_with("docs/") && *path != SUMMARY && !listed.contains(*path))
        {
            bail!("{missing} is not in {SUMMARY}");
        }
        Ok(listed)
    }

    /// The summary as it stands at the root of the site.
    fn summary(&self) -> Result<String> {
        let line = |line: &str| match line.rsplit_once("](").and_then(|(name, to)| Some((name, to.strip_suffix(')')?)))
        {
            Some((name, to)) => format!("{name}]({})\n", resolved(SUMMARY, to)),
            None => format!("{line}\n"),
        };
        Ok(self.summary_text()?.lines().map(line).collect())
    }
}

/// The links of a page to files of the project.
fn links(page: &str, text: &str) -> Vec<Link> {
    let mut found = Vec::new();
    for (line, text) in outside_of_fences(text) {
        let text: String = text.split('`').step_by(2).collect();
        for (at, _) in text.match_indices("](") {
            let Some((to, _)) = text[at + 2..].split_once(')') else { continue };
            if to.contains("://") || to.starts_with("mailto:") {
                continue;
            }
            let (path, heading) =
                to.split_once('#').map_or((to, None), |(path, heading)| (path, Some(heading.to_owned())));
            let path = if path.is_empty() { page.to_owned() } else { resolved(page, path) };
            found.push(Link { line, path, heading });
        }
    }
    found
}

/// A relative path of a page, from the root.
fn resolved(page: &str, to: &str) -> String {
    let mut parts: Vec<&str> = page.split('/').collect();
    parts.pop();
    for part in to.split('/') {
        match part {
            "." | "" => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    parts.join("/")
}

/// Headings as links name them: lower case, spaces as hyphens, without punctuation.
fn anchors(text: &str) -> BTreeSet<String> {
    let heading = |line: &str| {
        let title = line.strip_prefix('#')?.trim_start_matches('#').strip_prefix(' ')?;
        let kept = title.trim().chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
        Some(kept.collect::<String>().to_lowercase().replace(' ', "-"))
    };
    outside_of_fences(text).filter_map(|(_, line)| heading(line)).collect()
}

/// Numbered lines that stand in no fence.
fn outside_of_fences(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let mut fenced = false;
    text.lines().enumerate().filter_map(move |(number, line)| {
        let is_fence = line.trim_start().starts_with("```");
        fenced ^= is_fence;
        (!fenced && !is_fence).then_some((number + 1, line))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_are_those_of_the_text_to_files() {
        let text = "See [a](../README.md) and\n`[no](code.md)`\n```sh\n[no](fence.md)\n```\n[b](x.md#the-end), [c](#here), [d](https://e.org)";
        let link = |line, path: &str, heading: Option<&str>| Link {
            line,
            path: path.into(),
            heading: heading.map(Into::into),
        };
        let expected =
            [link(1, "README.md", None), link(6, "docs/x.md", Some("the-end")), link(6, "docs/y.md", Some("here"))];
        assert_eq!(links("docs/y.md", text), expected);
    }

    #[test]
    fn headings_are_named_as_links_name_them() {
        let found = anchors("# What it is, and costs\n```sh\n# no heading\n```\n## On `plan`\n#none");
        assert_eq!(found, BTreeSet::from(["what-it-is-and-costs".to_owned(), "on-plan".to_owned()]));
    }

    #[test]
    fn what_is_broken_is_named() {
        let root = tempfile::tempdir().unwrap();
        fs::write(root.path().join("a.md"), "").unwrap();
        let pages = |text: &str| Pages(BTreeMap::from([("a.md".to_owned(), text.to_owned())]));
        assert!(pages("# End\n[x](a.md#end)").broken_links(root.path()).is_empty());
        assert_eq!(pages("\n[x](b.md) [y](#no)").broken_links(root.path()), ["a.md:2: b.md", "a.md:2: a.md#no"]);
    }

    #[test]
    fn the_summary_moves_to_the_root() {
        let text = "# Contents\n\n- [Start](start.md)\n  - [One](experiments/one.md)\n[Whole](../README.md)\n";
        let pages = Pages(BTreeMap::from([(SUMMARY.to_owned(), text.to_owned())]));
        let moved = "# Contents\n\n- [Start](docs/start.md)\n  - [One](docs/experiments/one.md)\n[Whole](README.md)\n";
        assert_eq!(pages.summary().unwrap(), moved);
    }
}
