//! State dictionaries written by `torch.save`: the zip format (`.pt`, `.pth`, since PyTorch 1.6) and the legacy stream.
//! TorchScript archives have the same form, with modules in place of dictionaries and a program that is left alone.

use std::collections::HashMap;
use std::io::{Cursor, Read};
use std::path::Path;

use zip::result::ZipError;

use crate::pickle::torch::Tensors;
use crate::pickle::{self, Graph, Id, Legacy, Object};
use crate::tensors::TensorMap;
use crate::{Error, FileKind, Result, archive};

const FORMAT: &str = "torch.save file";
const PICKLE: &str = "data.pkl";
/// Folder of the tensors' contents.
const STORAGES: &str = "data/";
const MAX_DEPTH: usize = 16;
const MAX_NAME: usize = 512;
const MAX_ENTRIES: usize = 5_000_000;

/// Reads all tensors of a `torch.save` file.
///
/// Tensors in nested dictionaries get dotted names (`state_dict.conv.weight`); whatever is no tensor is left out.
///
/// # Errors
/// If the file cannot be read, is damaged, calls anything outside what tensors need, or holds no tensor.
pub fn read(path: impl AsRef<Path>) -> Result<TensorMap> {
    let path = path.as_ref();
    let bytes = std::fs::read(path).map_err(|e| Error::read(path, e))?;
    read_bytes(&bytes, &path.display().to_string())
}

/// As [`read`], from memory; `place` names the file in messages.
///
/// # Errors
/// As [`read`].
pub fn read_bytes(bytes: &[u8], place: &str) -> Result<TensorMap> {
    if bytes.starts_with(b"PK") {
        return read_zip(bytes, place);
    }
    if !Legacy::detect(bytes) {
        let reason = "it is neither a zip archive nor a legacy torch.save stream";
        return Err(Error::other_kind(FORMAT, place, FileKind::of_bytes(bytes), reason));
    }
    let legacy = Legacy::parse(bytes).map_err(|e| Error::format(FORMAT, place, e.to_string()))?;
    flatten(&legacy.graph, legacy.storages, bytes.len(), place)
}

fn read_zip(bytes: &[u8], place: &str) -> Result<TensorMap> {
    let members = Members::read(bytes, place)?;
    flatten(&members.graph(place)?, members.storages(), bytes.len(), place)
}

/// What of an archive holds tensors. A TorchScript archive holds a program as well, which is not even unpacked.
pub(crate) struct Members {
    /// The archive's one folder, with its `/`.
    prefix: String,
    /// By name below that folder.
    data: HashMap<String, Vec<u8>>,
}

impl Members {
    /// `torch.save` compresses nothing that is read here, so together the members cannot be larger than the file.
    pub fn read(bytes: &[u8], place: &str) -> Result<Self> {
        let damaged =
            |e: ZipError| Error::format(FORMAT, place, format!("the zip archive is damaged: {}", archive::reason(&e)));
        match FileKind::of_bytes(bytes) {
            FileKind::TorchSave { .. } | FileKind::TorchScript | FileKind::Zip => {}
            found => return Err(Error::OtherKind { format: FORMAT, place: place.to_owned(), found }),
        }
        let mut archive = archive::open(Cursor::new(bytes)).map_err(damaged)?;
        let prefix = archive.file_names().filter_map(|name| name.strip_suffix(PICKLE)).min_by_key(|name| name.len());
        let prefix = prefix.map(str::to_owned).ok_or_else(|| {
            Error::format(FORMAT, place, "the archive has no data.pkl: it was not written by torch.save")
        })?;
        let mut left = bytes.len() as u64;
        let mut data = HashMap::new();
        for index in 0..archive.len() {
            let mut member = archive.by_index(index).map_err(damaged)?;
            let Some(name) = member.name().strip_prefix(&prefix).filter(|name| holds_tensors(name)) else { continue };
            let name = name.to_owned();
            left = left.checked_sub(member.size()).ok_or_else(|| {
                Error::format(
                    FORMAT,
                    place,
                    "its members declare more bytes than the file has: it is damaged or a zip bomb",
                )
            })?;
            let mut contents = Vec::with_capacity(usize::try_from(member.size()).unwrap_or(0));
            let limit = member.size();
            let read = member.by_ref().take(limit).read_to_end(&mut contents);
            read.map_err(|e| Error::format(FORMAT, place, format!("its member {name:?} is damaged: {e}")))?;
            data.insert(name, contents);
        }
        Ok(Self { prefix, data })
    }

    /// The object that was saved.
    pub fn graph(&self, place: &str) -> Result<Graph<'_>> {
        if self.get("byteorder").is_some_and(|order| order.trim_ascii() != b"little") {
            return Err(Error::format(FORMAT, place, "it was written on a big-endian machine"));
        }
        let pickle = self.get(PICKLE).unwrap_or_default();
        pickle::load(pickle)
            .map_err(|source| Error::Pickle { place: format!("{}{PICKLE} in {place}", self.prefix), source })
    }

    /// Contents of its tensors by key.
    pub fn storages(&self) -> HashMap<String, &[u8]> {
        let data = self.data.iter();
        data.filter_map(|(name, data)| Some((name.strip_prefix(STORAGES)?.to_owned(), data.as_slice()))).collect()
    }

    fn get(&self, name: &str) -> Option<&[u8]> {
        self.data.get(name).map(Vec::as_slice)
    }
}

fn holds_tensors(name: &str) -> bool {
    name == PICKLE || name == "byteorder" || name.starts_with(STORAGES)
}

fn flatten(graph: &Graph<'_>, storages: HashMap<String, &[u8]>, len: usize, place: &str) -> Result<TensorMap> {
    let tensors = Tensors::new(graph, storages, Tensors::budget_for(len));
    let mut flattener = Flattener { graph, tensors, place, entries_left: MAX_ENTRIES, out: TensorMap::new() };
    flattener.mapping(graph.root(), "", 0)?;
    if flattener.out.is_empty() {
        return Err(Error::format(FORMAT, place, "it holds no named tensors (a state dictionary was expected)"));
    }
    Ok(flattener.out)
}

struct Flattener<'g, 'a> {
    graph: &'g Graph<'a>,
    tensors: Tensors<'g, 'a>,
    place: &'g str,
    entries_left: usize,
    out: TensorMap,
}

impl Flattener<'_, '_> {
    fn mapping(&mut self, id: Id, prefix: &str, depth: usize) -> Result<()> {
        if depth > MAX_DEPTH {
            return Err(Error::format(FORMAT, self.place, "its dictionaries are nested too deeply"));
        }
        // A module of a TorchScript archive keeps its tensors and modules in its state.
        let id = self.graph.module_state(id).unwrap_or(id);
        let entries = self.graph.pairs_len(id);
        self.entries_left = self
            .entries_left
            .checked_sub(entries)
            .ok_or_else(|| Error::format(FORMAT, self.place, "its dictionaries refer to each other too often"))?;
        for (key, value) in self.graph.pairs(id).unwrap_or_default() {
            let name = match self.graph.get(key) {
                Object::Int(key) => format!("{prefix}{key}"),
                _ => match self.graph.str(key) {
                    Some(key) if prefix.len() + key.len() <= MAX_NAME && !key.chars().any(char::is_control) => {
                        format!("{prefix}{key}")
                    }
                    _ => continue,
                },
            };
            if self.tensors.is_tensor(value) {
                let tensor = self.tensors.tensor(value).map_err(|reason| {
                    Error::format(FORMAT, self.place, format!("its tensor `{name}` cannot be read: {reason}"))
                })?;
                self.out.insert(name, tensor);
            } else {
                self.mapping(value, &format!("{name}."), depth + 1)?;
            }
        }
        Ok(())
    }
}
