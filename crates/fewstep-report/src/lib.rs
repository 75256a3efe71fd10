//! What fewstep shows: line plots (SVG), tables (terminal, markdown, CSV, HTML, JSON) and one self-contained HTML page.
//!
//! Plain structs go in and strings come out: no files, no clock, no randomness, no network. The same input gives the same
//! bytes. Every text that comes from outside (names, commands, file names) is escaped for where it goes.
//!
//! ```
//! use fewstep_report::{Axis, Plot, Series, Style};
//! let plot = Plot {
//!     title: "Learned schedule".into(),
//!     x: Axis::linear("step"),
//!     y: Axis::log("noise level"),
//!     series: vec![Series::new("rho = 7", vec![(0.0, 80.0), (1.0, 9.7), (2.0, 0.47), (3.0, 0.002)], Style::LineMarkers)],
//!     ..Plot::default()
//! };
//! assert!(plot.to_svg().starts_with("<svg"));
//! ```

mod escape;
mod number;
mod page;
mod svg;
mod table;

pub use escape::is_control;
pub use number::Format;
pub use page::{Block, LabeledImage, Page, Section};
pub use svg::{Axis, Plot, PngError, Reference, Scale, Series, Style};
pub use table::{Align, Best, Cell, Column, Table};
