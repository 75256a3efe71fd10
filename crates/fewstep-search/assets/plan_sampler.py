"""Runs a fewstep plan.json with any denoiser. One file, nothing beyond Python's standard library (and what your denoiser needs).

    plan = load_plan("plan.json")
    images = sample(plan, denoise, torch.randn(64, 3, 32, 32), constant=constant_image(plan, torch.tensor))

`denoise(x, sigma)` is D(x; sigma) of Karras et al. 2022: the network with its preconditioning, x = y + sigma n, sigma a float.
For EDM's networks: `lambda x, sigma: net(x, torch.as_tensor(sigma), class_labels)`. Latents are unit normal noise, not yet
multiplied by sigma. Everything only has to add and multiply by floats, so tensors, arrays and plain numbers all work.
"""

import base64
import json
import struct


def load_plan(path):
    """The plan in a file, checked for what this sampler knows."""
    with open(path, encoding="utf-8") as file:
        plan = json.load(file)
    if plan["version"] != 1:
        raise ValueError(f"{path} is a plan of version {plan['version']}, this sampler knows version 1")
    return plan


def constant_image(plan, tensor, label=None):
    """The sample that the plan holds, of the plan's shape, made by `tensor(nested lists)`; None if it holds none.

    `label`: the class, or a list of classes, one a sample of the batch, where the plan holds a sample for each class.
    """
    constant = plan.get("constant")
    if constant is None:
        return None
    samples = constant["f32_base64"]
    if len(samples) > 1 and label is None:
        raise ValueError(f"this plan holds a sample for each of {len(samples)} classes: pass label=, as to the network")

    def of_class(label):
        data = base64.b64decode(samples[label if len(samples) > 1 else 0])
        values = list(struct.unpack(f"<{len(data) // 4}f", data))
        for size in reversed(constant["shape"]):  # the last axis is the fastest
            values = [values[start : start + size] for start in range(0, len(values), size)]
        return values[0]

    return tensor([of_class(each) for each in label] if isinstance(label, (list, tuple)) else of_class(label))


def sample(plan, denoise, latent, constant=None):
    """The samples that the plan makes of unit normal noise; as many evaluations as the plan has stages.

    `constant`: the plan's constant sample, broadcast over the batch (see `constant_image`), for plans that use one.
    """
    known = {"latent": latent, "constant": constant}
    stages = plan["stages"]
    combinations = [stage["input"] for stage in stages] + [plan["output"]]
    last_use = {source: moment for moment, terms in enumerate(combinations) for source in terms}

    def combine(moment):
        total = None
        for source, coefficient in combinations[moment].items():
            if known[source] is None:
                raise ValueError("this plan starts from a constant sample: pass constant=constant_image(plan, ...)")
            term = coefficient * known[source]
            total = term if total is None else total + term
        for source in combinations[moment]:
            if last_use[source] == moment:
                del known[source]  # memory does not grow with the number of steps
        return total

    for k, stage in enumerate(stages):
        x = combine(k)
        known[f"d{k}"] = denoise(x, stage["sigma"])
        known[f"x{k}"] = x
        for source in (f"d{k}", f"x{k}"):
            if source not in last_use:
                del known[source]
    return combine(len(stages))
