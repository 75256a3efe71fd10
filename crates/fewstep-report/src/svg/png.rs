//! Plots as pixels, for papers and slides.

use std::sync::Arc;

use resvg::tiny_skia::{Pixmap, Transform};
use resvg::usvg::{self, fontdb};

use super::Plot;

/// Why a plot could not be drawn.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PngError {
    /// Text needs a font.
    #[error("no fonts are installed, so a plot cannot be drawn as PNG; the SVG is the same plot")]
    NoFonts,
    /// Anything else.
    #[error("the plot cannot be drawn as PNG: {0}")]
    Drawing(String),
}

impl Plot {
    /// The plot as a PNG file on white, `scale` times the SVG's size in pixels, in a font of this machine.
    ///
    /// # Errors
    /// If there is no font, or the picture would be too large.
    pub fn to_png(&self, scale: f32) -> Result<Vec<u8>, PngError> {
        let failed = |error: &dyn ToString| PngError::Drawing(error.to_string());
        let mut fonts = fontdb::Database::new();
        fonts.load_system_fonts();
        // what the style sheet asks for, or whatever there is
        let families: Vec<String> =
            fonts.faces().filter_map(|face| face.families.first()).map(|(name, _)| name.clone()).collect();
        let known = ["DejaVu Sans", "Liberation Sans", "Noto Sans"];
        let sans =
            known.iter().find(|name| families.iter().any(|family| family == *name)).map(|name| (*name).to_owned());
        fonts.set_sans_serif_family(sans.or_else(|| families.first().cloned()).ok_or(PngError::NoFonts)?);
        let options = usvg::Options { fontdb: Arc::new(fonts), ..usvg::Options::default() };
        let tree = usvg::Tree::from_str(&self.to_svg(), &options).map_err(|error| failed(&error))?;
        let size = tree.size().to_int_size().scale_by(scale).ok_or_else(|| failed(&"it has no size"))?;
        let mut pixels = Pixmap::new(size.width(), size.height()).ok_or_else(|| failed(&"it is too large"))?;
        pixels.fill(resvg::tiny_skia::Color::WHITE);
        resvg::render(&tree, Transform::from_scale(scale, scale), &mut pixels.as_mut());
        pixels.encode_png().map_err(|error| failed(&error))
    }
}
