r"""One parameter behind many logits: a problem whose gradient is pulled back to what made its distribution.

Three bits that share the logit $\eta$ are one categorical variable over their eight joint states, whose logits are
$\eta$ times the number of ones. An estimator sees the categorical variable and `f` at each of its states, and its
gradient $\hat g$ in the eight logits becomes $\hat g \cdot \partial \,\mathrm{logits} / \partial \eta$ in the one. It is
the smallest encoder there is.
"""

import itertools

import equinox as eqx
import jax
import numpy as np
from jaxtyping import Array, Float, PyTree

from estimators import Categorical, Enumeration
from estimators.distributions.base import as_floating

from .base import PROBLEMS, AbstractProblem, Estimate, Gradient, PRNGKey, Truth, exact_truth
from .toys import Affine, Number


class TiedBits(AbstractProblem):
    """The gradient of `E[f(b)]` in the one logit of independent bits `b`, estimated over their joint states.

    `ones[s]` is the number of ones of state `s`, and `f` a function of the one-hot state.
    """

    logit: Float[Array, ""] = eqx.field(converter=as_floating)
    ones: Float[Array, "states"] = eqx.field(converter=as_floating)
    f: Affine

    def states(self, logit: Float[Array, ""]) -> Categorical:
        """The law of the joint state."""
        return Categorical(logit * self.ones)

    def example(self) -> tuple[Categorical, Affine]:
        return self.states(self.logit), self.f

    def gradient(self, estimate: Estimate, key: PRNGKey) -> tuple[Gradient, PyTree]:
        dist, pull_back = jax.vjp(self.states, self.logit)
        grads, stats = estimate(key, dist, self.f)
        return {"logit": pull_back(grads)[0], "distribution": grads}, stats

    def parts(self, gradient: Gradient) -> dict[str, PyTree]:
        # A dictionary that has been through JAX has its keys in alphabetical order.
        return {name: gradient[name] for name in ("logit", "distribution")}

    def truth(self) -> Truth:
        return exact_truth(self, Enumeration(), "enumeration")


@PROBLEMS.register("categorical-tied")
def categorical_tied(logit: Number = 0.0) -> TiedBits:
    """Three bits of one shared logit as a categorical variable of eight states, and `f = sum_i (b_i - t_i)^2` with
    targets 0.6, 0.51, 0.48.

    The gradient is that in the one logit, `-0.18 p (1 - p)`: -0.045 at logit 0. At logit -4 the state 000 has 95 % of
    the mass, and seven states share the rest: where sampling without replacement pays. The toy of Liu et al. and of
    Kool et al., at logits 0 and -4; `bernoulli-rare` has the three bits untied.

    **References:** Liu et al., Rao-Blackwellized stochastic gradients for discrete distributions, 2019,
    arXiv:1810.04777. Kool, van Hoof and Welling, Estimating gradients for discrete random variables by sampling without
    replacement, 2020, arXiv:2002.06043.
    """
    bits = np.array(list(itertools.product((0.0, 1.0), repeat=3)))
    values = np.sum((bits - np.array([0.6, 0.51, 0.48])) ** 2, axis=1)
    return TiedBits(float(logit), bits.sum(axis=1), Affine(values))
