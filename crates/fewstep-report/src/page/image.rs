//! An image held by the page itself.

use crate::escape;
use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};

/// A PNG image with its name.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LabeledImage {
    /// What made it: stands above it and in the slider's menus.
    pub label: String,
    /// The bytes of a PNG file.
    pub png: Vec<u8>,
    /// A sentence under it; may be empty.
    pub caption: String,
}

impl LabeledImage {
    /// A figure; in place of what is no PNG it says so.
    pub(super) fn to_html(&self) -> String {
        let label = escape::markup(&self.label);
        let image = match self.size() {
            Some((width, height)) => format!(
                "<img src=\"data:image/png;base64,{}\" width=\"{width}\" height=\"{height}\" alt=\"{label}\">",
                BASE64.encode(&self.png)
            ),
            None => "<p class=\"missing\">This image is not a PNG file.</p>".into(),
        };
        let caption =
            if self.caption.is_empty() { String::new() } else { format!("<p>{}</p>", escape::markup(&self.caption)) };
        format!("<figure>\n<figcaption>{label}</figcaption>\n{image}\n{caption}</figure>\n")
    }

    /// (width, height) from the header, which always is a PNG's first chunk.
    fn size(&self) -> Option<(u32, u32)> {
        let header = self.png.strip_prefix(b"\x89PNG\r\n\x1a\n")?;
        if header.get(4..8)? != b"IHDR" {
            return None;
        }
        let number = |from: usize| Some(u32::from_be_bytes(header.get(from..from + 4)?.try_into().ok()?));
        Some((number(8)?, number(12)?))
    }
}
