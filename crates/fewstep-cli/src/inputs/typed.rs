//! Options that stand on the command line, apart from those that have their defaults.

use std::collections::BTreeSet;

use anyhow::{Result, bail};
use clap::parser::ValueSource;
use clap::{ArgMatches, Args, Command, FromArgMatches};

/// The options that were typed. It stands before all other arguments of a command, whose reading takes them away.
#[derive(Clone, Debug, Default)]
pub struct Typed(BTreeSet<String>);

impl Typed {
    /// Refuses every option of the arguments `A` that was typed, but those of `used`, as `why` says.
    pub fn refuse<A: Args>(&self, used: &[&str], why: &str) -> Result<()> {
        for arg in A::augment_args(Command::new("")).get_arguments() {
            let (id, name) = (arg.get_id().as_str(), arg.get_long().unwrap_or_default());
            if self.0.contains(id) && !used.contains(&name) {
                bail!("--{name} {why}");
            }
        }
        Ok(())
    }
}

impl FromArgMatches for Typed {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let typed = |id: &&clap::Id| matches.value_source(id.as_str()) == Some(ValueSource::CommandLine);
        Ok(Self(matches.ids().filter(typed).map(ToString::to_string).collect()))
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

impl Args for Typed {
    fn augment_args(command: Command) -> Command {
        command
    }

    fn augment_args_for_update(command: Command) -> Command {
        command
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::inputs::{ModelArgs, PlanArgs};

    #[derive(Debug, Parser)]
    struct Arguments {
        #[command(flatten)]
        typed: Typed,
        #[command(flatten)]
        plan: PlanArgs,
        #[command(flatten)]
        model: ModelArgs,
    }

    #[test]
    fn what_was_typed_is_refused_and_defaults_are_not() {
        let typed = |words: &[&str]| Arguments::try_parse_from([&["x"], words].concat()).unwrap().typed;
        let refused =
            |words: &[&str]| typed(words).refuse::<PlanArgs>(&["solver"], "is idle").map_err(|e| e.to_string());
        assert_eq!(refused(&[]), Ok(()));
        assert_eq!(refused(&["--solver", "euler", "--guidance", "2"]), Ok(()));
        // also where it is what stands there without it
        assert_eq!(refused(&["--steps", "18"]), Err("--steps is idle".to_owned()));
        let refused = typed(&["--threads", "2", "--precision", "f32"]).refuse::<ModelArgs>(&["threads"], "is idle");
        assert_eq!(refused.unwrap_err().to_string(), "--precision is idle");
    }
}
