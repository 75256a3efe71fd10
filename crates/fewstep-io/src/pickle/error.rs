//! What can be wrong with a pickle, and at which byte.

/// An error at a byte of the pickle stream.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{kind} (at byte {offset} of the pickle)")]
pub struct PickleError {
    /// Offset of the opcode that could not be carried out.
    pub offset: usize,
    /// What was wrong.
    pub kind: PickleErrorKind,
}

/// What was wrong with a pickle.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PickleErrorKind {
    /// The stream ends, or declares more bytes than it has.
    #[error("the pickle is cut off: {needed} more bytes are declared, {available} are there; download the file again")]
    Truncated {
        /// Bytes that the opcode needs.
        needed: u64,
        /// Bytes that are left.
        available: u64,
    },
    /// A byte that is no opcode.
    #[error("the pickle is damaged: byte 0x{0:02x} is no pickle instruction")]
    UnknownOpcode(u8),
    /// A real opcode that no checkpoint needs.
    #[error("the pickle uses {0}, which no checkpoint needs: refusing to read it")]
    Unsupported(&'static str),
    /// A call of a name that is not on the list.
    #[error(
        "the pickle calls `{module}.{name}`, which is not among the names that a checkpoint or data set needs: nothing \
         was executed, and the file should not be trusted"
    )]
    Forbidden {
        /// Module of the name.
        module: String,
        /// The name.
        name: String,
    },
    /// A call of something that is not even a name.
    #[error("the pickle calls a {0} as if it were a function")]
    NotCallable(&'static str),
    /// An opcode on an object of the wrong type.
    #[error("the pickle is damaged: {needed} needed, but there is a {found}")]
    WrongType {
        /// What the opcode works on.
        needed: &'static str,
        /// What it found.
        found: &'static str,
    },
    /// An opcode takes more from the stack than is there.
    #[error("the pickle is damaged: an instruction takes more values than there are")]
    StackUnderflow,
    /// A memo entry that was never stored.
    #[error("the pickle is damaged: it refers back to entry {0}, which was never stored")]
    NoMemo(u64),
    /// A number or text that does not parse.
    #[error("the pickle is damaged: {0}")]
    Malformed(&'static str),
    /// One of the [`super::Limits`] was reached.
    #[error("the pickle holds more than {limit} {what}, far more than any checkpoint: refusing to read on")]
    Limit {
        /// What there is too much of.
        what: &'static str,
        /// The limit.
        limit: usize,
    },
}
