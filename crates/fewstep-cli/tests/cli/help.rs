//! What `--help` shows.

use crate::support::{Place, steady};

const COMMANDS: [&str; 19] = [
    "demo",
    "plan",
    "tune",
    "fit",
    "compare",
    "reproduce",
    "export",
    "sample",
    "eval",
    "data",
    "train",
    "import",
    "denoise",
    "report",
    "info",
    "ref",
    "features",
    "completions",
    "man",
];

fn help(args: &[&str]) -> String {
    steady(&Place::new().succeeds(args))
}

#[test]
fn version() {
    insta::assert_snapshot!(help(&["--version"]), @"fewstep VERSION");
}

#[test]
fn help_is_as_recorded_and_has_an_example() {
    let program = help(&["--help"]);
    insta::assert_snapshot!("help", program);
    for command in COMMANDS {
        assert!(program.contains(&format!("\n  {command} ")), "{command}");
        let text = help(&[command, "--help"]);
        insta::assert_snapshot!(format!("help-{command}"), text);
        assert!(text.contains(&format!("Example:\n  fewstep {command}")) || text.contains("Examples:\n"), "{command}");
        assert!(text.contains(&format!("  fewstep {command} ")), "{command}: {text}");
    }
    let listed = program.lines().skip_while(|line| *line != "Commands:").skip(1).take_while(|line| !line.is_empty());
    let names = listed.filter(|line| line.starts_with("  ") && !line.starts_with("   ")).count();
    assert_eq!(names, COMMANDS.len() + 1, "every command and `help`");
}

#[test]
fn colour_is_off_where_it_is_unwanted() {
    // `Place::run` asserts that there are no escape codes.
    for env in [&[("NO_COLOR", "1")][..], &[("TERM", "xterm-256color")]] {
        let place = Place::new();
        for args in [&["--help"][..], &["sample"], &["info", "nowhere"]] {
            place.run_with(args, env);
        }
    }
}
