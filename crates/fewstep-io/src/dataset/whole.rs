//! Whether the file of a picture is there to its end.
//!
//! Decoders fill what lacks with grey and say nothing. So does libjpeg, whose callers (PIL among them) refuse a JPEG whose end
//! mark never comes; the same rule holds here. The decoder of PNG finds missing rows itself.

/// Start of a JPEG.
const JPEG: [u8; 3] = [0xff, 0xd8, 0xff];
const END: u8 = 0xd9;

/// Refuses a JPEG that is cut off.
///
/// # Errors
/// A sentence that says where it ends.
pub(super) fn check(file: &[u8]) -> Result<(), String> {
    if !file.starts_with(&JPEG) || ends(file) {
        return Ok(());
    }
    Err(format!("it is cut off: its {} bytes end before the JPEG does", file.len()))
}

/// Whether the segments of a JPEG lead to its end mark. What lies within a segment, such as a thumbnail with an end of its own, is
/// passed over by its length; what lies between two marks is passed over byte by byte, as libjpeg does.
fn ends(file: &[u8]) -> bool {
    let mut at = 2;
    loop {
        let Some(mark) = next_mark(file, at) else { return false };
        at = mark + 1;
        match file[mark] {
            END => return true,
            // Marks without a segment: a start, restarts, and a private one of arithmetic coding.
            0x01 | 0xd0..=0xd8 => {}
            _ => {
                let Some(&[high, low]) = file.get(at..at + 2) else { return false };
                // The length counts its own two bytes.
                at += usize::from(u16::from_be_bytes([high, low])).max(2);
            }
        }
    }
}

/// Place of the byte that names the next mark: after 0xff, which may be repeated; 0xff 0x00 stands for a byte of data.
fn next_mark(file: &[u8], from: usize) -> Option<usize> {
    let mut after_fill = false;
    for (offset, byte) in file.get(from..)?.iter().enumerate() {
        match byte {
            0xff => after_fill = true,
            0x00 => after_fill = false,
            _ if after_fill => return Some(from + offset),
            _ => {}
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn picture(format: image::ImageFormat) -> Vec<u8> {
        let mut file = Vec::new();
        let pixels = image::RgbImage::from_fn(24, 17, |x, y| image::Rgb([x as u8 * 9, y as u8 * 13, (x * y) as u8]));
        pixels.write_to(&mut std::io::Cursor::new(&mut file), format).unwrap();
        file
    }

    #[test]
    fn a_jpeg_is_refused_wherever_it_is_cut() {
        let whole = picture(image::ImageFormat::Jpeg);
        assert_eq!(check(&whole), Ok(()));
        for len in 3..whole.len() {
            let reason = check(&whole[..len]).unwrap_err();
            assert!(reason.contains("cut off") && reason.contains(&format!("{len} bytes")), "{reason}");
        }
        // A hole that a broken download leaves in a file of full length.
        let half = whole.len() * 3 / 4;
        assert!(check(&[&whole[..half], &vec![0; whole.len() - half]].concat()).is_err());
    }

    #[test]
    fn what_surrounds_the_picture_does_not_matter() {
        let whole = picture(image::ImageFormat::Jpeg);
        assert_eq!(check(&[&whole[..], b"\0\0 and more"].concat()), Ok(()));
        // A thumbnail in an application segment, itself a JPEG with an end.
        let thumbnail = [&[0xff, 0xe1, 0, 6][..], &[0xff, 0xd8, 0xff, 0xd9]].concat();
        let with = [&whole[..2], &thumbnail, &whole[2..]].concat();
        assert_eq!(check(&with), Ok(()));
        assert!(check(&with[..with.len() - 2]).is_err());
        // Fill bytes before a mark.
        let end = whole.len() - 2;
        assert_eq!(check(&[&whole[..end], &[0xff, 0xff, 0xff, 0xd9]].concat()), Ok(()));
        // Scans of a progressive file: tables and a second scan after the first.
        let scan = [0xff, 0xda, 0, 2, 1, 0xff, 0x00, 2, 0xff, 0xd3, 3];
        let two = [&[0xff, 0xd8][..], &scan, &[0xff, 0xc4, 0, 3, 0xd9], &scan, &[0xff, END]].concat();
        assert_eq!(check(&two), Ok(()));
        assert!(check(&two[..two.len() - 2]).is_err());
        assert_eq!(check(&picture(image::ImageFormat::Png)), Ok(()));
    }
}
