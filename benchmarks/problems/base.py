"""What a problem is: a point in parameter space, the expectation there, and its exact gradient.

A problem is a function *from an estimate to a gradient*: it calls `estimate(key, dist, f)` wherever its expectation
needs one (a toy once, a VAE once per datapoint) and carries the results to its own parameters. So it knows encoders and
data but no estimator, and a new estimator runs on every problem.

Every array of a problem is a leaf, so that a grid of targets, frequencies or checkpoints shares one compiled program.
"""

import dataclasses
import math
from abc import abstractmethod
from collections.abc import Callable
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key, PyTree

from estimators import (
    AbstractDifferentiable,
    AbstractDistribution,
    AbstractEnumerable,
    AbstractEstimator,
    AbstractSummable,
    Delta,
    Derivative,
    Enumeration,
    Quadrature,
    Summation,
    incompatibility,
)
from estimators.objectives import Objective, offers
from estimators.registry import Registry

PROBLEMS = Registry("problem", "scorepath.problems")

PRNGKey = Key[Array, ""]
Gradient = PyTree
Estimate = Callable[[PRNGKey, AbstractDistribution, Objective], tuple[AbstractDistribution, PyTree]]

# Above this many events the exact sum is slower than a precise reference run.
MOST_EVENTS = 2**16


class Truth(NamedTuple):
    """The gradient that estimates are held against.

    `gradient` has the structure of the problem's gradient, in float64; `kind` is `closed form`, `enumeration`,
    `quadrature` or `reference run`; `standard_error` has the same structure for a reference run, and is `None` for an
    exact truth. `term` is one of the two terms that `gradient` is the difference of, where they may cancel: arithmetic
    resolves a share of its size, not of what is left.
    """

    gradient: Gradient
    kind: str
    standard_error: Gradient | None = None
    term: Gradient | None = None


class AbstractProblem(eqx.Module):
    """An expectation at a point in parameter space."""

    @abstractmethod
    def example(self) -> tuple[AbstractDistribution, Objective]:
        """One distribution and objective as an estimator will see them: what compatibility and cost are judged by."""

    @abstractmethod
    def gradient(self, estimate: Estimate, key: PRNGKey) -> tuple[Gradient, PyTree]:
        """The gradient made of what `estimate(key, dist, f)` returns, and the mean of its statistics."""

    @abstractmethod
    def parts(self, gradient: Gradient) -> dict[str, PyTree]:
        """Named subtrees of a gradient that are reported one by one; the first is the headline."""

    @abstractmethod
    def truth(self) -> Truth | None:
        """The exact gradient, or `None` where only a reference run can tell."""


class Expectation(AbstractProblem):
    """The gradient of `E[f(x)], x ~ dist`, with respect to the leaves of `dist`: a problem of any distribution and any
    `f`.

    `f` takes one event and returns a scalar. A plain function counts as differentiable where estimators need it to be;
    wrap it in `estimators.BlackBox` if it is not. The truth is `closed_form(dist, f)` if given, which is recorded as a
    truth of the kind `kind`, else a sum over the support if that is small, or without a negligible tail is, else the
    derivative of a differentiable `f` of a `Delta`, else quadrature for a differentiable `f` in one or two dimensions
    if the support is fixed, else it is left to a reference run. `term(dist, f)` is the `Truth.term` of a closed form.

    >>> from estimators import Bernoulli
    >>> problem = Expectation(Bernoulli(logits=[0.0]), lambda x: (x.sum() - 0.45) ** 2)
    >>> truth = problem.truth()
    >>> print(truth.kind, truth.gradient.logits.round(6))
    enumeration [0.025]
    """

    dist: AbstractDistribution
    f: Objective
    closed_form: Callable[[AbstractDistribution, Objective], AbstractDistribution] | None = eqx.field(
        static=True, default=None
    )
    kind: str = eqx.field(static=True, default="closed form")
    term: Callable[[AbstractDistribution, Objective], AbstractDistribution] | None = eqx.field(
        static=True, default=None
    )

    def example(self) -> tuple[AbstractDistribution, Objective]:
        return self.dist, self.f

    def gradient(self, estimate: Estimate, key: PRNGKey) -> tuple[AbstractDistribution, PyTree]:
        return estimate(key, self.dist, self.f)

    def parts(self, gradient: AbstractDistribution) -> dict[str, PyTree]:
        # A gradient is a module too, and what is static in it is no part.
        names = [field.name for field in dataclasses.fields(gradient) if not field.metadata.get("static", False)]
        leaves = {name: leaf for name in names if (leaf := getattr(gradient, name)) is not None}
        return {"distribution": gradient} if len(leaves) == 1 else {"distribution": gradient, **leaves}

    def truth(self) -> Truth | None:
        if self.closed_form is not None:
            with jax.enable_x64(True):
                exact = in_float64(self)
                term = None if self.term is None else as_numpy(self.term(exact.dist, exact.f))
                return Truth(as_numpy(self.closed_form(exact.dist, exact.f)), self.kind, term=term)
        if isinstance(self.dist, AbstractEnumerable) and self.dist.support_size <= MOST_EVENTS:
            return exact_truth(self, Enumeration(), "enumeration")
        if isinstance(self.dist, Delta) and offers(self.f, AbstractDifferentiable):
            return exact_truth(self, Derivative(), "closed form")
        if isinstance(self.dist, AbstractSummable):
            resolution = sufficient_resolution(self.dist)
            if resolution ** math.prod(self.dist.event_shape) <= MOST_EVENTS:
                return exact_truth(self, Summation(resolution), "enumeration")
        smooth = incompatibility(Quadrature(), self.dist, self.f) is None and offers(self.f, AbstractDifferentiable)
        if smooth and np.prod(self.dist.event_shape) <= 2:
            return exact_truth(self, Quadrature(), "quadrature")
        return None


def sufficient_resolution(dist: AbstractSummable) -> int:
    """The least power of two that spans all but a negligible mass of each variable: few programs for many
    parameters."""
    with jax.enable_x64(True):
        return 2 ** math.ceil(math.log2(float(in_float64(dist).span())))


def exact_truth(problem: AbstractProblem, estimator: AbstractEstimator, kind: str) -> Truth:
    """The truth by an estimator of zero variance, run through the problem's own code in float64."""
    with jax.enable_x64(True):
        return Truth(as_numpy(_exact_gradient(estimator, in_float64(problem))), kind)


@eqx.filter_jit
def _exact_gradient(estimator: AbstractEstimator, problem: AbstractProblem) -> Gradient:
    return problem.gradient(lambda key, dist, f: estimator.estimate(key, None, dist, f), jax.random.key(0))[0]


def in_float64(tree: PyTree) -> PyTree:
    """The same tree with its floating arrays in float64; to be used under `jax.enable_x64(True)`."""
    return jax.tree.map(lambda leaf: leaf.astype(jnp.float64) if eqx.is_inexact_array(leaf) else leaf, tree)


def as_numpy(tree: PyTree) -> PyTree:
    """The same tree with its arrays on the host."""
    return jax.tree.map(np.asarray, tree)


def mismatch(estimator: AbstractEstimator, problem: AbstractProblem) -> str | None:
    """Why `estimator` cannot run on `problem`, as a sentence; `None` if it can."""
    return incompatibility(estimator, *problem.example())


Scalar = Float[Array, ""]
