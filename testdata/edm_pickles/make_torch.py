"""Makes the torch.save files of this folder with PyTorch (any version from 1.6): `python make_torch.py`."""

from collections import OrderedDict
from pathlib import Path

import torch

HERE = Path(__file__).parent


def main():
    matrix = torch.arange(6, dtype=torch.float32).reshape(3, 2)
    state = OrderedDict([
        ("conv.weight", torch.nn.Parameter(matrix.t())),  # not contiguous: [[0, 2, 4], [1, 3, 5]]
        ("conv.half", matrix.half()[1:]),                 # a view with an offset: [[2, 3], [4, 5]]
        ("bn.num_batches_tracked", torch.tensor(7)),
        ("mask", torch.tensor([True, False])),
        ("bf", torch.tensor([0.5, -2.0], dtype=torch.bfloat16)),
        ("tied", torch.nn.Parameter(matrix)),             # shares its storage with conv.weight
    ])
    torch.save(state, HERE / "state.zip.pth")
    torch.save(state, HERE / "state.legacy.pth", _use_new_zipfile_serialization=False)
    torch.save({"epoch": 3, "state_dict": state, "nothing": None}, HERE / "nested.zip.pth")


if __name__ == "__main__":
    main()
