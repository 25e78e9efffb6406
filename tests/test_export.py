"""Every program lowers for accelerators from here, so that a slip that only another platform shows is seen without it."""

import functools

import equinox as eqx
import jax
import pytest
from jax import export

from benchmarks.problems import PROBLEMS, mismatch
from benchmarks.random import fenced
from benchmarks.specs import Spec
from benchmarks.streaming import traceable
from benchmarks.work import (
    CHUNK_NUMBERS,
    MEMORY_SHARE,
    SMALLEST_MEMORY,
    chunk_limits,
    is_arraylike,
    state_shape,
    work_of,
)
from estimators import ESTIMATORS

# One problem of each kind; an estimator is lowered on the first that it can run on, and under `-m slow` on all of them.
KINDS = (
    "bernoulli-nonseparable",
    "categorical-nonseparable",
    "gaussian-cosine",
    "multivariate-normal-quadratic",
    "weibull-moment",
    "poisson-nonseparable",
    "geometric-nonseparable",
    "binomial-nonseparable",
    "poisson-cosine",
    "gamma-moment",
    "mixture-quadratic",
    "bernoulli-vae:kl=sampled,batch=2",
    "tabular-mdp:horizon=2",
    "gaussian-vae:batch=2",
    "categorical-vae:batch=2",
    "bayesian-linear:batch=2",
    "unrolled-linear",
    "bernoulli-iwae",
    "conjugate-iwae",
    "conjugate-inclusive",
    "conjugate-thermodynamic",
    "conjugate-evidence",
    "conjugate-gaussian",
    "logistic-regression:data=australian,batch=16",
)


@functools.cache
def problem_of(spec):
    """The problem in the precision of the command line."""
    with jax.enable_x64(False):
        return Spec.parse(spec).create(PROBLEMS)


def pairs(name):
    """The estimator with each of the problems of `KINDS` that it can run on."""
    estimator = ESTIMATORS.create(name)
    return ((name, spec) for spec in KINDS if mismatch(estimator, problem_of(spec)) is None)


def check(name, spec):
    """The program of the harness, whole, for CUDA and TPU, in the precision of the command line."""
    with jax.enable_x64(False):
        estimator, problem = ESTIMATORS.create(name), problem_of(spec)
        state = state_shape(estimator, problem)
        arrays, static = eqx.partition((estimator, state, problem), is_arraylike)
        key = fenced(jax.random.key(0))
        work = work_of(estimator, state, problem, tuple(jax.local_devices()[:1]), chunk=4)
        with jax.enable_x64(True):
            function, arguments, _ = traceable(arrays, static, key, work)
            lowered = export.export(jax.jit(function), platforms=["cuda", "tpu"])(*arguments)
        assert lowered.platforms == ("cuda", "tpu")


@pytest.mark.parametrize("name", list(ESTIMATORS))
def test_every_estimator_lowers_for_accelerators(name):
    check(*next(pairs(name)))


@pytest.mark.slow
@pytest.mark.parametrize("name", list(ESTIMATORS))
def test_every_pair_lowers_for_accelerators(name):
    for pair in pairs(name):
        check(*pair)


def test_a_chunk_is_sized_from_the_memory_of_an_accelerator():
    """With eighty gigabytes it may hold as many numbers as a share of them allows, and with an unknown amount a modest number."""
    assert chunk_limits("gpu", 80 * 2**30)[0] == 80 * 2**30 // MEMORY_SHARE
    assert chunk_limits("gpu", None)[0] == SMALLEST_MEMORY // MEMORY_SHARE
    assert chunk_limits("cpu", None)[0] == CHUNK_NUMBERS
