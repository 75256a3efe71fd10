//! A pickle reader that executes nothing.
//!
//! [`load`] runs the pickle machine (protocols 0 to 5) over a byte slice and leaves a [`Graph`] of plain data. Names
//! (`GLOBAL`) stay names. A call (`REDUCE`, `NEWOBJ`, `INST`, ...) is kept as an [`Object::Instance`] that records
//! what would have been called with what, and only for the short list in [`Callable`]; any other call is the error
//! [`PickleErrorKind::Forbidden`] with its name and place. What the recorded calls mean is read off afterwards, as
//! data: [`numpy`] for arrays, [`torch`] for tensors, [`json`] for plain settings.
//!
//! Objects live in one arena and refer to each other by [`Id`], so depth costs no stack, shared objects are stored
//! once, and cycles are harmless. Byte strings and text borrow from the input. Memory is linear in the input's length.

mod callable;
mod calls;
mod error;
mod graph;
pub mod json;
mod legacy;
mod literal;
mod machine;
pub mod numpy;
mod opcode;
mod source;
pub mod torch;

pub use callable::Callable;
pub use error::{PickleError, PickleErrorKind};
pub use graph::{Graph, Id, Instance, Object};
pub(crate) use legacy::Legacy;
pub use machine::{Limits, load, load_prefix, load_with};
