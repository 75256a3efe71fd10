//! Choices among plans by the images that they make.

use std::rc::Rc;

use fewstep_core::observe::Observer;
use fewstep_core::plan::Plan;
use fewstep_nn::TorchDenoiser;
use fewstep_search::PlanScorer;

use crate::error::{Error, Result};
use crate::reference::ImageReference;
use crate::scorer::ImageScorer;

/// Scores plans by the Frechet distance of their images from data.
pub struct FrechetPlanScorer<'a> {
    scorer: Rc<ImageScorer<'a>>,
    denoiser: &'a dyn TorchDenoiser,
    observer: &'a dyn Observer,
}

impl<'a> FrechetPlanScorer<'a> {
    /// Of a denoiser's plans, if there is a reference with data.
    ///
    /// # Errors
    /// If a reference cannot be compared with.
    pub fn new(
        references: &'a [ImageReference],
        batch: usize,
        denoiser: &'a dyn TorchDenoiser,
        observer: &'a dyn Observer,
    ) -> Result<Option<Self>> {
        for reference in references {
            if reference.data()?.is_some() {
                let scorer = Rc::new(ImageScorer::new(references, batch)?);
                return Ok(Some(Self { scorer, denoiser, observer }));
            }
        }
        Ok(None)
    }

    /// The same of another denoiser's plans.
    pub fn of<'b>(&self, denoiser: &'b dyn TorchDenoiser) -> FrechetPlanScorer<'b>
    where
        'a: 'b,
    {
        FrechetPlanScorer { scorer: Rc::clone(&self.scorer) as Rc<ImageScorer<'b>>, denoiser, observer: self.observer }
    }
}

impl PlanScorer for FrechetPlanScorer<'_> {
    /// The geometric mean of the distances under every feature network that has seen data.
    fn distance(&self, plan: &Plan, seeds: &[u64]) -> fewstep_search::Result<f64> {
        let score = self.scorer.score(self.denoiser, plan, seeds, self.observer).map_err(|error| match error {
            Error::Search(error) => error,
            other => fewstep_search::Error::caller(other),
        })?;
        let logarithms: Vec<f64> =
            score.scores.iter().filter_map(|score| score.data).map(|data| data.frechet.ln()).collect();
        Ok((logarithms.iter().sum::<f64>() / logarithms.len() as f64).exp())
    }
}
