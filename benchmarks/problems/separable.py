"""Toys of the literature whose objective is a sum over independent variables, at the sizes that were published.

If `f(x) = sum_v f_v(x_v)` the gradient of a variable knows of no other: for a categorical one with probabilities `pi`
and values `f_v` at its categories it is `pi (f_v - pi . f_v)`, exact in any dimension. An estimator that does not see
the sum takes the other variables for noise.

Logits and embeddings that a paper draws at random are drawn from NumPy's frozen legacy generator: they are part of a
problem's definition.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from estimators import AbstractDifferentiable, Bernoulli, Categorical
from estimators.distributions.base import as_floating

from .base import PROBLEMS, Expectation, Scalar
from .toys import Affine, Number, SquaredDistance, require_at_least


class MeanPowerOfEmbedding(AbstractDifferentiable):
    """`f(z) = 1/V sum_v |sum_c embedding_vc z_vc - target|^power`."""

    embedding: Float[Array, "variables categories"] = eqx.field(converter=as_floating)
    target: Float[Array, ""] = eqx.field(converter=as_floating)
    power: Float[Array, ""] = eqx.field(converter=as_floating)

    def __call__(self, z: Float[Array, "variables categories"]) -> Scalar:
        return jnp.mean(self.cost(jnp.sum(self.embedding * z, axis=-1)))

    def cost(self, values: Float[Array, "..."]) -> Float[Array, "..."]:
        """`|values - target|^power`."""
        return jnp.abs(values - self.target) ** self.power


@jax.jit
def targets_truth(dist: Bernoulli, f: SquaredDistance) -> Bernoulli:
    """`p_i (1 - p_i) (1 - 2 target_i)`."""
    p = dist.mean()
    return Bernoulli(p * (1 - p) * (1 - 2 * f.target))


@jax.jit
def embedding_truth(dist: Categorical, f: MeanPowerOfEmbedding) -> Categorical:
    """`pi_vc (f_vc - sum_c pi_vc f_vc)`, with `f_vc = |embedding_vc - target|^power / V`."""
    pi = dist.mean()
    values = f.cost(f.embedding) / f.embedding.shape[0]
    return Categorical(pi * (values - jnp.sum(pi * values, axis=-1, keepdims=True)))


@jax.jit
def embedding_term(dist: Categorical, f: MeanPowerOfEmbedding) -> Categorical:
    """`pi_vc E[f(z)]`, which is taken from a value nearly equal to it, `pi_vc` times the mean of `f` given the category."""
    pi = dist.mean()
    return Categorical(pi * jnp.sum(pi * f.cost(f.embedding)) / f.embedding.shape[0])


@PROBLEMS.register("bernoulli-targets")
def bernoulli_targets(dimension: int = 100, low: Number = 0.0, high: Number = 1.0, logit: Number = 0.0) -> Expectation:
    """Many bits of one logit and `f(b) = sum_i (b_i - t_i)^2`, with targets in equal steps from `low` to `high`.

    The gradient `p (1 - p) (1 - 2 t_i)` takes both signs and every size, and is as good as nothing in the middle. The
    demonstration of RELAX in autograd, with its 100 bits; its tests have three and targets from 0.2 to 0.9.

    **References:** Grathwohl et al., Backpropagation through the void, 2018, arXiv:1711.00123.
    """
    require_at_least(2, "bernoulli-targets", dimension=dimension)
    f = SquaredDistance(np.linspace(low, high, dimension))
    return Expectation(Bernoulli(logits=np.full(dimension, float(logit))), f, targets_truth)


@PROBLEMS.register("bernoulli-near-half")
def bernoulli_near_half(logit: Number = 0.0) -> Expectation:
    """Four bits of one logit and `f(b) = sum_i (b_i - t_i)^2` with the targets 0.49, 0.499, 0.501, 0.51.

    The four toys of ARM side by side. The gradients are at most 0.005 and of either sign where the score function's
    noise is of the order of one.

    **References:** Yin and Zhou, ARM, 2019, arXiv:1807.11143.
    """
    f = SquaredDistance([0.49, 0.499, 0.501, 0.51])
    return Expectation(Bernoulli(logits=np.full(4, float(logit))), f, targets_truth)


@PROBLEMS.register("categorical-polynomial")
def categorical_polynomial(
    variables: int = 128, target: Number = 0.45, power: Number = 2.0, seed: int = 0
) -> Expectation:
    """Variables of two categories and `f(z) = 1/V sum_v |z_v - target|^power`, where `z_v` is 0 or 1 as the category is.

    The logits are uniform in (-0.01, 0.01), drawn from `seed`. The polynomial programming of ReinMax, at powers 1.5, 2
    and 3: bits in the guise of one-hot events. `bernoulli-separable` has the same objective of bits, at other logits.

    **References:** Liu et al., Bridging discrete and backpropagation: straight-through and beyond, 2023,
    arXiv:2304.08612.
    """
    require_at_least(1, "categorical-polynomial", variables=variables)
    logits = np.random.RandomState(seed).uniform(-0.01, 0.01, (variables, 2))
    embedding = np.tile([0.0, 1.0], (variables, 1))
    return Expectation(
        Categorical(logits), MeanPowerOfEmbedding(embedding, target, power), embedding_truth, term=embedding_term
    )


@PROBLEMS.register("categorical-embedding")
def categorical_embedding(
    variables: int = 128, categories: int = 4, target: Number = 0.45, power: Number = 2.0, seed: int = 0
) -> Expectation:
    """`f(z) = 1/V sum_v |w_v . z_v - target|^power`, with each variable embedded in (0, 1) by a fixed random `w_v`.

    The embeddings are uniform in (0, 1) and the logits in (-0.01, 0.01), drawn from `seed` in this order. The
    polynomial problem of the generalized straight-through estimators. Unlike a bit's, the values of a category do not
    lie at the ends of the interval, and the cost may be least at any of them.

    **References:** Generalized and optimal straight-through estimators, AISTATS 2026.
    """
    require_at_least(1, "categorical-embedding", variables=variables)
    require_at_least(2, "categorical-embedding", categories=categories)
    generator = np.random.RandomState(seed)
    embedding = generator.uniform(0.0, 1.0, (variables, categories))
    logits = generator.uniform(-0.01, 0.01, (variables, categories))
    return Expectation(
        Categorical(logits), MeanPowerOfEmbedding(embedding, target, power), embedding_truth, term=embedding_term
    )


@PROBLEMS.register("categorical-dirichlet")
def categorical_dirichlet(
    variables: int = 3, categories: int = 3, concentration: Number = 1.0, seed: int = 0
) -> Expectation:
    """`f(z) = sum_vc w_vc z_vc` with `w = C (1, 2, 3, ...)` row by row, at probabilities drawn from a Dirichlet law.

    Each variable's probabilities are Dirichlet of `concentration` in every category, drawn from `seed`. The toy of
    CARMS, at concentrations 1, 10, 100 and 1000: from lopsided to all but uniform. `categorical-linear` has the same
    objective at logits in equal steps.

    **References:** Dimitriev and Zhou, CARMS, 2021, arXiv:2110.14002.
    """
    require_at_least(1, "categorical-dirichlet", variables=variables)
    require_at_least(2, "categorical-dirichlet", categories=categories)
    if not concentration > 0:
        raise ValueError(f"`categorical-dirichlet` needs `concentration > 0`, got {concentration}.")
    probabilities = np.random.RandomState(seed).dirichlet(np.full(categories, float(concentration)), variables)
    weights = categories * np.arange(1.0, variables * categories + 1).reshape(variables, categories)
    return Expectation(Categorical(np.log(probabilities)), Affine(weights))
