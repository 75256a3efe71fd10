//! A page with one of everything, on made-up numbers: `cargo run -p fewstep-report --example gallery > gallery.html`.

use fewstep_report::{
    Axis, Block, Cell, Column, Format, LabeledImage, Page, Plot, Reference, Section, Series, Style, Table,
};

#[allow(dead_code, reason = "the tests take this file as a module")]
fn main() {
    print!("{}", page().to_html());
}

/// The whole page.
pub fn page() -> Page {
    let images = [("Euler, rho = 7", 40), ("phase 1", 22), ("phase 1 + 2", 8)];
    let plots = vec![distance_plot(), schedule_plot(), weights_plot(), training_plot()];
    Page {
        title: "gallery of fewstep-report".into(),
        headline: "At 5 evaluations the fitted sampler scores 7.3, where Euler with rho = 7 scores 63.4.".into(),
        table: Some(table()),
        sections: vec![
            Section::new(
                "Images",
                vec![
                    Block::Text("The same seeds in every grid.".into()),
                    Block::Images(images.map(|(label, noise)| grid(label, noise)).to_vec()),
                ],
            ),
            Section::new("Plots", vec![Block::Plots(plots)]),
            Section::new(
                "How to repeat it",
                vec![
                    Block::Code(
                        "fewstep fit --model model.safetensors --data images.zip --steps 5,8 --seed 0\n".into(),
                    ),
                    Block::Facts(vec![
                        ("model".into(), "shipped-fashion.safetensors".into()),
                        ("SHA-256".into(), "4eb01c08e859bf924d222250d2e8f8b8ff6d3db4721288cf35d14252a4d933c8".into()),
                        ("seeds".into(), "0-999".into()),
                    ]),
                ],
            ),
        ],
        footer: "fewstep 0.1.0".into(),
    }
}

/// A table with two groups.
pub fn table() -> Table {
    let mut table = Table::new(vec![
        Column::text("method"),
        Column::number("NFE", Format::Integer),
        Column::number("Fréchet distance", Format::Significant(3)).lowest(),
        Column::number("rollout error", Format::Significant(2)).lowest(),
        Column::number("time", Format::Duration),
    ]);
    for (steps, numbers) in [(5, [63.41, 29.92, 31.5, 7.31]), (8, [29.68, 16.1, 17.0, 6.94])] {
        table.start_group();
        for (name, distance) in ["Euler, rho = 7", "phase 1", "phase 2", "phase 1 + 2"].into_iter().zip(numbers) {
            let error =
                if name == "phase 2" { Cell::Missing } else { Cell::Spread(distance / 900.0, distance / 9000.0) };
            table.push(vec![name.into(), Cell::from(steps), distance.into(), error, (distance / 7.0).into()]);
        }
    }
    table
}

/// The paper's Fig. 2: distance against evaluations.
pub fn distance_plot() -> Plot {
    let over = |numbers: &[f64]| numbers.iter().enumerate().map(|(at, y)| (4.0 + at as f64, *y)).collect::<Vec<_>>();
    Plot {
        title: "Distance against evaluations".into(),
        x: Axis::linear("network evaluations (NFE)"),
        y: Axis::log("Fréchet distance of 1,000 images"),
        series: vec![
            Series::new("Euler, rho = 7", over(&[144.8, 63.4, 51.8, 38.0, 29.7]), Style::LineMarkers),
            Series::new("bound (Eq. 12)", over(&[260.6, 118.2, 71.7, 55.0, 41.3]), Style::LineMarkers),
            Series::new("GITS", over(&[92.9, 60.8, 51.5, 35.0, 23.6]), Style::LineMarkers),
            Series::new("oss", over(&[50.9, 29.9, 22.2, 18.0, 16.1]), Style::LineMarkers),
            Series::new("least squares", over(&[11.2, 7.3, 6.7, 6.8, 6.9]), Style::LineMarkers),
        ],
        references: vec![Reference { name: "teacher, 35 NFE".into(), y: 6.33 }],
        ..Plot::default()
    }
}

/// The noise levels of rho = 7 between 80 and 0.002.
fn karras(steps: usize) -> Vec<(f64, f64)> {
    let (top, bottom) = (80.0_f64.powf(1.0 / 7.0), 0.002_f64.powf(1.0 / 7.0));
    (0..steps).map(|at| (at as f64, (top + at as f64 / (steps as f64 - 1.0) * (bottom - top)).powi(7))).collect()
}

/// The paper's Fig. 3: a learned schedule beside rho = 7. Its last level is zero, which a logarithmic axis cannot show.
pub fn schedule_plot() -> Plot {
    let mut baseline = karras(8);
    baseline.push((8.0, 0.0));
    let learned =
        karras(8).into_iter().map(|(step, sigma)| (step, sigma * (1.0 + 1.4 * (step * 0.45).sin()))).collect();
    Plot {
        title: "Learned schedule beside rho = 7".into(),
        x: Axis::linear("step"),
        y: Axis::log("noise level σ"),
        series: vec![
            Series::new("rho = 7", baseline, Style::LineMarkers),
            Series::new("learned", learned, Style::LineMarkers),
        ],
        ..Plot::default()
    }
}

/// The paper's Fig. 4: induced weights beside EDM's.
pub fn weights_plot() -> Plot {
    let edm =
        |sigma: f64| (sigma * sigma + 0.25) / (0.5 * sigma).powi(2) * (-((sigma.ln() + 1.2) / 1.2).powi(2) / 2.0).exp();
    let smooth: Vec<(f64, f64)> = (0..200)
        .map(|at| 0.002 * 40_000_f64.powf(f64::from(at) / 199.0))
        .map(|sigma| (sigma, edm(sigma) / 40.0))
        .collect();
    let induced = karras(8).windows(2).map(|pair| (pair[1].1, (1.0 / pair[1].1 - 1.0 / pair[0].1) * 0.002)).collect();
    Plot {
        title: "Weights times probability of the level".into(),
        x: Axis::log("noise level σ"),
        y: Axis::linear("weight × probability"),
        series: vec![
            Series::new("EDM", smooth, Style::Dashed),
            Series::new("induced, 8 steps", induced, Style::LineMarkers),
        ],
        note: "Made-up numbers.".into(),
        ..Plot::default()
    }
}

/// A training curve, raw and smoothed.
pub fn training_plot() -> Plot {
    let noise = |at: u32| f64::from(at.wrapping_mul(2_654_435_761) >> 8) / f64::from(1 << 24) - 0.5;
    let loss = (0..4000_u32)
        .map(|at| (f64::from(at * 5), (0.9 * (-f64::from(at) / 500.0).exp() + 0.16) * (1.0 + 0.4 * noise(at))))
        .collect();
    Plot {
        title: "Training".into(),
        x: Axis::linear("iteration"),
        y: Axis::linear("loss").within(0.0, 0.8),
        series: Series::new("EDM loss (half-life 250 iterations)", loss, Style::Line).with_smoothed(250.0).to_vec(),
        ..Plot::default()
    }
}

/// A grid of blobs, more or less noisy.
fn grid(label: &str, noise: u32) -> LabeledImage {
    let pixel = |x: u32, y: u32| {
        let (column, row) = (x / 32, y / 32);
        let (dx, dy) = (f64::from(x % 32) - 16.0, f64::from(y % 32) - 16.0);
        let radius = 6.0 + f64::from((column * 7 + row * 5) % 6);
        let blob = 230.0 / (1.0 + ((dx * dx + dy * dy).sqrt() - radius).exp());
        let random = f64::from((x * 7919 + y * 104_729).wrapping_mul(2_654_435_761) >> 24) / 255.0 - 0.5;
        image::Luma([(blob + 10.0 + f64::from(noise) * 4.0 * random) as u8])
    };
    let mut png = std::io::Cursor::new(Vec::new());
    let written = image::GrayImage::from_fn(256, 128, pixel).write_to(&mut png, image::ImageFormat::Png);
    let png = written.map(|()| png.into_inner()).unwrap_or_default();
    LabeledImage { label: label.into(), png, caption: "5 evaluations".into() }
}
