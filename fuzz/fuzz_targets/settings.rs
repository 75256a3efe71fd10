//! Settings files of every command: any text.
#![no_main]

use fewstep::compare::CompareSettings;
use fewstep::evaluate::EvalSettings;
use fewstep::fitting::FitSettings;
use fewstep::reproduce::ReproduceSettings;
use fewstep::sampling::SampleSettings;
use fewstep::training::TrainSettings;
use fewstep_fuzz::memory::bounded;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    bounded(text.len(), 1000, || {
        let _ = toml::from_str::<FitSettings>(text).map(|settings| settings.validate());
        let _ = toml::from_str::<CompareSettings>(text).map(|settings| settings.validate());
        let _ = toml::from_str::<ReproduceSettings>(text).map(|settings| settings.validate());
        let _ = toml::from_str::<EvalSettings>(text);
        let _ = toml::from_str::<SampleSettings>(text);
        let _ = toml::from_str::<TrainSettings>(text).map(|settings| settings.train_config());
    });
});
