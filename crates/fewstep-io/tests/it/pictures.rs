//! Photographs of any kind into a data set.

use std::fs;
use std::io::Cursor;
use std::path::Path;

use fewstep_io::dataset::{Dataset, PrepareOptions, prepare};
use image::{DynamicImage, GrayImage, ImageFormat, Rgb, RgbImage, Rgba, RgbaImage};

const COLOUR: PrepareOptions = PrepareOptions { size: 4, grey: false };

fn save(path: &Path, picture: impl Into<DynamicImage>) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    picture.into().save(path).unwrap();
}

/// Red in the middle 8x8 of 20x8, blue beside it.
fn wide() -> RgbImage {
    RgbImage::from_fn(20, 8, |x, _| if (6..14).contains(&x) { Rgb([200, 0, 0]) } else { Rgb([0, 0, 200]) })
}

fn one(dataset: &Dataset, index: usize) -> Vec<[u8; 3]> {
    let chw = dataset.image(index).unwrap();
    let plane = chw.len() / 3;
    (0..plane).map(|at| [chw[at], chw[plane + at], chw[2 * plane + at]]).collect()
}

#[test]
fn pictures_of_any_kind_become_squares() {
    let place = tempfile::tempdir().unwrap();
    let photos = place.path().join("photos");
    save(&photos.join("a/wide.png"), wide());
    save(&photos.join("b/grey.png"), GrayImage::from_pixel(5, 9, image::Luma([90])));
    save(&photos.join("b/half.png"), RgbaImage::from_pixel(6, 6, Rgba([0, 0, 0, 127])));
    let out = place.path().join("photos.zip");
    let mut heard = Vec::new();
    let made = prepare(&photos, &out, COLOUR, &mut |done, total| heard.push((done, total))).unwrap();
    assert_eq!((made.images, made.classes, heard), (3, 2, vec![(0, 3), (3, 3)]));
    assert_eq!(made.names, ["a", "b"]);
    let dataset = Dataset::open(&out).unwrap();
    assert_eq!((dataset.len(), dataset.channels(), dataset.resolution()), (3, 3, (4, 4)));
    assert_eq!(dataset.labels(), Some(&[0, 1, 1][..]));
    assert!(one(&dataset, 0).iter().all(|pixel| *pixel == [200, 0, 0]), "{:?}", one(&dataset, 0));
    assert!(one(&dataset, 1).iter().all(|pixel| *pixel == [90; 3]));
    assert!(one(&dataset, 2).iter().all(|pixel| *pixel == [128; 3]), "half black on white");
    let grey = PrepareOptions { grey: true, ..COLOUR };
    prepare(&photos, &out, grey, &mut |_, _| {}).unwrap();
    assert_eq!(Dataset::open(&out).unwrap().channels(), 1);
}

/// A JPEG whose EXIF data say that the camera was held on its side.
#[test]
fn pictures_stand_upright() {
    let place = tempfile::tempdir().unwrap();
    let mut jpeg = Vec::new();
    let above = RgbImage::from_fn(32, 32, |_, y| if y < 16 { Rgb([255; 3]) } else { Rgb([0; 3]) });
    above.write_to(&mut Cursor::new(&mut jpeg), ImageFormat::Jpeg).unwrap();
    // APP1: Exif, little-endian TIFF, one entry: orientation (0x0112), short, 6 (turn right)
    let tiff = b"II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x06\0\0\0\0\0\0\0";
    let mut exif = vec![0xff, 0xe1, 0, (2 + 6 + tiff.len()) as u8];
    exif.extend_from_slice(b"Exif\0\0");
    exif.extend_from_slice(tiff);
    jpeg.splice(2..2, exif);
    fs::create_dir(place.path().join("photos")).unwrap();
    fs::write(place.path().join("photos/turned.jpg"), jpeg).unwrap();
    let out = place.path().join("x.zip");
    prepare(&place.path().join("photos"), &out, COLOUR, &mut |_, _| {}).unwrap();
    let pixels = one(&Dataset::open(&out).unwrap(), 0);
    // what was above is now on the right
    for (at, pixel) in pixels.iter().enumerate() {
        let bright = pixel[0] > 128;
        assert_eq!(bright, at % 4 >= 2, "{pixels:?}");
    }
}

/// More pictures than are decoded at once, so that the count does not end with the first lot.
#[test]
fn all_bad_pictures_are_named_in_one_run() {
    let place = tempfile::tempdir().unwrap();
    let photos = place.path().join("photos");
    let mut jpeg = Vec::new();
    wide().write_to(&mut Cursor::new(&mut jpeg), ImageFormat::Jpeg).unwrap();
    fs::create_dir(&photos).unwrap();
    for index in 0..140 {
        let bytes = match index {
            3 | 70 => b"junk".to_vec(),
            5 | 71 | 139 => jpeg[..jpeg.len() - 40].to_vec(),
            _ => jpeg.clone(),
        };
        fs::write(photos.join(format!("{index:03}.jpg")), bytes).unwrap();
    }
    let out = place.path().join("x.zip");
    let error = prepare(&photos, &out, COLOUR, &mut |_, _| {}).unwrap_err().to_string();
    assert!(error.contains("5 of the 140 images in"), "{error}");
    for (name, reason) in
        [("003", "decoded"), ("005", "cut off"), ("070", "decoded"), ("071", "cut off"), ("139", "cut off")]
    {
        assert!(error.contains(&format!("{name}.jpg (it ")) && error.contains(reason), "{error}");
    }
    assert!(!out.exists());
}

#[test]
fn one_bad_picture_is_named_and_nothing_is_left() {
    let place = tempfile::tempdir().unwrap();
    let photos = place.path().join("photos");
    save(&photos.join("good.png"), wide());
    fs::write(photos.join("holiday.jpg"), b"no picture").unwrap();
    let out = place.path().join("x.zip");
    let error = prepare(&photos, &out, COLOUR, &mut |_, _| {}).unwrap_err().to_string();
    assert!(error.contains("holiday.jpg") && error.contains("cannot be decoded"), "{error}");
    fs::remove_file(photos.join("holiday.jpg")).unwrap();
    let none = PrepareOptions { size: 0, ..COLOUR };
    assert!(prepare(&photos, &out, none, &mut |_, _| {}).is_err());
    assert!(prepare(&place.path().join("nowhere"), &out, COLOUR, &mut |_, _| {}).is_err());
    assert_eq!(fs::read_dir(place.path()).unwrap().count(), 1, "only the photos");
}
