//! Signs that what was given is no denoiser, or too little, at next to no cost.

use fewstep_core::denoiser::Denoiser;
use fewstep_core::observe::Observer;
use fewstep_core::plan::Plan;
use fewstep_core::schedule::Schedule;
use fewstep_core::space::{Batch, VectorSpace};

use super::SEARCH_SEEDS;
use crate::Teacher;
use crate::error::Result;
use crate::seeded::Seeded;

/// Fewest samples whose mean and spread say something.
const LEAST: usize = 4;

/// Samples whose variance is this small a share of their square are one sample, and so are answers by the square of their difference.
const SAME: f64 = 1e-8;

/// How many times as far as noise does an answer may lie from its input at the lowest level.
const TIMES: f64 = 5.0;

/// Whether a model's answer does not depend on its input, in a sentence, known before a teacher is solved. Second, the evaluations that
/// this took. Of a latent and its negative, which is as good a one, under one condition: a model that sees its condition alone has
/// different samples all the same. At two levels of the teacher's grid between those where noise drowns the image, so that answers are
/// nearly the same, and where there is next to none.
pub(super) fn ignored_input<D: Denoiser>(
    denoiser: &D,
    grid: &Schedule,
    observer: &dyn Observer,
) -> Result<(Option<String>, u64)> {
    let seeded = Seeded::new(denoiser, &[SEARCH_SEEDS], observer)?;
    let sigmas = [2, 3].map(|quarters| grid.levels()[quarters * (grid.len() - 1) / 4]);
    let states = sigmas.map(|sigma| [sigma, -sigma].map(|scale| D::Batch::combine(&[(scale, seeded.latents())])));
    let asked = states.iter().zip(sigmas).flat_map(|(pair, sigma)| pair.iter().map(move |x| (x, sigma)));
    let answers = seeded.denoised_together(&asked.collect::<Vec<_>>())?;
    let same = |pair: &[D::Batch]| match pair {
        [a, b] => {
            let both = a.norm_squared() + b.norm_squared();
            both.is_finite() && a.difference(b).norm_squared() <= SAME * both
        }
        _ => false,
    };
    // all are compared, as processes that share the samples have to ask each other equally often
    let ignored = answers.chunks(2).filter(|pair| same(pair)).count() == sigmas.len();
    let doubt = ignored.then(|| {
        format!(
            "the model answers the same to a latent and to its negative, at sigma {:.3} and at {:.3}: does its answer depend on its input?",
            sigmas[0], sigmas[1]
        )
    });
    Ok((seeded.relied_on(Ok(doubt))?, seeded.evaluations()))
}

/// What is odd about trajectories of samples of `numel` numbers, each in a sentence. A denoiser's answers move no further than the noise
/// in it at the lowest level, and have on average the mean of its samples at the highest, `E D(x; sigma) = E x_0` at every sigma.
pub(super) fn doubts<V: Batch>(teacher: &Teacher<V>, numel: usize) -> Vec<String> {
    let ends = teacher.ends();
    let count = ends.samples as f64;
    let (Some(last), true) = (teacher.states().last(), ends.samples >= LEAST) else { return Vec::new() };
    let mean = ends.image.mean_sample();
    let square = ends.image.norm_squared() / count;
    let variance = square - mean.iter().map(|value| f64::from(*value).powi(2)).sum::<f64>();
    if variance <= SAME * square {
        return vec![format!("all {} samples of the teacher are the same", ends.samples)]; // of which no distance can be told
    }
    let mut doubts = Vec::new();
    let moved = last.difference(&ends.image).norm_squared() / count;
    let noise = teacher.grid().sigma_min().powi(2) * numel as f64;
    if moved > TIMES.powi(2) * noise && moved > 0.05 * variance {
        doubts.push(format!(
            "at the lowest level, sigma {}, the model's answer lies {:.0} times as far from its input as noise does: are its \
             parameterisation and its levels right?",
            teacher.grid().sigma_min(),
            (moved / noise).sqrt()
        ));
    }
    if let Some(held) = &ends.mean {
        let answer = held.batch.mean_sample();
        let apart: f64 = answer.iter().zip(&mean).map(|(a, b)| f64::from(a - b).powi(2)).sum();
        // the mean of so many samples is off by so much itself
        if apart > (0.25 + 9.0 / count) * variance {
            doubts.push(format!(
                "at the highest level, sigma {}, the model's mean answer is {:.1} standard deviations from the mean of its samples: is \
                 that level within what it was trained on, and its parameterisation right?",
                teacher.grid().sigma_max(),
                (apart / variance).sqrt()
            ));
        }
    }
    doubts
}

/// Fewest values to fit each number of a plan to.
const VALUES: usize = 10;

/// What is to be said of plans that were fitted to so many latents of `numel` values, if these are few for a plan's levels and
/// coefficients: they are then learnt by heart.
pub(super) fn few_values<'a>(plans: impl Iterator<Item = &'a Plan>, latents: usize, numel: usize) -> Option<String> {
    let combinations =
        |plan: &Plan| plan.stages.iter().map(|stage| stage.input.len()).sum::<usize>() + plan.output.len();
    let numbers = |plan: &Plan| plan.nfe() + combinations(plan);
    let few = plans.filter(|plan| latents.saturating_mul(numel) < VALUES * numbers(plan)).map(Plan::nfe);
    let few: Vec<String> = few.map(|nfe| nfe.to_string()).collect();
    (!few.is_empty()).then(|| {
        format!(
            "{latents} latents of {numel} values are few to fit plans of {} evaluations to: see how they do on other latents, or raise \
             teacher.samples, least_squares.samples and gauss_newton.samples",
            few.join(", ")
        )
    })
}
