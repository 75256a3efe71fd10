//! Between the network that a tuning started from and the tuned one.
//!
//! Tuning leaves out what it cannot predict: the error falls, and images become smooth. Weights on the way there have some of
//! what tuning gains and less of what it costs (Wortsman et al. 2022), and to know how much takes no gradient.

use anyhow::Result;
use fewstep_core::plan::Plan;
use fewstep_nn::Model;
use fewstep_report::{Cell, Column, Format, Table};
use serde::{Deserialize, Serialize};

use super::{FitSettings, Fitter};
use crate::searching::{MomentsOf, Searcher};
use crate::studio::Studio;
use crate::ui;

/// Shares of the way that are looked at beside 0, where the tuning started, and 1, the tuned network.
const SHARES: [f64; 3] = [0.25, 0.5, 0.75];

/// The images that decide have seeds from here on: apart from those that anyone samples with, and from all others of a fit.
const SETTLING_SEEDS: u64 = 5 << 40;

/// A network between the one that a tuning started from and the tuned one.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Between {
    /// How much of the way.
    pub share: f64,
    /// Frechet distance of its images.
    pub frechet: f64,
    /// Held-out rollout error.
    pub rollout_error: f64,
}

/// The network that was settled on.
#[derive(Debug)]
pub struct Settled {
    /// The network.
    pub model: Model,
    /// The plan, with the moments of this network's images matched anew.
    pub plan: Plan,
    /// How much of the way it is.
    pub share: f64,
    /// Held-out rollout error of both.
    pub rollout_error: f64,
    /// What was looked at, by share: where the tuning started first; nothing where no images are judged.
    pub looks: Vec<Between>,
}

impl Fitter<'_> {
    /// The network on the way from `start` to `tuned`, which was tuned for `plan`, whose images are nearest to the studio's
    /// reference: of the settings' `settling_images` seeds that nothing else looks at. Without a studio, or where tuning changed
    /// nothing, the tuned one. Where the tuning started is looked at, and not settled on.
    pub fn settle(
        &self,
        start: &Model,
        tuned: Model,
        plan: &Plan,
        moments: Option<(&Searcher, MomentsOf)>,
        studio: Option<&Studio>,
    ) -> Result<Settled> {
        let images = self.settings.settling_images;
        let Some(studio) = studio.filter(|_| images > 0 && !same_weights(start, &tuned)) else {
            let plan = plan_for(start, &tuned, plan, moments)?;
            let rollout_error = self.judge.rollout_error(&tuned, &plan)?;
            return Ok(Settled { model: tuned, plan, share: 1.0, rollout_error, looks: Vec::new() });
        };
        let seeds: Vec<u64> = (SETTLING_SEEDS..SETTLING_SEEDS + images as u64).collect();
        let look = |share: f64, model: &Model, plan: &Plan| {
            ui::note(format!("{} evaluations, {} of the way to the tuned network", plan.nfe(), percent(share)));
            let frechet = studio.measure(model, plan, &seeds)?.frechet;
            Ok::<_, anyhow::Error>(Between { share, frechet, rollout_error: self.judge.rollout_error(model, plan)? })
        };
        let mut looks = vec![look(0.0, start, plan)?];
        let matched = plan_for(start, &tuned, plan, moments)?;
        let mut best = (look(1.0, &tuned, &matched)?, matched);
        for share in SHARES {
            let model = start.between(&tuned, share)?;
            let matched = plan_for(start, &model, plan, moments)?;
            let found = look(share, &model, &matched)?;
            let worse =
                if found.frechet < best.0.frechet { std::mem::replace(&mut best, (found, matched)).0 } else { found };
            looks.push(worse);
        }
        looks.push(best.0);
        looks.sort_by(|a, b| a.share.total_cmp(&b.share));
        let (Between { share, rollout_error, .. }, plan) = best;
        Ok(Settled { model: start.between(&tuned, share)?, plan, share, rollout_error, looks })
    }
}

impl FitSettings {
    /// Evaluations of single images that it takes at most to settle on a network for a plan of so many evaluations, whose images
    /// have their moments matched so.
    pub fn settling_evaluations(&self, of: Option<MomentsOf>, nfe: usize) -> u64 {
        let matched = self.search.matching_evaluations(of, nfe);
        let held = (self.held_out * nfe) as u64;
        match (self.settling_images * nfe) as u64 {
            0 => matched + held,
            images => (SHARES.len() as u64 + 1) * (matched + images + held) + images + held,
        }
    }
}

/// Whether images of a network on the way are at least as near as those of the one where the tuning started; none where none were
/// looked at.
pub fn comes_nearer(looks: &[Between]) -> Option<bool> {
    let (start, rest) = looks.split_first()?;
    Some(rest.iter().any(|look| look.frechet <= start.frechet))
}

/// What was looked at on the way to tuned networks, by steps and round; none where nothing was.
pub fn settling_table<'a>(looked: impl IntoIterator<Item = (usize, usize, &'a [Between])>) -> Option<Table> {
    let mut table = Table::new(vec![
        Column::number("steps", Format::Integer),
        Column::number("round", Format::Integer),
        Column::text("of the way to the tuned network"),
        Column::number("Frechet distance", Format::Significant(4)).lowest(),
        Column::number("rollout error", Format::Significant(4)).lowest(),
    ]);
    let mut any = false;
    for (steps, round, looks) in looked.into_iter().filter(|(.., looks)| !looks.is_empty()) {
        any = true;
        table.start_group();
        for Between { share, frechet, rollout_error } in looks {
            let [steps, round, frechet, error] = [steps as f64, round as f64, *frechet, *rollout_error].map(Cell::from);
            table.push(vec![steps, round, percent(*share).into(), frechet, error]);
        }
    }
    any.then_some(table)
}

/// What reports say of that table.
pub const SETTLING_TEXT: &str = "Tuning lowers the error and makes images smoother. Of the networks on the way from the one that it \
    started from (0 %) to the tuned one (100 %) the one is taken whose images have the least Frechet distance, on seeds that nothing \
    else looks at, each with its moments matched anew where the search's name ends so.";

/// `plan` for a network that was tuned for it: the same, or with the moments of its images matched anew from a search's latents,
/// as a tuned network's images are smooth in a way of their own. Where tuning left the weights as they were, nothing is to be matched.
pub fn plan_for(start: &Model, tuned: &Model, plan: &Plan, moments: Option<(&Searcher, MomentsOf)>) -> Result<Plan> {
    match moments {
        Some((searcher, of)) if !same_weights(start, tuned) => searcher.for_network(tuned)?.matched(of, plan),
        _ => Ok(plan.clone()),
    }
}

/// A share in words.
pub fn percent(share: f64) -> String {
    format!("{:.0} %", 100.0 * share)
}

fn same_weights(a: &Model, b: &Model) -> bool {
    a.params().trainable().all(|(name, weight)| b.params().get(name).is_some_and(|other| other == weight))
}
