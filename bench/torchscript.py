"""A TorchScript copy of a DDPM++ network of fewstep's: the program, and the JSON that says what it computes.

    pip install torch && python bench/torchscript.py [MODEL.safetensors] [OUT.pt]

Takes seconds. Without arguments it copies the built-in network into model.pt and model.json. The program is the raw network
F(c_in x; c_noise) of `ddpmpp.py`; `cargo run --release -p fewstep-nn --example program -- OUT.pt MODEL.safetensors` compares the two.
"""

import json
import struct
import sys
from pathlib import Path

import torch

from ddpmpp import Block, Denoiser

BUILT_IN = Path(__file__).resolve().parent.parent / "crates" / "fewstep" / "assets" / "model.safetensors"
DTYPES = {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}


def read(path):
    """The tensors of a safetensors file in f32, and its description of the network."""
    data = bytearray(Path(path).read_bytes())
    (size,) = struct.unpack("<Q", data[:8])
    header = json.loads(data[8 : 8 + size])
    config = json.loads(header.pop("__metadata__")["config"])
    tensors = {}
    for name, entry in header.items():
        start, end = (8 + size + at for at in entry["data_offsets"])
        flat = torch.frombuffer(data[start:end], dtype=DTYPES[entry["dtype"]])
        tensors[name] = flat.reshape(entry["shape"]).float()
    return tensors, config


def twin(config):
    """The network of `ddpmpp.py` for this description."""
    net, precond = config["network"], config["precond"]
    expected = {
        "model_type": "SongUNet", "embedding_type": "positional", "encoder_type": "standard", "decoder_type": "standard",
        "resample_filter": [1, 1], "channel_mult_emb": 4, "channel_mult_noise": 1,
    }
    for name, value in expected.items():
        if net.get(name) != value:
            sys.exit(f"the network has {name} = {net.get(name)}, the copy can be made for {value} alone")
    if precond["type"] != "edm" or config["label_dim"]:
        sys.exit("the copy can be made for unconditional networks with EDM's preconditioning alone")
    return Denoiser(
        config["img_resolution"], config["img_channels"], net["model_channels"], net["channel_mult"], net["num_blocks"],
        net["attn_resolutions"], dropout=0.0, sigma_data=precond["sigma_data"],
    )


def names(model, config):
    """The name of every layer of the twin in EDM's code, in the twin's order."""
    net, resolution = config["network"], config["img_resolution"]
    levels = [f"{resolution >> level}x{resolution >> level}" for level in range(len(net["channel_mult"]))]
    blocks = [f"block{index}" for index in range(net["num_blocks"])]
    enc = [f"{name}_{part}" for level, name in enumerate(levels) for part in (["down"] if level else ["conv"]) + blocks]
    dec = []
    for name in reversed(levels):
        first = ["in0", "in1"] if name == levels[-1] else ["up"]
        dec += [f"{name}_{part}" for part in first + blocks + [f"block{net['num_blocks']}"]]
    yield "map0", "map_layer0"
    yield "map1", "map_layer1"
    for ours, theirs, modules in (("enc", enc, model.enc), ("dec", dec, model.dec)):
        for index, (module, name) in enumerate(zip(modules, theirs, strict=True)):
            layers = [f".{layer}" for layer, _ in module.named_children()] if isinstance(module, Block) else [""]
            for layer in layers:
                yield f"{ours}.{index}{layer}", f"{ours}.{name}{layer}"
    yield "out_norm", f"dec.{levels[0]}_aux_norm"
    yield "out_conv", f"dec.{levels[0]}_aux_conv"


class Raw(torch.nn.Module):
    def __init__(self, denoiser):
        super().__init__()
        self.denoiser = denoiser

    def forward(self, x, noise):
        return self.denoiser.network(x, noise)


def load(source):
    """The twin of the network in `source` with its weights, and its description."""
    tensors, config = read(source)
    model = twin(config)
    weights = {
        f"{ours}.{kind}": tensors.pop(f"model.{theirs}.{kind}")
        for ours, theirs in names(model, config)
        for kind in ("weight", "bias")
    }
    left = [name for name in tensors if "resample_filter" not in name and "map_augment" not in name]
    if left:
        sys.exit(f"{source} has {len(left)} tensors that the copy has no place for, the first is {left[0]}")
    model.load_state_dict(weights)
    return model.eval().requires_grad_(False), config


def built_in():
    """The twin of the built-in network."""
    return load(BUILT_IN)[0]


def copy(source, out):
    """Writes the program of the network in `source` and its JSON beside it; returns the JSON's path and the number of weights."""
    model, config = load(source)
    shape = [config["img_channels"], config["img_resolution"], config["img_resolution"]]
    raw = Raw(model)
    examples = [(torch.randn(n, *shape), torch.randn(n)) for n in (2, 3)]
    program = torch.jit.trace(raw, examples[0], check_inputs=examples[1:])
    program.save(str(out))
    described = {
        "shape": shape,
        "parameterisation": config["precond"],
        "classes": 0,
        "inputs": ["x", "noise"],
        "noise_shape": "batch",
        "input_dtype": "f32",
    }
    beside = Path(out).with_suffix(".json")
    beside.write_text(json.dumps(described, indent=2) + "\n")
    return beside, sum(w.numel() for w in model.parameters())


def main():
    if len(sys.argv) > 3 or any(word.startswith("-") for word in sys.argv[1:]):
        sys.exit(__doc__)
    source, out = (sys.argv[1:] + [BUILT_IN, "model.pt"][len(sys.argv) - 1 :])[:2]
    beside, weights = copy(source, out)
    print(f"{out} and {beside}: {weights} weights")


if __name__ == "__main__":
    main()
