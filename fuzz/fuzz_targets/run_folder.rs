//! Run folders: the page of one and what `info` says of it. Files of any text, each after a line of its name.
#![no_main]

use std::path::{Component, Path};

use fewstep::{describe, report};
use fewstep_fuzz::{memory::bounded, places};
use libfuzzer_sys::fuzz_target;

const MARK: &str = "\n=== ";

fuzz_target!(|text: &str| {
    let parts = text.split(MARK).filter_map(|part| part.split_once('\n'));
    let inside = |name: &str| Path::new(name).components().all(|part| matches!(part, Component::Normal(_)));
    let files: Vec<(&str, &[u8])> = parts
        .filter(|(name, _)| !name.is_empty() && name.len() < 100 && inside(name) && !name.contains('\0'))
        .map(|(name, contents)| (name, contents.as_bytes()))
        .collect();
    let folder = places::folder(&files);
    bounded(text.len(), 1000, || {
        let _ = describe::describe(&folder).map(|said| (said.to_text(&folder, false), said.to_json(&folder)));
        let _ = report::of_folder(&folder).map(|page| page.to_html());
    });
});
