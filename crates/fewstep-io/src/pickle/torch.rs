//! Torch tensors in a pickle, read as [`TensorData`]: the recorded calls of `torch._utils._rebuild_*` are followed
//! down to a storage, and the strided view of it is copied out.

use std::collections::HashMap;

use super::{Callable, Graph, Id, Legacy, Object};
use crate::strided;
use crate::tensors::{Dtype, TensorData};

/// A reference to a storage, as the persistent id `("storage", type, key, location, numel[, view])` gives it.
#[derive(Clone, Debug)]
pub(crate) struct StorageRef {
    pub dtype: Dtype,
    pub key: String,
    /// Elements of the whole storage.
    pub numel: usize,
    /// Offset and length, in elements, where only a part of it is meant (files of PyTorch 0.x).
    pub view: Option<(usize, usize)>,
}

/// Parses the persistent id of a storage.
pub(crate) fn storage_ref(graph: &Graph<'_>, id: Id) -> Result<StorageRef, String> {
    let parts = graph.sequence(id).unwrap_or_default();
    let (&[tag, class, key, _location, numel], rest) =
        parts.split_first_chunk::<5>().ok_or("a storage reference is malformed")?;
    if graph.str(tag) != Some("storage") {
        return Err("a storage reference is malformed".into());
    }
    let (module, name) = graph.global(class).ok_or("a storage has no type")?;
    let dtype = storage_dtype(module, name)
        .ok_or_else(|| format!("storages of type `{}` are not read", name.chars().take(60).collect::<String>()))?;
    let key = match graph.get(key) {
        Object::Int(key) => key.to_string(),
        _ => graph.str(key).ok_or("a storage has no key")?.to_owned(),
    };
    if key.len() > 256 {
        return Err("a storage has an unreasonably long key".into());
    }
    let numel = graph.size(numel).ok_or("a storage has no size")?;
    let view = match rest.first().map(|&view| (view, graph.get(view))) {
        None | Some((_, Object::None)) => None,
        Some((view, _)) => match graph.sequence(view) {
            Some(&[_, offset, len]) => graph.size(offset).zip(graph.size(len)),
            _ => return Err("a storage has a malformed view".into()),
        },
    };
    Ok(StorageRef { dtype, key, numel, view })
}

fn storage_dtype(module: &str, name: &str) -> Option<Dtype> {
    if !matches!(module, "torch" | "torch.cuda" | "torch.storage") {
        return None;
    }
    Some(match name {
        "FloatStorage" => Dtype::F32,
        "DoubleStorage" => Dtype::F64,
        "HalfStorage" => Dtype::F16,
        "BFloat16Storage" => Dtype::BF16,
        "LongStorage" => Dtype::I64,
        "IntStorage" => Dtype::I32,
        "ShortStorage" => Dtype::I16,
        "CharStorage" => Dtype::I8,
        "ByteStorage" | "UntypedStorage" => Dtype::U8,
        "BoolStorage" => Dtype::Bool,
        _ => return None,
    })
}

fn named_dtype(graph: &Graph<'_>, id: Id) -> Option<Dtype> {
    let ("torch", name) = graph.global(id)? else {
        return None;
    };
    Some(match name {
        "float32" => Dtype::F32,
        "float64" => Dtype::F64,
        "float16" => Dtype::F16,
        "bfloat16" => Dtype::BF16,
        "int64" => Dtype::I64,
        "int32" => Dtype::I32,
        "int16" => Dtype::I16,
        "int8" => Dtype::I8,
        "uint8" => Dtype::U8,
        "bool" => Dtype::Bool,
        _ => return None,
    })
}

#[derive(Clone, Copy)]
struct Storage<'g> {
    dtype: Dtype,
    bytes: &'g [u8],
}

/// Reads tensors out of a graph, within a budget of bytes.
pub struct Tensors<'g, 'a> {
    graph: &'g Graph<'a>,
    /// Storages of the archive around the pickle, by key.
    archive: HashMap<String, &'g [u8]>,
    /// Storages embedded in the pickle, or what is wrong with them, by their byte strings. Each is parsed once, so that all of them
    /// together are no longer than the pickle and what is decoded of it.
    embedded: HashMap<Id, Result<Storage<'g>, String>>,
    /// Bytes that may still be copied out.
    budget: usize,
}

impl<'g, 'a> Tensors<'g, 'a> {
    /// A reader of `graph`, whose outside storages are `archive` (key to raw bytes).
    ///
    /// `budget` bounds the bytes of all tensors together: views may repeat elements, so a small file can declare huge
    /// tensors.
    pub fn new(graph: &'g Graph<'a>, archive: HashMap<String, &'g [u8]>, budget: usize) -> Self {
        Tensors { graph, archive, embedded: HashMap::new(), budget }
    }

    /// The budget for a file of `len` bytes: room for every weight being shared several times.
    pub fn budget_for(len: usize) -> usize {
        len.saturating_mul(8).saturating_add(1 << 20)
    }

    /// Whether the object is a tensor or parameter.
    pub fn is_tensor(&self, id: Id) -> bool {
        use Callable::{RebuildFromType, RebuildParameter, RebuildTensor, RebuildTensorV3};
        self.graph.instance(id).is_some_and(|instance| {
            matches!(instance.callable, RebuildTensor | RebuildTensorV3 | RebuildParameter | RebuildFromType)
        })
    }

    /// The tensor behind an id, contiguous.
    ///
    /// # Errors
    /// A sentence if the object is no tensor or its view does not lie within its storage.
    pub(crate) fn tensor(&mut self, id: Id) -> Result<TensorData, String> {
        let (callable, args) = self.rebuild_call(id)?;
        let (&[storage, offset, size, stride], rest) =
            args.split_first_chunk::<4>().ok_or("a tensor has too few parts")?;
        let graph = self.graph;
        let mut storage = self.storage(storage)?;
        if callable == Callable::RebuildTensorV3 {
            let dtype = rest.get(2).and_then(|&dtype| named_dtype(graph, dtype));
            storage.dtype = dtype.ok_or("its element type is not known")?;
        }
        let offset = graph.size(offset).ok_or("its offset is no size")?;
        let shape = graph.sizes(size).ok_or("its shape is no tuple of sizes")?;
        let strides = graph.sizes(stride).ok_or("its strides are no tuple of sizes")?;
        let item = storage.dtype.size();
        let bytes = strided::numel(&shape).and_then(|n| n.checked_mul(item));
        let left = bytes.and_then(|bytes| self.budget.checked_sub(bytes));
        self.budget = left.ok_or("its size is out of all proportion to the file's")?;
        let bytes = strided::gather(storage.bytes, item, offset, &shape, &strides)?;
        Ok(TensorData { dtype: storage.dtype, shape, bytes })
    }

    /// Follows parameters and subclasses down to the call that names the storage.
    fn rebuild_call(&self, mut id: Id) -> Result<(Callable, &'g [Id]), String> {
        let graph = self.graph;
        // A parameter of a subclass of a tensor is as deep as files go.
        for _ in 0..4 {
            let instance = graph.instance(id).ok_or("it is no tensor")?;
            let args = graph.args(instance);
            match instance.callable {
                Callable::RebuildTensor | Callable::RebuildTensorV3 => {
                    return Ok((instance.callable, args));
                }
                Callable::RebuildParameter => id = *args.first().ok_or("a parameter is empty")?,
                Callable::RebuildFromType => {
                    let &[function, _class, inner, ..] = args else {
                        return Err("a tensor is empty".into());
                    };
                    let (module, name) = graph.global(function).ok_or("a tensor has no type")?;
                    let callable = Callable::find(module, name);
                    let args = graph.sequence(inner).ok_or("a tensor is empty")?;
                    match callable {
                        Some(found @ (Callable::RebuildTensor | Callable::RebuildTensorV3)) => {
                            return Ok((found, args));
                        }
                        Some(Callable::RebuildParameter) => id = *args.first().ok_or("a parameter is empty")?,
                        _ => return Err("it is rebuilt by a function that is not read".into()),
                    }
                }
                _ => return Err("it is no tensor".into()),
            }
        }
        Err("it is wrapped too often".into())
    }

    fn storage(&mut self, id: Id) -> Result<Storage<'g>, String> {
        let graph = self.graph;
        let call = match graph.get(id) {
            Object::Persistent(reference) => return self.outside(storage_ref(graph, *reference)?),
            Object::Instance(call) if call.callable == Callable::LoadStorage => call,
            other => return Err(format!("its storage is a {}", other.kind())),
        };
        // Not per call, nor per argument: a hostile file may pass the same bytes a million times, each time as another copy.
        let source = graph.bytes_id(*graph.args(call).first().ok_or("its storage has no bytes")?);
        let read = || embedded(graph.bytes(source).ok_or("its storage has no bytes")?);
        self.embedded.entry(source).or_insert_with(read).clone()
    }

    fn outside(&self, reference: StorageRef) -> Result<Storage<'g>, String> {
        let bytes = self.archive.get(&reference.key).ok_or("its storage is not in the file")?;
        part(bytes, &reference)
    }
}

/// A storage as a nested `torch.save` stream.
fn embedded(bytes: &[u8]) -> Result<Storage<'_>, String> {
    let legacy = Legacy::parse(bytes).map_err(|e| format!("its storage is damaged: {e}"))?;
    let Object::Persistent(id) = legacy.graph.get(legacy.graph.root()) else {
        return Err("its storage is not a storage".into());
    };
    let reference = storage_ref(&legacy.graph, *id)?;
    let raw = legacy.storages.get(&reference.key).ok_or("its storage is empty")?;
    part(raw, &reference)
}

/// The part of a storage's bytes that a reference means, checked against the size that it declares.
fn part<'b>(bytes: &'b [u8], reference: &StorageRef) -> Result<Storage<'b>, String> {
    let item = reference.dtype.size();
    let needed = reference.numel.checked_mul(item);
    if needed.is_none_or(|needed| needed > bytes.len()) {
        return Err(format!("its storage declares {} elements, but holds {} bytes", reference.numel, bytes.len()));
    }
    let (offset, len) = reference.view.unwrap_or((0, reference.numel));
    let range = offset.checked_mul(item).zip(offset.checked_add(len).and_then(|end| end.checked_mul(item)));
    let bytes = range.and_then(|(start, end)| bytes.get(start..end));
    Ok(Storage { dtype: reference.dtype, bytes: bytes.ok_or("its storage has a view past its end")? })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Tensors whose storages are `_load_from_bytes(bytes(b))`, each with a `bytes(b)` of its own, for one `b`.
    fn sharing(inner: &[u8], names: &[&str]) -> Vec<u8> {
        let mut pickle = [&b"\x80\x02B"[..], &(inner.len() as u32).to_le_bytes(), inner, b"q\x000}("].concat();
        for name in names {
            pickle.extend([&[b'U', name.len() as u8], name.as_bytes()].concat());
            pickle
                .extend(b"ctorch._utils\n_rebuild_tensor_v2\n(ctorch.storage\n_load_from_bytes\nc__builtin__\nbytes\n");
            pickle.extend(b"h\x00\x85R\x85RK\x00K\x01\x85K\x01\x85\x89NtR");
        }
        pickle.extend(b"u.");
        pickle
    }

    /// A storage of one number as `torch.save` wrote it: mark, version, system, reference, keys, count and bytes.
    fn storage() -> Vec<u8> {
        let mark = b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.\x80\x02M\xe9\x03.";
        let system = b"\x80\x02}U\x0dlittle_endian\x88s.";
        let reference = b"\x80\x02(X\x07\x00\x00\x00storagectorch\nFloatStorage\nU\x010U\x03cpuK\x01tQ.";
        let keys = b"\x80\x02]U\x010a.";
        [&mark[..], system, reference, keys, &1u64.to_le_bytes(), &1f32.to_le_bytes()].concat()
    }

    #[test]
    fn the_bytes_of_a_storage_are_parsed_once_however_many_copies_there_are() {
        for (inner, good) in [(storage(), true), (b"no storage".to_vec(), false)] {
            let pickle = sharing(&inner, &["a", "b", "c"]);
            let graph = super::super::load(&pickle).unwrap();
            let mut tensors = Tensors::new(&graph, HashMap::new(), 1000);
            let pairs = graph.pairs(graph.root()).unwrap();
            assert_eq!(pairs.len(), 3);
            for (_, tensor) in pairs {
                let found = tensors.tensor(tensor);
                assert_eq!(
                    found.clone().map(|tensor| tensor.bytes).ok(),
                    good.then(|| 1f32.to_le_bytes().to_vec()),
                    "{found:?}"
                );
            }
            assert_eq!(tensors.embedded.len(), 1);
        }
    }
}
