//! Reports in a real browser: no script fails, nothing is fetched, and what is seen is not empty.
//!
//! Needs Chromium (Debian's `chromium`, or another by the variable CHROMIUM); skipped, and said so, where there is none.
//! `cargo xtask picture` takes the README's picture by the same code.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use crate::support::Place;

/// Width and height of screenshots.
const SIZE: (usize, usize) = (1000, 1330);

fn chromium() -> Option<PathBuf> {
    let named = std::env::var_os("CHROMIUM").map(PathBuf::from);
    let path = std::env::var_os("PATH").unwrap_or_default();
    let names = ["chromium", "chromium-browser", "google-chrome"];
    let installed = std::env::split_paths(&path).flat_map(|folder| names.map(|name| folder.join(name)));
    let found = named.into_iter().chain(installed).find(|file| file.is_file());
    if found.is_none() {
        eprintln!("skipped: no Chromium on this machine (Debian: apt-get install chromium)");
    }
    found
}

/// One visit to a page, with a profile of its own.
fn visit(browser: &Path, page: &Path, options: &[String]) -> Output {
    let profile = tempfile::tempdir().unwrap();
    let mut command = Command::new(browser);
    command
        .args(["--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--enable-logging=stderr", "--v=0"])
        .args(["--virtual-time-budget=3000", "--no-first-run", "--disable-background-networking"])
        .arg(format!("--user-data-dir={}", profile.path().display()))
        .arg(format!("--window-size={},{}", SIZE.0, SIZE.1))
        .args(options)
        .arg(format!("file://{}", page.display()));
    command.output().unwrap()
}

/// The page's elements after its script ran, and what it wrote to the console: errors of scripts, and whatever its policy refused.
fn opened(browser: &Path, page: &Path) -> (String, Vec<String>) {
    let output = visit(browser, page, &["--dump-dom".to_owned()]);
    let log = String::from_utf8_lossy(&output.stderr).into_owned();
    let said = log.lines().filter(|line| line.contains("CONSOLE")).map(str::to_owned).collect();
    (String::from_utf8_lossy(&output.stdout).into_owned(), said)
}

fn screenshot(browser: &Path, page: &Path, to: &Path) {
    visit(browser, page, &[format!("--screenshot={}", to.display())]);
    let picture = image::open(to).unwrap_or_else(|error| panic!("{}: {error}", page.display())).to_rgb8();
    assert_eq!((picture.width() as usize, picture.height() as usize), SIZE);
    let mut colours: Vec<_> = picture.pixels().map(|pixel| pixel.0).collect();
    colours.sort_unstable();
    colours.dedup();
    assert!(colours.len() > 50, "{} looks empty: {} colours", page.display(), colours.len());
}

#[test]
fn reports_open_without_an_error() {
    let Some(browser) = chromium() else { return };
    let place = Place::new();
    let small = ["--set", "held_out.samples=8", "--set", "search.teacher.grid=9"];
    place.succeeds(&[&["plan", "gaussian-mixture", "--steps", "3,4", "--out", "plan"], &small[..]].concat());
    let few = ["--methods", "least-squares,karras/euler", "--steps", "3,4", "--images", "64", "--out", "compare"];
    let small = ["--set", "held_out=8", "--set", "search.teacher.grid=9"];
    place.succeeds(&[&["compare", "gaussian-mixture"], &few[..], &small].concat());
    place.save_images("data", 1, 8, 12);
    let train = ["--channels", "8", "--channel-mult", "1", "--blocks", "1", "--batch", "4", "--images", "16"];
    let grids = ["--set", "output.grid_every=8", "--out", "train"];
    place.succeeds(&[&["train", "--data", "data"], &train[..], &grids].concat());
    for run in ["plan", "compare", "train"] {
        let page = place.path(run).join("report.html");
        let (elements, said) = opened(&browser, &page);
        assert!(said.is_empty(), "{run}: {said:?}");
        assert!(elements.contains("type=\"range\""), "{run}: the page's script made no slider");
        screenshot(&browser, &page, &place.path("page.png"));
    }
}

/// What the test above looks for is there to be found.
#[test]
fn a_failing_script_is_noticed() {
    let Some(browser) = chromium() else { return };
    let place = Place::new();
    std::fs::write(place.path("bad.html"), "<p>x</p><script>nowhere.at.all()</script>").unwrap();
    let (_, said) = opened(&browser, &place.path("bad.html"));
    assert!(said.iter().any(|line| line.contains("nowhere is not defined")), "{said:?}");
}

/// The README's picture, of the page that PICTURE_OF names, if it does.
#[test]
fn the_picture_is_taken_where_it_is_asked_for() {
    let (Some(page), Some(to)) = (std::env::var_os("PICTURE_OF"), std::env::var_os("PICTURE")) else { return };
    let browser = chromium().unwrap();
    let (_, said) = opened(&browser, Path::new(&page));
    assert!(said.is_empty(), "{said:?}");
    screenshot(&browser, Path::new(&page), Path::new(&to));
}
