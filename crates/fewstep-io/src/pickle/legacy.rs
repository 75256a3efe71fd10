//! The stream that `torch.save` wrote before PyTorch 1.6 and that storages inside ordinary pickles still use: four
//! small pickles, the object, the list of storage keys, then each storage as a count and raw bytes.

use std::collections::HashMap;

use super::torch::{StorageRef, storage_ref};
use super::{Graph, Object, PickleError, load_prefix};

/// 0x1950a86a20f9469cfc6c, little-endian.
const MAGIC: &[u8] = &[0x6c, 0xfc, 0x9c, 0x46, 0xf9, 0x20, 0x6a, 0xa8, 0x50, 0x19];
/// Protocol byte and magic number as they open every such stream.
const PREFIX: &[u8] = &[0x80, 0x02, 0x8a, 0x0a, 0x6c, 0xfc, 0x9c, 0x46, 0xf9, 0x20, 0x6a, 0xa8, 0x50, 0x19];

/// A parsed stream.
pub(crate) struct Legacy<'a> {
    /// The saved object.
    pub graph: Graph<'a>,
    /// Raw bytes of the storages by key.
    pub storages: HashMap<String, &'a [u8]>,
}

/// Why a legacy stream cannot be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LegacyError {
    #[error("{0}, in a stream of torch.save")]
    Pickle(#[from] PickleError),
    #[error("{0}")]
    Malformed(String),
}

impl<'a> Legacy<'a> {
    /// Whether `bytes` start like such a stream.
    pub fn detect(bytes: &[u8]) -> bool {
        bytes.starts_with(PREFIX)
    }

    /// Parses a whole stream.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, LegacyError> {
        let malformed = |what: &str| LegacyError::Malformed(what.to_owned());
        let mut rest = bytes;
        let magic = next(&mut rest)?;
        if !matches!(magic.get(magic.root()), Object::BigInt(number) if *number == MAGIC) {
            return Err(malformed("it does not start with the mark of torch.save"));
        }
        let version = next(&mut rest)?;
        if version.int(version.root()) != Some(1001) {
            return Err(malformed("its torch.save version is not 1001"));
        }
        let system = next(&mut rest)?;
        let little = system.lookup(system.root(), "little_endian").map(|id| system.get(id));
        if little != Some(&Object::Bool(true)) {
            return Err(malformed("it was written on a big-endian machine"));
        }
        let graph = next(&mut rest)?;
        let keys = next(&mut rest)?;
        let storages = read_storages(&graph, &keys, rest)?;
        Ok(Legacy { graph, storages })
    }
}

fn next<'a>(rest: &mut &'a [u8]) -> Result<Graph<'a>, PickleError> {
    let (graph, used) = load_prefix(rest)?;
    *rest = rest.get(used..).unwrap_or_default();
    Ok(graph)
}

fn read_storages<'a>(
    graph: &Graph<'a>,
    keys: &Graph<'a>,
    mut rest: &'a [u8],
) -> Result<HashMap<String, &'a [u8]>, LegacyError> {
    let malformed = |what: String| LegacyError::Malformed(what);
    let declared = declared_storages(graph).map_err(malformed)?;
    let keys = keys.sequence(keys.root()).unwrap_or_default().iter().map(|&key| keys.str(key));
    let mut storages = HashMap::new();
    for key in keys {
        let key = key.ok_or_else(|| malformed("a storage key is not text".into()))?;
        let storage = declared.get(key).ok_or_else(|| malformed("a storage is not used".into()))?;
        let (count, after) =
            rest.split_first_chunk::<8>().ok_or_else(|| malformed("its storages are cut off".into()))?;
        let count = u64::from_le_bytes(*count);
        let bytes = count.checked_mul(storage.dtype.size() as u64).and_then(|n| usize::try_from(n).ok());
        if count != storage.numel as u64 {
            return Err(malformed(format!("a storage holds {count} elements, but {} are declared", storage.numel)));
        }
        let (raw, after) = bytes.and_then(|n| after.split_at_checked(n)).ok_or_else(|| {
            malformed(format!("a storage declares {count} elements, but only {} bytes are left", after.len()))
        })?;
        storages.insert(key.to_owned(), raw);
        rest = after;
    }
    Ok(storages)
}

/// The storages that the object refers to, by key.
fn declared_storages(graph: &Graph<'_>) -> Result<HashMap<String, StorageRef>, String> {
    let mut declared = HashMap::new();
    for (_, object) in graph.iter() {
        if let Object::Persistent(id) = object {
            let storage = storage_ref(graph, *id)?;
            declared.insert(storage.key.clone(), storage);
        }
    }
    Ok(declared)
}
