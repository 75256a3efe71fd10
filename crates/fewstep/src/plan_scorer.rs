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
    /// The geometric mean of the distances under every feature network that has seen data; infinite for a plan that diverges, as it is in
    /// the search's own choice.
    fn distance(&self, plan: &Plan, seeds: &[u64]) -> fewstep_search::Result<f64> {
        let score = self.scorer.score_if_finite(self.denoiser, plan, seeds, self.observer);
        let score = score.map_err(|error| match error {
            Error::Search(error) => error,
            other => fewstep_search::Error::caller(other),
        })?;
        let Some(score) = score else { return Ok(f64::INFINITY) };
        let logarithms: Vec<f64> =
            score.scores.iter().filter_map(|score| score.data).map(|data| data.frechet.ln()).collect();
        Ok((logarithms.iter().sum::<f64>() / logarithms.len() as f64).exp())
    }
}

#[cfg(test)]
mod tests {
    use fewstep_core::observe::Silent;

    use super::*;
    use crate::models::{MIXTURES, ModelOptions, open_model};
    use crate::reference::ReferenceOptions;

    /// A rival that diverges is the last of all, and ends no search.
    #[test]
    fn a_plan_that_diverges_is_infinitely_far() {
        let opened = open_model(MIXTURES[0], &ModelOptions::default()).unwrap();
        let options = ReferenceOptions { pad_to: None, batch: 8 };
        let references = ImageReference::open_all(&opened, &[], &[], options, &Silent).unwrap();
        let scorer = FrechetPlanScorer::new(&references, 8, opened.denoiser(), &Silent).unwrap().unwrap();
        let distance = |weight: &str| {
            let stages = r#"[{"sigma": 20, "input": {"latent": 20}}]"#;
            let text =
                format!(r#"{{"version": 1, "stages": {stages}, "output": {{"latent": {weight}}}, "metadata": {{}}}}"#);
            scorer.distance(&Plan::from_json(&text).unwrap(), &[0, 1, 2, 3, 4, 5, 6, 7, 8, 9]).unwrap()
        };
        assert!(distance("0.5").is_finite());
        assert_eq!(distance("3e38"), f64::INFINITY);
    }
}
