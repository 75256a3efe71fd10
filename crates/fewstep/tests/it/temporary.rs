//! What work leaves in the temporary folder while it goes on, which is what a kill leaves for good.

use std::cell::RefCell;

use fewstep::fitting::settings::TuneLoss;
use fewstep::fitting::{self, FitSettings};
use fewstep::models::{ModelOptions, open_model};
use fewstep::plans::euler;
use fewstep_core::observe::{Event, Observer};
use fewstep_core::schedule::karras;

/// Notes the files that this process has open when phase 2 begins.
#[derive(Default)]
struct Open(RefCell<Vec<String>>);

impl Observer for Open {
    fn event(&self, event: Event) {
        if let Event::Began { task, .. } = event
            && task.starts_with("phase 2")
        {
            let open = std::fs::read_dir("/proc/self/fd").unwrap().flatten();
            let names = open.filter_map(|entry| entry.path().read_link().ok()).map(|path| path.display().to_string());
            self.0.borrow_mut().extend(names.filter(|name| name.contains("trajectories.safetensors")));
        }
    }
}

#[cfg(target_os = "linux")]
#[test]
fn trajectories_that_nobody_saves_have_no_name() {
    let opened = open_model("gaussian-mixture", &ModelOptions::default()).unwrap();
    let mut settings = FitSettings::default();
    settings.search.teacher.grid = 5;
    settings.held_out.samples = 2;
    settings.held_out.teacher_steps = 3;
    (settings.tune.loss, settings.tune.trajectories) = (TuneLoss::Rollout, 4);
    (settings.tune.updates, settings.tune.batch) = (1, 2);
    let (plan, open) = (euler(&karras(2, 0.01, 50.0, 7.0).unwrap()).unwrap(), Open::default());
    fitting::tune(opened.tunable().unwrap(), &plan, None, &settings, &open).unwrap();
    let names = open.0.into_inner();
    assert!(names.len() == 1 && names[0].ends_with(" (deleted)"), "{names:?}");
}
