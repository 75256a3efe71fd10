//! Network snapshots of NVlabs EDM and EDM2, by pickle or by `torch.save`: `{'ema': net, 'loss_fn': ..., 'dataset_kwargs': {...}}`, with
//! `augment_pipe` in EDM's and `encoder` in EDM2's.
//!
//! EDM pickles its networks through `torch_utils.persistence`: each module is a call of `_reconstruct_persistent_obj`
//! with a dictionary that holds the class's source text, its name and the object's `__dict__`. The source text is
//! ignored; the dictionary is read as data, and the weights are given the names that `state_dict()` would give them.

use std::collections::{HashMap, HashSet};
use std::path::Path;

use indexmap::IndexMap;
use serde_json::{Map, Value};

use crate::pickle::json::{self, Converter};
use crate::pickle::torch::Tensors;
use crate::pickle::{self, Callable, Graph, Id, Legacy, Object};
use crate::tensors::{TensorData, TensorMap};
use crate::torch_zip::Members;
use crate::{Error, FileKind, Result};

const FORMAT: &str = "EDM snapshot";
/// Levels of modules within modules; EDM's networks have five.
const MAX_DEPTH: usize = 64;
/// Longest name of a weight.
const MAX_NAME: usize = 512;
/// Dictionary entries read while walking the modules, a bound on time when modules are shared.
const MAX_ENTRIES: usize = 5_000_000;

/// Class, constructor arguments and plain attributes of one pickled object.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ModuleInfo {
    /// Name of its Python class, for example `EDMPrecond` or `SongUNet`.
    pub class_name: String,
    /// Positional constructor arguments (EDM's own snapshots have none).
    pub init_args: Vec<Value>,
    /// Keyword constructor arguments.
    pub init_kwargs: Map<String, Value>,
    /// Other plain attributes: `sigma_min`, `sigma_max`, `sigma_data`, `beta_d`, ... Infinities are the string `"inf"`.
    pub attributes: IndexMap<String, Value>,
}

impl ModuleInfo {
    /// A numeric attribute, `"inf"` included.
    pub fn number(&self, name: &str) -> Option<f64> {
        self.attributes.get(name).and_then(json::number)
    }
}

/// A network snapshot as data.
#[derive(Clone, Debug, PartialEq)]
pub struct EdmSnapshot {
    /// The network with its preconditioning, the `ema` entry: class `EDMPrecond`, `VPPrecond`, `VEPrecond`,
    /// `iDDPMPrecond`, ...; `Precond` in EDM2.
    pub net: ModuleInfo,
    /// The raw network inside it, if it is called `model` as in all of EDM's classes (`SongUNet`, `DhariwalUNet`) or `unet` as in EDM2's
    /// (`UNet`).
    pub model: Option<ModuleInfo>,
    /// The training loss, if there is one.
    pub loss_fn: Option<ModuleInfo>,
    /// The augmentation pipeline, if there is one.
    pub augment_pipe: Option<ModuleInfo>,
    /// What makes samples of pixels and pixels of samples, if there is one (EDM2): `StandardRGBEncoder` or `StabilityVAEEncoder`, the
    /// latter with `scale` and `bias`, a number a channel.
    pub encoder: Option<ModuleInfo>,
    /// Constructor arguments of the training data set.
    pub dataset_kwargs: Value,
    /// Weights and persistent buffers under their `state_dict()` names and in its order.
    pub tensors: TensorMap,
}

impl EdmSnapshot {
    /// Name of the preconditioning class.
    pub fn class_name(&self) -> &str {
        &self.net.class_name
    }
}

/// Reads a snapshot from a file.
///
/// # Errors
/// If the file cannot be read, is damaged, calls anything outside what such snapshots need, or holds no network.
pub fn read(path: impl AsRef<Path>) -> Result<EdmSnapshot> {
    let path = path.as_ref();
    let bytes = std::fs::read(path).map_err(|e| Error::read(path, e))?;
    read_bytes(&bytes, &path.display().to_string())
}

/// Reads a snapshot from memory; `place` names it in messages.
///
/// # Errors
/// As [`read`].
pub fn read_bytes(bytes: &[u8], place: &str) -> Result<EdmSnapshot> {
    match FileKind::of_bytes(bytes) {
        FileKind::TorchSave { .. } if Legacy::detect(bytes) => {
            let legacy = Legacy::parse(bytes).map_err(|e| Error::format(FORMAT, place, e.to_string()))?;
            snapshot(&legacy.graph, legacy.storages, bytes.len(), place)
        }
        FileKind::TorchSave { .. } => {
            let members = Members::read(bytes, place)?;
            snapshot(&members.graph(place)?, members.storages(), bytes.len(), place)
        }
        FileKind::Pickle | FileKind::Unknown | FileKind::Text | FileKind::Json => {
            let graph = pickle::load(bytes).map_err(|source| Error::Pickle { place: place.to_owned(), source })?;
            snapshot(&graph, HashMap::new(), bytes.len(), place)
        }
        found => Err(Error::OtherKind { format: FORMAT, place: place.to_owned(), found }),
    }
}

/// The snapshot in a pickle of a file of `len` bytes, with the storages that lie around it.
fn snapshot(graph: &Graph<'_>, storages: HashMap<String, &[u8]>, len: usize, place: &str) -> Result<EdmSnapshot> {
    let tensors = Tensors::new(graph, storages, Tensors::budget_for(len));
    Reader { graph, place, tensors, settings: Converter::new(graph), entries_left: MAX_ENTRIES, out: TensorMap::new() }
        .snapshot()
}

/// An object of EDM's code or of `torch.nn`: its class and its `__dict__`.
struct Module<'g> {
    class_name: &'g str,
    state: Id,
}

struct Reader<'g, 'a> {
    graph: &'g Graph<'a>,
    place: &'g str,
    tensors: Tensors<'g, 'a>,
    settings: Converter<'g, 'a>,
    entries_left: usize,
    out: TensorMap,
}

impl<'g> Reader<'g, '_> {
    fn snapshot(mut self) -> Result<EdmSnapshot> {
        let graph = self.graph;
        let root = graph.root();
        let ema = graph.lookup(root, "ema").ok_or_else(|| {
            let keys = graph.keys(root).into_iter().take(8).collect::<Vec<_>>().join(", ");
            self.error(format!("it has no `ema` entry (it has: {})", if keys.is_empty() { "nothing" } else { &keys }))
        })?;
        let net = self.module(ema).ok_or_else(|| {
            let kind = graph.get(ema).kind();
            self.error(format!("its `ema` entry is a {kind}, not a network saved by torch_utils.persistence"))
        })?;
        if graph.lookup(net.state, "_modules").is_none() {
            return Err(self.error(format!("its `ema` entry, a {}, is no torch module", net.class_name)));
        }
        self.collect(&net, "", 0)?;
        let modules = graph.lookup(net.state, "_modules");
        let model = modules.and_then(|modules| ["model", "unet"].iter().find_map(|name| graph.lookup(modules, name)));
        let dataset_kwargs = match graph.lookup(root, "dataset_kwargs") {
            Some(id) => self.settings.convert(id).map_err(|e| self.error(format!("in dataset_kwargs, {e}")))?,
            None => Value::Null,
        };
        Ok(EdmSnapshot {
            net: self.info(&net)?,
            model: self.optional(model)?,
            loss_fn: self.optional(graph.lookup(root, "loss_fn"))?,
            augment_pipe: self.optional(graph.lookup(root, "augment_pipe"))?,
            encoder: self.optional(graph.lookup(root, "encoder"))?,
            dataset_kwargs,
            tensors: self.out,
        })
    }

    fn error(&self, reason: impl Into<String>) -> Error {
        Error::format(FORMAT, self.place, reason)
    }

    /// The module behind an id, if it is one.
    fn module(&self, id: Id) -> Option<Module<'g>> {
        let graph = self.graph;
        let instance = graph.instance(id)?;
        match instance.callable {
            Callable::PersistentObject => {
                let meta = *graph.args(instance).first()?;
                let class_name = graph.lookup(meta, "class_name").and_then(|name| graph.str(name))?;
                Some(Module { class_name, state: graph.lookup(meta, "state")? })
            }
            Callable::TorchModule => {
                let (_, class_name) = graph.global(instance.global)?;
                Some(Module { class_name, state: instance.state? })
            }
            _ => None,
        }
        .filter(|module| module.class_name.len() <= MAX_NAME)
    }

    fn optional(&mut self, id: Option<Id>) -> Result<Option<ModuleInfo>> {
        id.and_then(|id| self.module(id)).map(|module| self.info(&module)).transpose()
    }

    fn info(&mut self, module: &Module<'_>) -> Result<ModuleInfo> {
        let graph = self.graph;
        let mut entry = |name: &str| match graph.lookup(module.state, name) {
            Some(id) => self
                .settings
                .convert(id)
                .map(Some)
                .map_err(|e| self.error(format!("in `{name}` of its {}, {e}", module.class_name))),
            None => Ok(None),
        };
        let init_args = match entry("_init_args")? {
            Some(Value::Array(args)) => args,
            _ => Vec::new(),
        };
        let init_kwargs = match entry("_init_kwargs")? {
            Some(Value::Object(kwargs)) => kwargs,
            _ => Map::new(),
        };
        let mut attributes = IndexMap::new();
        for (key, value) in graph.pairs(module.state).unwrap_or_default() {
            let Some(key) = graph.str(key).filter(|k| !k.starts_with('_') && *k != "training") else {
                continue;
            };
            // Attributes that are no plain settings (tensors, modules) have their own place or none.
            if let Ok(value) = self.settings.convert(value) {
                attributes.insert(key.to_owned(), value);
            }
        }
        Ok(ModuleInfo { class_name: module.class_name.to_owned(), init_args, init_kwargs, attributes })
    }

    /// Adds the tensors of a module and of those inside it, in the order of `state_dict()`.
    fn collect(&mut self, module: &Module<'_>, prefix: &str, depth: usize) -> Result<()> {
        if depth > MAX_DEPTH {
            return Err(self.error(format!("its modules are nested deeper than {MAX_DEPTH} levels")));
        }
        let hidden = self.non_persistent(module)?;
        for (name, value) in self.entries(module, "_parameters")? {
            self.add(name, value, prefix)?;
        }
        for (name, value) in self.entries(module, "_buffers")? {
            if !hidden.contains(name) {
                self.add(name, value, prefix)?;
            }
        }
        for (name, value) in self.entries(module, "_modules")? {
            if matches!(self.graph.get(value), Object::None) {
                continue;
            }
            let name = self.full_name(prefix, name)?;
            let inner = self.module(value).ok_or_else(|| self.error(format!("its `{name}` is no module")))?;
            self.collect(&inner, &format!("{name}."), depth + 1)?;
        }
        Ok(())
    }

    /// Entries of one of a module's dictionaries, each key once with its last value, as Python has them.
    fn entries(&mut self, module: &Module<'_>, dictionary: &str) -> Result<IndexMap<&'g str, Id>> {
        let graph = self.graph;
        self.charge(graph.pairs_len(module.state))?;
        let Some(id) = graph.lookup(module.state, dictionary) else {
            return Ok(IndexMap::new());
        };
        self.charge(graph.pairs_len(id))?;
        let pairs = graph
            .pairs(id)
            .ok_or_else(|| self.error(format!("the {dictionary} of a {} is no dictionary", module.class_name)))?;
        Ok(pairs.into_iter().filter_map(|(key, value)| Some((graph.str(key)?, value))).collect())
    }

    fn charge(&mut self, entries: usize) -> Result<()> {
        match self.entries_left.checked_sub(entries) {
            Some(left) => self.entries_left = left,
            None => {
                return Err(self.error("its modules refer to each other far more often than any network's do"));
            }
        }
        Ok(())
    }

    fn non_persistent(&mut self, module: &Module<'_>) -> Result<HashSet<&'g str>> {
        let graph = self.graph;
        let names = graph.lookup(module.state, "_non_persistent_buffers_set").and_then(|id| graph.set(id));
        let names = names.unwrap_or_default();
        self.charge(names.len())?;
        Ok(names.iter().filter_map(|&id| graph.str(id)).collect())
    }

    fn full_name(&self, prefix: &str, name: &str) -> Result<String> {
        if prefix.len() + name.len() > MAX_NAME {
            return Err(self.error("one of its weights has an unreasonably long name"));
        }
        if name.chars().any(char::is_control) {
            return Err(self.error("one of its weights has control characters in its name"));
        }
        Ok(format!("{prefix}{name}"))
    }

    fn add(&mut self, name: &str, value: Id, prefix: &str) -> Result<()> {
        if matches!(self.graph.get(value), Object::None) {
            return Ok(());
        }
        let name = self.full_name(prefix, name)?;
        let tensor: TensorData = self
            .tensors
            .tensor(value)
            .map_err(|reason| self.error(format!("its tensor `{name}` cannot be read: {reason}")))?;
        self.out.insert(name, tensor);
        Ok(())
    }
}
