//! Rows of tables: what is known of one cell, as files keep it.

use std::collections::BTreeSet;
use std::path::PathBuf;

use fewstep_report::Cell;
use serde::{Deserialize, Serialize};

use super::diverged::{self, or_infinite};
use crate::scorer::{self, Score};

/// One cell of a table.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Row {
    /// The model's name.
    pub model: String,
    /// The method's name, or `teacher`.
    pub method: String,
    /// Network evaluations an image.
    pub nfe: usize,
    /// Network calls an image: more than evaluations under guidance. (Files of before guidance do not say so.)
    #[serde(default)]
    pub calls: usize,
    /// Distances of its images under each feature network; none where samples are no images.
    #[serde(default)]
    pub scores: Vec<Scores>,
    /// Mean squared difference of a value to the fine teacher's samples on held-out latents; infinite (in JSON null) of a sampler that
    /// diverges.
    #[serde(deserialize_with = "diverged::error")]
    pub rollout_error: f64,
    /// The same on the latents of the method's search; none (in JSON absent) where it compares no latents. Far below the other, the plan
    /// is overfitted to them.
    #[serde(
        default,
        alias = "seen_error",
        skip_serializing_if = "Option::is_none",
        deserialize_with = "diverged::optional"
    )]
    pub training_error: Option<f64>,
    /// Evaluations of single images that finding this method's plans, for all numbers of steps, took beyond the teacher's.
    pub search_evaluations: u64,
    /// Seconds that it took beyond the teacher.
    pub search_seconds: f64,
    /// Seconds an image for sampling.
    pub seconds_per_image: f64,
    /// Noise levels of the evaluations.
    pub sigmas: Vec<f64>,
    /// What each evaluation's output weighs in the image (Eq. 8); infinite (in JSON null) where the plan's coefficients overflow.
    #[serde(deserialize_with = "diverged::list")]
    pub weights: Vec<f64>,
    /// The plan's file, in the run folder.
    pub plan: PathBuf,
    /// A PNG of the first images, in the run folder; none where samples are no images.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grid: Option<PathBuf>,
}

/// Distances of a cell's images under one feature network; empty where the sampler diverges.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Scores {
    /// What tables call the feature network.
    pub features: String,
    /// From data; none without any.
    pub data: Distances,
    /// From the teacher's images of other seeds: whether the sampler is true to its model, apart from whether that is true to data.
    pub teacher: Distances,
}

/// Distances from one reference, one for each range of seeds.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Distances {
    /// Frechet distances.
    #[serde(deserialize_with = "diverged::list")]
    pub frechet: Vec<f64>,
    /// KID; none where the reference has statistics alone. Infinite (in JSON null) where features are so large that their powers overflow.
    #[serde(deserialize_with = "diverged::list")]
    pub kid: Vec<f64>,
}

impl Scores {
    /// None yet.
    pub(super) fn empty(features: &str) -> Self {
        Self { features: features.to_owned(), data: Distances::default(), teacher: Distances::default() }
    }
}

impl Distances {
    fn push(&mut self, of_range: Option<scorer::Distances>) {
        self.frechet.extend(of_range.map(|distances| or_infinite(distances.frechet)));
        self.kid.extend(of_range.and_then(|distances| distances.kid).map(or_infinite));
    }
}

impl Row {
    /// The same under these names of the model and the feature networks: files may have moved since it was scored.
    pub(crate) fn named<'a>(mut self, model: &str, networks: impl Iterator<Item = &'a str>) -> Self {
        model.clone_into(&mut self.model);
        for (scores, network) in self.scores.iter_mut().zip(networks) {
            network.clone_into(&mut scores.features);
        }
        self
    }

    /// Ranges of seeds that its images were scored on.
    pub fn ranges(&self) -> usize {
        let ranges = self.scores.iter().map(|scores| scores.data.frechet.len().max(scores.teacher.frechet.len()));
        ranges.max().unwrap_or(0)
    }

    /// Takes the score of a further range.
    pub(super) fn add(&mut self, score: Score) {
        let before = self.ranges() as f64;
        for (all, score) in self.scores.iter_mut().zip(score.scores) {
            all.data.push(score.data);
            all.teacher.push(score.teacher);
        }
        self.seconds_per_image += (score.seconds - self.seconds_per_image) / (before + 1.0);
    }

    /// Frechet distances, one for each range of seeds, under one of the feature networks: from the data, or from the teacher's images
    /// where there is none.
    pub fn frechet(&self, network: usize) -> &[f64] {
        self.scores.get(network).map_or(&[], |scores| match scores.data.frechet.is_empty() {
            true => &scores.teacher.frechet,
            false => &scores.data.frechet,
        })
    }

    /// What is written under its images: the mean distance under each feature network.
    pub(crate) fn frechet_caption(&self) -> String {
        let write = |network| format!("{:.2}", mean(self.frechet(network)));
        format!("Frechet distance {}", (0..self.scores.len()).map(write).collect::<Vec<_>>().join(", "))
    }
}

/// `rows`, and after them those of `before`, of an earlier run, that they have no other of: what was scored stands in tables until the run
/// that goes on comes to it.
pub(crate) fn with_earlier(rows: &[Row], before: &[Row]) -> Vec<Row> {
    let place = |row: &Row| (row.model.clone(), row.method.clone(), row.nfe);
    let done: BTreeSet<_> = rows.iter().map(place).collect();
    rows.iter().chain(before.iter().filter(|row| !done.contains(&place(row)))).cloned().collect()
}

/// What a table shows of one value a range of seeds: their mean and standard deviation.
pub fn spread(values: &[f64]) -> Cell {
    match values {
        [] => Cell::Missing,
        [value] => Cell::Number(*value),
        values => Cell::Spread(mean(values), deviation(values)),
    }
}

/// Mean; NaN of none.
pub fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

/// Standard deviation of the values about their mean; 0 of one.
pub fn deviation(values: &[f64]) -> f64 {
    let (mean, n) = (mean(values), values.len() as f64);
    let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
    if n > 1.0 { (squares / (n - 1.0)).sqrt() } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(method: &str, nfe: usize, training_error: Option<f64>) -> Row {
        let distances = |of: f64| Distances { frechet: vec![of], kid: vec![of] };
        Row {
            model: "m".to_owned(),
            method: method.to_owned(),
            nfe,
            calls: nfe,
            scores: vec![Scores { features: "f".to_owned(), data: distances(1.0), teacher: distances(f64::INFINITY) }],
            rollout_error: f64::INFINITY,
            training_error,
            search_evaluations: 7,
            search_seconds: 0.5,
            seconds_per_image: 0.25,
            sigmas: vec![80.0, 1.0],
            weights: vec![f64::INFINITY, 0.5],
            plan: "plan.json".into(),
            grid: None,
        }
    }

    #[test]
    fn a_row_is_read_back_as_it_was() {
        for training_error in [None, Some(0.1), Some(f64::INFINITY)] {
            let row = row("a", 2, training_error);
            let text = serde_json::to_string(&row).unwrap();
            assert_eq!(text.contains("training_error"), training_error.is_some(), "{text}");
            assert_eq!(serde_json::from_str::<Row>(&text).unwrap(), row);
        }
    }

    #[test]
    fn rows_of_an_earlier_run_stand_until_there_are_others() {
        let now = [row("a", 3, Some(0.1)), row("b", 2, None)];
        let before = [row("a", 2, None), row("a", 3, None), row("b", 2, Some(0.2))];
        assert_eq!(with_earlier(&now, &before), [now[0].clone(), now[1].clone(), before[0].clone()]);
    }

    #[test]
    fn a_row_takes_the_names_of_now() {
        let named = row("a", 2, None).named("other", ["g", "h"].into_iter());
        assert_eq!((named.model.as_str(), named.scores[0].features.as_str()), ("other", "g"));
    }
}
