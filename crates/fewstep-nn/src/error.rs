//! What can go wrong with networks, checkpoints and training.

use fewstep_core::denoiser::SpreadError;
use fewstep_core::execute::ExecuteError;
use fewstep_core::group::GroupError;
use tch::TchError;

/// Shorthand for this crate's results.
pub type Result<T> = std::result::Result<T, Error>;

/// What can go wrong with networks, checkpoints and training.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The checkpoint lacks a tensor that the architecture needs.
    #[error(
        "the checkpoint has no tensor '{name}', which its architecture needs; the file is incomplete or belongs to another network"
    )]
    MissingTensor {
        /// Full name of the tensor.
        name: String,
    },
    /// The checkpoint has tensors that the architecture does not.
    #[error(
        "the checkpoint has {count} tensor(s) that its architecture does not use, the first is '{name}'; the architecture recorded in it is not the one it was saved from"
    )]
    UnknownTensor {
        /// The first of them.
        name: String,
        /// How many there are.
        count: usize,
    },
    /// A tensor of the checkpoint has another shape than its layer.
    #[error("tensor '{name}' has shape {found:?}, but the architecture needs {expected:?}")]
    WrongShape {
        /// Full name of the tensor.
        name: String,
        /// The layer's shape.
        expected: Vec<i64>,
        /// The file's shape.
        found: Vec<i64>,
    },
    /// A tensor of the checkpoint holds NaN or infinite values.
    #[error("tensor '{name}' holds values that are not finite; the checkpoint is damaged or its training diverged")]
    NotFinite {
        /// Full name of the tensor.
        name: String,
    },
    /// A weight that half precision does not hold.
    #[error("tensor '{name}' holds {value}, and half precision holds at most 65504: store the weights as f32")]
    TooLargeForHalf {
        /// Full name of the tensor.
        name: String,
        /// The largest value in it, by magnitude.
        value: f64,
    },
    /// A file of another kind than is needed, or damaged.
    #[error("{path} {reason}")]
    Checkpoint {
        /// The file.
        path: String,
        /// What is wrong with it, as the rest of a sentence.
        reason: String,
    },
    /// A TorchScript program that is none, fails, or does something else than its description says.
    #[error("the program {path} {reason}")]
    Program {
        /// The file.
        path: String,
        /// What is wrong, as the rest of a sentence.
        reason: String,
    },
    /// An architecture that cannot be built.
    #[error("the architecture is not valid: {0}")]
    Architecture(String),
    /// An input to the model that does not fit it.
    #[error("{0}")]
    Input(String),
    /// Someone asked training to stop.
    #[error("stopped as asked after {iteration} updates")]
    Stopped {
        /// Updates made.
        iteration: u64,
    },
    /// Noise levels that are learned came to coincide.
    #[error("after {iteration} updates {reason}")]
    Coinciding {
        /// Updates made: the next was not.
        iteration: u64,
        /// Which levels.
        reason: String,
    },
    /// Training produced a number that is not finite.
    #[error("{what} became {value} at iteration {iteration}{level}; {advice}")]
    Diverged {
        /// What, in words.
        what: &'static str,
        /// Its value.
        value: f64,
        /// Iterations completed before it.
        iteration: u64,
        /// Where, in words; empty if it is not known.
        level: String,
        /// What the last good state is and what to try.
        advice: String,
    },
    /// A search or a sampler came to nothing.
    #[error("{0}")]
    Search(Box<fewstep_search::Error>),
    /// Another process of a group has failed, has gone, or did not come.
    #[error("{reason}")]
    Process {
        /// What that process said, or what is known of it.
        reason: String,
        /// The exit code that it ends with, if it said so.
        code: Option<u8>,
    },
    /// A file could not be read or written.
    #[error(transparent)]
    Io(#[from] fewstep_io::Error),
    /// libtorch refused an operation. What it said is no source of this error, as its text, which is here in one line, fills pages.
    #[error("libtorch: {}", torch_message(.0))]
    Torch(TchError),
}

impl From<TchError> for Error {
    fn from(error: TchError) -> Self {
        Self::Torch(error)
    }
}

/// What libtorch says in one line, without where in its code it says so; and where memory did not suffice, what to do.
pub fn torch_message(error: &TchError) -> String {
    const MEMORY: [&str; 6] = [
        "out of memory",
        "not enough memory",
        "can't allocate memory",
        "cannot allocate memory",
        "bad_alloc",
        "alloc_failed", // cuBLAS and cuDNN
    ];
    let (line, lower) = (torch_line(error), error.to_string().to_lowercase());
    match MEMORY.iter().any(|sign| lower.contains(sign)) {
        true => format!("{line}; a smaller batch needs less memory (the setting `batch`)"),
        false => line,
    }
}

/// The line of a message of libtorch's that says what is wrong: the first, but of its interpreter, which begins with the program's
/// own stack, the error's.
pub(crate) fn torch_line(error: &TchError) -> String {
    let text = error.to_string();
    let text = text.trim_start_matches("Internal torch error:"); // tch's word for all that libtorch says
    let lines = || text.lines().map(str::trim).filter(|line| !line.is_empty());
    let own =
        lines().skip_while(|line| !line.contains("Traceback of TorchScript")).find(|line| line.contains("Error: "));
    own.or_else(|| lines().next()).unwrap_or("no reason given").to_owned()
}

/// The denoiser's own error, where that is the reason.
impl From<fewstep_search::Error> for Error {
    fn from(error: fewstep_search::Error) -> Self {
        let error = match error.into_denoiser::<Self>() {
            Ok(own) => return own,
            Err(error) => error,
        };
        match error.into_denoiser::<SpreadError<Self>>() {
            Ok(error) => error.into(),
            Err(error) => Self::Search(Box::new(error)),
        }
    }
}

impl From<GroupError> for Error {
    fn from(GroupError { reason, code }: GroupError) -> Self {
        Self::Process { reason, code }
    }
}

impl From<SpreadError<Error>> for Error {
    fn from(error: SpreadError<Self>) -> Self {
        match error {
            SpreadError::Denoiser(own) => own,
            SpreadError::Group(error) => error.into(),
            error @ SpreadError::NoSamples => Self::Input(error.to_string()),
        }
    }
}

impl From<ExecuteError<Self>> for Error {
    fn from(error: ExecuteError<Self>) -> Self {
        match error {
            ExecuteError::Denoiser(error) => error,
            other => Self::Input(other.to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(text: &str) -> String {
        Error::from(TchError::Torch(text.to_owned())).to_string()
    }

    #[test]
    fn a_message_is_the_line_that_says_what_is_wrong() {
        let text = "Found no NVIDIA driver on your system.\nException raised from device_count at x.cpp:1";
        assert_eq!(said(text), "libtorch: Found no NVIDIA driver on your system.");
        assert_eq!(said(""), "libtorch: no reason given");
        let interpreter =
            "The following operation failed.\nTraceback of TorchScript:\n  x + y\nRuntimeError: sizes differ";
        assert_eq!(said(interpreter), "libtorch: RuntimeError: sizes differ");
    }

    /// What libtorch says of memory, of a GPU and of a CPU.
    #[test]
    fn for_want_of_memory_there_is_advice() {
        for text in [
            "CUDA out of memory. Tried to allocate 20.00 GiB.\nException raised from malloc at x.cpp:1",
            "[enforce fail at alloc_cpu.cpp:1] . DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes",
            "DefaultCPUAllocator: not enough memory: you tried to allocate 9 bytes.",
            "cuDNN error: CUDNN_STATUS_ALLOC_FAILED",
            "std::bad_alloc",
        ] {
            let first = text.lines().next().unwrap();
            let told = said(text);
            assert!(told.contains(first) && told.contains("a smaller batch") && !told.contains('\n'), "{told}");
        }
        assert!(!said("shape '[2]' is invalid for input of size 3").contains("batch"));
    }
}
