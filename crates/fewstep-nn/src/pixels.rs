//! Images as pixels.

use tch::{Kind, Tensor};

/// f32 images to u8 as EDM stores them: clip(127.5 x + 128, 0, 255), truncated.
pub fn to_u8(images: &Tensor) -> Tensor {
    (images * 127.5 + 128.0).clamp(0.0, 255.0).to_kind(Kind::Uint8)
}
