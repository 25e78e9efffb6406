"""The strongest rival that is no JAX: PyTorch, with replicates batched by hand and gradients in closed form. Needs `torch`.

A batch of replicates is one tensor; nothing is recorded for differentiation where the score is known, and one backward pass of a sum
gives the pathwise gradients of a whole batch. Means and variances are streamed in float64, batch by batch, which is kinder to memory
than keeping all gradients.
"""

from collections.abc import Callable
from importlib import import_module
from importlib.util import find_spec

import numpy as np

from .clock import Job
from .tasks import Task

BATCHES = (256, 2_048)
torch = import_module("torch") if find_spec("torch") else None


def jobs(task: Task) -> dict[str, tuple[Job, int]]:
    """The task at several batches, if it is among those written out here and PyTorch is installed."""
    gradients = {
        "T1 leave-one-out": bits,
        "T2 pathwise": cosine_pathwise,
        "T2 score function": cosine_score,
        "T3 score function": categories_score,
    }.get(task.name)
    if gradients is None or torch is None:
        return {}
    arrays = [torch.from_numpy(np.array(array)) for array in task.arrays]
    few = task.naive_replicates
    return {f"PyTorch, batch {batch}": (moments(gradients, arrays, few, batch), few) for batch in BATCHES}


def moments(gradients: Callable, arrays: list, replicates: int, batch: int) -> Job:
    """A function of the seed that returns mean and variance over batches."""

    def run(seed: int):
        torch.manual_seed(seed)
        total = 0
        for _ in range(replicates // batch):
            g = gradients(batch, *arrays)
            total = total + torch.stack([g.sum(0), (g * g).sum(0)]).double()
        mean = total[0] / replicates
        return torch.stack([mean, total[1] / replicates - mean**2])

    return run


def bits(batch, logits):
    """T1."""
    b = (torch.rand(2, batch, logits.numel()) < torch.sigmoid(logits)).float()
    f = ((b - 0.499) ** 2).mean(-1)
    return 0.5 * (f[0] - f[1])[:, None] * (b[0] - b[1])


def cosine_pathwise(batch, loc, log_scale):
    """T2."""
    scaled = log_scale.exp() * torch.randn(batch, loc.numel())
    slope = -torch.sin(loc + scaled)
    return torch.cat([slope, slope * scaled], 1)


def cosine_score(batch, loc, log_scale):
    """T2."""
    noise = torch.randn(batch, loc.numel())
    f = torch.cos(loc + log_scale.exp() * noise).sum(1, keepdim=True)
    return torch.cat([f * noise / log_scale.exp(), f * (noise**2 - 1)], 1)


def categories_score(batch, logits, weights):
    """T3."""
    z = logits - torch.log(-torch.log(torch.rand(batch, *logits.shape)))
    hard = torch.nn.functional.one_hot(z.argmax(-1), logits.shape[-1]).float()
    f = ((weights * hard).sum((1, 2), keepdim=True) - 0.5) ** 2
    return (f * (hard - torch.softmax(logits, -1))).flatten(1)
