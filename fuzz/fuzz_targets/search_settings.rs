//! Settings of searches and names of methods: any text.
#![no_main]

use fewstep_core::Solver;
use fewstep_fuzz::memory::bounded;
use fewstep_search::{Method, SearchSettings};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    bounded(text.len(), 1000, || {
        if let Ok(settings) = toml::from_str::<SearchSettings>(text) {
            let _ = settings.validate();
        }
        if let Ok(method) = text.parse::<Method>() {
            assert_eq!(method.to_string().parse::<Method>().expect("a name is read back"), method);
            let _ = method.possible(&[1, 2, 3, 64]);
        }
        if let Ok(solver) = text.parse::<Solver>() {
            assert_eq!(solver.to_string().parse::<Solver>().expect("a name is read back"), solver);
        }
    });
});
