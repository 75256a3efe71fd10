//! Images in the terminal: as pixels where it can (kitty's and iTerm's protocols), else as coloured half blocks, as large as fits.

use std::fmt::Write;
use std::io::{IsTerminal, stdout};
use std::path::Path;

use anyhow::{Context, Result, ensure};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use image::imageops::FilterType;
use image::{DynamicImage, RgbImage};

use crate::ui;

/// Bytes of base64 in one command of kitty's.
const CHUNK: usize = 4096;
/// Columns where the terminal does not say how many it has.
const COLUMNS: u16 = 80;

/// Checks that there is a terminal to show images in.
pub fn check() -> Result<()> {
    ensure!(stdout().is_terminal(), "--show needs a terminal: with stdout elsewhere, write a file with --out");
    Ok(())
}

/// Shows a PNG.
pub fn show(path: &Path) -> Result<()> {
    let bytes = std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    let text = match says("TERM", &["kitty", "ghostty"]) || says("TERM_PROGRAM", &["ghostty", "wezterm"]) {
        true => by_kitty(&bytes),
        false if says("TERM_PROGRAM", &["iterm"]) => by_iterm(&bytes),
        false => {
            let image = image::load_from_memory(&bytes).with_context(|| format!("cannot read {}", path.display()))?;
            let columns = terminal_size::terminal_size().map_or(COLUMNS, |(width, _)| width.0);
            half_blocks(&fitting(&image, columns.into()), says("COLORTERM", &["truecolor", "24bit"]))
        }
    };
    ui::print(text.as_bytes())
}

/// Whether the terminal says of itself, in a variable, that it is one of these. To ask it would be to wait for an answer.
fn says(name: &str, what: &[&str]) -> bool {
    std::env::var(name).is_ok_and(|value| what.iter().any(|what| value.to_lowercase().contains(what)))
}

/// <https://sw.kovidgoyal.net/kitty/graphics-protocol>
fn by_kitty(png: &[u8]) -> String {
    let base64 = STANDARD.encode(png);
    let chunks: Vec<&[u8]> = base64.as_bytes().chunks(CHUNK).collect();
    let mut text = String::new();
    for (index, chunk) in chunks.iter().enumerate() {
        let first = if index == 0 { "f=100,a=T," } else { "" };
        let more = u8::from(index + 1 < chunks.len());
        let _ = write!(text, "\x1b_G{first}m={more};{}\x1b\\", String::from_utf8_lossy(chunk));
    }
    text + "\n"
}

/// <https://iterm2.com/documentation-images.html>
fn by_iterm(png: &[u8]) -> String {
    format!("\x1b]1337;File=inline=1;size={}:{}\x07\n", png.len(), STANDARD.encode(png))
}

/// The image made so small that it is no wider than so many columns.
fn fitting(image: &DynamicImage, columns: u32) -> RgbImage {
    if image.width() <= columns {
        return image.to_rgb8();
    }
    let height = (image.height() * columns).div_ceil(image.width()).max(1);
    image.resize_exact(columns.max(1), height, FilterType::Triangle).to_rgb8()
}

/// Two pixels a character, one above the other: in their colours, or in the nearest of 256.
fn half_blocks(image: &RgbImage, true_colour: bool) -> String {
    let colour = |ground: u8, x: u32, y: u32| {
        let [red, green, blue] = image.get_pixel(x, y).0;
        match true_colour {
            true => format!("\x1b[{ground};2;{red};{green};{blue}m"),
            false => format!("\x1b[{ground};5;{}m", of_256([red, green, blue])),
        }
    };
    let mut text = String::new();
    for y in (0..image.height()).step_by(2) {
        for x in 0..image.width() {
            let below = if y + 1 < image.height() { colour(48, x, y + 1) } else { "\x1b[49m".to_owned() };
            let _ = write!(text, "{}{below}\u{2580}", colour(38, x, y));
        }
        text += "\x1b[0m\n";
    }
    text
}

/// The nearest colour of xterm's cube of 6 x 6 x 6, or of its greys.
fn of_256(rgb: [u8; 3]) -> u8 {
    const LEVELS: [u8; 6] = [0, 95, 135, 175, 215, 255];
    let nearest = |value: u8| (0..6).min_by_key(|&at: &usize| LEVELS[at].abs_diff(value)).unwrap_or(0);
    let [red, green, blue] = rgb.map(nearest);
    let mean = rgb.iter().map(|value| u32::from(*value)).sum::<u32>() / 3;
    let grey = mean.saturating_sub(3).div_euclid(10).min(23) as u8; // 8, 18, ..., 238
    let apart = |other: [u8; 3]| -> u32 { rgb.iter().zip(other).map(|(a, b)| u32::from(a.abs_diff(b)).pow(2)).sum() };
    match apart([8 + 10 * grey; 3]) < apart([LEVELS[red], LEVELS[green], LEVELS[blue]]) {
        true => 232 + grey,
        false => (16 + 36 * red + 6 * green + blue) as u8,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_blocks_hold_two_rows_a_line() {
        let image = RgbImage::from_raw(1, 3, vec![255, 0, 0, 0, 0, 255, 8, 8, 8]).unwrap();
        let shown = half_blocks(&image, true);
        assert_eq!(
            shown,
            "\x1b[38;2;255;0;0m\x1b[48;2;0;0;255m\u{2580}\x1b[0m\n\x1b[38;2;8;8;8m\x1b[49m\u{2580}\x1b[0m\n"
        );
        assert!(half_blocks(&image, false).starts_with("\x1b[38;5;196m\x1b[48;5;21m"));
    }

    #[test]
    fn colours_of_256_are_the_nearest() {
        for (rgb, found) in [([0; 3], 16), ([255; 3], 231), ([8; 3], 232), ([238; 3], 255), ([96, 134, 176], 67)] {
            assert_eq!(of_256(rgb), found, "{rgb:?}");
        }
    }

    #[test]
    fn images_are_made_to_fit_and_never_larger() {
        let image = DynamicImage::new_rgb8(200, 100);
        assert_eq!(fitting(&image, 80).dimensions(), (80, 40));
        assert_eq!(fitting(&image, 300).dimensions(), (200, 100));
    }

    #[test]
    fn protocols_carry_the_file_itself() {
        let png: Vec<u8> = (0..4000u32).map(|at| at as u8).collect();
        let kitty = by_kitty(&png);
        assert!(kitty.starts_with("\x1b_Gf=100,a=T,m=1;") && kitty.contains("\x1b_Gm=0;"));
        let parts = kitty.split('\x1b').filter_map(|part| part.split_once(';').map(|(_, data)| data));
        assert_eq!(STANDARD.decode(parts.collect::<String>()).unwrap(), png);
        assert!(by_iterm(&png).starts_with("\x1b]1337;File=inline=1;size=4000:"));
    }
}
