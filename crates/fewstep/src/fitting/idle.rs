//! Settings that change nothing where they are asked for.

use super::FitTask;
use super::settings::{FitSettings, PaperObjective, PlanSource, TuneLoss};
use crate::error::{Result, bail, ensure};

impl FitTask {
    /// Refuses settings that were asked for by name and change nothing here.
    ///
    /// # Errors
    /// With the first of `names` that does.
    pub fn refuse_idle<'a>(&self, names: impl IntoIterator<Item = &'a str>) -> Result<()> {
        for name in names {
            if let Some(needed) = self.idle(name) {
                bail!("the setting {name} is for {needed}: it changes nothing here");
            }
        }
        Ok(())
    }

    /// Refuses training images that change nothing here.
    ///
    /// # Errors
    /// If there are some, and neither phase uses any.
    pub fn refuse_idle_images(&self) -> Result<()> {
        ensure!(
            self.data.is_none() || self.uses_images(),
            "--data is for the methods paper, bound and those with +data-moments, and for tuning by a critic of training images, \
             tune.data_weight, or the losses bound and edm: it changes nothing here, so leave it out"
        );
        Ok(())
    }

    /// What a setting that changes nothing is for.
    fn idle(&self, name: &str) -> Option<String> {
        let (section, rest) = name.split_once('.').unwrap_or((name, ""));
        let first = rest.split('.').next().unwrap_or_default();
        let Self { settings: FitSettings { tune, paper, interpolate, .. }, method, .. } = self;
        let (rollout, tables) = (tune.loss == TuneLoss::Rollout, self.settings.needs_table(method));
        let by_paper = self.finds() && *method == PlanSource::Paper;
        let (used, needed) = match (section, first) {
            ("data", _) => (self.data.is_some(), "training images (--data)"),
            ("interpolate", "images") if by_paper => (true, ""),
            ("interpolate", "objectives" | "scales") => {
                (by_paper && !paper.by_table(), "--method paper with paper.optimiser = adam")
            }
            ("tune" | "interpolate", _) if !self.tunes() => {
                (false, "phase 2, which `fewstep tune` and `fewstep fit` have on models whose weights can be had")
            }
            ("tune", "last_weight") | ("interpolate", "last_weights") => {
                (tune.loss == TuneLoss::Bound, "tune.loss = bound")
            }
            (
                "tune",
                "distance" | "step_weights" | "gradient" | "data_weight" | "critic_weight" | "critic_of"
                | "trajectories",
            ) => (rollout, "tune.loss = rollout"),
            ("paper", "grid" | "table_images") => {
                (self.finds() && tables, "the methods paper (by its table) and bound")
            }
            ("paper", "objective" | "optimiser" | "") => (by_paper, "--method paper"),
            ("paper", "gamma") => {
                let joint = PaperObjective::Joint;
                let is_used = paper.objective == joint || interpolate.objectives.contains(&joint);
                (by_paper && is_used, "paper.objective = joint")
            }
            ("paper", _) => (by_paper && !paper.by_table(), "--method paper with paper.optimiser = adam"),
            ("search", "teacher") if self.tunes() && rollout => (true, ""),
            ("search", section) => match method {
                PlanSource::Method(method) if self.finds() => {
                    (method.uses(section), "methods that have such a stage, and this one has none")
                }
                _ => (false, "searches, and there is none"),
            },
            _ => (true, ""),
        };
        (!used).then(|| needed.to_owned())
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::super::Phases;
    use super::super::settings::CriticReference;
    use super::*;
    use crate::models::ModelId;

    pub fn task(phases: Phases, method: &str) -> FitTask {
        FitTask {
            phases,
            model: ModelId {
                name: "m".to_owned(),
                sha256: "0".to_owned(),
                precision: "f32".to_owned(),
                guidance: None,
            },
            data: None,
            features: None,
            references: Vec::new(),
            method: method.parse().unwrap(),
            plans: Vec::new(),
            steps: vec![5],
            rounds: 1,
            settings: FitSettings::default(),
        }
    }

    #[test]
    fn training_images_that_change_nothing_are_refused() {
        let refused = |phases: Phases, method: &str, change: fn(&mut FitSettings)| {
            let data = crate::data::DataId { name: "d".to_owned(), sha256: "0".to_owned(), images: 9 };
            let mut task = FitTask { data: Some(data), ..task(phases, method) };
            change(&mut task.settings);
            task.refuse_idle_images().is_err()
        };
        let usual = |_: &mut FitSettings| {};
        assert!(refused(Phases::Plan, "least-squares", usual) && refused(Phases::Plan, "karras+moments", usual));
        for method in ["karras+data-moments", "bound/euler", "paper"] {
            assert!(!refused(Phases::Plan, method, usual), "{method}");
        }
        // a critic tells a student's images from training images, where there are some
        assert!(!refused(Phases::Tune, "least-squares", usual) && !refused(Phases::Fit, "least-squares", usual));
        assert!(refused(Phases::Tune, "least-squares", |settings| settings.tune.critic_weight = 0.0));
        assert!(refused(Phases::Tune, "least-squares", |settings| settings.tune.critic_of = CriticReference::Teacher));
        assert!(!refused(Phases::Tune, "least-squares", |settings| settings.tune.loss = TuneLoss::Edm));
        assert!(task(Phases::Plan, "least-squares").refuse_idle_images().is_ok());
    }

    #[test]
    fn settings_that_change_nothing_are_refused() {
        for (phases, method, name, idle) in [
            (Phases::Plan, "least-squares", "tune.updates", true),
            (Phases::Fit, "least-squares", "tune.updates", false),
            (Phases::Fit, "least-squares", "tune.last_weight", true),
            (Phases::Plan, "least-squares", "search.gits.metric", true),
            (Phases::Plan, "gits/euler", "search.gits.metric", false),
            (Phases::Plan, "gits/euler", "search.gits.grid", false),
            (Phases::Plan, "gits/euler", "paper.gamma", true),
            (Phases::Plan, "paper", "paper.grid", false),
            (Phases::Plan, "paper", "paper.batch", true),
            (Phases::Plan, "bound/euler", "paper.table_images", false),
            (Phases::Plan, "paper", "search.teacher.grid", true),
            (Phases::Fit, "paper", "search.teacher.grid", false),
            (Phases::Plan, "least-squares", "data.max_images", true),
            (Phases::Plan, "least-squares", "held_out.samples", false),
        ] {
            let refused = task(phases, method).refuse_idle([name]);
            assert_eq!(refused.is_err(), idle, "{method} {name}: {refused:?}");
        }
    }
}
