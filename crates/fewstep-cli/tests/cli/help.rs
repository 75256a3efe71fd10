//! What `--help` shows.

use std::sync::LazyLock;

use crate::support::{Place, steady};

/// All of them.
pub const COMMANDS: [&str; 19] = [
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

/// The help of a command: asked for once, as to load libtorch takes longer than all else.
fn help_of(command: &str) -> &'static str {
    static ALL: LazyLock<Vec<String>> =
        LazyLock::new(|| COMMANDS.iter().map(|command| help(&[command, "--help"])).collect());
    &ALL[COMMANDS.iter().position(|known| *known == command).unwrap()]
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
        let text = help_of(command);
        insta::assert_snapshot!(format!("help-{command}"), text);
        assert!(text.contains(&format!("Example:\n  fewstep {command}")) || text.contains("Examples:\n"), "{command}");
        assert!(text.contains(&format!("  fewstep {command} ")), "{command}: {text}");
    }
    let listed = program.lines().skip_while(|line| *line != "Commands:").skip(1).take_while(|line| !line.is_empty());
    let names = listed.filter(|line| line.starts_with("  ") && !line.starts_with("   ")).count();
    assert_eq!(names, COMMANDS.len() + 1, "every command and `help`");
}

/// Names of a command's options but for `--json`, `--help` and `--version`.
fn options(command: &str) -> Vec<String> {
    let text = help_of(command);
    let before_examples = text.split("\nExample").next().unwrap();
    let indented = before_examples.lines().filter_map(|line| line.strip_prefix("      --"));
    let names = indented.map(|line| line.split([' ', '=']).next().unwrap().to_owned());
    names.filter(|name| name != "json").collect()
}

/// What only a few turn is a setting.
#[test]
fn a_command_has_at_most_24_options() {
    for command in COMMANDS {
        let options = options(command);
        assert!(options.len() <= 24, "{command} has {}: {options:?}", options.len());
    }
    assert!(["out", "seeds", "set"].iter().all(|name| options("sample").iter().any(|option| option == name)));
    for command in ["plan", "tune"] {
        let lines = Place::new().run_with(&[command, "--help"], &[("COLUMNS", "80")]).stdout.lines().count();
        assert!(lines <= 80, "{command} --help has {lines} lines");
    }
}

/// `--print-settings` needs nothing else, and what it prints is what the command does without it.
#[test]
fn settings_are_printed_where_nothing_else_is_said() {
    let place = Place::new();
    let with_settings = COMMANDS.into_iter().filter(|command| options(command).iter().any(|name| name == "settings"));
    let with_settings: Vec<&str> = with_settings.collect();
    assert_eq!(with_settings, ["plan", "tune", "fit", "compare", "reproduce", "sample", "eval", "train"]);
    for command in with_settings {
        let text = place.succeeds(&[command, "--print-settings"]);
        for line in text.lines().filter(|line| line.contains(" = ") && !line.starts_with('#')) {
            assert!(line.contains("  # "), "{command}: {line}");
        }
        std::fs::write(place.path("printed.toml"), &text).unwrap();
        assert_eq!(place.succeeds(&[command, "--settings", "printed.toml", "--print-settings"]), text);
        let error = place.run(&[command, "--settings", "printed.toml"]);
        assert_eq!(error.code, 2, "{command} needs more: {}", error.stderr);
    }
    let sampler = place.succeeds(&["sample", "--print-settings", "--set", "sampler.rho=5"]);
    insta::assert_snapshot!("print-settings-sample", sampler);
    assert!(place.succeeds(&["tune", "--updates", "7", "--print-settings"]).contains("updates = 7 "));
    assert!(place.succeeds(&["reproduce", "--preset", "paper", "--print-settings"]).contains("batch = 512 "));
    assert_eq!(place.list("."), ["printed.toml"]);
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
