//! What a pickle leaves: objects in an arena, referring to each other by number.

use std::borrow::Cow;

use super::callable::Callable;

/// Number of an object in its [`Graph`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Id(pub(super) u32);

/// One object. Text and bytes borrow from the pickle where they stand in it as such.
#[derive(Clone, Debug, PartialEq)]
pub enum Object<'a> {
    /// `None`.
    None,
    /// `True` or `False`.
    Bool(bool),
    /// An integer of at most 64 bits.
    Int(i64),
    /// A longer integer: two's complement, little-endian.
    BigInt(&'a [u8]),
    /// A float.
    Float(f64),
    /// Text.
    Str(Cow<'a, str>),
    /// Bytes, or a Python 2 string.
    Bytes(Cow<'a, [u8]>),
    /// A list.
    List(Vec<Id>),
    /// A tuple.
    Tuple(Vec<Id>),
    /// A set or frozenset, in the order of the file.
    Set(Vec<Id>),
    /// A dictionary as the pairs that were set, in that order; a later pair replaces an earlier one of the same key.
    Dict(Vec<(Id, Id)>),
    /// A name: never looked up, never called.
    Global {
        /// Its module.
        module: Cow<'a, str>,
        /// The name in the module.
        name: Cow<'a, str>,
    },
    /// A reference to something outside the pickle, such as a storage in the same archive.
    Persistent(Id),
    /// A call of a listed name, kept as data.
    Instance(Box<Instance>),
}

impl Object<'_> {
    /// The kind of object, in words for messages.
    pub fn kind(&self) -> &'static str {
        match self {
            Object::None => "None",
            Object::Bool(_) => "boolean",
            Object::Int(_) | Object::BigInt(_) => "integer",
            Object::Float(_) => "float",
            Object::Str(_) => "text",
            Object::Bytes(_) => "byte string",
            Object::List(_) => "list",
            Object::Tuple(_) => "tuple",
            Object::Set(_) => "set",
            Object::Dict(_) => "dictionary",
            Object::Global { .. } => "name",
            Object::Persistent(_) => "reference to a storage",
            Object::Instance(_) => "object",
        }
    }
}

/// A recorded call.
#[derive(Clone, Debug, PartialEq)]
pub struct Instance {
    /// What the called name stands for.
    pub callable: Callable,
    /// The name itself ([`Object::Global`]).
    pub global: Id,
    /// The tuple of positional arguments.
    pub args: Id,
    /// State that BUILD gave it.
    pub state: Option<Id>,
    /// Pairs that SETITEM(S) gave it, for mappings.
    pub items: Vec<(Id, Id)>,
}

/// The objects of one pickle.
#[derive(Clone, Debug)]
pub struct Graph<'a> {
    pub(super) objects: Vec<Object<'a>>,
    pub(super) root: Id,
}

impl<'a> Graph<'a> {
    /// The object that the pickle is.
    pub fn root(&self) -> Id {
        self.root
    }

    /// Number of objects.
    pub fn len(&self) -> usize {
        self.objects.len()
    }

    /// Never true: even an empty pickle has constants.
    pub fn is_empty(&self) -> bool {
        self.objects.is_empty()
    }

    /// The object behind an id. Ids come from the same graph, so there always is one; a foreign id gives `None`.
    pub fn get(&self, id: Id) -> &Object<'a> {
        self.objects.get(id.0 as usize).unwrap_or(&Object::None)
    }

    /// All objects, in the order in which the pickle makes them.
    pub fn iter(&self) -> impl Iterator<Item = (Id, &Object<'a>)> {
        self.objects.iter().enumerate().map(|(i, object)| (Id(i as u32), object))
    }

    /// The recorded call behind an id, if it is one.
    pub fn instance(&self, id: Id) -> Option<&Instance> {
        match self.get(id) {
            Object::Instance(instance) => Some(instance),
            _ => None,
        }
    }

    /// The arguments of a recorded call of `callable`.
    pub fn call(&self, id: Id, callable: Callable) -> Option<&[Id]> {
        self.instance(id).filter(|i| i.callable == callable).map(|i| self.args(i))
    }

    /// The positional arguments of a recorded call.
    pub fn args(&self, call: &Instance) -> &[Id] {
        match self.get(call.args) {
            Object::Tuple(items) => items,
            _ => &[],
        }
    }

    /// Text; a Python 2 string counts where it is UTF-8.
    pub fn str(&self, id: Id) -> Option<&str> {
        match self.get(id) {
            Object::Str(text) => Some(text),
            Object::Bytes(bytes) => std::str::from_utf8(bytes).ok(),
            _ => None,
        }
    }

    /// Bytes, also as `bytes(...)` or `bytearray(...)` of protocols 0 to 4.
    pub fn bytes(&self, id: Id) -> Option<&[u8]> {
        match self.get(self.bytes_id(id)) {
            Object::Bytes(bytes) => Some(bytes),
            Object::Instance(call) if call.callable == Callable::Bytes && self.args(call).is_empty() => Some(&[]),
            _ => None,
        }
    }

    /// The byte string that a `bytes(...)` or `bytearray(...)` is a copy of, and anything else itself: of one byte string a pickle may make
    /// any number of copies.
    pub(super) fn bytes_id(&self, id: Id) -> Id {
        match self.call(id, Callable::Bytes) {
            Some([argument, ..]) => *argument,
            _ => id,
        }
    }

    /// An integer of at most 64 bits.
    pub fn int(&self, id: Id) -> Option<i64> {
        match self.get(id) {
            Object::Int(value) => Some(*value),
            _ => None,
        }
    }

    /// An integer that is a size or offset.
    pub fn size(&self, id: Id) -> Option<usize> {
        self.int(id).and_then(|v| usize::try_from(v).ok())
    }

    /// The elements of a tuple, a list or a `torch.Size`.
    pub fn sequence(&self, id: Id) -> Option<&[Id]> {
        let plain = |id| match self.get(id) {
            Object::Tuple(items) | Object::List(items) => Some(items.as_slice()),
            _ => None,
        };
        match self.call(id, Callable::TorchSize) {
            Some([inner]) => plain(*inner),
            _ => plain(id),
        }
    }

    /// A tuple, list or `torch.Size` of sizes.
    pub fn sizes(&self, id: Id) -> Option<Vec<usize>> {
        self.sequence(id)?.iter().map(|&item| self.size(item)).collect()
    }

    /// The elements of a set in any of its forms.
    pub fn set(&self, id: Id) -> Option<&[Id]> {
        match self.get(id) {
            Object::Set(items) => Some(items),
            Object::Instance(call) if call.callable == Callable::Set => match self.args(call) {
                [] => Some(&[]),
                [arg, ..] => self.sequence(*arg),
            },
            _ => None,
        }
    }

    /// The state of an object of a module class (`torch.nn.modules`, or a class of a TorchScript program).
    pub fn module_state(&self, id: Id) -> Option<Id> {
        self.instance(id).filter(|object| object.callable == Callable::TorchModule)?.state
    }

    /// Key-value pairs of a dictionary or a mapping class, in the order of the file, later pairs overriding.
    pub fn pairs(&self, id: Id) -> Option<Vec<(Id, Id)>> {
        match self.get(id) {
            Object::Dict(pairs) => Some(pairs.clone()),
            Object::Instance(call) if call.callable == Callable::Mapping => {
                let mut pairs = match self.constructor_entries(call) {
                    Some(Object::Dict(pairs)) => pairs.clone(),
                    Some(Object::List(listed) | Object::Tuple(listed)) => self.listed_pairs(listed),
                    _ => Vec::new(),
                };
                pairs.extend(&call.items);
                Some(pairs)
            }
            _ => None,
        }
    }

    /// What a mapping was constructed from: Python 2 wrote `OrderedDict([[key, value], ...])`, protocols 0 and 1 give a
    /// subclass of dict its entries so.
    fn constructor_entries(&self, call: &Instance) -> Option<&Object<'a>> {
        self.args(call).first().map(|&arg| self.get(arg))
    }

    fn listed_pairs(&self, listed: &[Id]) -> Vec<(Id, Id)> {
        let pair = |&id: &Id| match self.sequence(id) {
            Some(&[key, value]) => Some((key, value)),
            _ => None,
        };
        listed.iter().filter_map(pair).collect()
    }

    /// An upper bound on the number of pairs of a dictionary or mapping, without copying them; 0 for anything else.
    pub fn pairs_len(&self, id: Id) -> usize {
        match self.get(id) {
            Object::Dict(pairs) => pairs.len(),
            Object::Instance(call) if call.callable == Callable::Mapping => {
                let constructed = match self.constructor_entries(call) {
                    Some(Object::Dict(pairs)) => pairs.len(),
                    Some(Object::List(listed) | Object::Tuple(listed)) => listed.len(),
                    _ => 0,
                };
                constructed + call.items.len()
            }
            _ => 0,
        }
    }

    /// The value that a dictionary or mapping holds under the text `key`.
    pub fn lookup(&self, id: Id, key: &str) -> Option<Id> {
        let find = |pairs: &[(Id, Id)]| pairs.iter().rev().find(|(k, _)| self.str(*k) == Some(key)).map(|&(_, v)| v);
        match self.get(id) {
            Object::Dict(pairs) => find(pairs),
            _ => find(&self.pairs(id)?),
        }
    }

    /// The keys of a mapping that are text, for messages.
    pub fn keys(&self, id: Id) -> Vec<&str> {
        self.pairs(id).unwrap_or_default().iter().filter_map(|(key, _)| self.str(*key)).collect()
    }

    /// `module.name` of a name.
    pub fn global(&self, id: Id) -> Option<(&str, &str)> {
        match self.get(id) {
            Object::Global { module, name } => Some((module, name)),
            _ => None,
        }
    }
}
