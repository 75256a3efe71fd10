//! One HTML page that holds all it shows: no network, no fonts, no files beside it.

mod image;

pub use image::LabeledImage;

use crate::escape;
use crate::svg::{self, Plot};
use crate::table::Table;
use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use sha2::{Digest, Sha256};

const STYLE: &str = include_str!("style.css");
const SCRIPT: &str = include_str!("compare.js");

/// A report: what came out first, then how.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Page {
    /// The page's name.
    pub title: String,
    /// The result in one sentence, in large letters.
    pub headline: String,
    /// The table that the headline is read from.
    pub table: Option<Table>,
    /// Everything else, in order.
    pub sections: Vec<Section>,
    /// The last line: versions, for instance. May be empty.
    pub footer: String,
}

/// A part of a page under a heading.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Section {
    /// Its heading.
    pub heading: String,
    /// What it holds, in order.
    pub blocks: Vec<Block>,
}

/// One thing in a section.
#[derive(Clone, Debug, PartialEq)]
pub enum Block {
    /// A paragraph.
    Text(String),
    /// A table.
    Table(Table),
    /// Plots, two in a row where there is room.
    Plots(Vec<Plot>),
    /// Images of the same thing made in different ways: side by side, and where scripts run under a slider that goes from one to
    /// another.
    Images(Vec<LabeledImage>),
    /// Commands or file contents, as they are.
    Code(String),
    /// Names and what they stand for: settings, hashes.
    Facts(Vec<(String, String)>),
}

impl Section {
    /// A section from its parts.
    pub fn new(heading: impl Into<String>, blocks: Vec<Block>) -> Self {
        Section { heading: heading.into(), blocks }
    }
}

impl Page {
    /// The whole file.
    ///
    /// The page allows itself its own styles, its own script (by hash) and images that it holds, and nothing else, so that no
    /// name in it can make a browser fetch or run anything.
    pub fn to_html(&self) -> String {
        let title = escape::markup(&self.title);
        let script_hash = BASE64.encode(Sha256::digest(SCRIPT));
        let mut html = format!(
            "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
             <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; img-src data:; style-src 'unsafe-inline'; \
             script-src 'sha256-{script_hash}'\">\n\
             <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
             <meta name=\"color-scheme\" content=\"light dark\">\n\
             <title>{title}</title>\n<style>\n{STYLE}{}</style>\n</head>\n<body>\n<main>\n<header>\n<h1>{title}</h1>\n",
            svg::STYLE
        );
        if !self.headline.is_empty() {
            html.push_str(&format!("<p class=\"headline\">{}</p>\n", escape::markup(&self.headline)));
        }
        html.push_str("</header>\n");
        if let Some(table) = &self.table {
            html.push_str(&table.to_html());
        }
        self.sections.iter().for_each(|section| html.push_str(&section.to_html()));
        if !self.footer.is_empty() {
            html.push_str(&format!("<footer>{}</footer>\n", escape::markup(&self.footer)));
        }
        html.push_str(&format!("</main>\n<script>{SCRIPT}</script>\n</body>\n</html>\n"));
        html
    }
}

impl Section {
    fn to_html(&self) -> String {
        let blocks: String = self.blocks.iter().map(Block::to_html).collect();
        format!("<section>\n<h2>{}</h2>\n{blocks}</section>\n", escape::markup(&self.heading))
    }
}

impl Block {
    fn to_html(&self) -> String {
        match self {
            Block::Text(text) => format!("<p>{}</p>\n", escape::markup(text)),
            Block::Table(table) => table.to_html(),
            Block::Plots(plots) => {
                let figure = |plot: &Plot| format!("<figure>\n{}</figure>\n", plot.to_inline_svg());
                format!("<div class=\"plots\">\n{}</div>\n", plots.iter().map(figure).collect::<String>())
            }
            Block::Images(images) => {
                let figures: String = images.iter().map(LabeledImage::to_html).collect();
                format!("<div class=\"images\">\n{figures}</div>\n")
            }
            Block::Code(text) => format!("<pre><code>{}</code></pre>\n", escape::markup(text)),
            Block::Facts(facts) => {
                let fact = |(name, value): &(String, String)| {
                    format!("<div><dt>{}</dt><dd>{}</dd></div>\n", escape::markup(name), escape::markup(value))
                };
                format!("<dl>\n{}</dl>\n", facts.iter().map(fact).collect::<String>())
            }
        }
    }
}
