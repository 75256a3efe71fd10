//! Files of raw pixels: IDX (MNIST) and CIFAR-10.

use std::fs;
use std::io::Write;
use std::path::Path;

use fewstep_io::dataset::{Dataset, DatasetOptions, Format};
use flate2::Compression;
use flate2::write::GzEncoder;

use super::{folder, message, write};

fn idx(magic: u8, sizes: &[u32], data: &[u8]) -> Vec<u8> {
    let mut out = vec![0, 0, 8, magic];
    sizes.iter().for_each(|size| out.extend(size.to_be_bytes()));
    out.extend(data);
    out
}

fn gz(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

#[test]
fn idx_files_find_their_labels_and_folders_prefer_training() {
    let folder = folder();
    let root = folder.path();
    write(root.join("t10k-images-idx3-ubyte.gz"), &gz(&idx(3, &[1, 2, 2], &[9; 4])));
    assert_eq!(Dataset::open(root).unwrap().image(0).unwrap(), [9; 4]);
    let images = write(root.join("train-images-idx3-ubyte.gz"), &gz(&idx(3, &[2, 2, 2], &[1, 2, 3, 4, 5, 6, 7, 8])));
    write(root.join("train-labels-idx1-ubyte"), &idx(1, &[2], &[0, 7]));
    for path in [root, &images] {
        let dataset = Dataset::open(path).unwrap();
        assert_eq!((dataset.format(), dataset.len(), dataset.channels()), (Format::Idx, 2, 1));
        assert_eq!(dataset.image(1).unwrap(), [5, 6, 7, 8]);
        assert_eq!((dataset.labels(), dataset.num_classes()), (Some(&[0, 7][..]), 8));
    }
    let options = DatasetOptions { pad_to: Some(4), max_size: Some(1), ..Default::default() };
    let padded = Dataset::open_with(root, &options).unwrap();
    assert_eq!((padded.resolution(), padded.len(), padded.num_classes()), ((4, 4), 1, 8));
    let image = padded.load_all().unwrap();
    assert_eq!(image.data.iter().filter(|&&v| v == 0).count(), 12);
    let options = DatasetOptions { pad_to: Some(1), ..Default::default() };
    assert!(Dataset::open_with(root, &options).unwrap_err().to_string().contains("cannot be padded to 1x1"));
}

#[test]
fn hostile_idx_files_are_errors() {
    let folder = folder();
    let path = folder.path().join("images");
    for bytes in [
        idx(3, &[2, 2, 2], &[0; 7]),
        idx(3, &[2, 2, 2], &[0; 9]),
        idx(3, &[u32::MAX, u32::MAX, u32::MAX], &[0; 9]),
        idx(3, &[u32::MAX, 0, 1], &[]),
        idx(3, &[0, 2, 2], &[]),
        idx(3, &[1, 2], &[]),
        gz(&idx(3, &[1, 2, 2], &[0; 4]))[..20].to_vec(),
        idx(1, &[2], &[0, 1]),
        Vec::new(),
    ] {
        fs::write(&path, &bytes).unwrap();
        assert!(Dataset::open(&path).is_err(), "{bytes:?}");
    }
    write(folder.path().join("train-images-idx3-ubyte"), &idx(3, &[2, 1, 1], &[1, 2]));
    write(folder.path().join("train-labels-idx1-ubyte"), &idx(1, &[3], &[1, 2, 3]));
    assert!(message(folder.path()).contains("2 images but 3 labels"));
}

/// A record of CIFAR-10: red, green and blue planes of one value each.
fn record(label: u8, rgb: [u8; 3]) -> Vec<u8> {
    let mut out = vec![label];
    rgb.iter().for_each(|&value| out.extend([value; 1024]));
    out
}

fn tar_of(path: &Path, members: &[(&str, &[u8])]) {
    let mut archive = tar::Builder::new(GzEncoder::new(fs::File::create(path).unwrap(), Compression::fast()));
    for (name, bytes) in members {
        let mut header = tar::Header::new_ustar();
        header.set_size(bytes.len() as u64);
        header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
        header.set_mode(0o644);
        header.set_cksum();
        archive.append(&header, *bytes).unwrap();
    }
    archive.into_inner().unwrap().finish().unwrap();
}

/// A batch as Python 2 pickled it: protocol 2, every string a byte string.
fn python_batch(images: &[(u8, [u8; 3])]) -> Vec<u8> {
    let text = |s: &str| [&[b'U', s.len() as u8][..], s.as_bytes()].concat();
    let pixels: Vec<u8> = images.iter().flat_map(|(label, rgb)| record(*label, *rgb)[1..].to_vec()).collect();
    let mut out = b"\x80\x02}(".to_vec();
    out.extend(text("data"));
    out.extend(b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R(K\x01");
    out.extend([&[b'K', images.len() as u8][..], b"M\x00\x0c\x86"].concat());
    out.extend(b"cnumpy\ndtype\nU\x02u1K\x00K\x01\x87R(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89");
    out.extend([&b"T"[..], &(pixels.len() as u32).to_le_bytes(), &pixels].concat());
    out.extend(b"tb");
    out.extend(text("labels"));
    out.extend(b"](");
    images.iter().for_each(|(label, _)| out.extend([b'K', *label]));
    out.extend(b"eu.");
    out
}

#[test]
fn cifar_is_read_in_all_its_packings() {
    let images = [(3, [1, 2, 3]), (9, [4, 5, 6])];
    let binary = images.map(|(label, rgb)| record(label, rgb)).concat();
    let python = python_batch(&images);
    let root = folder();
    let path = |name: &str| root.path().join(name);
    write(path("bin/cifar-10-batches-bin/data_batch_1.bin"), &binary);
    write(path("py/data_batch_1"), &python);
    write(path("py/test_batch"), b"not read");
    write(path("test_batch.bin"), &binary);
    tar_of(&path("b.tar.gz"), &[("cifar-10-batches-bin/data_batch_1.bin", &binary), ("x/readme.html", b"hi")]);
    tar_of(&path("p.tar.gz"), &[("cifar-10-batches-py/data_batch_2", &python)]);
    for (name, format) in [
        ("bin", Format::CifarBinary),
        ("py", Format::CifarPython),
        ("test_batch.bin", Format::CifarBinary),
        ("b.tar.gz", Format::CifarBinary),
        ("p.tar.gz", Format::CifarPython),
    ] {
        let dataset = Dataset::open(path(name)).unwrap_or_else(|e| panic!("{name}: {e}"));
        assert_eq!((dataset.format(), dataset.len()), (format, 2), "{name}");
        assert_eq!((dataset.resolution(), dataset.channels(), dataset.num_classes()), ((32, 32), 3, 10));
        assert_eq!(dataset.labels(), Some(&[3, 9][..]));
        assert_eq!(dataset.image(1).unwrap(), record(0, [4, 5, 6])[1..]);
        assert!(dataset.fingerprint().unwrap().starts_with("sha256:"));
    }
}

#[test]
fn hostile_cifar_archives_are_errors() {
    let root = folder();
    let path = root.path().join("c.tar.gz");
    let check = |members: &[(&str, &[u8])], part: &str| {
        tar_of(&path, members);
        let message = message(&path);
        assert!(message.contains(part), "{part}: {message}");
    };
    check(&[("a/data_batch_1.bin", &[0; 3000])], "no whole number of records");
    check(&[("a/data_batch_1.bin", &record(10, [0; 3]))], "a label is 10");
    check(&[("a/data_batch_1", b"cos\nsystem\n(S'ls'\ntR.")], "os.system");
    check(&[("../data_batch_1.bin", &record(1, [0; 3]))], "outside the archive");
    check(&[("a/readme", b"")], "no CIFAR-10 training batches");
    let python = python_batch(&[(1, [0; 3])]);
    let wrong_shape = python.iter().position(|&b| b == 0x0c).unwrap();
    let mut damaged = python.clone();
    damaged[wrong_shape] = 0x0b;
    check(&[("a/data_batch_1", &damaged)], "does not fit");
    // A plain archive that ends after a record: gzip's checksum is not there to tell.
    let batch = [record(1, [0; 3]), record(2, [0; 3])].concat();
    tar_of(&path, &[("a/data_batch_1.bin", &batch)]);
    let mut plain = Vec::new();
    std::io::Read::read_to_end(&mut flate2::read::GzDecoder::new(fs::File::open(&path).unwrap()), &mut plain).unwrap();
    let cut = write(root.path().join("cut.tar"), &plain[..512 + 3073]);
    assert!(message(&cut).contains("6146 bytes are declared, 3073 are there"), "{}", message(&cut));
    tar_of(&path, &[("a/data_batch_1", &python)]);
    let bytes = fs::read(&path).unwrap();
    for at in (0..bytes.len()).step_by(7) {
        let mut damaged = bytes.clone();
        damaged[at] ^= 0x55;
        fs::write(&path, &damaged).unwrap();
        let _ = Dataset::open(&path);
        fs::write(&path, &bytes[..at]).unwrap();
        assert!(Dataset::open(&path).is_err(), "cut at {at}");
    }
}
