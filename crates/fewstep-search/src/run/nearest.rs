//! Of several methods' plans, those whose samples are nearest to training data.

use std::collections::BTreeMap;

use fewstep_core::denoiser::Denoiser;
use fewstep_core::observe::Progress;
use fewstep_core::plan::Plan;
use serde_json::json;

use super::check::needs_moments;
use super::moments::{CONTROL_BATCH, HasTarget};
use super::{Candidates, SEARCH_SEEDS, Search, most};
use crate::FoundPlan;
use crate::error::{Error, Result};
use crate::gain::any_loss_is_borne;
use crate::gaussian::{GaussianError, Reference};
use crate::method::{Method, MomentsOf, Stage};
use crate::seeded::sample;
use crate::settings::{NearestSettings, SearchSettings};

/// The name of the plans that the method itself found.
const OWN: &str = "own";

/// A plan in the choice.
struct Entrant {
    /// The method that found it.
    name: String,
    found: FoundPlan,
    /// Its samples' distance from training data.
    distance: f64,
}

impl<D: Denoiser> Search<'_, D> {
    /// Puts in the place of every plan, of those of its number of evaluations, the one whose samples are nearest to training data. A fit
    /// to the teacher is as good as its teacher, and a solver that departs from it may depart towards the data. All are compared on the
    /// same latents, apart from the search's. Plans that a quarter of the samples shows to be far off are dropped then. The plan that the
    /// method itself found is truer to the model, and is kept where others are hardly nearer.
    pub(super) fn nearest(
        &self,
        settings: &NearestSettings,
        others: &[Vec<Stage>],
        candidates: &mut Candidates,
        steps: &[usize],
    ) -> Result<()> {
        let mut entrants: BTreeMap<usize, Vec<Entrant>> = BTreeMap::new();
        let mut enter = |name: &str, found: Vec<FoundPlan>| {
            for found in found {
                let entrant = Entrant { name: name.to_owned(), found, distance: f64::INFINITY };
                entrants.entry(entrant.found.plan.nfe()).or_default().push(entrant);
            }
        };
        enter(OWN, std::mem::take(&mut candidates.found));
        let target = self.target(MomentsOf::Data, &self.settings.moments)?;
        let levels = &self.student.denoiser().spec().levels;
        for (method, stages) in Method::others(settings).zip(others).filter(|(method, _)| method.suits(levels)) {
            let possible = self.possible(&method, steps);
            let others = self.candidates(stages, &possible, most(stages, &possible))?;
            candidates.evaluations += others.evaluations.saturating_sub(target.evaluations); // own plans were charged it already
            enter(&method.to_string(), others.found);
        }
        let distance = self.distance_to_data()?;
        let mut progress = Progress::new(self.observer, "choosing plans", "budgets", entrants.len() as u64, 0);
        for (done, entrants) in (1..).zip(entrants.into_values()) {
            let (found, evaluations) = self.nearest_of(entrants, &distance, settings)?;
            candidates.found.extend(found);
            candidates.evaluations += evaluations;
            progress.set(done, "");
        }
        Ok(())
    }

    /// The nearest of some plans of one number of evaluations, and the evaluations that it took to know.
    fn nearest_of(
        &self,
        mut entrants: Vec<Entrant>,
        distance: &dyn Fn(&Plan, &[u64]) -> Result<f64>,
        settings: &NearestSettings,
    ) -> Result<(Option<FoundPlan>, u64)> {
        // past all latents that plans were found on or moved by
        let SearchSettings { teacher, moments, gits, .. } = self.settings;
        let first = SEARCH_SEEDS + teacher.samples.max(moments.control).max(gits.samples) as u64;
        let seeds: Vec<u64> = (first..first + settings.samples as u64).collect();
        let (mut distances, mut evaluations) = (BTreeMap::new(), 0);
        // a scorer is given a plan and seeds, so the first quarter is made twice: a quarter more for plans that stay, three less for others
        for samples in [seeds.len() / 4, seeds.len()] {
            for entrant in &mut entrants {
                let plan = &entrant.found.plan;
                entrant.distance = distance(plan, &seeds[..samples])?;
                evaluations += (samples * plan.nfe()) as u64;
                let found = json!({ "distance": entrant.distance, "samples": samples });
                distances.insert(entrant.name.clone(), found);
            }
            let least = entrants.iter().map(|entrant| entrant.distance).fold(f64::INFINITY, f64::min);
            let stays = |entrant: &Entrant| entrant.name == OWN || entrant.distance <= settings.dropped_beyond * least;
            entrants.retain(|entrant| self.tries_all || stays(entrant));
            if entrants.len() == 1 {
                break;
            }
        }
        let handicapped = |entrant: &Entrant| match entrant.name == OWN {
            true if any_loss_is_borne(settings.least_gain) => f64::INFINITY,
            true => entrant.distance * (1.0 - settings.least_gain),
            false => entrant.distance,
        };
        let nearest = entrants.into_iter().min_by(|a, b| handicapped(a).total_cmp(&handicapped(b)));
        let chosen = nearest.map(|Entrant { name, mut found, .. }| {
            let found_by = json!({ "method": name, "compared": distances });
            found.plan.metadata.found_by.insert("nearest".into(), found_by);
            found
        });
        Ok((chosen, evaluations))
    }

    /// The distance of a plan's samples from training data: the caller's, or by features of a network that nobody trained.
    fn distance_to_data(&self) -> Result<impl Fn(&Plan, &[u64]) -> Result<f64>> {
        let data = self.extras.data.ok_or_else(needs_moments)?;
        let reference = Reference::new(&data.features.gaussian()?);
        let appearance = self.appearance()?;
        Ok(move |plan: &Plan, seeds: &[u64]| {
            if let Some(plan_scorer) = self.extras.plan_scorer {
                return plan_scorer.distance(plan, seeds);
            }
            let mut rows = Vec::new();
            sample(self.student.denoiser(), plan, seeds, CONTROL_BATCH, self.observer, |_, batch| {
                rows.extend(appearance.features(batch).map_err(Error::denoiser)?.0);
                Ok(())
            })?;
            match reference.distance(&rows) {
                Err(GaussianError::NotFinite) => Ok(f64::INFINITY), // a solver that diverges here
                distance => Ok(distance?),
            }
        })
    }
}
