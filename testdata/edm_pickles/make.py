"""Makes the tiny pickles of this folder with the standard library alone.

Stand-ins for the classes of torch, NumPy and EDM carry the names that published snapshots refer to; the pickle module
then writes those names exactly as the real libraries would. `python make.py` writes the files beside this script.
"""

import copyreg
import io
import pickle
import struct
import sys
import types
import zipfile
from pathlib import Path

HERE = Path(__file__).parent


# ---- stand-ins, registered under the names that pickles shall hold ----

def register(module_name, name, thing):
    parts = module_name.split(".")
    for n in range(1, len(parts) + 1):
        sys.modules.setdefault(".".join(parts[:n]), types.ModuleType(".".join(parts[:n])))
    thing.__module__, thing.__qualname__, thing.__name__ = module_name, name, name
    setattr(sys.modules[module_name], name, thing)
    return thing


def function(module_name, name):
    def stand_in(*args):
        raise AssertionError("never called")
    return register(module_name, name, stand_in)


class Call:
    """Pickles as a call of `callable_(*args)`, with optional state."""

    def __init__(self, callable_, *args, state=None):
        self.parts = (callable_, args) if state is None else (callable_, args, state)

    def __reduce__(self):
        return self.parts


reconstruct = function("torch_utils.persistence", "_reconstruct_persistent_obj")
rebuild_parameter = function("torch._utils", "_rebuild_parameter")
rebuild_tensor = function("torch._utils", "_rebuild_tensor_v2")
load_from_bytes = function("torch.storage", "_load_from_bytes")
np_reconstruct = function("numpy.core.multiarray", "_reconstruct")
np_scalar = function("numpy.core.multiarray", "scalar")
np_ndarray = function("numpy", "ndarray")
np_dtype = function("numpy", "dtype")
STORAGES = {name: register("torch", name, type(name, (), {}))
            for name in ("FloatStorage", "HalfStorage", "DoubleStorage", "LongStorage", "BFloat16Storage")}
EasyDict = register("dnnlib.util", "EasyDict", type("EasyDict", (dict,), {}))
ModuleDict = register("torch.nn.modules.container", "ModuleDict", type("ModuleDict", (), {}))
OrderedDict = __import__("collections").OrderedDict


# ---- what torch writes ----

class StorageStub:
    def __init__(self, pid):
        self.pid = pid


class StoragePickler(pickle.Pickler):
    def persistent_id(self, obj):
        return obj.pid if isinstance(obj, StorageStub) else None


def legacy_stream(obj, storages):
    """`torch.save(obj, _use_new_zipfile_serialization=False)`; `storages` maps keys to (numel, raw bytes)."""
    out = io.BytesIO()
    for part in (0x1950A86A20F9469CFC6C, 1001,
                 {"protocol_version": 1001, "little_endian": True, "type_sizes": {"short": 2, "int": 4, "long": 4}}):
        pickle.dump(part, out, protocol=2)
    StoragePickler(out, protocol=2).dump(obj)
    pickle.dump(sorted(storages), out, protocol=2)
    for key in sorted(storages):
        numel, raw = storages[key]
        out.write(struct.pack("<q", numel) + raw)
    return out.getvalue()


OUTSIDE = None  # while a snapshot is made for torch.save: its storages, which lie beside the pickle


def storage(kind, code, values, declared=None, view=None):
    raw = struct.pack(f"<{len(values)}{code}", *values)
    numel = len(values) if declared is None else declared
    if OUTSIDE is not None:
        key = str(len(OUTSIDE))
        OUTSIDE[key] = (numel, raw)
        return StorageStub(("storage", STORAGES[kind], key, "cpu", numel, view))
    pid = ("storage", STORAGES[kind], "94790228766416", "cuda:0", numel, view)
    return Call(load_from_bytes, legacy_stream(StorageStub(pid), {"94790228766416": (numel, raw)}))


def tensor(stored, size, stride, offset=0):
    return Call(rebuild_tensor, stored, offset, size, stride, False, OrderedDict())


def parameter(stored, size, stride, offset=0):
    return Call(rebuild_parameter, tensor(stored, size, stride, offset), False, OrderedDict())


def dtype(descr):
    return Call(np_dtype, descr, False, True, state=(3, "<", None, None, None, -1, -1, 0))


def module(class_name, parameters=(), buffers=(), modules=(), kwargs=None, hidden=(), **attributes):
    state = {
        "training": False,
        "_parameters": OrderedDict(parameters), "_buffers": OrderedDict(buffers),
        "_non_persistent_buffers_set": set(hidden), "_backward_hooks": OrderedDict(),
        "_modules": OrderedDict(modules), **attributes,
        "_init_args": (), "_init_kwargs": EasyDict(kwargs or {}),
    }
    return Call(reconstruct, {"type": "class", "version": 6, "module_src": "# source removed",
                              "class_name": class_name, "state": state})


def snapshot(**parts):  # keyword arguments: see network
    return {"ema": network(**parts), "loss_fn": module("EDMLoss", P_mean=-1.2, P_std=1.2, sigma_data=0.5),
            "augment_pipe": None, "dataset_kwargs": EasyDict(path="./data.zip", resolution=16, max_size=None)}


def network(weight=None, inner=(), **attributes):
    floats = storage("FloatStorage", "f", [0, 1, 2, 3, 4, 5])
    weight = weight or parameter(floats, (2, 3), (1, 2))  # transposed: [[0, 2, 4], [1, 3, 5]]
    conv = module("Conv2d", [("weight", weight), ("bias", parameter(floats, (2,), (1,), offset=4))],
                  [("resample_filter", None)])
    enc = ModuleDict()
    enc.__dict__.update(_parameters=OrderedDict(), _buffers=OrderedDict(), training=False,
                        _modules=OrderedDict([("16x16_conv", conv), ("none", None), *inner]))
    array = Call(np_reconstruct, np_ndarray, (0,), b"b",
                 state=(1, (2,), dtype("f4"), False, struct.pack("<2f", 1.5, -2)))
    scale = Call(np_scalar, dtype("f8"), struct.pack("<d", 0.577))
    net = module("SongUNet", modules=[("enc", enc)], kwargs={"init_weight": scale, "channel_mult": [1, 2]}, table=array)
    half = tensor(storage("HalfStorage", "e", [0.5, -1.0]), (2,), (1,))
    steps = tensor(storage("LongStorage", "q", [0, 7, 9], view=("v", 1, 2)), (), ())
    return module("EDMPrecond", buffers=[("u", half), ("steps", steps), ("scratch", half)], hidden=["scratch"],
                  modules=[("model", net)], kwargs={"img_resolution": 16, "use_fp16": True},
                  sigma_min=0, sigma_max=float("inf"), sigma_data=0.5, **attributes)


# ---- the files ----

def write(name, obj, protocol=4):
    (HERE / name).write_bytes(pickle.dumps(obj, protocol=protocol))


def floats(n=6, **kwargs):
    return storage("FloatStorage", "f", [0.25] * n, **kwargs)


def torch_saved():
    """`torch.save({"ema": net, ...})` in both of its formats."""
    global OUTSIDE
    OUTSIDE = {}
    obj, storages = snapshot(), OUTSIDE
    OUTSIDE = None
    (HERE / "saved.legacy.pkl").write_bytes(legacy_stream(obj, storages))
    stream = io.BytesIO()
    StoragePickler(stream, protocol=2).dump(obj)
    with zipfile.ZipFile(HERE / "saved.zip.pkl", "w") as archive:
        members = {"data.pkl": stream.getvalue(), "byteorder": b"little", "version": b"3\n"}
        members.update((f"data/{key}", raw) for key, (_, raw) in storages.items())
        for name, raw in members.items():
            archive.writestr(zipfile.ZipInfo(f"saved/{name}"), raw)  # without the time, so that the file stays the same


def main():
    torch_saved()
    for protocol in range(6):
        write(f"protocol{protocol}.pkl", snapshot(), protocol)

    # Calls that must not happen.
    write("os_system.pkl", {"ema": Call(__import__("os").system, "touch executed")})
    write("eval.pkl", {"ema": Call(eval, "1 + 1")}, 2)
    write("getattr.pkl", {"ema": Call(getattr, {}, "clear")}, 0)
    write("hidden_call.pkl", snapshot(weight=Call(function("torch.hub", "load"), "x")))

    # Tensors that do not fit their storages.
    write("stride_past_storage.pkl", snapshot(weight=parameter(floats(), (2, 3), (3, 2))))
    write("offset_past_storage.pkl", snapshot(weight=parameter(floats(), (2, 3), (3, 1), offset=1)))
    write("negative_stride.pkl", snapshot(weight=parameter(floats(), (2, 3), (-3, 1))))
    write("strides_missing.pkl", snapshot(weight=parameter(floats(), (2, 3), (1,))))
    write("huge_shape.pkl", snapshot(weight=parameter(floats(), (1 << 62, 1 << 62), (1, 1))))
    write("expanded.pkl", snapshot(weight=parameter(floats(), (1 << 40,), (0,))))
    write("huge_storage.pkl", snapshot(weight=parameter(floats(declared=1 << 60), (2, 3), (3, 1))))
    write("short_storage.pkl", snapshot(weight=parameter(floats(declared=7), (2, 3), (3, 1))))
    nan = storage("FloatStorage", "f", [0, float("nan")])
    write("nan_weight.pkl", snapshot(weight=parameter(nan, (2,), (1,))))

    # Objects that refer to each other without end.
    loop = module("Loop")
    loop.parts[1][0]["state"]["_modules"]["again"] = loop.parts[1][0]["state"]["_modules"]
    write("module_is_no_module.pkl", snapshot(inner=[("loop", loop)]))
    shared = module("Leaf")
    for _ in range(40):
        shared = module("Pair", modules=[("a", shared), ("b", shared)])
    write("shared_modules.pkl", snapshot(inner=[("bomb", shared)]))
    nested = module("Leaf")
    for _ in range(100):
        nested = module("Box", modules=[("m", nested)])
    write("nested_modules.pkl", snapshot(inner=[("m", nested)]))
    lists = []
    for _ in range(40):
        lists = [lists, lists]
    write("shared_lists.pkl", {**snapshot(), "dataset_kwargs": {"x": lists}})
    longer = list(range(2000))
    write("shared_attributes.pkl", snapshot(**{f"a{i}": longer for i in range(100)}))

    # Not a snapshot.
    write("no_ema.pkl", {"G": 1, "D": 2})
    write("ema_is_a_list.pkl", {"ema": [1, 2]})


if __name__ == "__main__":
    main()
