"""A plan evaluation by evaluation, for tools that own the loop."""

from __future__ import annotations

import json
from typing import Any

from ._plan import Plan


class Steps:
    """States of one run: `begin` with unit normal noise, then `advance` with each output D of the network.

    Every state is held until the end: a plan may use any of them.
    """

    def __init__(self, plan: Plan, latent: Any) -> None:
        import torch

        plan.check_shape(latent.shape[1:])
        described = json.loads(plan.to_json())
        self.sigmas = plan.sigmas
        self._combinations = [stage["input"] for stage in described["stages"]] + [described["output"]]
        self._known = {"latent": latent}
        if plan.constant is not None:
            if len(plan.constant) > 1:
                raise ValueError("the plan holds a sample for every class, and this tool does not tell which class a sample has")
            self._known["constant"] = torch.from_numpy(plan.constant).to(latent.device, latent.dtype)
        self.step = 0
        self.state = self._combine()

    def _combine(self) -> Any:
        total: Any = None
        for source, coefficient in self._combinations[self.step].items():
            term = self._known[source] * coefficient
            total = term if total is None else total + term
        return total.expand_as(self._known["latent"])

    @property
    def finished(self) -> bool:
        """Whether `state` is the sample."""
        return self.step == len(self.sigmas)

    def advance(self, denoised: Any) -> Any:
        """The state after this one, given `D(state; sigma)`; the sample after the last."""
        self._known[f"x{self.step}"] = self.state
        self._known[f"d{self.step}"] = denoised
        self.step += 1
        self.state = self._combine()
        return self.state
