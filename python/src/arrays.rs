//! The caller's own arrays as the vector space of searches and samplers.
//!
//! Every operation is one call of a Python object (`fewstep._arrays`), which keeps tensors where they are: only scalars come back. The
//! traits of fewstep-core cannot fail, Python can: the first exception is kept, what it should have made is an array without a
//! value, and whoever asks the denoiser next, or looks at the end, is given the exception.

use std::cell::RefCell;
use std::rc::Rc;

use fewstep_core::space::{Batch, Samples, VectorSpace};
use pyo3::prelude::*;
use pyo3::types::PyList;

/// The operations on arrays of one library, and the first exception that one of them raised.
pub struct Operations {
    object: Py<PyAny>,
    failure: RefCell<Option<PyErr>>,
}

impl Operations {
    pub fn new(object: Py<PyAny>) -> Rc<Self> {
        Rc::new(Self { object, failure: RefCell::new(None) })
    }

    /// The Python object.
    pub fn object<'py>(&self, py: Python<'py>) -> &Bound<'py, PyAny> {
        self.object.bind(py)
    }

    /// Keeps the first exception.
    pub fn fail(&self, error: PyErr) {
        self.failure.borrow_mut().get_or_insert(error);
    }

    /// Whether an exception is kept.
    pub fn failed(&self) -> bool {
        self.failure.borrow().is_some()
    }

    /// The exception, if there was one.
    pub fn failure(&self) -> Option<PyErr> {
        self.failure.borrow_mut().take()
    }

    /// What `of` makes of the operations; none, and the exception kept, if it fails.
    fn attempt<T>(&self, of: impl FnOnce(&Bound<'_, PyAny>) -> PyResult<T>) -> Option<T> {
        Python::attach(|py| of(self.object.bind(py)).map_err(|error| self.fail(error)).ok())
    }
}

/// A batch of samples `[N, ...]`: a torch tensor or a NumPy array.
pub struct Array {
    value: Option<Py<PyAny>>,
    operations: Rc<Operations>,
}

impl Clone for Array {
    fn clone(&self) -> Self {
        let value = self.value.as_ref().map(|value| Python::attach(|py| value.clone_ref(py)));
        Self { value, operations: Rc::clone(&self.operations) }
    }
}

impl Array {
    pub fn new(value: Py<PyAny>, operations: &Rc<Operations>) -> Self {
        Self { value: Some(value), operations: Rc::clone(operations) }
    }

    /// The Python array; an array without a value is None, which nothing takes for one.
    pub fn bound<'py>(&self, py: Python<'py>) -> Bound<'py, PyAny> {
        match &self.value {
            Some(value) => value.bind(py).clone(),
            None => py.None().into_bound(py),
        }
    }

    /// The array that a method of the operations makes.
    fn made(&self, of: impl FnOnce(&Bound<'_, PyAny>) -> PyResult<Py<PyAny>>) -> Self {
        let value = if self.operations.failed() { None } else { self.operations.attempt(of) };
        Self { value, operations: Rc::clone(&self.operations) }
    }

    /// What a method of the operations makes of this array and another; `otherwise` after an exception.
    fn of<T>(&self, otherwise: T, of: impl FnOnce(&Bound<'_, PyAny>) -> PyResult<T>) -> T {
        if self.operations.failed() {
            return otherwise;
        }
        self.operations.attempt(of).unwrap_or(otherwise)
    }
}

impl VectorSpace for Array {
    fn combine(terms: &[(f64, &Self)]) -> Self {
        let (_, first) = terms[0]; // the trait promises one
        first.made(|operations| {
            let py = operations.py();
            let coefficients: Vec<f64> = terms.iter().map(|(coefficient, _)| *coefficient).collect();
            let arrays = PyList::new(py, terms.iter().map(|(_, array)| array.bound(py)))?;
            Ok(operations.call_method1("combine", (coefficients, arrays))?.unbind())
        })
    }

    fn dot(&self, other: &Self) -> f64 {
        self.of(f64::NAN, |operations| {
            let py = operations.py();
            operations.call_method1("dot", (self.bound(py), other.bound(py)))?.extract()
        })
    }
}

impl Samples for Array {
    fn samples(&self) -> usize {
        self.of(0, |operations| self.bound(operations.py()).len())
    }

    fn sample_dots(&self, other: &Self) -> Vec<f64> {
        let unknown = vec![f64::NAN; self.samples()];
        self.of(unknown, |operations| {
            let py = operations.py();
            operations.call_method1("sample_dots", (self.bound(py), other.bound(py)))?.extract()
        })
    }

    fn sample_l1(&self) -> Vec<f64> {
        let unknown = vec![f64::NAN; self.samples()];
        self.of(unknown, |operations| operations.call_method1("sample_l1", (self.bound(operations.py()),))?.extract())
    }

    fn scale_samples(&self, factors: &[f64]) -> Self {
        self.made(|operations| {
            let array = self.bound(operations.py());
            Ok(operations.call_method1("scale_samples", (array, factors.to_vec()))?.unbind())
        })
    }
}

impl Batch for Array {
    fn part(&self, start: usize, count: usize) -> Self {
        self.made(|operations| {
            let array = self.bound(operations.py());
            Ok(operations.call_method1("part", (array, start, count))?.unbind())
        })
    }

    fn sum_of_samples(&self) -> Vec<f64> {
        let sum = |operations: &Bound<'_, PyAny>| {
            let bytes = operations.call_method1("sum_of_samples", (self.bound(operations.py()),))?;
            let (words, _) = bytes.extract::<&[u8]>()?.as_chunks::<8>();
            Ok(words.iter().map(|word| f64::from_ne_bytes(*word)).collect())
        };
        self.of(Vec::new(), sum)
    }

    fn with_gradients(&self, weight: f64) -> Option<Self> {
        let value = self.of(None, |operations| {
            let made = operations.call_method1("with_gradients", (self.bound(operations.py()), weight))?;
            Ok((!made.is_none()).then(|| made.unbind()))
        });
        value.map(|value| Self { value: Some(value), operations: Rc::clone(&self.operations) })
    }
}

/// Single-precision numbers from their bytes, in the machine's order.
pub fn floats(bytes: &[u8]) -> Vec<f32> {
    let (words, _) = bytes.as_chunks::<4>();
    words.iter().map(|word| f32::from_ne_bytes(*word)).collect()
}

/// Double-precision numbers from their bytes, in the machine's order.
pub fn doubles(bytes: &[u8]) -> Vec<f64> {
    let (words, _) = bytes.as_chunks::<8>();
    words.iter().map(|word| f64::from_ne_bytes(*word)).collect()
}

/// The bytes of single-precision numbers, in the machine's order.
pub fn bytes(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_ne_bytes()).collect()
}
