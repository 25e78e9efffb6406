"""Hoisting changes where things are computed, and nothing of what is."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from benchmarks.hoisting import dependent, hoisted

WEIGHTS = jnp.arange(1.0, 4.0)


def primitives(function, *arguments):
    """The names of the primitives that a call binds, those inside of calls included."""

    def names(jaxpr):
        for equation in jaxpr.eqns:
            yield equation.primitive.name
            for value in equation.params.values():
                if hasattr(value, "jaxpr"):
                    yield from names(value.jaxpr)

    return set(names(jax.make_jaxpr(function)(*arguments).jaxpr))


def estimate(x):
    """A part that depends on the argument, inside of a call, and a part that does not, inside of the same."""

    @jax.jit
    def mixed(x, w):
        return x * jnp.exp(w), jnp.sum(jnp.tanh(w))

    scaled, constant = mixed(x, WEIGHTS)
    return {"sum": jnp.sum(scaled) + constant, "constant": constant, "argument": x}


def test_the_same_values_under_jit_and_vmap():
    xs = jnp.linspace(-1.0, 1.0, 5)
    remaining = hoisted(estimate, xs[0])
    for transform in (lambda f: f, jax.jit):
        found, expected = transform(jax.vmap(remaining))(xs), jax.vmap(estimate)(xs)
        assert jax.tree.structure(found) == jax.tree.structure(expected)
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-14), found, expected)


def test_what_does_not_depend_on_the_argument_is_gone():
    """`exp` and `tanh` of the weights are computed before; a product with the argument is not."""
    left = primitives(hoisted(estimate, jnp.zeros(())), 1.0)
    assert {"exp", "tanh"} <= primitives(estimate, 1.0)
    assert "mul" in left and not {"exp", "tanh"} & left


def test_inside_of_a_trace_and_with_random_keys():
    """As the harness uses it: the constants are tracers, the argument an index that is folded into a key."""

    @jax.jit
    def program(key, scale):
        remaining = hoisted(
            lambda i: jnp.exp(scale) * jax.random.normal(jax.random.fold_in(key, i), (2,)), jnp.zeros((), jnp.uint32)
        )
        return jax.vmap(remaining)(jnp.arange(3, dtype=jnp.uint32))

    found = program(jax.random.key(0), 0.5)
    draws = [jax.random.normal(jax.random.fold_in(jax.random.key(0), i), (2,)) for i in range(3)]
    np.testing.assert_allclose(found, np.exp(0.5) * np.stack(draws), rtol=1e-14)


def test_effects_stay():
    """A call-back fires for every call, though it reads nothing of the argument."""
    fired = []

    def noisy(x):
        jax.debug.callback(lambda: fired.append(1))
        return x

    remaining = hoisted(noisy, jnp.zeros(()))
    for x in (1.0, 2.0):
        jax.jit(remaining)(x)
    jax.effects_barrier()
    assert len(fired) == 2


@pytest.mark.parametrize("chosen", [0, 1])
def test_the_constants_of_branches_are_computed_before_and_the_choice_is_left(chosen):
    """Those of all branches, so that XLA sees what they have in common."""

    def program(chosen, xs):
        branches = [lambda x: x * jnp.sum(jnp.tanh(WEIGHTS)), lambda x: x + jnp.sum(jnp.exp(WEIGHTS))]
        remaining = hoisted(lambda x: jax.lax.switch(chosen, branches, x), xs[0])
        left.update(primitives(remaining, xs[0]))
        return jax.vmap(remaining)(xs)

    left, xs = set(), jnp.linspace(-1.0, 1.0, 5)
    found = jax.jit(program)(jnp.int32(chosen), xs)
    expected = (xs * jnp.sum(jnp.tanh(WEIGHTS)), xs + jnp.sum(jnp.exp(WEIGHTS)))[chosen]
    np.testing.assert_allclose(found, expected, rtol=1e-14)
    assert "cond" in left and not {"tanh", "exp"} & left


def test_which_outputs_depend_on_which_inputs():
    """Through calls and branches each by itself; all that a choice gives depends on what is chosen by."""

    def function(x, y, chosen):
        first, second = jax.jit(lambda x, y: (x, y))(x, y)
        third, fourth = jax.lax.cond(chosen > 0, lambda y: (y, 1.0), lambda y: (2 * y, 2.0), y)
        return first, second, third, fourth

    jaxpr = jax.make_jaxpr(function)(1.0, 2.0, 0).jaxpr
    assert dependent(jaxpr, [True, False, False]) == [True, False, False, False]
    assert dependent(jaxpr, [False, True, False]) == [False, True, True, False]
    assert dependent(jaxpr, [False, False, True]) == [False, False, True, True]
