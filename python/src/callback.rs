//! A Python callable as a denoiser.

use std::ops::Range;
use std::rc::Rc;

use fewstep_core::denoiser::{Appearance, Clipping, Denoiser, Spec};
use fewstep_core::noise;
use fewstep_core::observe::Observer;
use fewstep_core::plan::{Constant, Plan};
use fewstep_search::{DataMoments, Error, PlanScorer, random_features, sample};
use pyo3::exceptions::PyMemoryError;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyList};

use crate::arrays::{Array, Operations, bytes, doubles, floats};

/// An exception of the caller's.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Raised(pub PyErr);

impl From<PyErr> for Raised {
    fn from(error: PyErr) -> Self {
        Self(error)
    }
}

fn raised(error: Raised) -> Error {
    Error::Denoiser(Box::new(error))
}

/// What the callable is given beside states and levels: any Python object, None without conditions.
#[derive(Debug)]
pub struct Conditions(Py<PyAny>);

impl Clone for Conditions {
    fn clone(&self) -> Self {
        Self(Python::attach(|py| self.0.clone_ref(py)))
    }
}

/// A Python object of `fewstep._callback`, which checks and calls what the user gave.
pub struct Callback {
    object: Py<PyAny>,
    operations: Rc<Operations>,
    spec: Spec,
    /// Whether samples are images of [-1, 1] themselves.
    images: bool,
}

impl Callback {
    pub fn new(object: Py<PyAny>, operations: &Rc<Operations>, spec: Spec, images: bool) -> PyResult<Self> {
        if let &[channels, height, width] = spec.shape.as_slice() {
            let layers = random_features::layers([channels, height, width]);
            Python::attach(|py| {
                let of = |layer: &random_features::Layer| {
                    let (weight, bias) = (bytes(&layer.weight), bytes(&layer.bias));
                    let shape = (layer.c_out, layer.groups, layer.side);
                    (shape, PyBytes::new(py, &weight).unbind(), PyBytes::new(py, &bias).unbind())
                };
                let layers: Vec<_> = layers.iter().map(of).collect();
                operations.object(py).call_method1("set_filters", (layers,)).map(|_| ())
            })?;
        }
        Ok(Self { object, operations: Rc::clone(operations), spec, images })
    }

    /// What was raised before, or what `of` makes of the object.
    fn call<T>(&self, of: impl FnOnce(&Bound<'_, PyAny>) -> PyResult<T>) -> Result<T, Raised> {
        match self.operations.failure() {
            Some(error) => Err(Raised(error)),
            None => Ok(Python::attach(|py| of(self.object.bind(py)))?),
        }
    }

    fn array(&self, made: Bound<'_, PyAny>) -> Array {
        Array::new(made.unbind(), &self.operations)
    }

    /// Unit normal noise of some seeds, a sample each.
    ///
    /// Raises MemoryError where there is none for it: an allocation that fails would end the interpreter.
    pub fn noise(seeds: &[u64], shape: &[usize]) -> PyResult<Vec<u8>> {
        let numbers = shape.iter().try_fold(seeds.len(), |product, size| product.checked_mul(*size));
        let there_is_room = |numbers: usize| Vec::<f32>::new().try_reserve_exact(numbers).is_ok();
        // the numbers, and their bytes, twice
        match numbers.filter(|numbers| numbers.checked_mul(3).is_some_and(there_is_room)) {
            Some(_) => Ok(bytes(&noise::latents(seeds, shape.iter().product()))),
            None => Err(PyMemoryError::new_err(format!(
                "{} samples of shape {shape:?} do not fit into memory",
                seeds.len()
            ))),
        }
    }
}

impl Callback {
    /// What training samples look like, an iterable of batches of them.
    pub fn data_moments(&self, batches: &Py<PyAny>) -> Result<DataMoments, Error> {
        let appearance = self.appearance().ok_or(Error::NoImages)?;
        let mut moments = DataMoments::new();
        let raised = |error: PyErr| raised(Raised(error));
        let batches = Python::attach(|py| batches.bind(py).try_iter().map(Bound::unbind)).map_err(raised)?;
        let next = || {
            let made = Python::attach(|py| {
                batches.bind(py).clone().next().transpose().map(|made| made.map(|made| self.array(made)))
            });
            made.map_err(raised)
        };
        while let Some(batch) = next()? {
            moments.add(appearance, &batch)?;
        }
        Ok(moments)
    }
}

/// A Python object of `fewstep._scorer`, which compares samples with training samples by features of the user's.
pub struct CallbackScorer<'a> {
    object: Py<PyAny>,
    callback: &'a Callback,
    observer: &'a dyn Observer,
}

impl<'a> CallbackScorer<'a> {
    pub fn new(object: Py<PyAny>, callback: &'a Callback, observer: &'a dyn Observer) -> Self {
        Self { object, callback, observer }
    }
}

/// Samples that are given for scoring at once.
const SCORED: usize = 64;

impl PlanScorer for CallbackScorer<'_> {
    fn distance(&self, plan: &Plan, seeds: &[u64]) -> Result<f64, Error> {
        let mut batches = Vec::new();
        sample(self.callback, plan, seeds, SCORED, self.observer, |_, batch| {
            batches.push(batch.clone());
            Ok(())
        })?;
        let scored = self.callback.call(|object| {
            let batches = PyList::new(object.py(), batches.iter().map(|batch| batch.bound(object.py())))?;
            self.object.bind(object.py()).call_method1("distance", (batches,))?.extract()
        });
        scored.map_err(raised)
    }
}

impl Denoiser for Callback {
    type Batch = Array;
    type Conditions = Conditions;
    type Error = Raised;

    fn spec(&self) -> &Spec {
        &self.spec
    }

    fn latents(&self, seeds: &[u64]) -> Result<Array, Raised> {
        let noise = Self::noise(seeds, &self.spec.shape)?;
        let made = |object: &Bound<'_, PyAny>| {
            let py = object.py();
            let made = self.operations.object(py).call_method1("samples", (PyBytes::new(py, &noise), seeds.len()))?;
            Ok(self.array(made))
        };
        self.call(made)
    }

    fn conditions(&self, seeds: &[u64]) -> Result<Conditions, Raised> {
        let classes = (self.spec.classes > 0).then(|| noise::classes(seeds, self.spec.classes));
        self.call(|object| Ok(Conditions(object.call_method1("conditions", (seeds.to_vec(), classes))?.unbind())))
    }

    fn same_condition(&self, class: Option<usize>, samples: usize) -> Result<Conditions, Raised> {
        self.call(|object| Ok(Conditions(object.call_method1("same_condition", (class, samples))?.unbind())))
    }

    fn constant(&self, constant: &Constant, conditions: &Conditions, samples: usize) -> Result<Array, Raised> {
        self.call(|object| {
            let py = object.py();
            let all: Vec<u8> = constant.samples.iter().flat_map(|sample| bytes(sample)).collect();
            let (all, condition) = (PyBytes::new(py, &all), conditions.0.bind(py));
            let made = object.call_method1("constant", (all, constant.samples.len(), condition, samples))?;
            Ok(self.array(made))
        })
    }

    fn denoise(&self, asked: &[(&Array, f64)], conditions: &Conditions) -> Result<Vec<Array>, Raised> {
        self.call(|object| {
            let py = object.py();
            let states = PyList::new(py, asked.iter().map(|(x, _)| x.bound(py)))?;
            let levels: Vec<f64> = asked.iter().map(|(_, sigma)| *sigma).collect();
            let made = object.call_method1("denoise", (states, levels, conditions.0.bind(py)))?;
            made.try_iter()?.map(|made| Ok(self.array(made?))).collect()
        })
    }

    fn appearance(&self) -> Option<&dyn Appearance<Array, Raised>> {
        (self.spec.shape.len() == 3).then_some(self)
    }
}

impl Appearance<Array, Raised> for Callback {
    fn features(&self, batch: &Array) -> Result<(Vec<f64>, usize), Raised> {
        self.call(|object| {
            let py = object.py();
            let made = self.operations.object(py).call_method1("features", (batch.bound(py), self.images))?;
            let (rows, dim): (Bound<'_, PyBytes>, usize) = made.extract()?;
            Ok((doubles(rows.as_bytes()), dim))
        })
    }

    fn clipping(&self, batch: &Array, near: Range<f64>) -> Result<Clipping, Raised> {
        self.call(|object| {
            let py = object.py();
            let made = self.operations.object(py).call_method1("clipping", (batch.bound(py), near.start, near.end))?;
            let (values, beyond, near): (u64, u64, Bound<'_, PyBytes>) = made.extract()?;
            Ok(Clipping { values, beyond, near: floats(near.as_bytes()) })
        })
    }

    fn is_direct(&self) -> bool {
        self.images
    }
}
