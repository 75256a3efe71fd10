//! Adam on small vectors in `f64`.

use serde::{Deserialize, Serialize};

/// Adam (Kingma and Ba 2015) with bias correction. Its state serialises exactly, so that a resumed search takes the
/// same steps as one that was never stopped.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Adam {
    /// Step size; may be changed between steps (a learning-rate schedule).
    pub learning_rate: f64,
    /// Decay of the mean of gradients.
    pub beta_1: f64,
    /// Decay of the mean of squared gradients.
    pub beta_2: f64,
    /// Keeps the division finite.
    pub epsilon: f64,
    steps: u64,
    mean: Vec<f64>,
    square: Vec<f64>,
}

/// What a learning rate that falls along a cosine is multiplied by after the part `done` of all steps: from 1 to 0.
pub fn cosine(done: f64) -> f64 {
    0.5 * (1.0 + (std::f64::consts::PI * done.min(1.0)).cos())
}

/// A gradient that cannot be followed.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum AdamError {
    /// Infinite or NaN.
    #[error("the gradient of parameter {index} is {value} after {steps} steps; lower the learning rate")]
    NotFinite {
        /// The parameter.
        index: usize,
        /// Its gradient.
        value: f64,
        /// Steps taken before.
        steps: u64,
    },
    /// Of another length than the parameters or the state.
    #[error("the optimiser was given {found} values where it holds {expected}; its state is of another problem")]
    Length {
        /// Values given.
        found: usize,
        /// Values expected.
        expected: usize,
    },
}

impl Adam {
    /// An optimiser with the usual constants (0.9, 0.999, 1e-8) that has taken no step.
    pub fn new(learning_rate: f64) -> Self {
        let (mean, square) = (Vec::new(), Vec::new());
        Self { learning_rate, beta_1: 0.9, beta_2: 0.999, epsilon: 1e-8, steps: 0, mean, square }
    }

    /// Steps taken.
    pub fn steps(&self) -> u64 {
        self.steps
    }

    /// Moves `parameters` against `gradient`.
    ///
    /// # Errors
    /// If the lengths differ from each other or from earlier steps, or an entry of the gradient is not finite; the
    /// parameters and the state are then as before.
    pub fn step(&mut self, parameters: &mut [f64], gradient: &[f64]) -> Result<(), AdamError> {
        let expected = if self.steps == 0 { parameters.len() } else { self.mean.len() };
        if let Some(found) = [parameters.len(), gradient.len()].into_iter().find(|&n| n != expected) {
            return Err(AdamError::Length { found, expected });
        }
        if let Some((index, &value)) = gradient.iter().enumerate().find(|(_, g)| !g.is_finite()) {
            return Err(AdamError::NotFinite { index, value, steps: self.steps });
        }
        self.mean.resize(expected, 0.0);
        self.square.resize(expected, 0.0);
        self.steps += 1;
        let t = self.steps as f64;
        let (correct_1, correct_2) = (1.0 - self.beta_1.powf(t), 1.0 - self.beta_2.powf(t));
        for (i, (p, g)) in parameters.iter_mut().zip(gradient).enumerate() {
            self.mean[i] = self.beta_1 * self.mean[i] + (1.0 - self.beta_1) * g;
            self.square[i] = self.beta_2 * self.square[i] + (1.0 - self.beta_2) * g * g;
            *p -=
                self.learning_rate * (self.mean[i] / correct_1) / ((self.square[i] / correct_2).sqrt() + self.epsilon);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gradient(p: &[f64]) -> Vec<f64> {
        vec![2.0 * (p[0] - 3.0), 20.0 * (p[1] + 1.0)]
    }

    #[test]
    fn the_first_step_has_the_length_of_the_learning_rate() {
        let mut p = vec![0.0, 0.0];
        Adam::new(0.1).step(&mut p, &[5.0, -0.01]).unwrap();
        assert!((p[0] + 0.1).abs() < 1e-6 && (p[1] - 0.1).abs() < 1e-6);
    }

    #[test]
    fn finds_a_minimum_and_resumes_exactly() {
        let mut adam = Adam::new(0.05);
        let mut p = vec![0.0, 0.0];
        let (mut resumed, mut q) = (adam.clone(), p.clone());
        for step in 0..2000 {
            let slope = gradient(&p);
            adam.step(&mut p, &slope).unwrap();
            if step == 700 {
                resumed = serde_json::from_str(&serde_json::to_string(&adam).unwrap()).unwrap();
                q = p.clone();
            } else if step > 700 {
                let slope = gradient(&q);
                resumed.step(&mut q, &slope).unwrap();
            }
        }
        assert!((p[0] - 3.0).abs() < 1e-3 && (p[1] + 1.0).abs() < 1e-3, "{p:?}");
        assert_eq!((p, adam), (q, resumed));
    }

    #[test]
    fn bad_gradients_change_nothing() {
        let mut adam = Adam::new(0.1);
        let mut p = vec![1.0];
        let before = adam.clone();
        assert!(matches!(adam.step(&mut p, &[f64::NAN]), Err(AdamError::NotFinite { index: 0, .. })));
        assert!(matches!(adam.step(&mut p, &[1.0, 2.0]), Err(AdamError::Length { found: 2, expected: 1 })));
        assert_eq!((adam, p), (before, vec![1.0]));
    }
}
