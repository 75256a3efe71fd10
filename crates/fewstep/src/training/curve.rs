//! A training's log, thinned to the points that a curve can show: a log of any length in little memory.

use std::collections::VecDeque;

use fewstep_nn::train::StepStats;

use super::{LOSSES, mean};

/// Most points of a curve: means over equal parts of the log, the last of which may be shorter.
const POINTS: usize = 400;

/// What is shown of a log.
#[derive(Debug)]
pub(super) struct Thinned {
    parts: Vec<Part>,
    /// Updates of a whole part.
    each: u64,
    /// Losses of the last updates.
    last: VecDeque<f64>,
}

/// Updates one after the other: how many, the images seen after them, and the sums of what they were.
#[derive(Clone, Copy, Debug, Default)]
struct Part {
    updates: u64,
    images: u64,
    loss: f64,
    grad_norm: f64,
}

impl Part {
    /// With those that follow it.
    fn with(self, next: &Self) -> Self {
        Self {
            updates: self.updates + next.updates,
            images: next.images,
            loss: self.loss + next.loss,
            grad_norm: self.grad_norm + next.grad_norm,
        }
    }
}

impl Default for Thinned {
    fn default() -> Self {
        Self { parts: Vec::new(), each: 1, last: VecDeque::with_capacity(LOSSES) }
    }
}

impl Thinned {
    /// Takes the next update. Where there are as many parts as points, two neighbours each become one.
    pub(super) fn push(&mut self, step: &StepStats) {
        if self.last.len() == LOSSES {
            self.last.pop_front();
        }
        self.last.push_back(step.loss);
        let update = Part { updates: 1, images: step.images, loss: step.loss, grad_norm: step.grad_norm };
        let whole = self.parts.last().is_none_or(|part| part.updates == self.each);
        if whole && self.parts.len() == POINTS {
            self.parts = self.parts.chunks(2).map(|pair| pair[1..].iter().fold(pair[0], Part::with)).collect();
            self.each *= 2;
        }
        match self.parts.last_mut().filter(|_| !whole) {
            Some(part) => *part = part.with(&update),
            None => self.parts.push(update),
        }
    }

    /// Images seen after the last update.
    pub(super) fn images_seen(&self) -> u64 {
        self.parts.last().map_or(0, |part| part.images)
    }

    /// The mean loss of the last updates, if there are any.
    pub(super) fn last_loss(&self) -> Option<f64> {
        mean(&self.last)
    }

    /// Mean losses, against the images seen.
    pub(super) fn losses(&self) -> Vec<(f64, f64)> {
        self.curve(|part| part.loss)
    }

    /// Mean norms of the gradient, against the images seen.
    pub(super) fn grad_norms(&self) -> Vec<(f64, f64)> {
        self.curve(|part| part.grad_norm)
    }

    fn curve(&self, sum: impl Fn(&Part) -> f64) -> Vec<(f64, f64)> {
        self.parts.iter().map(|part| (part.images as f64, sum(part) / part.updates as f64)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of so many updates, the n-th with the loss n and 2 images.
    fn log(updates: u64) -> Thinned {
        let mut log = Thinned::default();
        for n in 1..=updates {
            let (loss, grad_norm) = (n as f64, 3.0 * n as f64);
            log.push(&StepStats { iteration: n, images: 2 * n, loss, grad_norm, learning_rate: 1.0 });
        }
        log
    }

    #[test]
    fn a_short_log_is_shown_whole() {
        let short = log(3);
        assert_eq!(short.losses(), [(2.0, 1.0), (4.0, 2.0), (6.0, 3.0)]);
        assert_eq!(short.grad_norms()[2], (6.0, 9.0));
        assert_eq!((short.images_seen(), short.last_loss()), (6, Some(2.0)));
        assert_eq!((log(0).images_seen(), log(0).last_loss(), log(0).losses()), (0, None, vec![]));
        assert_eq!(log(POINTS as u64).losses().len(), POINTS);
    }

    #[test]
    fn a_long_log_is_shown_by_means_over_equal_parts() {
        for updates in [401, 799, 800, 801, 1_601, 100_000] {
            let (long, points) = (log(updates), log(updates).losses());
            assert!((POINTS / 2..=POINTS).contains(&points.len()), "{updates}: {}", points.len());
            let mut before = 0.0;
            for &(images, loss) in &points {
                let after = images / 2.0;
                assert_eq!(loss, (before + 1.0 + after) / 2.0, "{updates}");
                assert!(after - before == long.each as f64 || images == 2.0 * updates as f64, "{updates}");
                before = after;
            }
            assert_eq!((before, long.images_seen()), (updates as f64, 2 * updates));
            let ending = (updates - LOSSES as u64 + 1 + updates) as f64 / 2.0;
            assert_eq!(long.last_loss(), Some(ending));
        }
    }
}
