//! `data`: pictures of any sizes into a data set that `train` takes.

use fewstep_io::png;

use crate::support::Place;

#[test]
fn pictures_of_two_sizes_become_one_data_set() {
    let place = Place::new();
    place.save_images("photos", 3, 12, 6);
    let odd = vec![200; 3 * 9 * 20];
    png::write(place.path("photos/below/odd.png"), &odd, 3, 9, 20).unwrap();
    let refused = place.fails(&["train", "--data", "photos", "--out", "run"]);
    assert!(refused.contains("odd.png") && refused.contains("`fewstep data`"), "{refused}");
    let make = ["data", "photos", "--size", "8", "--out", "photos.zip"];
    insta::assert_snapshot!(place.succeeds(&make), @"photos.zip: 7 images of 8x8 in 2 classes: 0 above, 1 below");
    let info = place.json(&["info", "photos.zip"]);
    assert_eq!(info[0]["images"], 7, "{info}");
    let small = ["--channels", "8", "--channel-mult", "1", "--blocks", "1", "--batch", "2", "--images", "4", "--cond"];
    place.succeeds(&[&["train", "--data", "photos.zip", "--out", "run"], &small[..]].concat());
    insta::assert_snapshot!(place.fails(&make), @"photos.zip exists already: choose another name, or replace it with --overwrite");
    assert!(place.fails(&["data", "photos", "--size", "0", "--out", "x.zip"]).contains("0x0"));
    assert!(place.fails(&["data", "photos", "--size", "8", "--out", "x"]).contains(".zip"));
}
