"""Find the optima of `logistic-regression` and freeze them: `python -m benchmarks.problems.make_logistic_optima [FOLDER]`.

The bound is strictly concave in `loc` and `scale`, so that each table has one optimum and no trajectory leads to another. It is found in
float64 by a quasi-Newton method on the exact gradient, and stored in float32, in which the problem is measured.
"""

import sys
from pathlib import Path

import jax
import numpy as np
from jax.flatten_util import ravel_pytree
from scipy import optimize

from estimators import Normal

from .base import in_float64
from .logistic import TABLES, logistic_regression
from .posterior import EvidenceBound


def optimum(problem: EvidenceBound) -> tuple[Normal, float]:
    """Where the bound is largest, and how large it is there."""
    start, restore = ravel_pytree(problem.dist)
    loss = jax.jit(jax.value_and_grad(lambda flat: -problem.elbo(restore(flat))))
    options = {"maxiter": 10_000, "maxfun": 20_000, "ftol": 1e-15, "gtol": 1e-8, "maxcor": 50}
    found = optimize.minimize(
        lambda flat: jax.tree.map(np.asarray, loss(flat)), start, jac=True, method="L-BFGS-B", options=options
    )
    return restore(found.x), -float(found.fun)


def make() -> dict[str, np.ndarray]:
    """The arrays of the file, by table and leaf."""
    arrays = {}
    with jax.enable_x64(True):
        for data in TABLES:
            dist, elbo = optimum(in_float64(logistic_regression(data)))
            arrays[f"{data}/loc"] = np.asarray(dist.loc, np.float32)
            arrays[f"{data}/log_scale"] = np.asarray(dist.log_scale, np.float32)
            arrays[f"{data}/elbo"] = np.asarray(elbo)
            print(f"{data}: {elbo:.4f} nats", flush=True)
    return arrays


if __name__ == "__main__":
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent / "checkpoints"
    np.savez_compressed(folder / "logistic-regression.npz", **make())
