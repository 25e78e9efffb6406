"""The two forms in which the gradient of an evidence bound is estimated, with an encoder and without.

    ELBO = E[log p(x, z) - log q(z)]          `kl="sampled"`: all of it is left to the estimator
         = E[log p(x | z)] - KL(q || p)       `kl="analytic"`: the estimator has the first term, the second is exact

Both have the same gradient, but not the same variance.
"""

import dataclasses
from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PyTree

from estimators import AbstractDifferentiable, AbstractDistribution

from .base import Estimate, Gradient, PRNGKey
from .evidence import LogWeight

Data = Float[Array, "batch features"]


def require_form(name: str, kl: str) -> None:
    """Raise `ValueError` unless `kl` is one of the two forms."""
    if kl not in ("analytic", "sampled"):
        raise ValueError(f"`{name}` needs `kl` to be 'analytic' or 'sampled', got {kl!r}.")


def integrand(weight: LogWeight, kl: str) -> AbstractDifferentiable:
    """The `f` that an estimator is given."""
    return weight.reconstruction if kl == "analytic" else weight


def estimated(estimate: Estimate, key: PRNGKey, weight: LogWeight, kl: str) -> tuple[AbstractDistribution, PyTree]:
    """The gradient of one bound with respect to its own `q`, and the statistics of the estimate in it."""
    dist = weight.posterior
    grads, stats = estimate(key, dist, integrand(weight, kl))
    if kl == "analytic":
        grads = jax.tree.map(jnp.subtract, grads, jax.grad(weight.divergence)(dist))
    return grads, stats


def through_encoder(
    datapoint: Callable[[PRNGKey, AbstractDistribution, Float[Array, "features"]], tuple[AbstractDistribution, PyTree]],
    key: PRNGKey,
    encoder: Callable[[Float[Array, "features"]], AbstractDistribution],
    inputs: Data,
    data: Data,
) -> tuple[Gradient, PyTree]:
    """The gradient of the mean over a batch: `distribution`, one row for each `datapoint(key, dist, datum)` divided by
    the size of the batch, and what one pullback of these makes of them, `encoder`."""
    dists, pull_back = eqx.filter_vjp(lambda encoder: jax.vmap(encoder)(inputs), encoder)
    batch = len(data)
    grads, stats = jax.vmap(datapoint)(jax.random.split(key, batch), dists, data)
    grads = jax.tree.map(lambda leaf: leaf / batch, grads)
    gradient = {"distribution": grads, "encoder": pull_back(grads)[0]}
    return gradient, jax.tree.map(lambda leaf: jnp.mean(leaf, axis=0), stats)


def leaves_of(dist: AbstractDistribution) -> dict[str, PyTree]:
    """The leaves of a distribution by name, to be reported beside the whole; none if there is but one."""
    names = [field.name for field in dataclasses.fields(dist) if not field.metadata.get("static", False)]
    return {name: getattr(dist, name) for name in names} if len(names) > 1 else {}
