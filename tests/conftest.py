"""What every test runs under: float64, no silent rank promotion, and a check that no random key is used twice."""

import jax
import pytest

from benchmarks import harness

jax.config.update("jax_enable_x64", True)
jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_debug_key_reuse", True)

QUICKLY_COMPILED = ("estimators", "problems", "distributions")


@pytest.fixture
def key():
    """A fixed key: a test is deterministic, and its thresholds are calibrated so that any other key would do."""
    return jax.random.key(20260101)


@pytest.fixture
def single_precision():
    """The precision of the command line, for `pytestmark = pytest.mark.usefixtures("single_precision")`."""
    with jax.enable_x64(False):
        yield


@pytest.fixture(scope="module", autouse=True)
def quick_compilation(request):
    """What tests one estimator, problem or distribution is compiled to be run a few times, and so without most optimisations;
    what tests the programs of the harness is compiled as users have it."""
    jax.config.update("jax_disable_most_optimizations", request.path.parent.name in QUICKLY_COMPILED)
    yield
    jax.config.update("jax_disable_most_optimizations", False)


@pytest.fixture(scope="module", autouse=True)
def own_programs():
    """Forget what a file of tests has compiled. Each program holds some mappings of memory, of which a process may have 65,530 on
    Linux: one that asks for more is aborted."""
    yield
    harness.forget_programs()
    jax.clear_caches()
