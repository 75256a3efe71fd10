"""Makes the first inputs of fuzz targets that `testdata/` has no small files for.

    python fuzz/seeds/make.py target/release/fewstep        (needs numpy)
"""

import gzip
import io
import json
import shutil
import struct
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path

import numpy as np

HERE = Path(__file__).parent
PICTURES = sorted((HERE.parent.parent / "testdata/metrics/grey_a").glob("*.png"))[:2]


def write(folder, name, data):
    place = HERE / folder
    place.mkdir(exist_ok=True)
    (place / name).write_bytes(data)


def npz(**arrays):
    out = io.BytesIO()
    np.savez(out, **arrays)
    return out.getvalue()


def dataset():
    """The first byte says under which name a file is opened (fuzz_targets/dataset.rs)."""
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as out:
        for picture in PICTURES:
            out.write(picture, f"a/{picture.name}")
        labels = [[f"a/{picture.name}", at] for at, picture in enumerate(PICTURES)]
        out.writestr("dataset.json", json.dumps({"labels": labels}))
    write("dataset", "zip", b"\0" + archive.getvalue())
    record = bytes([3]) + bytes(range(256)) * 12
    write("dataset", "cifar-bin", b"\1" + record * 2)
    idx = struct.pack(">IIII", 0x803, 2, 4, 5) + bytes(range(40))
    write("dataset", "idx", b"\2" + idx)
    write("dataset", "idx-gz", b"\3" + gzip.compress(idx, mtime=0))
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as out:
        for name in ["data_batch_1.bin", "test_batch.bin"]:
            info = tarfile.TarInfo(f"cifar-10-batches-bin/{name}")
            info.size = len(record)
            out.addfile(info, io.BytesIO(record))
    write("dataset", "cifar-tar-gz", b"\4" + gzip.compress(packed.getvalue(), mtime=0))


def folders():
    """The first byte says which kind of data set it is, the next two how long its first file is (fuzz_targets/dataset_folder.rs)."""
    picture = PICTURES[0].read_bytes()
    labels = json.dumps({"labels": [["a/0.png", 1], ["b/1.png", 0]]}).encode()
    write("dataset_folder", "pictures", bytes([0]) + struct.pack("<H", len(labels)) + labels + picture)
    images = struct.pack(">IIII", 0x803, 2, 4, 5) + bytes(range(40))
    write("dataset_folder", "idx", bytes([1]) + struct.pack("<H", len(images)) + images + struct.pack(">II", 0x801, 2) + bytes(2))


def arrays():
    mu, sigma = np.arange(3.0), np.eye(3)
    write("npz", "statistics.npz", npz(mu=mu, sigma=sigma))
    write("npz", "features.npz", npz(mu=mu, sigma=sigma, num_images=np.int64(5), features=np.ones((5, 3), np.float32)))
    write("npz", "types.npz", npz(f2=np.ones(2, np.float16), u1=np.zeros((1, 2), np.uint8), text=np.array("ab")))
    write("npz", "fortran.npz", npz(x=np.asfortranarray(np.ones((2, 3)))))
    latents, labels = np.ones((2, 1, 2, 2), np.float32), np.eye(3, dtype=np.float32)[:2]
    write("arrays", "latents.npz", npz(latents=latents, class_labels=labels, sigma=np.ones(2)))
    write("arrays", "images.npz", npz(arr_0=np.ones((2, 4, 4, 3), np.uint8)))


def safetensors():
    header = json.dumps({"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]},
                         "b": {"dtype": "BF16", "shape": [1, 2], "data_offsets": [8, 12]}, "__metadata__": {"format": "pt"}})
    write("safetensors", "two.safetensors", struct.pack("<Q", len(header)) + header.encode() + bytes(12))


    config = {"in_channels": 1, "stages": [{"width": 2, "convolutions": 1}, {"width": 3, "convolutions": 1}], "classes": 2}
    shapes = {"stages.0.0": [2, 1, 3, 3], "stages.1.0": [3, 2, 3, 3], "head": [2, 3]}
    header, end = {}, 0
    for name, shape in shapes.items():
        for part, size in [("weight", shape), ("bias", shape[:1])]:
            start, end = end, end + 4 * int(np.prod(size))
            header[f"{name}.{part}"] = {"dtype": "F32", "shape": size, "data_offsets": [start, end]}
    header["__metadata__"] = {"format": "fewstep features 1", "architecture": "small-cnn", "config": json.dumps(config)}
    header = json.dumps(header).encode()
    write("features", "small.safetensors", struct.pack("<Q", len(header)) + header + bytes(end))


def snapshots():
    """What the EDM code pickles, as JSON that fuzz_targets/snapshot.rs pickles."""
    network = {"model_channels": 8, "channel_mult": [1], "num_blocks": 1, "attn_resolutions": []}
    for name, of_network in [
        ("EDMPrecond", {"model_type": "DhariwalUNet"}), ("VPPrecond", {"embedding_type": "positional"}),
        ("VEPrecond", {"embedding_type": "fourier"}), ("iDDPMPrecond", {"M": 100}), ("Precond", {"sigma_data": 0.5}),
    ]:
        kwargs = {"img_resolution": 8, "img_channels": 3, "label_dim": 4, "use_fp16": False, **network, **of_network}
        attributes = {"sigma_min": 0, "sigma_max": 80.0, "sigma_data": 0.5, "M": 100}
        model = {"class": "DhariwalUNet", "state": {"_init_kwargs": network, "_modules": {}}}
        encoder = {"class": "StabilityVAEEncoder", "state": {"_init_kwargs": {"vae_name": "a"}, "scale": [0.5], "bias": [0.1], "_modules": {}}}
        state = {"_init_args": [], "_init_kwargs": kwargs, "_modules": {"model": model}, "_parameters": {}, "_buffers": {}, **attributes}
        root = {"ema": {"class": name, "state": state}, "encoder": encoder, "dataset_kwargs": {"path": "a"}, "loss_fn": None}
        write("snapshot", f"{name}.json", json.dumps(root).encode())


def settings(fewstep):
    for command in ["plan", "compare", "reproduce", "eval", "sample", "train"]:
        text = subprocess.run([fewstep, command, "--print-settings"], check=True, capture_output=True).stdout
        write("settings", f"{command}.toml", text)
    search = (HERE / "settings/compare.toml").read_text()
    search = search[search.index("[search.teacher]"):].replace("[search.", "[")
    write("search_settings", "search.toml", search.encode())
    for name in ["least-squares+gauss-newton+moments", "gits@1.15/unipc3_bh2", "oss/ipndm4"]:
        write("search_settings", name.replace("/", "-"), name.encode())


def runs(fewstep):
    with tempfile.TemporaryDirectory() as folder:
        def run(*args):
            subprocess.run([fewstep, *args], check=True, capture_output=True, cwd=folder)

        small = ["--set", "held_out.samples=2", "--set", "search.teacher.samples=4"]
        run("fit", "gaussian-mixture", "--steps", "2", "--method", "least-squares", "--updates", "1", "--set", "tune.trajectories=4",
            "--set", "tune.batch=2", *small, "--out", "fit")
        run("compare", "gaussian-mixture", "--steps", "2", "--methods", "karras/euler", "--images", "4", "--set", "held_out=2",
            "--set", "search.teacher.samples=4", "--out", "compare")
        run("demo", "gaussian-mixture", "--steps", "2", "--images", "4", "--out", "demo")
        images = Path(folder) / "images"
        images.mkdir()
        for picture in PICTURES:
            shutil.copy(picture, images)
        run("train", "--data", "images", "--out", "train", "--channels", "8", "--images", "2", "--batch", "2", "--set",
            "network.channel_mult=[1]", "--set", "network.blocks=1", "--set", "network.attention=[]", "--set", "output.grid_every=0")
        for name in ["fit", "compare", "demo", "train"]:
            place = Path(folder) / name
            texts = [file for file in sorted(place.rglob("*")) if file.suffix in {".json", ".jsonl"} and file.stat().st_size < 20000]
            parts = [f"\n=== {file.relative_to(place)}\n".encode() + file.read_bytes() for file in texts]
            write("run_folder", name, b"".join(parts).replace(fewstep.encode(), b"fewstep"))
        for file in ["fit/run.json", "fit/fit.json", "compare/run.json", "compare/compare.json", "demo/run.json",
                     "demo/results.json", "train/run.json"]:
            text = (Path(folder) / file).read_text().replace(fewstep, "fewstep")
            write("run_file", file.replace("/", "-"), text.encode())
        write("checkpoint", "network.safetensors", (Path(folder) / "train/model.safetensors").read_bytes())


if __name__ == "__main__":
    program = str(Path(sys.argv[1]).resolve())
    dataset()
    folders()
    arrays()
    safetensors()
    snapshots()
    settings(program)
    runs(program)
