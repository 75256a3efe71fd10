//! Safetensors files written and read some rows at a time: for tensors that need not fit into memory.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use indexmap::IndexMap;

use crate::safetensors::{Metadata, described, header_bytes, header_of};
use crate::tensors::{Dtype, TensorData};
use crate::{Error, Result, atomic};

/// Where the rows of a tensor stand: a row is one index of the first dimension.
#[derive(Clone, Debug)]
struct Place {
    dtype: Dtype,
    /// Of the whole tensor.
    shape: Vec<usize>,
    /// Of its first byte, in the file.
    start: u64,
}

impl Place {
    fn row_bytes(&self) -> usize {
        self.shape[1..].iter().product::<usize>() * self.dtype.size()
    }

    /// Where row `row` starts.
    fn of(&self, row: usize) -> u64 {
        self.start + (row * self.row_bytes()) as u64
    }
}

/// A file whose tensors are filled in any order. It appears whole, when it is finished, or not at all.
#[derive(Debug)]
pub struct Writer {
    unfinished: atomic::Unfinished,
    path: PathBuf,
    places: IndexMap<String, Place>,
}

impl Writer {
    /// Begins a file of `tensors` by name; rows that are never written are zeros.
    ///
    /// # Errors
    /// If a tensor has no dimension or its name is reserved, or the disk refuses.
    pub fn create(
        path: impl AsRef<Path>,
        tensors: &IndexMap<String, (Dtype, Vec<usize>)>,
        metadata: &Metadata,
    ) -> Result<Self> {
        let path = path.as_ref();
        if let Some((name, _)) = tensors.iter().find(|(_, (_, shape))| shape.is_empty()) {
            return Err(Error::tensor(name, "it has no rows"));
        }
        let shapes = tensors.iter().map(|(name, (dtype, shape))| (name.as_str(), *dtype, shape.as_slice()));
        let (header, order) = header_bytes(shapes.collect(), metadata)?;
        let mut at = 8 + header.len() as u64;
        let mut places = IndexMap::new();
        for name in order {
            let (dtype, shape) = tensors[name].clone();
            let place = Place { dtype, start: at, shape };
            at = place.of(place.shape[0]);
            places.insert(name.to_owned(), place);
        }
        let begin = || {
            let mut unfinished = atomic::Unfinished::beside(path)?;
            unfinished.file().write_all(&(header.len() as u64).to_le_bytes())?;
            unfinished.file().write_all(&header)?;
            unfinished.file().set_len(at)?;
            Ok(unfinished)
        };
        let unfinished = begin().map_err(|e| Error::write(path, e))?;
        Ok(Self { unfinished, path: path.to_owned(), places })
    }

    /// Writes rows of the tensor `name`, from row `first` on.
    ///
    /// # Errors
    /// If they are not rows of that tensor, or the disk refuses.
    pub fn write(&mut self, name: &str, first: usize, rows: &TensorData) -> Result<()> {
        let place = self.places.get(name).ok_or_else(|| Error::tensor(name, "the file has no such tensor"))?;
        rows.check_length(name)?;
        let fits = rows.dtype == place.dtype
            && rows.shape.len() == place.shape.len()
            && rows.shape[1..] == place.shape[1..]
            && first + rows.shape[0] <= place.shape[0];
        if !fits {
            return Err(Error::tensor(
                name,
                format!(
                    "{:?} {:?} from row {first} on are no rows of {:?} {:?}",
                    rows.dtype, rows.shape, place.dtype, place.shape
                ),
            ));
        }
        let at = SeekFrom::Start(place.of(first));
        let file = self.unfinished.file();
        file.seek(at).and_then(|_| file.write_all(&rows.bytes)).map_err(|e| Error::write(&self.path, e))
    }

    /// Makes the file appear.
    ///
    /// # Errors
    /// If the disk refuses.
    pub fn finish(self) -> Result<()> {
        self.unfinished.finish(&self.path, true).map_err(|e| Error::write(&self.path, e))
    }
}

/// An open file whose rows are read as they are needed.
#[derive(Debug)]
pub struct Reader {
    file: File,
    path: PathBuf,
    places: IndexMap<String, Place>,
    metadata: Metadata,
}

impl Reader {
    /// Opens a file and reads its header.
    ///
    /// # Errors
    /// As [`read_header`](crate::safetensors::read_header).
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let mut file = File::open(path).map_err(|e| Error::read(path, e))?;
        let (header, data) = header_of(&mut file, path)?;
        let mut places = IndexMap::new();
        for name in header.offset_keys() {
            let (dtype, shape, start) = described(&header, &name, path)?;
            places.insert(name, Place { dtype, shape, start: data + start as u64 });
        }
        let metadata = header.metadata().clone().unwrap_or_default().into_iter().collect();
        Ok(Self { file, path: path.to_owned(), places, metadata })
    }

    /// Text metadata.
    pub fn metadata(&self) -> &Metadata {
        &self.metadata
    }

    /// The shape of a tensor, if there is one of that name.
    pub fn shape(&self, name: &str) -> Option<&[usize]> {
        self.places.get(name).map(|place| place.shape.as_slice())
    }

    /// The rows of these indices of the tensor `name`, in this order.
    ///
    /// # Errors
    /// If there is no such tensor or row, or the disk refuses.
    pub fn read(&self, name: &str, rows: &[usize]) -> Result<TensorData> {
        let place = self.places.get(name).filter(|place| !place.shape.is_empty());
        let place = place.ok_or_else(|| Error::tensor(name, format!("{} has no such rows", self.path.display())))?;
        if let Some(row) = rows.iter().find(|row| **row >= place.shape[0]) {
            return Err(Error::tensor(name, format!("it has {} rows, not a row {row}", place.shape[0])));
        }
        let size = place.row_bytes();
        let mut bytes = vec![0; rows.len() * size];
        let mut file = &self.file;
        for (row, part) in rows.iter().zip(bytes.chunks_exact_mut(size.max(1))) {
            let at = SeekFrom::Start(place.of(*row));
            file.seek(at).and_then(|_| file.read_exact(part)).map_err(|e| Error::read(&self.path, e))?;
        }
        let shape = [&[rows.len()], &place.shape[1..]].concat();
        TensorData::new(place.dtype, shape, bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::safetensors;

    fn shapes() -> IndexMap<String, (Dtype, Vec<usize>)> {
        let shapes = [("labels", (Dtype::U8, vec![5])), ("images", (Dtype::F32, vec![5, 2, 3]))];
        shapes.map(|(name, shape)| (name.to_owned(), shape)).into_iter().collect()
    }

    fn row(value: usize) -> Vec<f32> {
        (0..6).map(|i| (10 * value + i) as f32).collect()
    }

    #[test]
    fn rows_are_written_in_any_order_and_read_in_any() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("rows.safetensors");
        let metadata: Metadata = [("key".to_owned(), "value".to_owned())].into();
        let mut writer = Writer::create(&path, &shapes(), &metadata).unwrap();
        let rows = |from: usize, to: usize| {
            let values: Vec<f32> = (from..to).flat_map(row).collect();
            TensorData::from_f32(&[to - from, 2, 3], &values).unwrap()
        };
        writer.write("images", 3, &rows(3, 5)).unwrap();
        writer.write("images", 0, &rows(0, 3)).unwrap();
        assert!(!path.exists(), "nothing half-written");
        writer.write("labels", 1, &TensorData::from_u8(&[2], &[7, 8]).unwrap()).unwrap();
        for (name, first, wrong) in [
            ("none", 0, rows(0, 1)),
            ("images", 4, rows(0, 2)),
            ("labels", 0, rows(0, 1)),
            ("images", 0, TensorData::from_f32(&[1, 3, 2], &row(0)).unwrap()),
        ] {
            let error = writer.write(name, first, &wrong).unwrap_err().to_string();
            assert!(error.contains(name), "{error}");
        }
        writer.finish().unwrap();

        let reader = Reader::open(&path).unwrap();
        assert_eq!(
            (reader.metadata(), reader.shape("images"), reader.shape("none")),
            (&metadata, Some(&[5, 2, 3][..]), None)
        );
        let found = reader.read("images", &[4, 0, 4]).unwrap();
        assert_eq!(found, TensorData::from_f32(&[3, 2, 3], &[row(4), row(0), row(4)].concat()).unwrap());
        assert_eq!(reader.read("labels", &[0, 1, 2, 3]).unwrap().bytes, [0, 7, 8, 0]);
        assert!(reader.read("images", &[5]).unwrap_err().to_string().contains("row 5"));
        assert!(reader.read("none", &[0]).is_err());
        // the same file as any other
        let whole = safetensors::read(&path).unwrap();
        assert_eq!((&whole.tensors["images"], &whole.metadata), (&rows(0, 5), &metadata));
        let other = folder.path().join("whole.safetensors");
        safetensors::write(&other, &whole.tensors, &whole.metadata).unwrap();
        assert_eq!(std::fs::read(&other).unwrap(), std::fs::read(&path).unwrap());
    }

    #[test]
    fn what_is_not_finished_leaves_nothing() {
        let folder = tempfile::tempdir().unwrap();
        drop(Writer::create(folder.path().join("a"), &shapes(), &Metadata::new()).unwrap());
        assert_eq!(folder.path().read_dir().unwrap().count(), 0);
        assert!(Writer::create(folder.path().join("none/a"), &shapes(), &Metadata::new()).is_err());
        let scalar = [("x".to_owned(), (Dtype::F32, Vec::new()))].into_iter().collect();
        assert!(Writer::create(folder.path().join("a"), &scalar, &Metadata::new()).is_err());
        assert!(Reader::open(folder.path().join("none")).is_err());
    }
}
