"""The joint law of two argmaxes of one Gumbel noise, and a noise for each of its outcomes.

An estimate that is the difference of `argmax(z)` and `argmax(z + shift)` takes finitely many values. Its mean is a sum
over them, each computed once from a noise that leads to it and weighted by the probability of the outcome. With
exponential variables `E = exp(-Gumbel)` the argmaxes are argmins of `E_i / p_i` and of `E_i / q_i`, `q = p exp(shift)`:

    P(k, then j) = int_{p_j / p_k}^{q_j / q_k} (1 + r + sum_i max(p_i / p_k, r q_i / q_j))^-2 dr

over `r = E_j / E_k`, the sum over the other categories.
"""

import itertools

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from scipy import integrate, special

from estimators import Categorical

FAR = 60.0


class PrescribedCategorical(Categorical):
    """Categorical variables whose noise is given."""

    draw: Float[Array, "*variables categories"]

    def noise(self, key):
        del key
        return self.draw


@eqx.filter_jit
def estimates(estimator, logits, f, draws):
    """The estimate in the logits for each of the given noises."""

    def one(draw):
        return estimator.gradient(jax.random.key(0), PrescribedCategorical(logits, draw), f).logits

    return jax.vmap(one)(draws)


def probability(logits, shift, k, j):
    """That the argmax is `k` before the shift and `j` after it."""
    p, q = special.softmax(logits), special.softmax(logits + shift)
    if k == j:
        return p[k] / (p[k] + sum(max(p[i], q[i] * p[k] / q[k]) for i in range(p.size) if i != k))
    low, high = p[j] / p[k], q[j] / q[k]
    if high <= low:
        return 0.0
    rest = [i for i in range(p.size) if i not in (k, j)]
    kinks = [r for i in rest if low < (r := p[i] / p[k] * q[j] / q[i]) < high]

    def integrand(r):
        return (1 + r + sum(max(p[i] / p[k], r * q[i] / q[j]) for i in rest)) ** -2

    edges = [low, *sorted(kinks), high]
    return sum(integrate.quad(integrand, *edge, epsabs=0, epsrel=1e-13)[0] for edge in itertools.pairwise(edges))


def perturbed(shift, k, j):
    """Perturbed logits with their maximum at `k`, and at `j` after the shift."""
    z = np.full(shift.size, -FAR)
    z[j] = (shift[k] - shift[j]) / 2
    z[k] = 0.0
    return z


def outcomes_of_two_argmaxes(logits, shift):
    """Noises and weights that cover every outcome, where the shift depends on the event as `shift(categories)` says:
    an array of the shape of `logits` for a tuple of one category for each variable."""
    variables, categories = logits.shape
    noises, weights = [], []
    for before in itertools.product(range(categories), repeat=variables):
        moved = shift(before)
        for after in itertools.product(range(categories), repeat=variables):
            rows = list(zip(logits, moved, before, after, strict=True))
            weight = np.prod([probability(*row) for row in rows])
            if weight > 0:
                noises.append([perturbed(*row[1:]) for row in rows] - special.log_softmax(logits, axis=-1))
                weights.append(weight)
    return jnp.array(noises), np.array(weights)


def cells(logits, thresholds):
    """For independent bits: a noise in each cell of the grid that the perturbed logits `thresholds[i]` make of every
    axis, and the probability of the cell."""
    nodes, weights = [], []
    for logit, at in zip(logits, thresholds, strict=True):
        edges = np.unique(np.append(at, 0.0))
        inner = np.concatenate([edges[:1] - 1, (edges[1:] + edges[:-1]) / 2, edges[-1:] + 1])
        nodes.append(inner - logit)
        weights.append(np.diff(np.concatenate([[0.0], special.expit(edges - logit), [1.0]])))
    grid = np.stack(np.meshgrid(*nodes, indexing="ij"), axis=-1).reshape(-1, len(nodes))
    return grid, np.prod(np.stack(np.meshgrid(*weights, indexing="ij"), axis=-1), axis=-1).ravel()
