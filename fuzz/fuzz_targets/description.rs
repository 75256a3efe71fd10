//! Descriptions of programs and decoders: any text.
#![no_main]

use fewstep_fuzz::memory::bounded;
use fewstep_nn::ProgramConfig;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    bounded(text.len(), 1000, || {
        if let Ok(config) = ProgramConfig::from_json(text) {
            let _ = config.parameterisation.discrete_levels();
            let _ = config.parameterisation.sampling_range();
        }
    });
});
