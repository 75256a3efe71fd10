//! Files of fewstep: checkpoints, data sets, arrays, images and run folders.
//!
//! Two rules hold for every reader here.
//!
//! - Nothing in a file is ever executed. Pickles are read into plain data by [`pickle`], which knows a short list of
//!   names and gives a named error for any other call.
//! - Bad input gives an [`Error`] whose message is one readable sentence, never a panic, and memory stays within a
//!   small multiple of the bytes that are really there, whatever sizes the file declares.
//!
//! And one for every writer: a file appears whole or not at all ([`atomic`]).
//!
//! | module | what |
//! |---|---|
//! | [`edm_pkl`] | network snapshots of NVlabs EDM (`.pkl`) |
//! | [`torch_zip`] | `torch.save` files (`.pt`, `.pth`), zip and legacy |
//! | [`tensors`] | named tensors; [`safetensors`] and [`npz`] keep them on disk |
//! | [`dataset`] | EDM zip, image folder, IDX, CIFAR-10, all as u8 images with labels |
//! | [`png`] | single images and grids |
//! | [`run_folder`] | run folders that survive a kill at any moment |
//! | [`json`] | JSON in any encoding that Python's `json.loads` takes |
//! | [`kind`] | what kind of file a file is |
//! | [`hash`] | SHA-256 of bytes and files |
//!
//! ```
//! use fewstep_io::{TensorData, TensorMap, edm_pkl, npz};
//!
//! let folder = tempfile::tempdir()?;
//! let file = folder.path().join("latents.npz");
//! let latents = TensorData::from_f32(&[2, 3], &[0.1, 0.2, 0.3, 0.4, 0.5, 0.6])?;
//! npz::write(&file, &TensorMap::from_iter([("latents".to_owned(), latents)]))?;
//! assert_eq!(npz::read(&file)?["latents"].shape, [2, 3]);
//!
//! // a pickle that would run a command is an error that names what it asked for
//! let hostile = b"cos\nsystem\n(S'rm -rf /'\ntR.";
//! let error = edm_pkl::read_bytes(hostile, "network.pkl").unwrap_err().to_string();
//! assert!(error.contains("network.pkl") && error.contains("system"), "{error}");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod archive;
pub mod atomic;
pub mod dataset;
pub mod edm_pkl;
pub mod error;
pub mod hash;
pub mod json;
pub mod kind;
mod npy;
pub mod npz;
pub mod pickle;
pub mod png;
pub mod rows;
pub mod run_folder;
pub mod safetensors;
mod strided;
pub mod tensors;
pub mod torch_zip;

pub use dataset::{Dataset, DatasetOptions, Images};
pub use edm_pkl::EdmSnapshot;
pub use error::{Error, Result};
pub use kind::FileKind;
pub use run_folder::RunFolder;
pub use tensors::{Dtype, TensorData, TensorMap};
