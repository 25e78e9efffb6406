"""The stratified pathwise gradient of a mixture, integrated over the noise of its components."""

import jax.numpy as jnp
import numpy as np
from prescribed_continuous import assert_same, estimates, exact_gradient, line, mean_of, normal_rule, product

from estimators import MixturePathwise, Normal, NormalMixture, Pathwise, incompatibility

MIXTURE = NormalMixture(np.array([0.4, -0.3, 0.1]), np.array([[-0.8], [0.7], [2.0]]), np.array([[-0.2], [0.2], [0.1]]))


def wave(x):
    return jnp.sin(1.3 * x[0]) + 0.3 * x[0] ** 2


def test_the_mean_over_the_noise_of_three_components_is_the_gradient():
    x, weights = line(-12, 12, 0.1)
    exact = exact_gradient(MIXTURE, x[:, None], weights, wave)
    draws, probabilities = product(*[normal_rule(0.6)] * 3)
    kept = probabilities > 1e-16
    found = estimates(MixturePathwise(), MIXTURE, draws[kept][:, :, None], wave)
    assert_same(mean_of(probabilities[kept], found), exact, rtol=1e-8)


def test_one_component_is_the_pathwise_estimator():
    one = NormalMixture(np.zeros(1), np.array([[0.3, -0.4]]), np.array([[0.2, -0.1]]))
    noise = np.array([[0.4, -1.2], [2.0, 0.3]])
    found = estimates(MixturePathwise(), one, noise[:, None], wave)
    exact = estimates(Pathwise(), Normal(one.loc[0], one.log_scale[0]), noise, wave)
    for name in ("loc", "log_scale"):
        np.testing.assert_allclose(found[name][:, 0], exact[name], rtol=1e-12)


def test_no_mixture_is_refused():
    assert "`MixturePathwise` needs a mixture distribution, and `Normal`" in incompatibility(
        MixturePathwise(), Normal([0.0], [0.0]), jnp.sum
    )
