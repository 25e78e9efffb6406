"""Estimators whose terms are each made of one noise of the distribution, so that whoever supplies the noises can couple
them.

If an estimate is the average of `g(e_1), ..., g(e_n)` and `E[g(e)]` is the gradient for a noise `e` of the right law,
then the mean of the average is the gradient in every joint law of the noises: only the law of each counts. What the
joint law decides is the variance, and it is for the wrappers of `coupled` and `quasi_monte_carlo` to choose.
"""

from abc import abstractmethod

import equinox as eqx

from .base import AbstractStatelessEstimator, Grads
from .distributions.base import Noise
from .objectives import Objective


class AbstractNoiseDriven(AbstractStatelessEstimator):
    """An estimate is the average of `num_samples` independent terms, each a function of one noise of `dist`.

    No term looks at another's noise, which leaves baselines made of the other samples out.
    """

    num_samples: eqx.AbstractVar[int]

    @abstractmethod
    def from_noise(self, noise: Noise, dist: Grads, f: Objective) -> Grads:
        """The term that `noise` makes, by one evaluation of `f`; with `dist.noise(key)` its mean is that of an
        estimate."""
