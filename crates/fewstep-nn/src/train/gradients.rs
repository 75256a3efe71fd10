//! The gradient of an update: gathered from graph after graph, part after part, and over processes.

use std::cell::{OnceCell, RefCell};

use fewstep_core::group::Group;
use tch::Tensor;

use crate::error::{Error, Result};
use crate::ffi;
use crate::flat::FlatWeights;
use crate::ranks::Ranks;

/// Numbers of a bucket, at least: what processes sum at once while the rest is still being computed.
const BUCKET: usize = 1 << 21;

/// Which of the weights are summed together, and in which order the gradients of these become known.
#[derive(Debug)]
pub(super) struct Buckets {
    of_leaf: Vec<i64>,
    /// Made for the first sum over several processes.
    gradients: OnceCell<ffi::Gradients>,
    /// Not known before the first update; the same in all processes.
    order: RefCell<Vec<i64>>,
}

impl Buckets {
    pub fn new(weights: &FlatWeights) -> Self {
        let (mut bucket, mut held) = (0, 0);
        let of_leaf = weights.leaves().iter().map(|leaf| {
            if held >= BUCKET {
                (bucket, held) = (bucket + 1, 0);
            }
            held += leaf.numel();
            bucket
        });
        Self { of_leaf: of_leaf.collect(), gradients: OnceCell::new(), order: RefCell::default() }
    }

    fn gradients(&self, weights: &FlatWeights) -> Result<&ffi::Gradients> {
        if self.gradients.get().is_none() {
            let _ = self.gradients.set(ffi::Gradients::new(weights.leaves(), &self.of_leaf)?);
        }
        self.gradients.get().ok_or_else(|| Error::Input("the weights are in no buckets".to_owned()))
    }
}

/// A loss and its gradient, of this process's share of a batch until they are finished.
pub(super) struct GradientSum<'a> {
    weights: &'a FlatWeights,
    buckets: &'a Buckets,
    ranks: Ranks,
    /// Of the parts before.
    gradient: Tensor,
    loss: f64,
    /// Of this part.
    part: Option<Tensor>,
    part_loss: f64,
    /// What this part counts.
    share: f64,
    /// Whether the processes have begun to sum.
    summing: bool,
}

impl<'a> GradientSum<'a> {
    pub fn new(weights: &'a FlatWeights, buckets: &'a Buckets, ranks: Ranks) -> Self {
        let gradient = weights.values.zeros_like();
        Self { weights, buckets, ranks, gradient, loss: 0.0, part: None, part_loss: 0.0, share: 1.0, summing: false }
    }

    /// What is added from now on counts `share`.
    pub fn begin_part(&mut self, share: f64) {
        self.end_part();
        self.share = share;
    }

    fn end_part(&mut self) {
        if let Some(part) = self.part.take() {
            self.gradient += if self.share == 1.0 { part } else { part * self.share };
        }
        self.loss += self.share * std::mem::take(&mut self.part_loss);
    }

    /// Adds the value of a loss, whose gradient is added beside.
    pub fn add_value(&mut self, value: f64) {
        self.part_loss += value;
    }

    /// Adds the gradient of `loss`, whose graph is freed. After the `last` of a batch nothing more may come.
    pub fn add(&mut self, loss: &Tensor, last: bool) -> Result<()> {
        if last && self.ranks.size() > 1 {
            return self.add_last(loss, None).map(|_| ());
        }
        let slope = self.weights.gradient(loss)?;
        self.add_slope(slope);
        Ok(())
    }

    /// The same, and the gradient with respect to the leaf `x`.
    pub fn add_with(&mut self, loss: &Tensor, x: &Tensor, last: bool) -> Result<Tensor> {
        if last && self.ranks.size() > 1 {
            let through = self.add_last(loss, Some(x))?;
            return through.ok_or_else(|| Error::Input("the loss does not depend on its input".to_owned()));
        }
        let (slope, through) = self.weights.gradient_and(loss, x)?;
        self.add_slope(slope);
        Ok(through)
    }

    fn add_slope(&mut self, slope: Tensor) {
        match &mut self.part {
            Some(part) => *part += slope,
            part => *part = Some(slope),
        }
    }

    /// The processes sum what is known while the rest is computed.
    fn add_last(&mut self, loss: &Tensor, x: Option<&Tensor>) -> Result<Option<Tensor>> {
        self.end_part();
        self.summing = true;
        let order = self.buckets.order.borrow().clone();
        let gradients = self.buckets.gradients(self.weights)?;
        let sum = (&mut self.gradient, self.share);
        let (through, finished) = self.ranks.backward_summing(gradients, loss, x, sum, &order)?;
        if order.is_empty() {
            let known: Vec<i64> = self.ranks.from_first(|| Ok::<_, Error>(finished))?;
            self.buckets.order.replace(known);
        }
        Ok(through)
    }

    /// Loss and gradient of all processes' shares.
    pub fn finish(mut self) -> Result<(f64, Tensor)> {
        self.end_part();
        match self.summing {
            true => self.ranks.finish_sums()?,
            false => self.ranks.sum(&mut self.gradient)?,
        }
        let loss = self.ranks.gather(&[self.loss])?.concat().iter().sum();
        Ok((loss, self.gradient))
    }
}
