//! Data sets of every format, made here a few pixels large, and hostile ones.

mod arrays;
mod pictures;

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use fewstep_io::dataset::{Dataset, Images};
use fewstep_io::png;
use tempfile::TempDir;
use zip::ZipWriter;
use zip::write::SimpleFileOptions;

fn folder() -> TempDir {
    tempfile::tempdir().unwrap()
}

/// A 2x2 image of one value.
fn png_of(value: u8, channels: usize) -> Vec<u8> {
    png::encode(&vec![value; channels * 4], channels, 2, 2).unwrap()
}

fn zip_of(path: &Path, members: &[(&str, &[u8])]) {
    let mut archive = ZipWriter::new(fs::File::create(path).unwrap());
    for (name, bytes) in members {
        archive.start_file(*name, SimpleFileOptions::default()).unwrap();
        archive.write_all(bytes).unwrap();
    }
    archive.finish().unwrap();
}

fn write(path: PathBuf, bytes: &[u8]) -> PathBuf {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(&path, bytes).unwrap();
    path
}

fn message(path: &Path) -> String {
    Dataset::open(path).unwrap_err().to_string()
}

#[test]
fn images_in_memory_are_a_data_set_too() {
    let images = Images::new(vec![1, 2, 3, 4], 1, 1, 2, Some(vec![0, 1])).unwrap();
    let dataset = Dataset::from_images("generated", images.clone()).unwrap();
    assert_eq!((dataset.name(), dataset.image(1).unwrap()), ("generated", vec![3, 4]));
    assert_eq!(dataset.load_all().unwrap(), images);
    assert!(Images::new(vec![1, 2, 3], 1, 1, 2, None).is_err());
    assert!(Images::new(vec![1, 2], 1, 1, 2, Some(vec![])).is_err());
    assert!(Images::new(vec![1, 2], usize::MAX, 2, 2, None).is_err());
}

/// What a run was made with is told apart by more than pixels.
#[test]
fn images_in_memory_of_another_shape_or_with_other_labels_are_another_data_set() {
    let of = |[channels, height, width]: [usize; 3], labels: Option<Vec<u32>>| {
        let images = Images::new((0..12).collect(), channels, height, width, labels).unwrap();
        Dataset::from_images("x", images).unwrap().fingerprint().unwrap()
    };
    let plain = of([1, 2, 3], None);
    assert!(plain.starts_with("sha256:") && plain.len() == "sha256:".len() + 64, "{plain}");
    assert_eq!(of([1, 2, 3], None), plain);
    let all = [
        plain,
        of([1, 3, 2], None),
        of([3, 2, 1], None),
        of([3, 1, 2], None),
        of([1, 2, 3], Some(vec![0, 0])),
        of([1, 2, 3], Some(vec![0, 1])),
        of([1, 2, 3], Some(vec![1, 0])),
    ];
    let different: std::collections::BTreeSet<&String> = all.iter().collect();
    assert_eq!(different.len(), all.len(), "{all:?}");
}

#[test]
fn other_files_say_what_would_be_read() {
    let root = folder();
    let path = write(root.path().join("x.txt"), b"hello");
    assert!(message(&path).contains("none of the formats"));
    let path = write(root.path().join("x.bin"), b"hello");
    assert!(message(&path).contains("no whole number of records"));
}
