//! Run files and what else a run leaves: any text.
#![no_main]

use fewstep::cells::Row;
use fewstep::compare::CompareTask;
use fewstep::demo::{DemoResults, DemoTask};
use fewstep::fitting::{FitTask, Outcome};
use fewstep::reproduce::ReproduceTask;
use fewstep::runs::RunFile;
use fewstep::sampling::SampleTask;
use fewstep::training::TrainTask;
use fewstep_fuzz::memory::bounded;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    bounded(text.len(), 1000, || {
        let _ = serde_json::from_str::<RunFile<FitTask>>(text);
        let _ = serde_json::from_str::<RunFile<CompareTask>>(text);
        let _ = serde_json::from_str::<RunFile<ReproduceTask>>(text);
        let _ = serde_json::from_str::<RunFile<TrainTask>>(text);
        let _ = serde_json::from_str::<RunFile<DemoTask>>(text);
        let _ = serde_json::from_str::<RunFile<SampleTask>>(text);
        let _ = serde_json::from_str::<Vec<Row>>(text);
        let _ = serde_json::from_str::<Vec<Outcome>>(text);
        let _ = serde_json::from_str::<DemoResults>(text);
    });
});
