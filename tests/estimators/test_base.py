"""The contract's own tools: `attach`, `weighted_score`, the sentences of `incompatibility`; and the lints of the house."""

import ast
import dataclasses
import io
import pathlib
import tokenize

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import estimators
from estimators import (
    ESTIMATORS,
    AbstractDifferentiable,
    Bernoulli,
    BlackBox,
    Categorical,
    Enumeration,
    LeaveOneOut,
    MeasureValued,
    Normal,
    Pathwise,
    Quadrature,
    ScoreFunction,
    attach,
    incompatibility,
)
from estimators.base import draw, score, squared_norm, weighted_score

ROOT = pathlib.Path(estimators.__file__).parents[1]


def encoder(weights, datum):
    """Parameters of a normal latent of one datum: the mean is affine in it, the logarithm of the scale constant."""
    return Normal(loc=weights["slope"] * datum, log_scale=weights["log_scale"])


@pytest.mark.parametrize("transform", [lambda f: f, jax.jit], ids=["eager", "jit"])
def test_attach_by_hand(transform):
    """Value `decoder * datum`; the estimate `(2, 3)` reaches the encoder by the chain rule, the decoder has its own derivative."""
    weights = {"slope": jnp.array([0.5]), "log_scale": jnp.array([0.1])}

    def loss(weights, decoder, datum):
        grads = Normal(loc=[2.0], log_scale=[3.0])
        return attach(decoder * datum, encoder(weights, datum), grads)

    value, (slopes, decoder) = transform(jax.value_and_grad(loss, argnums=(0, 1)))(
        weights, jnp.array(4.0), jnp.array(1.5)
    )
    assert value == 6.0
    np.testing.assert_allclose(slopes["slope"], [2.0 * 1.5])
    np.testing.assert_allclose(slopes["log_scale"], [3.0])
    assert decoder == 1.5


def test_attach_under_vmap():
    """A batch of data, each with its own estimate: the mean of the losses averages the estimates."""
    weights = {"slope": jnp.array([0.5]), "log_scale": jnp.array([0.1])}
    data, estimates = (
        jnp.array([1.0, -2.0, 3.0]),
        Normal(jnp.array([[1.0], [2.0], [4.0]]), jnp.array([[0.5], [0.0], [1.0]])),
    )

    @jax.jit
    def loss(weights, decoder):
        losses = jax.vmap(lambda datum, grads: attach(decoder * datum**2, encoder(weights, datum), grads))(
            data, estimates
        )
        return jnp.mean(losses), losses

    (value, losses), (slopes, decoder) = jax.value_and_grad(loss, argnums=(0, 1), has_aux=True)(weights, 2.0)
    np.testing.assert_allclose(losses, [2.0, 8.0, 18.0])
    np.testing.assert_allclose(value, 28 / 3)
    np.testing.assert_allclose(slopes["slope"], [(1 * 1 - 2 * 2 + 3 * 4) / 3])
    np.testing.assert_allclose(slopes["log_scale"], [(0.5 + 0 + 1) / 3])
    np.testing.assert_allclose(decoder, 14 / 3)


def test_attach_in_a_training_step():
    """With the exact estimate, the derivative of the whole expectation, decoder included."""

    def f(x, decoder):
        return jnp.sum((x - decoder) ** 2) + jnp.prod(x)

    def attached(weights, decoder):
        dist = Bernoulli(logits=weights * jnp.array([1.0, -0.5]))
        grads = Enumeration().gradient(jax.random.key(0), dist, lambda x: f(x, decoder))
        probabilities = jax.lax.stop_gradient(jnp.exp(jax.vmap(dist.log_prob)(dist.support())))
        return attach(
            probabilities @ jax.vmap(lambda x: f(x, decoder))(dist.support()), dist, jax.lax.stop_gradient(grads)
        )

    def summed(weights, decoder):
        dist = Bernoulli(logits=weights * jnp.array([1.0, -0.5]))
        return jnp.exp(jax.vmap(dist.log_prob)(dist.support())) @ jax.vmap(lambda x: f(x, decoder))(dist.support())

    at = jnp.array(0.8), jnp.array(0.3)
    np.testing.assert_allclose(
        jax.jit(jax.grad(attached, argnums=(0, 1)))(*at), jax.jit(jax.grad(summed, argnums=(0, 1)))(*at), rtol=1e-12
    )


@pytest.mark.parametrize(
    "dist",
    [
        Bernoulli(np.array([-1.0, 0.4])),
        Categorical(np.array([[0.3, -1.0, 0.8]])),
        Normal(np.array([0.7]), np.array([-0.3])),
    ],
    ids=lambda dist: type(dist).__name__,
)
def test_weighted_score_is_a_combination_of_rows_of_the_jacobian(dist, key):

    @jax.jit
    def both(key):
        xs, weights = draw(key, dist, 7), jnp.cos(jnp.arange(7.0))
        jacobian = jax.jacfwd(lambda d: jax.vmap(d.log_prob)(xs))(dist)
        combined = jax.tree.map(lambda rows: jnp.tensordot(weights, rows, axes=1), jacobian)
        return (
            weighted_score(dist, xs, weights),
            combined,
            score(dist, xs[2]),
            jax.tree.map(lambda rows: rows[2], jacobian),
        )

    ours, combined, one, row = (jax.tree.leaves(tree) for tree in both(key))
    for leaf, expected in zip(ours + one, combined + row, strict=True):
        np.testing.assert_allclose(leaf, expected, rtol=1e-12, atol=1e-15)


def test_squared_norm_is_over_all_leaves():
    assert squared_norm(Normal(jnp.array([1.0, 2.0]), jnp.array([3.0, 4.0]))) == 30.0


class Sphere(AbstractDifferentiable):
    def __call__(self, x):
        return jnp.sum(x**2)


SENTENCES = [
    (
        Pathwise(),
        Normal([0.0], [0.0]),
        BlackBox(jnp.sum),
        "`Pathwise` needs a differentiable objective, and `BlackBox` does not declare to be one.",
    ),
    (
        Pathwise(),
        Bernoulli([0.0]),
        Sphere(),
        "`Pathwise` needs a reparameterizable distribution, and `Bernoulli` is not one.",
    ),
    (
        Enumeration(),
        Normal([0.0], [0.0]),
        jnp.sum,
        "`Enumeration` needs an enumerable distribution, and `Normal` is not one.",
    ),
    (
        Quadrature(),
        Categorical([0.0, 1.0]),
        jnp.sum,
        "`Quadrature` needs an integrable distribution, and `Categorical` is not one.",
    ),
    (
        Enumeration(),
        Bernoulli(np.zeros(200)),
        jnp.sum,
        "`Enumeration` would evaluate the objective more than 1048576 times for one estimate, which is the limit.",
    ),
    (
        LeaveOneOut(num_samples=2**20 + 1),
        Bernoulli([0.0]),
        jnp.sum,
        "`LeaveOneOut` would evaluate the objective more than 1048576 times for one estimate, which is the limit.",
    ),
]


@pytest.mark.parametrize("estimator, dist, f, sentence", SENTENCES, ids=lambda argument: type(argument).__name__)
def test_incompatibility_is_a_sentence(estimator, dist, f, sentence):
    assert incompatibility(estimator, dist, f) == sentence


class Bits(Bernoulli):
    """A subclass has the capabilities of its bases."""


class OfBernoulliOnly(ScoreFunction):
    requires = (Bernoulli,)


def test_incompatibility_accepts():
    """Plain functions and declared ones, black boxes where values are enough, subclasses, and costs up to the limit."""
    for f in (Sphere(), lambda x: jnp.sum(x)):
        assert incompatibility(Pathwise(), Normal([0.0], [0.0]), f) is None
    assert incompatibility(ScoreFunction(), Bernoulli([0.0]), BlackBox(jnp.sum)) is None
    assert incompatibility(MeasureValued(), Normal([0.0], [0.0]), BlackBox(jnp.sum)) is None
    assert incompatibility(Enumeration(), Bernoulli(np.zeros(20)), jnp.sum) is None
    assert "more than 1048576 times" in incompatibility(Enumeration(), Bernoulli(np.zeros(21)), jnp.sum)


def test_incompatibility_names_a_final_class_that_is_required():
    assert incompatibility(OfBernoulliOnly(), Bits([0.0]), jnp.sum) is None
    sentence = "`OfBernoulliOnly` needs a `Bernoulli` distribution, and `Normal` is not one."
    assert incompatibility(OfBernoulliOnly(), Normal([0.0], [0.0]), jnp.sum) == sentence


@pytest.mark.parametrize("name", list(ESTIMATORS))
def test_numbers_are_leaves_and_integers_are_static(name):
    """So that a sweep compiles once: a float or an array field is a floating array leaf, an integer or a bool is static."""
    estimator = ESTIMATORS.create(name)
    for field in dataclasses.fields(estimator):
        value = getattr(estimator, field.name)
        if field.metadata.get("static", False):
            assert not isinstance(value, float | jax.Array | np.ndarray), (
                f"`{field.name}` of {name} is static, and a number"
            )
        else:
            leaves = jax.tree.leaves(value)
            assert all(eqx.is_inexact_array(leaf) for leaf in leaves if not callable(leaf)), f"`{field.name}` of {name}"


def sources(folder):
    return sorted((ROOT / folder).rglob("*.py"))


def imported(path):
    """Names of the modules that a file imports, relative ones with their dots resolved."""
    package = path.relative_to(ROOT).with_suffix("").parts[:-1]
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else ()
            module = ".".join([*base, *([node.module] if node.module else [])])
            yield module
            yield from (f"{module}.{alias.name}" for alias in node.names)


def words(path):
    """The names in the code of a file; strings and comments left out."""
    tokens = tokenize.generate_tokens(io.StringIO(path.read_text()).readline)
    return {token.string for token in tokens if token.type == tokenize.NAME}


@pytest.mark.parametrize("path", sources("estimators"), ids=lambda path: str(path.relative_to(ROOT)))
def test_estimators_stop_no_gradient_and_import_nothing_of_the_benchmarks(path):
    """A stopped gradient hides an argument from the derivative that trains a control variate."""
    assert "stop_gradient" not in words(path)
    assert not [name for name in imported(path) if name.split(".")[0] in ("benchmarks", "tests")]


def test_problems_do_not_import_the_harness():
    for path in sources("benchmarks/problems"):
        assert not [name for name in imported(path) if name in ("benchmarks.harness", "benchmarks.measurement")], path


READERS = ["records", "store", "tables", "figures", "report"]


@pytest.mark.parametrize("name", READERS)
def test_what_reads_records_imports_no_jax(name):
    """Neither itself nor through the files of the suite that it imports."""
    jaxlike = {"jax", "jaxlib", "equinox", "optax", "jaxtyping", "estimators"}
    pending, seen = [f"benchmarks.{name}"], set()
    while pending:
        module = pending.pop()
        seen.add(module)
        path = ROOT / (module.replace(".", "/") + ".py")
        if not path.exists():
            continue
        names = set(imported(path))
        assert not {found for found in names if found.split(".")[0] in jaxlike}, f"{module} imports {sorted(names)}"
        pending += [found for found in names if found.startswith("benchmarks.") and found not in seen]
