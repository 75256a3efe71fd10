//! Whole plots, tables and pages: well-formed, escaped, without a panic on any numbers, and as recorded.

#[path = "../examples/gallery.rs"]
mod gallery;

use fewstep_report::{
    Align, Axis, Block, Cell, Column, Format, LabeledImage, Page, Plot, PngError, Reference, Scale, Section, Series,
    Style, Table,
};
use proptest::prelude::*;
use roxmltree::Document;

const NASTY: &str = "</script><script>alert(1)</script>\"'&<img src=x onerror=alert(1)>\u{0}\u{1b}[31m|`*";

fn plot(points: Vec<(f64, f64)>) -> Plot {
    Plot {
        title: "title".into(),
        x: Axis::linear("x"),
        y: Axis::log("y"),
        series: vec![Series::new("a", points, Style::LineMarkers)],
        ..Plot::default()
    }
}

/// All texts of an SVG, joined; fails where it is not well-formed.
fn texts(svg: &str) -> String {
    let document = Document::parse(svg).unwrap_or_else(|error| panic!("{error}\n{svg}"));
    let texts = document.descendants().filter(|node| node.has_tag_name(("http://www.w3.org/2000/svg", "text")));
    texts.filter_map(|node| node.text().map(str::to_string)).collect::<Vec<_>>().join("\n")
}

#[test]
fn the_schedule_plot_is_as_recorded() {
    insta::assert_snapshot!("schedule.svg", gallery::schedule_plot().to_svg());
}

#[test]
fn the_table_is_as_recorded_in_every_form() {
    let table = gallery::table();
    insta::assert_snapshot!("table.txt", table.to_terminal(false));
    insta::assert_snapshot!("table.bold.txt", table.to_terminal(true).replace('\u{1b}', "ESC"));
    insta::assert_snapshot!("table.md", table.to_markdown());
    insta::assert_snapshot!("table.csv", table.to_csv());
    insta::assert_snapshot!("table.html", table.to_html());
    insta::assert_snapshot!("table.json", serde_json::to_string_pretty(&table.to_json()).unwrap());
}

#[test]
fn what_a_plot_cannot_show_it_says() {
    let nothing = texts(&plot(vec![]).to_svg());
    assert!(nothing.contains("no data") && !nothing.contains("not shown"), "{nothing}");
    let hidden = texts(&plot(vec![(0.0, f64::NAN), (1.0, f64::INFINITY), (2.0, -1.0), (3.0, 0.0)]).to_svg());
    assert!(hidden.contains("no data") && hidden.contains("4 points are not shown"), "{hidden}");
    let one = texts(&plot(vec![(0.0, 1.0), (1.0, 0.0), (2.0, 2.0)]).to_svg());
    assert!(!one.contains("no data") && one.contains("1 point is not shown"), "{one}");
}

#[test]
fn every_series_is_named_and_every_marker_says_its_numbers() {
    let svg = gallery::distance_plot().to_svg();
    let shown = texts(&svg);
    for name in ["Euler, rho = 7", "GITS", "least squares", "teacher, 35 NFE", "Distance against evaluations"] {
        assert!(shown.contains(name), "{name}");
    }
    let document = Document::parse(&svg).unwrap();
    let tips = document.descendants().filter(|node| node.tag_name().name() == "title").count();
    assert_eq!(tips, 5 * 5);
}

#[test]
fn points_stand_where_the_axes_say() {
    // Four decades of y over equal steps of x: equal distances on a logarithmic axis.
    let svg = plot((0..5).map(|at| (f64::from(at), 10_f64.powi(at))).collect()).to_svg();
    let document = Document::parse(&svg).unwrap();
    let number = |node: roxmltree::Node, name: &str| node.attribute(name).unwrap().parse::<f64>().unwrap();
    let mut places: Vec<(f64, f64)> = document
        .descendants()
        .filter(|node| node.tag_name().name() == "circle")
        .map(|node| (number(node, "cx"), number(node, "cy")))
        .collect();
    places.truncate(5); // the last circle is the legend's
    let steps: Vec<(f64, f64)> = places.windows(2).map(|pair| (pair[1].0 - pair[0].0, pair[0].1 - pair[1].1)).collect();
    assert_eq!(steps.len(), 4);
    assert!(
        steps.iter().all(|step| (step.0 - steps[0].0).abs() < 0.21 && (step.1 - steps[0].1).abs() < 0.21),
        "{places:?}"
    );
    assert!(steps[0].0 > 50.0 && steps[0].1 > 30.0);
}

#[test]
fn names_stay_text_everywhere() {
    let mut table = Table::new(vec![Column::text(NASTY).unit(NASTY), Column::number("n", Format::Shortest)]);
    table.caption = NASTY.into();
    table.push(vec![NASTY.into(), 1.0.into()]);
    let nasty_plot = Plot {
        title: NASTY.into(),
        x: Axis::linear(NASTY),
        y: Axis::linear(NASTY),
        series: vec![Series::new(NASTY, vec![(0.0, 1.0)], Style::LineMarkers)],
        references: vec![Reference { name: NASTY.into(), y: 2.0 }],
        note: NASTY.into(),
    };
    assert!(texts(&nasty_plot.to_svg()).contains("<script>alert(1)"));
    let page = Page {
        title: NASTY.into(),
        headline: NASTY.into(),
        table: Some(table.clone()),
        sections: vec![Section::new(
            NASTY,
            vec![
                Block::Text(NASTY.into()),
                Block::Code(NASTY.into()),
                Block::Facts(vec![(NASTY.into(), NASTY.into())]),
                Block::Plots(vec![nasty_plot]),
                Block::Images(vec![LabeledImage { label: NASTY.into(), png: vec![1, 2, 3], caption: NASTY.into() }]),
            ],
        )],
        footer: NASTY.into(),
    };
    let html = page.to_html();
    assert_eq!(html.matches("<script").count(), 1, "only the page's own script");
    assert!(!html.contains("<img"), "what is no PNG is no image");
    assert!(html.contains("not a PNG file"));
    let terminal = table.to_terminal(false);
    assert!(!terminal.contains('\u{1b}') && !terminal.contains('\u{0}'));
}

#[test]
fn a_page_needs_nothing_from_outside() {
    let html = gallery::page().to_html();
    for outside in ["http://", "https://", "url(", "@import", "<link", "src=\"/"] {
        let found = html.replace("http://www.w3.org/2000/svg", "");
        assert!(!found.contains(outside), "{outside}");
    }
    assert_eq!(html.matches("data:image/png;base64,iVBOR").count(), 3);
    assert_eq!(html.matches("<svg").count() - html.matches("overflow=\"hidden\"").count(), 4);
    assert!(html.contains("script-src 'sha256-"));
    assert_eq!(html, gallery::page().to_html());
}

#[test]
fn rows_of_any_length_fill_the_columns() {
    let mut table = Table::new(vec![Column::text("a"), Column::number("b", Format::Fixed(1)).lowest()]);
    table.push(vec![]);
    table.push(vec!["x".into(), f64::NAN.into(), 3.0.into()]);
    table.push(vec!["长".into(), 2.0.into()]);
    table.push(vec!["y".into(), 1.0.into()]);
    assert_eq!(table.columns[1].align, Align::Right);
    let lines: Vec<String> = table.to_terminal(false).lines().map(str::to_string).collect();
    assert_eq!(lines, ["a   b ↓", "───────", "–     –", "x   nan", "长  2.0", "y   1.0"]);
    assert!(table.to_markdown().contains("| y | **1.0** |") && table.to_csv().ends_with("y,1\n"));
    assert!(table.to_json()[1]["b"].is_null());
}

fn any_number() -> impl Strategy<Value = f64> {
    prop_oneof![
        4 => -1e3..1e3_f64,
        2 => any::<f64>(),
        1 => Just(f64::NAN),
        1 => Just(f64::INFINITY),
        1 => Just(0.0),
        1 => Just(f64::MIN_POSITIVE),
        1 => Just(f64::MAX),
    ]
}

fn any_axis() -> impl Strategy<Value = Axis> {
    let scale = prop_oneof![Just(Scale::Linear), Just(Scale::Log)];
    let range = proptest::option::of((any_number(), any_number()));
    (".{0,80}", scale, range).prop_map(|(label, scale, range)| Axis { label, scale, range })
}

proptest! {
    #[test]
    fn any_plot_is_well_formed_and_finite(
        title in ".{0,200}",
        x in any_axis(),
        y in any_axis(),
        points in proptest::collection::vec((any_number(), any_number()), 0..30),
        names in proptest::collection::vec(".{0,60}", 1..12),
        level in any_number(),
    ) {
        let styles = [Style::Line, Style::Dashed, Style::Faint, Style::LineMarkers, Style::Markers];
        let series = names.iter().enumerate().map(|(at, name)| Series::new(name, points.clone(), styles[at % 5])).collect();
        let svg = Plot { title, x, y, series, references: vec![Reference { name: "r".into(), y: level }], note: String::new() }.to_svg();
        let document = Document::parse(&svg);
        prop_assert!(document.is_ok(), "{:?}\n{svg}", document.err());
        for name in ["d", "x", "y", "cx", "cy", "width", "height", "viewBox", "points"] {
            for node in document.iter().flat_map(|document| document.descendants()) {
                let value = node.attribute(name).unwrap_or_default();
                prop_assert!(!value.contains("NaN") && !value.contains("inf"), "{name}={value}");
            }
        }
    }

    #[test]
    fn any_table_lines_up(names in proptest::collection::vec("\\PC{0,12}", 1..5), cells in proptest::collection::vec(any_number(), 0..20)) {
        let columns = names.iter().map(|name| Column::number(name, Format::Significant(3)).lowest()).collect();
        let mut table = Table::new(columns);
        cells.chunks(names.len()).for_each(|row| table.push(row.iter().map(|number| Cell::from(*number)).collect()));
        let width = |line: &str| unicode_width::UnicodeWidthStr::width(line);
        let text = table.to_terminal(false);
        let widest = text.lines().map(width).max().unwrap_or(0);
        prop_assert!(text.lines().filter(|line| line.starts_with('─')).all(|line| width(line) >= widest), "{text}");
        prop_assert_eq!(table.to_csv().lines().count(), 1 + cells.chunks(names.len()).count());
    }
}

#[test]
fn plots_become_pixels() {
    let plot = gallery::distance_plot();
    let png = match plot.to_png(2.0) {
        Ok(png) => png,
        Err(PngError::NoFonts) => return eprintln!("skipped: no fonts on this machine"),
        Err(error) => panic!("{error}"),
    };
    let svg = plot.to_svg();
    let document = Document::parse(&svg).unwrap();
    let box_of: Vec<f64> =
        document.root_element().attribute("viewBox").unwrap().split(' ').map(|n| n.parse().unwrap()).collect();
    let picture = image::load_from_memory(&png).unwrap().to_rgb8();
    let close = |pixels: u32, units: f64| (f64::from(pixels) - 2.0 * units).abs() <= 2.0;
    assert!(close(picture.width(), box_of[2]) && close(picture.height(), box_of[3]));
    let has = |colour: [u8; 3]| picture.pixels().filter(|pixel| pixel.0 == colour).count();
    assert!(has([255; 3]) > picture.pixels().len() / 2, "the background is white");
    assert!(has([0x0b, 0x6f, 0xc2]) > 100, "the first line has its colour");
    let text = |pixel: &image::Rgb<u8>| pixel.0.iter().all(|&value| value < 0x60);
    assert!(picture.pixels().filter(|pixel| text(pixel)).count() > 500, "there is text");
}
