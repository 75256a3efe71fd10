//! `compare` on several ranges of seeds, which a resumed run may have more of.

use serde_json::Value;

use crate::compare::{SMALL, place};
use crate::support::Run;

#[test]
fn ranges_of_seeds_may_join() {
    let place = place();
    let run = |methods: &str, ranges: &str, out: &str, more: &[&str]| {
        let own = ["--methods", methods, "--steps", "3", "--out", out, "--set", ranges];
        place.run(&[&SMALL[..], &own, more].concat())
    };
    let of = |run: &Run| -> Vec<Value> {
        let rows: Vec<Value> = serde_json::from_str(&run.stdout).unwrap_or_else(|_| panic!("{}", run.stderr));
        rows.iter().map(|row| row["scores"].clone()).collect()
    };
    let one = of(&run("karras/euler,karras/ipndm2", "ranges=1", "grown", &[]));
    // the cells of a method that is not named again stay as they are
    let grown = of(&run("karras/euler", "ranges=3", "grown", &["--resume"]));
    assert_eq!(grown[2], one[2]);
    let whole = of(&run("karras/euler,karras/ipndm2", "ranges=3", "whole", &[]));
    assert_eq!(grown[..2], whole[..2]);
    assert_eq!(whole[1][0]["teacher"]["kid"].as_array().unwrap().len(), 3);
    let page = std::fs::read_to_string(place.path("grown/report.html")).unwrap();
    assert!(page.contains("1 to 3 ranges of"), "{page}");
    let error = run("karras/euler", "ranges=2", "grown", &["--resume"]).stderr;
    assert!(error.contains("it scores 3 ranges of seeds: ranges can be more, not 2"), "{error}");
}
