"""A mixture of Gaussians, whose denoiser is known exactly, on NumPy and on torch."""

import numpy as np

MEANS = np.array([[0.9, -0.4, 0.2, 0.0, -0.7], [-0.8, 0.3, 0.5, -0.2, 0.1], [0.1, 0.6, -0.9, 0.4, 0.3]])
SPREAD = 0.2


def numpy(x, sigma):
    """D(x; sigma) of `x` `[N, d]`; sigma is a number or `[N]`."""
    means = MEANS.astype(x.dtype)
    sigma = np.asarray(sigma, dtype=x.dtype).reshape(-1, 1)
    variance = SPREAD**2 + sigma**2
    squares = ((x[:, None] - means) ** 2).sum(-1)
    weights = np.exp(-(squares - squares.min(1)[:, None]) / (2 * variance))
    weights = weights / weights.sum(1)[:, None]
    posterior = (x[:, None] * SPREAD**2 + means * sigma[:, None] ** 2) / variance[:, None]
    return (weights[..., None] * posterior).sum(1)


def torch(x, sigma):
    import torch

    means = torch.tensor(MEANS, dtype=x.dtype)
    sigma = torch.as_tensor(sigma, dtype=x.dtype).reshape(-1, 1)
    variance = SPREAD**2 + sigma**2
    squares = ((x[:, None] - means) ** 2).sum(-1)
    weights = torch.softmax(-squares / (2 * variance), 1)
    posterior = (x[:, None] * SPREAD**2 + means * sigma[:, None] ** 2) / variance[:, None]
    return (weights[..., None] * posterior).sum(1)
