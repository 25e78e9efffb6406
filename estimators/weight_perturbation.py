r"""Weight perturbation: what examples of a minibatch share of one another's noise.

The weights of a linear layer are normal, and the loss is a mean over examples, $f(W) = \frac1B \sum_n \ell_n(x_n W)$.
Each term depends on the row $x_n W$ alone, so the mean of a gradient needs the law of each row and nothing else: rows
may be coupled as one likes. One draw of `W` for the whole minibatch (`Pathwise`) correlates the examples, and then the
variance has a part that no batch size reduces. Here each example gets noise of its own, exactly or nearly, without a
matrix of weights for each.
"""

from typing import ClassVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from .base import AbstractStatelessEstimator, PRNGKey
from .distributions import AbstractDistribution, Normal
from .distributions.base import Scalar
from .objectives import AbstractLinearLayer
from .registration import ESTIMATORS

Preactivations = Float[Array, "examples units"]
Weights = Float[Array, "inputs units"]
Signs = Float[Array, "examples ..."]


def independent_loss(dist: Normal, f: AbstractLinearLayer, noise: Preactivations) -> Scalar:
    """The loss with the pre-activations of every example and unit drawn by their own `noise`."""
    variance = f.inputs**2 @ dist.scale**2
    random = variance > 0
    # An example without inputs has no noise, and the square root no derivative there.
    deviation = jnp.where(random, jnp.sqrt(jnp.where(random, variance, 1)), 0)
    return f.loss(f.inputs @ dist.loc + deviation * noise)


def flipped_loss(dist: Normal, f: AbstractLinearLayer, noise: Weights, of_units: Signs, of_inputs: Signs) -> Scalar:
    """The loss with one `noise` of the weights, the signs of whose rows and columns are those of each example."""
    shared = dist.scale * noise
    return f.loss(f.inputs @ dist.loc + ((f.inputs * of_inputs) @ shared) * of_units)


@ESTIMATORS.register("local-reparameterization")
class LocalReparameterization(AbstractStatelessEstimator):
    r"""Pathwise, with pre-activations drawn in place of weights, independently for every example and unit.

    With `inputs` $x_n$, `loc` $\mu$, `scale` $\sigma$ and standard normal noise $\varepsilon_{nj}$,

    $$h_{nj} = \sum_i x_{ni}\, \mu_{ij} + \varepsilon_{nj} \Big(\sum_i x_{ni}^2\, \sigma_{ij}^2\Big)^{1/2},
    \qquad \hat g = \nabla_{\mu, \log\sigma}\ \mathrm{loss}(h).$$

    Unbiased: each row of `h` has the law that the weights give it, and the loss is a sum over rows. Needs a `Normal`
    and a linear layer; one evaluation of the loss with its derivative. The term of an example is the conditional
    expectation, given its pre-activations, of what noise on the weights would make of it, and the terms of different
    examples are independent; so the variance falls as one over the batch size.

    >>> from estimators import Normal
    >>> LocalReparameterization().evaluations(Normal(loc=[[0.0]], log_scale=[[0.0]]))
    1

    **References:** Kingma, Salimans and Welling, Variational dropout and the local reparameterization trick, 2015,
    arXiv:1506.02557.
    """

    unbiased: ClassVar[bool] = True
    requires: ClassVar[tuple[type, ...]] = (Normal, AbstractLinearLayer)

    def gradient(self, key: PRNGKey, dist: Normal, f: AbstractLinearLayer) -> Normal:
        shape = (len(f.inputs), dist.loc.shape[1])
        standard = jnp.zeros(shape, dist.loc.dtype)
        noise = Normal(standard, standard).noise(key)
        return jax.grad(independent_loss)(dist, f, noise)

    def evaluations(self, dist: AbstractDistribution) -> int:
        del dist
        return 1


@ESTIMATORS.register("flipout")
class Flipout(AbstractStatelessEstimator):
    r"""Pathwise, with one noise for the minibatch whose signs each example flips for itself.

    With `inputs` $x_n$, `loc` $\mu$, `scale` $\sigma$, one matrix $\varepsilon$ of standard normal noise, and vectors
    $r_n$ over units and $s_n$ over inputs of independent signs for each example,

    $$W_n = \mu + \sigma \odot \varepsilon \odot s_n r_n^\top, \qquad h_n = x_n W_n, \qquad
    \hat g = \nabla_{\mu, \log\sigma}\ \mathrm{loss}(h).$$

    Unbiased: the noise is symmetric and its entries are independent, so each $W_n$ has the law of $W$, and the loss is
    a sum over rows. Needs a `Normal` and a linear layer; one evaluation of the loss with its derivative. Two examples
    share the magnitudes of the noise and not the signs: a term that is odd in the noise is uncorrelated between them,
    an even one, which the gradient in `log_scale` has, stays correlated. Where sharing the noise correlates two
    examples negatively it may have less variance than this.

    >>> from estimators import Normal
    >>> Flipout().evaluations(Normal(loc=[[0.0]], log_scale=[[0.0]]))
    1

    **References:** Wen, Vicol, Ba, Tran and Grosse, Flipout: Efficient pseudo-independent weight perturbations on
    mini-batches, 2018, arXiv:1803.04386.
    """

    unbiased: ClassVar[bool] = True
    requires: ClassVar[tuple[type, ...]] = (Normal, AbstractLinearLayer)

    def gradient(self, key: PRNGKey, dist: Normal, f: AbstractLinearLayer) -> Normal:
        examples, (inputs, units) = len(f.inputs), dist.loc.shape
        keys = jax.random.split(key, 3)
        of_units = jax.random.rademacher(keys[1], (examples, units), dist.loc.dtype)
        of_inputs = jax.random.rademacher(keys[2], (examples, inputs), dist.loc.dtype)
        return jax.grad(flipped_loss)(dist, f, dist.noise(keys[0]), of_units, of_inputs)

    def evaluations(self, dist: AbstractDistribution) -> int:
        del dist
        return 1
