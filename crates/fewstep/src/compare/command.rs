//! The command of a comparison that was gone on with: what it compares by now, and not what was added last.

use super::{CompareTask, PlanFileId};

/// `command`, which went on with the comparison that `earlier` began or went on with, so that it repeats all of `task`. One that is no
/// `fewstep compare` stays as it is.
pub(super) fn of_all(task: &CompareTask, earlier: &[String], command: &[String]) -> Vec<String> {
    // no option in front of a command takes a value
    if command.iter().skip(1).find(|word| !word.starts_with('-')).is_none_or(|name| name != "compare") {
        return command.to_vec();
    }
    let listed = |all: Vec<String>| (!all.is_empty()).then(|| all.join(","));
    let lists = [
        ("--methods", listed(task.methods.iter().map(ToString::to_string).collect())),
        ("--plans", listed(task.plans.iter().map(|PlanFileId { name, .. }| name.clone()).collect())),
        ("--steps", listed(task.steps.iter().map(usize::to_string).collect())),
    ];
    let mut all = command.to_vec();
    for (name, value) in lists {
        let Some(value) = value else { continue };
        take(&mut all, name);
        all.extend([name.to_owned(), value]);
    }
    // methods of before may need training images that those of now do not
    let names = ["--data", "--pad-to"];
    if take(&mut command.to_vec(), names[0]).is_none() {
        for name in names {
            let has = take(&mut command.to_vec(), name).is_some();
            if let Some(value) = take(&mut earlier.to_vec(), name).filter(|_| !has) {
                all.extend([name.to_owned(), value]);
            }
        }
    }
    all
}

/// Takes the option `name` out of `words`, however often it is there; its last value.
fn take(words: &mut Vec<String>, name: &str) -> Option<String> {
    let mut last = None;
    while let Some(at) = words.iter().position(|word| word.split('=').next() == Some(name)) {
        let word = words.remove(at);
        last = match word.split_once('=') {
            Some((_, value)) => Some(value.to_owned()),
            None => (at < words.len()).then(|| words.remove(at)),
        };
    }
    last
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<String> {
        text.split(' ').map(str::to_owned).collect()
    }

    fn task() -> CompareTask {
        let task = serde_json::json!({
            "models": [], "methods": ["bound/euler", "oss/euler"], "plans": [{ "name": "a.json", "steps": [3] }], "steps": [3, 4],
            "settings": {},
        });
        serde_json::from_value(task).unwrap()
    }

    #[test]
    fn a_command_that_went_on_names_all_that_is_compared() {
        let of = |earlier: &str, command: &str| of_all(&task(), &words(earlier), &words(command)).join(" ");
        let lists = "--methods bound/euler,oss/euler --plans a.json --steps 3,4";
        let earlier = "fewstep compare m --methods bound --steps=3 --plans a.json --data d --pad-to=32 --out run";
        assert_eq!(
            of(earlier, "bin/fewstep --json compare m --methods=oss --methods oss/euler --out run --steps 4 --resume"),
            format!("bin/fewstep --json compare m --out run --resume {lists} --data d --pad-to 32")
        );
        assert_eq!(
            of(earlier, "fewstep compare m --data other --out run"),
            format!("fewstep compare m --data other --out run {lists}"),
            "data that are named now"
        );
        assert_eq!(of(earlier, "python mine.py compare"), "python mine.py compare", "another program's");
        assert!(of_all(&task(), &[], &[]).is_empty());
    }
}
