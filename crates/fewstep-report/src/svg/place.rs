//! Places on a picture.

/// A place on the picture, in its units, y downwards.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Place {
    pub x: f64,
    pub y: f64,
}
