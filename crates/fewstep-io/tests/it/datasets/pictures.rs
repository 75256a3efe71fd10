//! Pictures in EDM's zip files and in folders.

use std::fs;
use std::io::Write;

use fewstep_io::dataset::{Dataset, Format, Images};
use fewstep_io::{Error, png};
use zip::ZipWriter;
use zip::write::SimpleFileOptions;

use super::{folder, message, png_of, write, zip_of};

const LABELS: &[u8] = br#"{"labels": [["00000/b.png", 3], ["00000/a.png", 1]]}"#;

#[test]
fn an_edm_zip_is_sorted_by_name_and_labelled_by_its_json() {
    let folder = folder();
    let path = folder.path().join("tiny-2x2.zip");
    let (a, b) = (png_of(10, 3), png_of(20, 3));
    zip_of(&path, &[("00000/b.png", &b), ("dataset.json", LABELS), ("00000/a.png", &a), ("__MACOSX/a.png", b"")]);
    let dataset = Dataset::open(&path).unwrap();
    assert_eq!((dataset.name(), dataset.format(), dataset.len()), ("tiny-2x2", Format::EdmZip, 2));
    assert_eq!((dataset.resolution(), dataset.channels(), dataset.num_classes()), ((2, 2), 3, 4));
    assert_eq!(dataset.image(0).unwrap(), [10; 12]);
    assert_eq!(dataset.labels(), Some(&[1, 3][..]));
    assert!(matches!(dataset.image(2), Err(Error::ImageIndex { index: 2, len: 2, .. })));
    let all = dataset.load_all().unwrap();
    assert_eq!((all.image(1), all.label(1), all.num_classes), (Some(&[20; 12][..]), Some(3), 4));
    assert_eq!(dataset.fingerprint().unwrap(), format!("sha256:{}", fewstep_io::hash::sha256_file(&path).unwrap()));
}

#[test]
fn jpeg_members_are_decoded() {
    let folder = folder();
    let path = folder.path().join("j.zip");
    let mut jpeg = Vec::new();
    let grey = image::GrayImage::from_pixel(8, 8, image::Luma([128]));
    grey.write_to(&mut std::io::Cursor::new(&mut jpeg), image::ImageFormat::Jpeg).unwrap();
    zip_of(&path, &[("x.JPG", &jpeg)]);
    let dataset = Dataset::open(&path).unwrap();
    assert_eq!((dataset.channels(), dataset.num_classes(), dataset.label(0)), (1, 0, None));
    assert!(dataset.image(0).unwrap().iter().all(|&v| v.abs_diff(128) <= 1));
}

#[test]
fn members_of_another_size_or_kind_are_named() {
    let folder = folder();
    let path = folder.path().join("mixed.zip");
    let large = png::encode(&[0; 9], 1, 3, 3).unwrap();
    zip_of(&path, &[("a.png", &png_of(1, 1)), ("b.png", &large), ("c.png", &png_of(1, 3)), ("d.png", b"no")]);
    let dataset = Dataset::open(&path).unwrap();
    assert!(dataset.image(0).is_ok());
    let error = |index| dataset.image(index).unwrap_err().to_string();
    assert!(error(1).contains("b.png") && error(1).contains("3x3 grey"), "{}", error(1));
    assert!(error(2).contains("c.png") && error(2).contains("2x2 colour"), "{}", error(2));
    assert!(error(3).contains("d.png"), "{}", error(3));
    assert!(dataset.load_all().is_err());

    let alpha = image::RgbaImage::from_pixel(2, 2, image::Rgba([1, 2, 3, 4]));
    let mut bytes = Vec::new();
    alpha.write_to(&mut std::io::Cursor::new(&mut bytes), image::ImageFormat::Png).unwrap();
    let path = folder.path().join("alpha.zip");
    zip_of(&path, &[("a.png", &bytes)]);
    assert!(message(&path).contains("alpha"));
}

#[test]
fn images_that_cannot_be_used_are_all_counted() {
    let folder = folder();
    let good = png_of(1, 1);
    let members: [(&str, &[u8]); 6] = [
        ("a.png", b"no"),
        ("b.png", &good),
        ("c.png", &good[..20]),
        ("d.png", &png_of(1, 3)),
        ("e.png", b""),
        ("f.png", &good),
    ];
    let path = folder.path().join("x.zip");
    zip_of(&path, &members);
    for (name, bytes) in members {
        write(folder.path().join("x").join(name), bytes);
    }
    for path in [path, folder.path().join("x")] {
        let dataset = Dataset::open(&path).unwrap();
        assert_eq!(dataset.load(1..2).unwrap().data, [1; 4]);
        let message = dataset.load(2..6).unwrap_err().to_string();
        assert!(message.contains("4 of the 6 images in") && message.contains("cannot be used: a.png (it"), "{message}");
        assert!(message.contains("d.png (it is 2x2 colour, others are 2x2 grey)"), "{message}");
        assert!(message.contains("e.png (") && message.lines().count() == 1, "{message}");
    }
    write(folder.path().join("x/g.webp"), b"RIFF");
    assert!(message(&folder.path().join("x")).contains("1 image(s) of kinds that are not read"));
    let many = folder.path().join("many");
    (0..25).for_each(|index| drop(write(many.join(format!("{index:02}.png")), b"no picture")));
    write(many.join("good.png"), &good);
    let message = Dataset::open(&many).unwrap().load_all().unwrap_err().to_string();
    assert!(message.contains("25 of the 26") && message.contains("19.png"), "{message}");
    assert!(message.ends_with("and 5 more") && !message.contains("20.png"), "{message}");
    assert!(Dataset::open(folder.path()).is_err());
}

#[test]
fn labels_that_do_not_fit_are_errors() {
    let folder = folder();
    let path = folder.path().join("l.zip");
    let image = png_of(0, 1);
    let deep = format!("{{\"labels\": {}", "[".repeat(100_000));
    for (json, part) in [
        (r#"{"labels": [["b.png", 0]]}"#, "no label for 1 images: \"a.png\""),
        (r#"{"labels": [["a.png", -1]]}"#, "no class number"),
        (r#"{"labels": [["a.png", 4000000000]]}"#, "no class number"),
        (r#"{"labels": [["a.png", [0.1, 0.9]]]}"#, "no class number"),
        (r#"{"labels": 3"#, "does not parse"),
        (deep.as_str(), "does not parse"),
    ] {
        zip_of(&path, &[("a.png", &image), ("dataset.json", json.as_bytes())]);
        assert!(message(&path).contains(part), "{part}: {}", message(&path));
    }
    let two = [("a.png", &image[..]), ("b.png", &image[..])];
    for (json, part) in [
        (r#"{"labels": [["c.png", 0]]}"#, "no label for 2 images: \"a.png\"; \"b.png\""),
        (r#"{"labels": [["a.png", 1.5], ["b.png", "x"]]}"#, "gives 2 images a label that is no class number from 0 on"),
    ] {
        zip_of(&path, &[two[0], two[1], ("dataset.json", json.as_bytes())]);
        assert!(message(&path).contains(part), "{part}: {}", message(&path));
    }
    zip_of(&path, &[("a.png", &image), ("dataset.json", br#"{"labels": null}"#)]);
    assert_eq!(Dataset::open(&path).unwrap().labels(), None);
}

/// Gigabytes, if it were kept: of a small file that unpacks to a large one.
#[test]
fn labels_that_unpack_out_of_all_proportion_are_refused() {
    let folder = folder();
    let path = folder.path().join("l.zip");
    let many = format!(r#"{{"labels": [{}["a.png", 0]]}}"#, r#"["",0],"#.repeat(1_000_000));
    let mut archive = ZipWriter::new(fs::File::create(&path).unwrap());
    let deflated = SimpleFileOptions::default().compression_method(zip::CompressionMethod::Deflated);
    for (name, bytes) in [("a.png", &png_of(1, 1)[..]), ("dataset.json", many.as_bytes())] {
        archive.start_file(name, deflated).unwrap();
        archive.write_all(bytes).unwrap();
    }
    archive.finish().unwrap();
    assert!(fs::metadata(&path).unwrap().len() * 100 < many.len() as u64);
    assert!(message(&path).contains("declares 70000") && message(&path).contains("allowed"), "{}", message(&path));
}

/// Windows' editor marks its files, Windows' shell writes UTF-16; EDM's own reader takes both.
#[test]
fn label_files_of_any_encoding_are_read() {
    let folder = folder();
    let path = folder.path().join("b.zip");
    let (a, b) = (png_of(1, 1), png_of(2, 1));
    let text = std::str::from_utf8(LABELS).unwrap();
    let utf16 = text.encode_utf16().flat_map(u16::to_le_bytes).collect::<Vec<_>>();
    for json in [[b"\xef\xbb\xbf", LABELS].concat(), [&b"\xff\xfe"[..], &utf16].concat()] {
        zip_of(&path, &[("00000/a.png", &a), ("00000/b.png", &b), ("dataset.json", &json)]);
        assert_eq!(Dataset::open(&path).unwrap().labels(), Some(&[1, 3][..]));
        for (name, bytes) in [("00000/a.png", &a), ("00000/b.png", &b), ("dataset.json", &json)] {
            write(folder.path().join("f").join(name), bytes);
        }
        assert_eq!(Dataset::open(folder.path().join("f")).unwrap().labels(), Some(&[1, 3][..]));
    }
}

#[test]
fn classes_without_images_are_told() {
    let pixels = |labels: &[u32]| Images::new(vec![0; labels.len()], 1, 1, 1, Some(labels.to_vec())).unwrap();
    let dataset = Dataset::from_images("x", pixels(&[1, 2, 4, 4])).unwrap();
    assert_eq!((dataset.class_counts(), dataset.empty_classes()), (vec![0, 1, 1, 0, 2], vec![0, 3]));
    let whole = Dataset::from_images("x", pixels(&[1, 0])).unwrap();
    assert!(whole.empty_classes().is_empty());
    let none = Dataset::from_images("x", Images::new(vec![0], 1, 1, 1, None).unwrap()).unwrap();
    assert!(none.class_counts().is_empty() && none.empty_classes().is_empty());
}

/// A picture as JPEG and as PNG; its pixels are not smooth, so that every byte of the file matters.
fn pictures() -> [(&'static str, Vec<u8>); 2] {
    let noise = |x: u32, y: u32, c: u32| (x * 37 + y * 91 + c * 53 + x * y * 7) as u8;
    let picture = image::RgbImage::from_fn(24, 17, |x, y| image::Rgb([0, 1, 2].map(|c| noise(x, y, c))));
    [("jpg", image::ImageFormat::Jpeg), ("png", image::ImageFormat::Png)].map(|(name, format)| {
        let mut file = Vec::new();
        picture.write_to(&mut std::io::Cursor::new(&mut file), format).unwrap();
        (name, file)
    })
}

/// Wherever a file was cut: a JPEG is refused as PIL refuses it, a PNG where rows are lost.
#[test]
fn cut_off_pictures_are_refused_named_and_counted() {
    let folder = folder();
    for (kind, whole) in pictures() {
        let names: Vec<String> = (0..10).map(|index| format!("{index}.{kind}")).collect();
        let cut = |index: usize| match index {
            0 => &whole[..],
            _ => &whole[..whole.len() * (10 * index + 9) / 120],
        };
        let members: Vec<(&str, &[u8])> =
            names.iter().enumerate().map(|(index, name)| (name.as_str(), cut(index))).collect();
        let zip = folder.path().join(format!("{kind}.zip"));
        zip_of(&zip, &members);
        members.iter().for_each(|(name, bytes)| drop(write(folder.path().join(kind).join(name), bytes)));
        for place in [zip, folder.path().join(kind)] {
            let dataset = Dataset::open(&place).unwrap();
            assert!(dataset.image(0).is_ok());
            let message = dataset.load_all().unwrap_err().to_string();
            assert!(message.contains("9 of the 10 images in") && message.contains(&format!("9.{kind} (")), "{message}");
        }
    }
}

#[test]
fn members_are_compared_with_their_checksums() {
    let folder = folder();
    let path = folder.path().join("x.zip");
    let mut archive = ZipWriter::new(fs::File::create(&path).unwrap());
    let stored = SimpleFileOptions::default().compression_method(zip::CompressionMethod::Stored);
    let [(_, jpeg), _] = pictures();
    archive.start_file("a.jpg", stored).unwrap();
    archive.write_all(&jpeg).unwrap();
    archive.start_file("b.jpg", stored).unwrap();
    archive.write_all(&jpeg).unwrap();
    archive.finish().unwrap();
    let mut bytes = fs::read(&path).unwrap();
    let at = bytes.windows(jpeg.len()).position(|window| window == jpeg).unwrap() + jpeg.len() - 10;
    bytes[at] ^= 1;
    fs::write(&path, bytes).unwrap();
    let message = Dataset::open(&path).unwrap().load_all().unwrap_err().to_string();
    assert!(message.contains("1 of the 2") && message.contains("a.jpg (it is damaged"), "{message}");
}

#[test]
fn hostile_zips_are_errors() {
    let folder = folder();
    let path = folder.path().join("h.zip");
    zip_of(&path, &[("../../a.png", &png_of(0, 1))]);
    assert!(matches!(Dataset::open(&path), Err(Error::UnsafeMember { .. })));
    zip_of(&path, &[("readme.txt", b"x")]);
    assert!(message(&path).contains("no PNG or JPEG"));
    // 100 MB of zeros in 100 kB.
    zip_of(&path, &[("a.png", &vec![0; 100 << 20])]);
    assert!(message(&path).contains("declares 104857600 bytes"));
    // A PNG that declares 60000x60000 pixels.
    let mut huge = png_of(0, 1);
    huge[16..24].copy_from_slice(&[0, 0, 0xea, 0x60, 0, 0, 0xea, 0x60]);
    zip_of(&path, &[("a.png", &huge)]);
    assert!(message(&path).contains("a.png"));

    zip_of(&path, &[("a.png", &png_of(0, 1)), ("dataset.json", br#"{"labels": [["a.png", 0]]}"#)]);
    let bytes = fs::read(&path).unwrap();
    for at in 0..bytes.len() {
        fs::write(&path, &bytes[..at]).unwrap();
        assert!(Dataset::open(&path).and_then(|d| d.load_all()).is_err(), "cut at {at}");
        let mut damaged = bytes.clone();
        damaged[at] ^= 0x55;
        fs::write(&path, &damaged).unwrap();
        let _ = Dataset::open(&path).and_then(|d| d.load_all());
    }
}

#[test]
fn subfolders_are_classes() {
    let folder = folder();
    let root = folder.path();
    write(root.join("dog/x/2.png"), &png_of(2, 1));
    write(root.join("cat/1.png"), &png_of(1, 1));
    write(root.join("dog/3.png"), &png_of(3, 1));
    write(root.join("notes.txt"), b"");
    let dataset = Dataset::open(root).unwrap();
    assert_eq!((dataset.format(), dataset.num_classes()), (Format::Folder, 2));
    let values: Vec<u8> = (0..3).map(|i| dataset.image(i).unwrap()[0]).collect();
    assert_eq!((values, dataset.labels()), (vec![1, 3, 2], Some(&[0, 1, 1][..])));
    let before = dataset.fingerprint().unwrap();
    write(root.join("dog/3.png"), &png_of(4, 1));
    assert_ne!(Dataset::open(root).unwrap().fingerprint().unwrap(), before);

    // as an archive was unpacked: folders around all images are no class
    let around = tempfile::tempdir().unwrap();
    for (name, value) in [("photos/train/dog/x/2.png", 2), ("photos/train/cat/1.png", 1), ("photos/train/dog/3.png", 3)]
    {
        write(around.path().join(name), &png_of(value, 1));
    }
    let nested = Dataset::open(around.path()).unwrap();
    assert_eq!((nested.num_classes(), nested.labels()), (2, Some(&[0, 1, 1][..])));

    write(root.join("stray.png"), &png_of(5, 1));
    write(root.join("other.png"), &png_of(5, 1));
    assert!(message(root).contains("2 of its images lie beside class subfolders"), "{}", message(root));
    assert!(message(root).ends_with("other.png; stray.png"), "{}", message(root));
    write(root.join("dataset.json"), br#"{"labels": null}"#);
    assert_eq!(Dataset::open(root).unwrap().labels(), None);
}

#[cfg(unix)]
#[test]
fn links_in_circles_end() {
    let folder = folder();
    write(folder.path().join("a/1.png"), &png_of(1, 1));
    std::os::unix::fs::symlink(folder.path(), folder.path().join("a/again")).unwrap();
    let dataset = Dataset::open(folder.path()).unwrap();
    assert_eq!((dataset.len(), dataset.labels()), (1, None));
    assert!(message(&folder.path().join("none")).contains("does not exist"));
    fs::create_dir(folder.path().join("empty")).unwrap();
    assert!(message(&folder.path().join("empty")).contains("holds no"));
}
