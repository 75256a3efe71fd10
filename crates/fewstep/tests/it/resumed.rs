//! Runs that go on: what an earlier run scored stands in the file of results until the run comes to it.

use std::cell::RefCell;
use std::path::{Path, PathBuf};

use fewstep::compare::{self, CompareSettings, CompareTask, Subject};
use fewstep::models::{MIXTURES, ModelOptions, OpenModel, open_model};
use fewstep::reproduce::{self, Experiment, ReproduceInputs, ReproduceSettings, ReproduceTask, RowKind};
use fewstep::runs::RunOptions;
use fewstep_core::observe::{Event, Observer};
use fewstep_nn::Ranks;
use serde_json::Value;

/// Notes which cells a file of results has whenever something happens.
struct Watcher {
    file: PathBuf,
    seen: RefCell<Vec<Vec<u64>>>,
}

impl Watcher {
    fn of(file: PathBuf) -> Self {
        Self { file, seen: RefCell::default() }
    }

    /// Every list of evaluations that the file had, in order and without repeats.
    fn seen(self) -> Vec<Vec<u64>> {
        let mut seen = self.seen.into_inner();
        seen.dedup();
        seen
    }
}

impl Observer for Watcher {
    fn event(&self, _: Event) {
        let Ok(text) = std::fs::read_to_string(&self.file) else { return };
        let rows: Vec<Value> = serde_json::from_str(&text).unwrap();
        let cells = rows.iter().filter(|row| row["method"] != "teacher").map(|row| row["nfe"].as_u64().unwrap());
        self.seen.borrow_mut().push(cells.collect());
    }
}

fn model() -> OpenModel {
    open_model(MIXTURES[0], &ModelOptions::default()).unwrap()
}

fn options(folder: &Path, resume: bool) -> RunOptions {
    RunOptions { out: folder.join("run"), resume, command: Vec::new(), ranks: Ranks::alone() }
}

#[test]
fn a_comparison_keeps_its_rows_while_it_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let run = |steps: &[usize], resume: bool| {
        let references = Vec::new();
        let subjects = [Subject { model: model(), precision: "f32".to_owned(), batch: 16, references, data: None }];
        let mut settings = CompareSettings { held_out: 2, teacher_steps: 4, ..CompareSettings::default() };
        settings.search.teacher.samples = 4;
        let methods = ["karras/euler".parse().unwrap()];
        let task = CompareTask::new(&subjects, &methods, &[], steps, &settings).unwrap();
        let watcher = Watcher::of(folder.path().join("run").join(compare::ROWS));
        compare::compare(task, &subjects, &[], &options(folder.path(), resume), &watcher).unwrap();
        watcher.seen()
    };
    run(&[4, 5], false);
    assert!(run(&[2, 3], true).starts_with(&[vec![4, 5], vec![2, 4, 5]]));
}

#[test]
fn an_experiment_keeps_its_rows_while_it_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("run").join(reproduce::ROWS);
    let opened = model();
    let run = |steps: &[usize], resume: bool| {
        let mut settings = ReproduceSettings::default();
        settings.fit.held_out.samples = 2;
        let task = ReproduceTask {
            experiment: Experiment::Table1,
            steps: steps.to_vec(),
            ours: false,
            only: vec![RowKind::Baseline],
            model: opened.id("f32"),
            data: None,
            references: Vec::new(),
            settings,
        };
        let inputs = ReproduceInputs { model: &opened, images: None, references: &[] };
        let watcher = Watcher::of(file.clone());
        reproduce::reproduce(task, &inputs, &options(folder.path(), resume), &watcher).unwrap();
        watcher.seen()
    };
    run(&[4, 5, 6], false);
    // 6 is no longer asked for
    assert!(run(&[2, 3, 4, 5], true).starts_with(&[vec![4, 5, 6], vec![2, 4, 5]]));
}
