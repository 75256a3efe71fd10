//! The list of names that a pickle may call. Nothing is called: a listed call is kept as data.

/// A name on the list, by what it stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Callable {
    /// `torch_utils.persistence._reconstruct_persistent_obj(meta)`: an object of NVlabs' EDM or StyleGAN code.
    PersistentObject,
    /// A class of `torch.nn.modules` (containers such as `ModuleDict`), pickled with its `__dict__` as state, or a class
    /// of the program in a TorchScript archive (`__torch__....`), whose attributes are its state.
    TorchModule,
    /// A mapping class: `collections.OrderedDict`, `defaultdict`, `dnnlib.util.EasyDict`.
    Mapping,
    /// `builtins.set` or `frozenset`, called with a list.
    Set,
    /// `builtins.bytes` or `bytearray`, called with a byte string or nothing.
    Bytes,
    /// `_codecs.encode(text, "latin1")`: bytes as protocols 0 to 2 write them.
    CodecsEncode,
    /// `copyreg._reconstructor(cls, base, state)`: an object as protocols 0 and 1 write it.
    Reconstructor,
    /// `numpy.core.multiarray._reconstruct(...)`: an array, whose contents come as BUILD state.
    NumpyReconstruct,
    /// `numpy.core.multiarray.scalar(dtype, bytes)`.
    NumpyScalar,
    /// `numpy.core.numeric._frombuffer(bytes, dtype, shape, order)`: an array as protocol 5 writes it.
    NumpyFromBuffer,
    /// `numpy.dtype(descr, ...)`.
    NumpyDtype,
    /// `torch._utils._rebuild_tensor(storage, offset, size, stride)` and `_v2(..., requires_grad, hooks)`.
    RebuildTensor,
    /// `torch._utils._rebuild_tensor_v3(storage, offset, size, stride, requires_grad, hooks, dtype)`.
    RebuildTensorV3,
    /// `torch._utils._rebuild_parameter(tensor, requires_grad, hooks)` and `_with_state`.
    RebuildParameter,
    /// `torch._tensor._rebuild_from_type_v2(function, type, args, state)`.
    RebuildFromType,
    /// `torch.storage._load_from_bytes(bytes)`: a storage as a nested legacy `torch.save` stream.
    LoadStorage,
    /// `torch.Size(tuple)`.
    TorchSize,
    /// `torch.device(...)`.
    TorchDevice,
    /// `torch.jit._pickle.build_intlist(list)` and its like: a typed list in a TorchScript archive.
    TypedList,
}

impl Callable {
    /// What `module.name` stands for, if it is on the list. Old names of the same thing (Python 2, NumPy before and
    /// after 2.0) are the same entry.
    pub fn find(module: &str, name: &str) -> Option<Callable> {
        Some(match (module, name) {
            ("torch_utils.persistence", "_reconstruct_persistent_obj") => Callable::PersistentObject,
            ("collections", "OrderedDict" | "defaultdict" | "Counter") => Callable::Mapping,
            ("dnnlib.util" | "dnnlib", "EasyDict") => Callable::Mapping,
            ("builtins" | "__builtin__", "dict") => Callable::Mapping,
            ("builtins" | "__builtin__", "set" | "frozenset") => Callable::Set,
            ("builtins" | "__builtin__", "bytes" | "bytearray") => Callable::Bytes,
            ("_codecs", "encode") => Callable::CodecsEncode,
            ("copyreg" | "copy_reg", "_reconstructor") => Callable::Reconstructor,
            ("numpy.core.multiarray" | "numpy._core.multiarray", "_reconstruct") => Callable::NumpyReconstruct,
            ("numpy.core.multiarray" | "numpy._core.multiarray", "scalar") => Callable::NumpyScalar,
            ("numpy.core.numeric" | "numpy._core.numeric", "_frombuffer") => Callable::NumpyFromBuffer,
            ("numpy", "dtype") => Callable::NumpyDtype,
            ("torch._utils", "_rebuild_tensor" | "_rebuild_tensor_v2") => Callable::RebuildTensor,
            ("torch._utils", "_rebuild_tensor_v3") => Callable::RebuildTensorV3,
            ("torch._utils", "_rebuild_parameter" | "_rebuild_parameter_with_state") => Callable::RebuildParameter,
            ("torch._tensor", "_rebuild_from_type_v2") => Callable::RebuildFromType,
            ("torch.storage", "_load_from_bytes") => Callable::LoadStorage,
            ("torch", "Size") => Callable::TorchSize,
            ("torch", "device") => Callable::TorchDevice,
            ("torch.jit._pickle", "restore_type_tag") => Callable::TypedList,
            ("torch.jit._pickle", name) if name.starts_with("build_") => Callable::TypedList,
            (module, _) if module.starts_with("torch.nn.modules.") => Callable::TorchModule,
            (module, _) if module == "__torch__" || module.starts_with("__torch__.") => Callable::TorchModule,
            _ => return None,
        })
    }

    /// Whether NEWOBJ, which makes an object of a class, may name it.
    pub(super) fn is_class(self) -> bool {
        use Callable::*;
        matches!(self, TorchModule | Mapping | Set | Bytes | NumpyDtype | TorchSize)
    }

    /// Whether BUILD may give it state.
    pub(super) fn takes_state(self) -> bool {
        use Callable::*;
        matches!(self, TorchModule | Mapping | NumpyReconstruct | NumpyDtype)
    }
}
