"""How far samples are from training data, by features of the caller's."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from ._arrays import is_torch


class Scorer:
    """Frechet distances of samples from training data, both `[N, *shape]` in batches, under `features`, a function to `[N, d]`.

    By LAPACK: the search's own takes seconds for the thousand dimensions of such features.
    """

    def __init__(self, features: Callable[[Any], Any], data: Iterable[Any]) -> None:
        self.features = features
        rows = self._rows(data)
        if not np.isfinite(rows).all():
            raise FloatingPointError("features of the training samples are not finite")
        self.mean, covariance = _moments(rows)
        values, vectors = np.linalg.eigh(covariance)
        self.root = (vectors * np.sqrt(np.maximum(values, 0))) @ vectors.T
        self.trace = np.trace(covariance)

    def distance(self, batches: Iterable[Any]) -> float:
        rows = self._rows(batches)
        if not np.isfinite(rows).all():
            return float("inf")  # a solver that diverges here
        mean, covariance = _moments(rows)
        overlap = np.sqrt(np.maximum(np.linalg.eigvalsh(self.root @ covariance @ self.root), 0)).sum()
        return float(np.sum((mean - self.mean) ** 2) + np.trace(covariance) + self.trace - 2 * overlap)

    def _rows(self, batches: Iterable[Any]) -> np.ndarray:
        parts = [self._of(batch) for batch in batches]
        widths = sorted({part.shape[1] for part in parts})
        if len(widths) > 1:
            raise ValueError(f"features must be of one dimension, and are of {' and of '.join(map(str, widths))}")
        return np.concatenate(parts)

    def _of(self, batch: Any) -> np.ndarray:
        rows = self.features(batch)
        if is_torch(rows):
            rows = rows.detach().cpu().double().numpy()
        try:
            rows = np.asarray(rows, np.float64)
        except (TypeError, ValueError):
            raise TypeError(f"features must answer with an array [{len(batch)}, d], and answered with a {type(rows).__name__}") from None
        if rows.ndim != 2 or len(rows) != len(batch) or rows.shape[1] < 1:
            raise ValueError(f"features must answer {len(batch)} samples with [{len(batch)}, d], and answered {list(rows.shape)}")
        return rows


def _moments(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return rows.mean(0), np.atleast_2d(np.cov(rows, rowvar=False))
