//! Plain settings in a pickle (constructor arguments, attributes) as JSON.
//!
//! JSON has no infinities: `inf`, `-inf` and `nan` become the strings `"inf"`, `"-inf"`, `"nan"`, and [`number`] reads
//! them back.

use serde_json::{Map, Number, Value};

use super::{Callable, Graph, Id, Object, numpy};

const MAX_DEPTH: usize = 32;
/// Elements that one converter converts in all; shared lists are counted each time they are met.
const MAX_ELEMENTS: usize = 100_000;

/// An object that has no JSON form, in a sentence.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct NotPlain(String);

/// As [`Converter`], for one object.
///
/// # Errors
/// If the object holds anything that JSON has no form for, or is unreasonably deep or large for a setting.
pub fn convert(graph: &Graph<'_>, id: Id) -> Result<Value, NotPlain> {
    Converter::new(graph).convert(id).map_err(NotPlain)
}

/// A number of a converted object, including the non-finite ones; booleans and text are none.
pub fn number(value: &Value) -> Option<f64> {
    match value.as_str() {
        Some("inf") => Some(f64::INFINITY),
        Some("-inf") => Some(f64::NEG_INFINITY),
        Some("nan") => Some(f64::NAN),
        _ => value.as_f64(),
    }
}

/// Converts many settings of one pickle within one bound on their total size.
pub struct Converter<'g, 'a> {
    graph: &'g Graph<'a>,
    left: usize,
}

impl<'g, 'a> Converter<'g, 'a> {
    /// A converter with its whole budget.
    pub fn new(graph: &'g Graph<'a>) -> Self {
        Converter { graph, left: MAX_ELEMENTS }
    }

    /// The JSON form of an object made of None, booleans, numbers, text, lists, tuples, sets, mappings, NumPy scalars and small arrays.
    /// Names become `"module.name"`, devices their own name. What holds anything else, or is unreasonably deep or large for a setting
    /// (all that were converted so far together), is refused in a sentence.
    pub(crate) fn convert(&mut self, id: Id) -> Result<Value, String> {
        self.value(id, 0)
    }

    fn value(&mut self, id: Id, depth: usize) -> Result<Value, String> {
        if depth > MAX_DEPTH {
            return Err(format!("a setting is nested deeper than {MAX_DEPTH} levels"));
        }
        self.charge(1)?;
        Ok(match self.graph.get(id) {
            Object::None => Value::Null,
            Object::Bool(value) => Value::Bool(*value),
            Object::Int(value) => Value::from(*value),
            Object::Float(value) => float(*value),
            Object::Str(text) => {
                self.charge(text.len() / 64)?;
                Value::String(text.to_string())
            }
            Object::Bytes(_) => {
                let text = self.graph.str(id).ok_or("a setting is a byte string")?;
                self.charge(text.len() / 64)?;
                Value::String(text.to_owned())
            }
            Object::Global { module, name } => {
                self.charge((module.len() + name.len()) / 64)?;
                Value::String(format!("{module}.{name}"))
            }
            Object::List(items) | Object::Tuple(items) | Object::Set(items) => self.array(items, depth)?,
            Object::Dict(_) => self.map(id, depth)?,
            Object::BigInt(_) | Object::Persistent(_) => {
                return Err(format!("a setting is a {}", self.graph.get(id).kind()));
            }
            Object::Instance(call) => self.instance(id, call.callable, depth)?,
        })
    }

    fn charge(&mut self, elements: usize) -> Result<(), String> {
        let left = self.left.checked_sub(elements);
        self.left = left.unwrap_or(0);
        left.map(drop).ok_or_else(|| format!("the settings have more than {MAX_ELEMENTS} elements"))
    }

    fn array(&mut self, items: &[Id], depth: usize) -> Result<Value, String> {
        items.iter().map(|&item| self.value(item, depth + 1)).collect::<Result<Vec<_>, _>>().map(Value::Array)
    }

    fn map(&mut self, id: Id, depth: usize) -> Result<Value, String> {
        let mut map = Map::new();
        for (key, value) in self.graph.pairs(id).unwrap_or_default() {
            let key = match self.value(key, depth + 1)? {
                Value::String(key) => key,
                key @ (Value::Number(_) | Value::Bool(_)) => key.to_string(),
                _ => return Err("a setting has a key that is neither text nor number".into()),
            };
            map.insert(key, self.value(value, depth + 1)?);
        }
        Ok(Value::Object(map))
    }

    fn instance(&mut self, id: Id, callable: Callable, depth: usize) -> Result<Value, String> {
        let graph = self.graph;
        match callable {
            Callable::Mapping => self.map(id, depth),
            Callable::Set => {
                let items = graph.set(id).ok_or("a set has no elements")?;
                self.array(items, depth)
            }
            Callable::TorchSize => {
                let items = graph.sequence(id).ok_or("a torch.Size has no elements")?;
                self.array(items, depth)
            }
            Callable::TorchDevice => match graph.call(id, callable) {
                Some([name, ..]) => self.value(*name, depth + 1),
                _ => Err("a device has no name".into()),
            },
            _ if numpy::is_array(graph, id) => self.numpy(id),
            other => Err(format!("a setting is an object ({other:?})")),
        }
    }

    fn numpy(&mut self, id: Id) -> Result<Value, String> {
        let array = numpy::array(self.graph, id)?;
        self.charge(array.numel())?;
        let mut values: Vec<Value> = match array.to_i64() {
            Ok(integers) => integers.into_iter().map(Value::from).collect(),
            Err(_) => array.to_f64().into_iter().map(float).collect(),
        };
        match (array.shape.len(), values.len()) {
            (0, 1) => Ok(values.swap_remove(0)),
            (1, _) => Ok(Value::Array(values)),
            (dims, _) => Err(format!("a setting is an array of {dims} dimensions")),
        }
    }
}

fn float(value: f64) -> Value {
    match Number::from_f64(value) {
        Some(number) => Value::Number(number),
        None if value.is_nan() => "nan".into(),
        None if value > 0.0 => "inf".into(),
        None => "-inf".into(),
    }
}
