//! Images as tensors, from data sets and from the npz files that samplers write.

use std::path::Path;

use fewstep_io::dataset::Images;
use fewstep_io::npz;
use fewstep_io::tensors::Dtype;
use fewstep_nn::checkpoint::tensor_from;
use fewstep_nn::tch::{Kind, Tensor};

use crate::error::{Error, Result};

/// The images of a data set as a u8 tensor `[N, C, H, W]` on the CPU.
///
/// # Errors
/// If there are none or their number of bytes does not fit their shape.
pub fn tensor(images: &Images) -> Result<Tensor> {
    let size = images.image_size();
    if size == 0 || images.data.is_empty() || images.len() * size != images.data.len() {
        return Err(Error::Input("the data set has no images".to_owned()));
    }
    let shape = [images.len(), images.channels, images.height, images.width].map(|n| n as i64);
    Ok(Tensor::f_from_data_size(&images.data, &shape, Kind::Uint8)?)
}

/// The images of an npz file, u8 `[N, C, H, W]`: its array `arr_0` (as guided-diffusion writes it) or `images`, or the only
/// u8 array of four dimensions, `[N, H, W, C]` or `[N, C, H, W]` with 1 or 3 channels.
///
/// # Errors
/// If the file cannot be read or has no such array.
pub fn from_npz(path: &Path) -> Result<Tensor> {
    let file = npz::read(path)?;
    let usable = |shape: &[usize], dtype| shape.len() == 4 && dtype == Dtype::U8;
    let fits = file.iter().filter(|(_, data)| usable(&data.shape, data.dtype));
    let named = fits.clone().find(|(name, _)| matches!(name.as_str(), "arr_0" | "images"));
    let chosen = match (named, fits.clone().count()) {
        (Some(named), _) => Some(named),
        (None, 1) => fits.clone().next(),
        _ => None,
    };
    let Some((name, data)) = chosen else {
        let found: Vec<String> =
            file.iter().map(|(name, data)| format!("{name} {:?} {:?}", data.dtype, data.shape)).collect();
        return Err(Error::Input(format!(
            "{} holds no array arr_0 or images of u8 [N, H, W, C]; it holds {}",
            path.display(),
            found.join(", ")
        )));
    };
    let images = tensor_from(data)?;
    match (data.shape.get(1), data.shape.get(3)) {
        (_, Some(1 | 3)) => Ok(images.permute([0, 3, 1, 2]).contiguous()),
        (Some(1 | 3), _) => Ok(images),
        _ => Err(Error::Input(format!(
            "`{name}` in {} has shape {:?}, without 1 or 3 channels",
            path.display(),
            data.shape
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use fewstep_io::tensors::{TensorData, TensorMap};

    fn file(arrays: &[(&str, &[usize])]) -> (tempfile::TempDir, std::path::PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("samples.npz");
        let array = |shape: &[usize]| {
            let values: Vec<u8> = (0..shape.iter().product::<usize>()).map(|i| i as u8).collect();
            TensorData::from_u8(shape, &values).unwrap()
        };
        let map: TensorMap = arrays.iter().map(|(name, shape)| ((*name).to_owned(), array(shape))).collect();
        npz::write(&path, &map).unwrap();
        (folder, path)
    }

    #[test]
    fn channels_come_first_whatever_the_file_says() {
        let (_folder, path) = file(&[("arr_0", &[2, 4, 5, 3]), ("arr_1", &[2])]);
        let images = from_npz(&path).unwrap();
        assert_eq!(images.size(), [2, 3, 4, 5]);
        assert_eq!(images.int64_value(&[0, 1, 0, 2]), 7); // pixel 2 of the first row, channel 1
        let (_folder, path) = file(&[("x", &[2, 1, 8, 8])]);
        assert_eq!(from_npz(&path).unwrap().size(), [2, 1, 8, 8]);
    }

    #[test]
    fn files_without_images_say_what_they_hold() {
        let (_folder, path) = file(&[("mu", &[2048])]);
        assert!(from_npz(&path).unwrap_err().to_string().contains("mu U8 [2048]"));
        let (_folder, path) = file(&[("arr_0", &[2, 8, 8, 4])]);
        assert!(from_npz(&path).unwrap_err().to_string().contains("1 or 3 channels"));
    }

    #[test]
    fn data_sets_keep_their_order() {
        let images = Images::new((0..24).collect(), 3, 2, 2, None).unwrap();
        let tensor = tensor(&images).unwrap();
        assert_eq!((tensor.size(), tensor.int64_value(&[1, 2, 1, 1])), (vec![2, 3, 2, 2], 23));
        assert!(super::tensor(&Images::new(Vec::new(), 3, 2, 2, None).unwrap()).is_err());
    }
}
