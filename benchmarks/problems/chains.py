"""Chains: every variable is coupled to the next, and the structure gives the truth where no sum over events can.

With `T_v` a table of the values of neighbours `v` and `v + 1`, the energy of a chain of independent variables is
`s(z) = sum_v z_v^T T_v z_{v+1}`. It is affine in each variable, so `E[s(z)] = s(E[z])` whatever the length. A function of
the whole chain such as `exp(a s(z))` is not, but it is a product over neighbours, and its mean is a product of matrices
(a transfer matrix, or dynamic programming from one end): with `pi_v` the probabilities,
`m_1 = pi_1`, `m_{v+1} = pi_{v+1} * (m_v exp(a T_v))`, and the sum of the last is the mean. So fifty variables, of `4^50`
joint events, have a closed form.

A bit `b` enters as the two categories `(1 - b, b)`.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from estimators import AbstractDifferentiable, AbstractDistribution, Categorical
from estimators.distributions.base import as_floating

from .base import PROBLEMS, Expectation, Scalar
from .toys import Number, require_at_least, spread_bits, standard_normals

Events = Float[Array, "..."]
Tables = Float[Array, "pairs categories categories"]


def in_categories(x: Events) -> Float[Array, "variables categories"]:
    """Events with a last axis of categories; bits get one."""
    return jnp.stack([1 - x, x], axis=-1) if x.ndim == 1 else x


def energy(tables: Tables, x: Events) -> Scalar:
    """The sum of the tables at all neighbours."""
    z = in_categories(x)
    return jnp.einsum("vc,vcd,vd->", z[:-1], tables, z[1:])


class ChainEnergy(AbstractDifferentiable):
    """`f(x) = sum_v z_v^T tables_v z_{v+1}`."""

    tables: Tables = eqx.field(converter=as_floating)

    def __call__(self, x: Events) -> Scalar:
        return energy(self.tables, x)


class ChainWeight(AbstractDifferentiable):
    """`f(x) = exp(coupling / sqrt(V - 1) sum_v z_v^T tables_v z_{v+1})`."""

    tables: Tables = eqx.field(converter=as_floating)
    coupling: Float[Array, ""] = eqx.field(converter=as_floating)

    def __call__(self, x: Events) -> Scalar:
        return jnp.exp(energy(self.scaled(), x))

    def scaled(self) -> Tables:
        """The tables with their factor: an exponent of the order of one, however long the chain."""
        return self.coupling * self.tables / self.tables.shape[0] ** 0.5


@jax.jit
def energy_truth(dist: AbstractDistribution, f: ChainEnergy) -> AbstractDistribution:
    """The gradient of the energy of the mean."""
    return jax.grad(lambda d: f(d.mean()))(dist)


@jax.jit
def weight_truth(dist: AbstractDistribution, f: ChainWeight) -> AbstractDistribution:
    """The gradient of the product of transfer matrices."""

    def mean(d: AbstractDistribution) -> Scalar:
        pi = in_categories(d.mean())
        last, _ = jax.lax.scan(lambda m, step: (step[1] * (m @ step[0]), None), pi[0], (jnp.exp(f.scaled()), pi[1:]))
        return jnp.sum(last)

    return jax.grad(mean)(dist)


def random_chain(family: str, variables: int, categories: int, seed: int) -> tuple[Categorical, np.ndarray]:
    """Variables with standard normal logits, and tables of standard normal values, drawn in this order."""
    require_at_least(2, family, variables=variables, categories=categories)
    logits, tables = standard_normals(seed, (variables, categories), (variables - 1, categories, categories))
    return Categorical(logits), tables


def ising_tables(family: str, dimension: int, seed: int) -> np.ndarray:
    """`J_i s_i s_{i+1}` for spins `s = 2 b - 1` and standard normal couplings `J`."""
    require_at_least(2, family, dimension=dimension)
    (couplings,) = standard_normals(seed, (dimension - 1,))
    return couplings[:, None, None] * np.array([[1.0, -1.0], [-1.0, 1.0]])


@PROBLEMS.register("bernoulli-chain")
def bernoulli_chain(dimension: int = 50, seed: int = 0) -> Expectation:
    """An Ising chain: `f(b) = sum_i J_i s_i s_{i+1}`, `s = 2 b - 1`, with standard normal couplings; logits -1.5 to 1.

    Which way a bit should go depends on its neighbours and on nothing else, and the rest of the chain is noise. `f` is
    multilinear, so straight-through is unbiased.
    """
    tables = ising_tables("bernoulli-chain", dimension, seed)
    return Expectation(spread_bits("bernoulli-chain", dimension), ChainEnergy(tables), energy_truth)


@PROBLEMS.register("bernoulli-chain-weight")
def bernoulli_chain_weight(dimension: int = 50, coupling: Number = 1.0, seed: int = 0) -> Expectation:
    """The Boltzmann weight of that chain: `f(b) = exp(coupling / sqrt(D - 1) sum_i J_i s_i s_{i+1})`.

    No sum and not multilinear: every bit matters to every other, and the values have a heavy tail. The truth is a
    product of transfer matrices.
    """
    tables = ising_tables("bernoulli-chain-weight", dimension, seed)
    return Expectation(spread_bits("bernoulli-chain-weight", dimension), ChainWeight(tables, coupling), weight_truth)


@PROBLEMS.register("categorical-chain")
def categorical_chain(variables: int = 50, categories: int = 4, seed: int = 0) -> Expectation:
    """`f(z) = sum_v z_v^T T_v z_{v+1}` with standard normal logits and tables: a reward for every pair of neighbours.

    No category is good by itself. `f` is multilinear, so straight-through is unbiased.
    """
    dist, tables = random_chain("categorical-chain", variables, categories, seed)
    return Expectation(dist, ChainEnergy(tables), energy_truth)


@PROBLEMS.register("categorical-chain-weight")
def categorical_chain_weight(
    variables: int = 50, categories: int = 4, coupling: Number = 1.0, seed: int = 0
) -> Expectation:
    """`f(z) = exp(coupling / sqrt(V - 1) sum_v z_v^T T_v z_{v+1})`, at the logits and tables of `categorical-chain`.

    The path weight of a Markov chain: no sum and not multilinear. The truth is a product of transfer matrices.
    """
    dist, tables = random_chain("categorical-chain-weight", variables, categories, seed)
    return Expectation(dist, ChainWeight(tables, coupling), weight_truth)
