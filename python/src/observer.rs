//! Progress for Python, and Ctrl-C from it.

use std::rc::Rc;

use fewstep_core::observe::{Event, Observer};
use pyo3::prelude::*;

use crate::arrays::Operations;

/// Tells a Python object (`fewstep._progress`) what happens, and ends the work after an exception: Ctrl-C is one.
pub struct Watcher {
    pub object: Option<Py<PyAny>>,
    pub operations: Rc<Operations>,
}

impl Observer for Watcher {
    fn event(&self, event: Event) {
        let Some(object) = &self.object else { return };
        let told = Python::attach(|py| {
            let object = object.bind(py);
            match event {
                Event::Began { task, unit, total, done } => object.call_method1("began", (task, unit, total, done)),
                Event::Progressed { done, .. } => object.call_method1("progressed", (done,)),
                Event::Ended => object.call_method0("ended"),
                Event::Note(text) => object.call_method1("note", (text,)),
            }
            .map(|_| ())
        });
        if let Err(error) = told {
            self.operations.fail(error);
        }
    }

    fn cancelled(&self) -> bool {
        if let Err(error) = Python::attach(|py| py.check_signals()) {
            self.operations.fail(error);
        }
        self.operations.failed()
    }
}
