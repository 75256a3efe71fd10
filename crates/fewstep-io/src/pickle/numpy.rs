//! NumPy arrays and scalars in a pickle, read as [`TensorData`].

use super::{Callable, Graph, Id, Object};
use crate::npy;
use crate::tensors::{Dtype, TensorData};

/// Whether the object is a NumPy array or scalar.
pub fn is_array(graph: &Graph<'_>, id: Id) -> bool {
    use Callable::{NumpyFromBuffer, NumpyReconstruct, NumpyScalar};
    graph.instance(id).is_some_and(|i| matches!(i.callable, NumpyReconstruct | NumpyScalar | NumpyFromBuffer))
}

/// A NumPy array, or a NumPy scalar as an array of no dimensions.
///
/// # Errors
/// A sentence if the object is none, if its element type is not a plain number, or if shape and bytes do not fit.
pub(crate) fn array(graph: &Graph<'_>, id: Id) -> Result<TensorData, String> {
    let instance = graph.instance(id).ok_or_else(|| not_an_array(graph, id))?;
    let args = graph.args(instance);
    match (instance.callable, args) {
        (Callable::NumpyScalar, &[descr, raw]) => from_parts(graph, descr, Vec::new(), false, raw),
        (Callable::NumpyFromBuffer, &[raw, descr, shape, order]) => {
            let fortran = graph.str(order) == Some("F");
            from_parts(graph, descr, sizes(graph, shape)?, fortran, raw)
        }
        (Callable::NumpyReconstruct, _) => {
            let state = instance.state.and_then(|state| graph.sequence(state));
            // Files from before 2005 lack the leading version.
            let state = state.map(|s| if s.len() == 5 { &s[1..] } else { s });
            let Some(&[shape, descr, fortran, raw]) = state else {
                return Err("a NumPy array has no contents".into());
            };
            let fortran = match graph.get(fortran) {
                Object::Bool(fortran) => *fortran,
                Object::Int(fortran) => *fortran != 0,
                _ => return Err("a NumPy array does not say its order".into()),
            };
            from_parts(graph, descr, sizes(graph, shape)?, fortran, raw)
        }
        _ => Err(not_an_array(graph, id)),
    }
}

fn not_an_array(graph: &Graph<'_>, id: Id) -> String {
    format!("a NumPy array is needed, but there is a {}", graph.get(id).kind())
}

fn sizes(graph: &Graph<'_>, shape: Id) -> Result<Vec<usize>, String> {
    graph.sizes(shape).ok_or_else(|| "a NumPy array has a shape that is no tuple of sizes".into())
}

fn from_parts(graph: &Graph<'_>, descr: Id, shape: Vec<usize>, fortran: bool, raw: Id) -> Result<TensorData, String> {
    let (dtype, big_endian) = dtype(graph, descr)?;
    let raw = graph.bytes(raw).ok_or("a NumPy array has no bytes (arrays of Python objects are not read)")?;
    npy::array(dtype, big_endian, fortran, shape, raw)
}

/// `dtype('f4', False, True)` with state `(3, '<', ...)`, whose second entry is the byte order.
fn dtype(graph: &Graph<'_>, id: Id) -> Result<(Dtype, bool), String> {
    let instance = graph.instance(id).filter(|i| i.callable == Callable::NumpyDtype);
    let instance = instance.ok_or("a NumPy array has no element type")?;
    let descr = graph.args(instance).first().and_then(|&descr| graph.str(descr)).unwrap_or("?unknown");
    let order = instance
        .state
        .and_then(|state| graph.sequence(state))
        .and_then(|state| state.get(1))
        .and_then(|&order| graph.str(order))
        .unwrap_or("<");
    let (dtype, big_endian) = npy::parse_descr(descr).ok_or_else(|| {
        let descr: String = descr.chars().take(40).collect();
        format!("a NumPy array has elements of type {descr:?}, not plain numbers")
    })?;
    Ok((dtype, big_endian || (order == ">" && dtype.size() > 1)))
}
