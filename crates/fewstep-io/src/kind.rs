//! What kind of file a file is, told from its contents: a file of another kind than is needed is called by its name.

use std::fmt;
use std::fs::File;
use std::io::{Cursor, Read, Seek, SeekFrom};
use std::path::Path;

use zip::ZipArchive;

use crate::{Error, Result, archive};

/// Bytes read; a tar header ends at 512, and a web page may begin with comments.
const START: usize = 4096;
/// Longest header of a safetensors file.
const MAX_HEADER: u64 = 100_000_000;
/// Most bytes of the pickle inside a `torch.save` archive that are searched for a network; those of state dictionaries are small.
const MAX_PICKLE: u64 = 64 << 20;
/// How EDM's and StyleGAN's networks name their own class in a pickle.
const NETWORK: &[u8] = b"_reconstruct_persistent_obj";

/// A kind of file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum FileKind {
    /// Nothing at all.
    Empty,
    /// A web page, as a download that failed leaves it.
    Html,
    /// What git leaves of a large file whose contents were not fetched.
    LfsPointer,
    /// Tensors in the safetensors format.
    Safetensors,
    /// A Python pickle, as EDM's snapshots are.
    Pickle,
    /// A `torch.save` file, zip or legacy.
    TorchSave {
        /// Whether it holds a network of the EDM code, and not only tensors.
        network: bool,
    },
    /// A TorchScript program with its weights.
    TorchScript,
    /// A `torch.export` package (`.pt2`).
    TorchExport,
    /// NumPy arrays in a zip.
    Npz,
    /// One NumPy array.
    Npy,
    /// A zip of pictures, as EDM's data sets are.
    ImageZip,
    /// Another zip archive.
    Zip,
    /// A zip archive whose list of members lacks.
    CutZip,
    /// A gzip stream.
    Gzip,
    /// A tar archive.
    Tar,
    /// An archive or compressed file of another kind, by its name.
    Archive(&'static str),
    /// A picture, by its format.
    Picture(&'static str),
    /// An ONNX graph.
    Onnx,
    /// GGUF, the format of llama.cpp and stable-diffusion.cpp.
    Gguf,
    /// HDF5, as Keras and MATLAB write it.
    Hdf5,
    /// A PDF document.
    Pdf,
    /// An executable program.
    Program,
    /// A JSON document.
    Json,
    /// Other text.
    Text,
    /// None of these.
    Unknown,
}

impl FileKind {
    /// The kind of a file.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn of_file(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let failed = |error| Error::read(path, error);
        let mut file = File::open(path).map_err(failed)?;
        let mut start = Vec::with_capacity(START);
        file.by_ref().take(START as u64).read_to_end(&mut start).map_err(failed)?;
        if start.starts_with(b"PK") {
            file.seek(SeekFrom::Start(0)).map_err(failed)?;
            return Ok(archive::open(file).map_or(FileKind::CutZip, |mut archive| of_archive(&mut archive)));
        }
        Ok(of_start(&start))
    }

    /// The kind of a file whose bytes are at hand.
    pub fn of_bytes(bytes: &[u8]) -> Self {
        if bytes.starts_with(b"PK") {
            archive::open(Cursor::new(bytes)).map_or(FileKind::CutZip, |mut archive| of_archive(&mut archive))
        } else {
            of_start(bytes.get(..START).unwrap_or(bytes))
        }
    }

    /// What to do with a file of a kind that is never what is needed; empty for others.
    pub fn advice(self) -> &'static str {
        match self {
            Self::Empty => "download or make it again",
            Self::Html => "the download failed: fetch the file itself, not the page about it",
            Self::LfsPointer => {
                "fetch the contents with `git lfs pull`, or download the file from the page of the repository"
            }
            Self::CutZip => "download or copy it again",
            Self::Gzip | Self::Tar | Self::Archive(_) => "unpack it first",
            _ => "",
        }
    }
}

impl fmt::Display for FileKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Empty => "an empty file",
            Self::Html => "a web page (HTML)",
            Self::LfsPointer => "a git-lfs pointer, which only stands for the file",
            Self::Safetensors => "a safetensors file",
            Self::Pickle => "a Python pickle",
            Self::TorchSave { network: false } => "a PyTorch file of tensors (torch.save), such as a state dictionary",
            Self::TorchSave { network: true } => "a PyTorch file (torch.save) of a whole network",
            Self::TorchScript => "a TorchScript program",
            Self::TorchExport => "a torch.export package (.pt2)",
            Self::Npz => "an npz archive of NumPy arrays",
            Self::Npy => "a NumPy array (.npy)",
            Self::ImageZip => "a zip of pictures",
            Self::Zip => "a zip archive",
            Self::CutZip => "a zip archive that is cut off",
            Self::Gzip => "a gzip file",
            Self::Tar => "a tar archive",
            Self::Archive(name) => return write!(f, "a {name} archive"),
            Self::Picture(name) => return write!(f, "a {name} picture"),
            Self::Onnx => "an ONNX graph",
            Self::Gguf => "a GGUF file",
            Self::Hdf5 => "an HDF5 file",
            Self::Pdf => "a PDF document",
            Self::Program => "an executable program",
            Self::Json => "a JSON file",
            Self::Text => "a text file",
            Self::Unknown => "a file of a kind that is not known here",
        })
    }
}

/// Marks at the start of a file.
const MARKS: [(&[u8], FileKind); 22] = [
    (b"\x93NUMPY", FileKind::Npy),
    (b"\x1f\x8b", FileKind::Gzip),
    (b"\x89PNG\r\n", FileKind::Picture("PNG")),
    (b"\xff\xd8\xff", FileKind::Picture("JPEG")),
    (b"GIF8", FileKind::Picture("GIF")),
    (b"II*\0", FileKind::Picture("TIFF")),
    (b"MM\0*", FileKind::Picture("TIFF")),
    (b"\x89HDF\r\n", FileKind::Hdf5),
    (b"GGUF", FileKind::Gguf),
    (b"%PDF-", FileKind::Pdf),
    (b"\x7fELF", FileKind::Program),
    (b"\xfd7zXZ\0", FileKind::Archive("xz")),
    (b"\x28\xb5\x2f\xfd", FileKind::Archive("Zstandard")),
    (b"7z\xbc\xaf\x27\x1c", FileKind::Archive("7-Zip")),
    (b"Rar!\x1a\x07", FileKind::Archive("RAR")),
    (b"BZh9", FileKind::Archive("bzip2")),
    (b"version https://git-lfs", FileKind::LfsPointer),
    (b"BM\0", FileKind::Picture("BMP")),
    // torch.save before PyTorch 1.6: a pickle of its magic number.
    (b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19", FileKind::TorchSave { network: false }),
    (b"\xef\xbb\xbf{", FileKind::Json),
    (b"\xff\xfe{\0", FileKind::Json),
    (b"\xfe\xff\0{", FileKind::Json),
];

fn of_start(start: &[u8]) -> FileKind {
    if start.is_empty() {
        return FileKind::Empty;
    }
    if let Some((_, kind)) = MARKS.iter().find(|(mark, _)| start.starts_with(mark)) {
        return match kind {
            FileKind::TorchSave { .. } => FileKind::TorchSave { network: contains(start, NETWORK) },
            kind => *kind,
        };
    }
    if start.starts_with(b"RIFF") && start.get(8..12) == Some(b"WEBP") {
        return FileKind::Picture("WebP");
    }
    if start.get(257..262) == Some(b"ustar") {
        return FileKind::Tar;
    }
    if is_safetensors(start) {
        return FileKind::Safetensors;
    }
    if matches!(start, [0x80, 2..=5, ..]) {
        return FileKind::Pickle;
    }
    // A protocol buffer of a small version number and the name of the exporter.
    if let [0x08, 1..=0x20, 0x12, length, rest @ ..] = start
        && rest
            .get(..usize::from(*length))
            .is_some_and(|name| !name.is_empty() && name.iter().all(u8::is_ascii_graphic))
    {
        return FileKind::Onnx;
    }
    of_text(start)
}

fn of_text(start: &[u8]) -> FileKind {
    // A character may be cut at the end of what was read.
    let text = match std::str::from_utf8(start) {
        Ok(text) => text,
        Err(error) if start.len() - error.valid_up_to() < 4 => {
            std::str::from_utf8(&start[..error.valid_up_to()]).unwrap_or_default()
        }
        Err(_) => return FileKind::Unknown,
    };
    let text = text.trim_start_matches('\u{feff}').trim_start();
    let lower = text.get(..text.len().min(1024)).unwrap_or(text).to_ascii_lowercase();
    let page = ["<!doctype html", "<html", "<head", "<!--", "<?xml"].iter().any(|mark| lower.starts_with(mark));
    if page && (lower.contains("<html") || lower.contains("doctype html") || lower.contains("<head")) {
        return FileKind::Html;
    }
    // Protocol 0 of pickle is text, and begins with a mark, a dictionary, a list or a name.
    let pickle = text.starts_with("(dp") || text.starts_with("(lp") || text.starts_with("ccopy_reg\n");
    match text.as_bytes().first() {
        _ if pickle => FileKind::Pickle,
        Some(b'{' | b'[') => FileKind::Json,
        _ if text.contains(|c: char| c.is_control() && !c.is_whitespace()) => FileKind::Unknown,
        _ => FileKind::Text,
    }
}

/// Eight bytes of the header's length, then the header, a JSON object.
fn is_safetensors(start: &[u8]) -> bool {
    let Some((length, rest)) = start.split_first_chunk::<8>() else { return false };
    let length = u64::from_le_bytes(*length);
    (2..=MAX_HEADER).contains(&length) && rest.first() == Some(&b'{')
}

/// The kind of an opened archive, by the names in it.
pub(crate) fn of_archive(archive: &mut ZipArchive<impl Read + Seek>) -> FileKind {
    let names = || archive.file_names();
    let inside = |name: &str| {
        names().any(|found| found.strip_suffix(name).is_some_and(|folder| folder.is_empty() || folder.ends_with('/')))
    };
    if inside("data.pkl") && !inside("archive_format") {
        // Both have it; a program has code as well.
        if names().any(|name| name.contains("/code/")) {
            return FileKind::TorchScript;
        }
        let pickle = names().filter(|name| name.ends_with("data.pkl")).min_by_key(|name| name.len()).map(str::to_owned);
        return FileKind::TorchSave { network: pickle.is_some_and(|name| names_network(archive, &name)) };
    }
    let export = ["serialized_exported_program.json", "archive_format", "archive_version", "models/model.json"];
    if export.iter().any(|name| inside(name)) {
        return FileKind::TorchExport;
    }
    let ends = |name: &str, endings: &[&str]| endings.iter().any(|ending| name.to_ascii_lowercase().ends_with(ending));
    let files = || names().filter(|name| !name.ends_with('/'));
    if archive.is_empty() || files().all(|name| name.ends_with(".npy")) {
        return FileKind::Npz;
    }
    if files().any(|name| ends(name, &[".png", ".jpg", ".jpeg"])) { FileKind::ImageZip } else { FileKind::Zip }
}

fn names_network(archive: &mut ZipArchive<impl Read + Seek>, pickle: &str) -> bool {
    let mut bytes = Vec::new();
    let Ok(member) = archive.by_name(pickle) else { return false };
    member.take(MAX_PICKLE).read_to_end(&mut bytes).is_ok() && contains(&bytes, NETWORK)
}

fn contains(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|window| window == part)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use zip::ZipWriter;
    use zip::write::SimpleFileOptions;

    fn zip(members: &[(&str, &[u8])]) -> Vec<u8> {
        let mut archive = ZipWriter::new(Cursor::new(Vec::new()));
        for (name, bytes) in members {
            archive.start_file(*name, SimpleFileOptions::default()).unwrap();
            archive.write_all(bytes).unwrap();
        }
        archive.finish().unwrap().into_inner()
    }

    #[test]
    fn files_are_told_by_their_contents() {
        let mut tar = vec![0; 512];
        tar[..4].copy_from_slice(b"name");
        tar[257..262].copy_from_slice(b"ustar");
        let network = [b"\x80\x02ctorch_utils.persistence\n", NETWORK, b"\n"].concat();
        let cases: Vec<(Vec<u8>, FileKind)> = vec![
            (Vec::new(), FileKind::Empty),
            (b"<!DOCTYPE html><html><head>".to_vec(), FileKind::Html),
            (b"\n <html lang=\"en\">404".to_vec(), FileKind::Html),
            (b"<?xml version=\"1.0\"?><html>".to_vec(), FileKind::Html),
            (b"version https://git-lfs.github.com/spec/v1\noid sha256:00".to_vec(), FileKind::LfsPointer),
            (b"\x10\0\0\0\0\0\0\0{\"a\":{\"dtype\"".to_vec(), FileKind::Safetensors),
            (b"\x80\x04\x95".to_vec(), FileKind::Pickle),
            (b"(dp0\nS'ema'\n".to_vec(), FileKind::Pickle),
            (zip(&[("sd/data.pkl", b"\x80\x02}."), ("sd/data/0", b"")]), FileKind::TorchSave { network: false }),
            (zip(&[("x/data.pkl", &network), ("x/data/0", b"")]), FileKind::TorchSave { network: true }),
            (zip(&[("x/data.pkl", b""), ("x/code/__torch__.py", b"")]), FileKind::TorchScript),
            (zip(&[("m/archive_format", b"pt2"), ("m/models/model.json", b"{}")]), FileKind::TorchExport),
            (zip(&[("mu.npy", b""), ("sigma.npy", b"")]), FileKind::Npz),
            (zip(&[("00000/img00000000.png", b""), ("dataset.json", b"{}")]), FileKind::ImageZip),
            (zip(&[("readme.txt", b"")]), FileKind::Zip),
            (zip(&[("mu.npy", &[0; 100])])[..60].to_vec(), FileKind::CutZip),
            (b"\x93NUMPY\x01\0".to_vec(), FileKind::Npy),
            (b"\x1f\x8b\x08".to_vec(), FileKind::Gzip),
            (tar, FileKind::Tar),
            (b"\xff\xd8\xff\xe0".to_vec(), FileKind::Picture("JPEG")),
            (b"RIFF\0\0\0\0WEBPVP8 ".to_vec(), FileKind::Picture("WebP")),
            (b"\x08\x08\x12\x07pytorch".to_vec(), FileKind::Onnx),
            (b"GGUF\x03\0\0\0".to_vec(), FileKind::Gguf),
            (b"\xef\xbb\xbf{\"version\": 1}".to_vec(), FileKind::Json),
            (b" {\"version\": 1}".to_vec(), FileKind::Json),
            ("notes ä".as_bytes().to_vec(), FileKind::Text),
            (b"\x01\x02\xff\xfe\x80\x81\x82\x83\x84".to_vec(), FileKind::Unknown),
        ];
        let folder = tempfile::tempdir().unwrap();
        for (bytes, kind) in cases {
            assert_eq!(FileKind::of_bytes(&bytes), kind, "{kind}");
            let path = folder.path().join("x");
            std::fs::write(&path, &bytes).unwrap();
            assert_eq!(FileKind::of_file(&path).unwrap(), kind);
            assert!(kind.to_string().starts_with('a'), "{kind}");
        }
        assert!(FileKind::of_file(folder.path().join("none")).is_err());
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_are_some_kind(bytes: Vec<u8>) {
            let _ = FileKind::of_bytes(&bytes);
            let _ = FileKind::of_bytes(&[b"PK\x03\x04", &bytes[..]].concat());
        }
    }
}
