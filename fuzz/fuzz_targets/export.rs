//! Plans in the forms of other tools: any text that is a plan, to every tool.
#![no_main]

use fewstep_core::plan::Plan;
use fewstep_fuzz::memory::bounded;
use fewstep_search::export::{Betas, Options, Target, export};
use libfuzzer_sys::fuzz_target;

// the first byte is for the options
fuzz_target!(|data: &[u8]| {
    let Some((choice, text)) = data.split_first() else { return };
    let Ok(text) = std::str::from_utf8(text) else { return };
    let betas = ["linear:0.0001:0.02", "scaled-linear:0.00085:0.012", "cosine", "linear:0.0001:0.02:7"];
    let betas: Betas = betas[usize::from(*choice >> 1) % betas.len()].parse().expect("it is one");
    let options = Options { nearest: choice & 1 == 1, betas, shift: [1.0, 3.0][usize::from(*choice >> 3 & 1)] };
    bounded(text.len(), 2000, || {
        let Ok(plan) = Plan::from_json(text) else { return };
        for (target, ..) in Target::ALL {
            let _ = export(&plan, target, &options);
        }
    });
});
