"""The suites of discrete variables: every estimator, on the toys of their papers and along what the papers turn."""

from .base import SUITES, Suite, block, grid
from .known import TEMPERATURES

# Of any discrete variable, of one whose events can be listed, of bits alone, of categories alone, of counts.
SCORES = (
    "score-function,constant-baseline,moving-average-baseline,learned-baseline,optimal-baseline,two-sample-baseline,"
    "self-critical,leave-one-out,leave-one-out:num_samples=4,estimated-coefficient,group-normalized-advantage"
)
LISTED = (
    "exact-mean-baseline,stratified-score-function,systematic-score-function,sum-and-sample,stochastic-sum-and-sample,"
    "unordered-set,reinforce-without-replacement,normalized-reinforce-without-replacement"
)
CONTROLS = "muprop,simple-muprop,rebar,dynamic-rebar,relax,dlax,double-cv"
STRUCTURES = "go,local-expectation,measure-valued,stochastic-triples,finite-difference"
RELAXED = (
    "direct-loss,imle,aimle,perturbed-argmax,gumbel-softmax,gumbel-rao,straight-through,tempered-straight-through,"
    "straight-through-gumbel-softmax,darn,zgr,reinmax"
)
BITS = "parameter-shift,ar,arm,disarm,arms-d,arms-n,bitflip-1,rodeo,identity-straight-through,slope-annealed-straight-through"
CATEGORIES = (
    "ars,arsm,carms-i,carms-sb,carms-g,disarm-sb,disarm-tree,gumbel-sparsemax,gumbel-entmax,gapped-straight-through,"
    "gapped-straight-through-p,optimal-straight-through,reinmax-mean-baseline,reinmax-rao,reinmax-cv"
)
COUNTS = (
    "score-function,leave-one-out,leave-one-out:num_samples=4,measure-valued,go,stochastic-triples,finite-difference"
)
EVERY = f"{SCORES},{CONTROLS},{STRUCTURES},{RELAXED}"


@SUITES.register("discrete")
def discrete() -> Suite:
    """Every estimator for discrete variables, on bits, categories and counts, and along what papers turn."""
    relaxations = (
        "gumbel-softmax",
        "straight-through-gumbel-softmax",
        "gumbel-rao",
        "gumbel-sparsemax",
        "gumbel-entmax",
        "gapped-straight-through",
    )
    temperatures = ",".join(grid(name, "temperature", TEMPERATURES) for name in relaxations)
    samples = [2, 3, 4, 6, 8]
    on_bits = ",".join(
        grid(name, "num_samples", samples) for name in ("leave-one-out", "arms-d", "arms-n", "unordered-set")
    )
    on_categories = ",".join(
        grid(name, "num_samples", samples)
        for name in ("leave-one-out", "carms-i", "carms-sb", "carms-g", "unordered-set")
    )
    pairs = ",".join(grid(name, "num_pairs", [1, 2, 3, 4]) for name in ("arm", "disarm"))
    normal_logits = ",".join(
        [
            "score-function,leave-one-out,muprop,double-cv,local-expectation,straight-through",
            grid("gumbel-softmax", "temperature", TEMPERATURES),
            grid("straight-through-gumbel-softmax", "temperature", TEMPERATURES),
        ]
    )
    counting = ",".join(f"{family}-nonseparable" for family in ("poisson", "geometric", "binomial"))
    smooth_counts = ",".join(f"{family}-cosine" for family in ("poisson", "geometric", "binomial"))
    return Suite(
        "discrete",
        "Every estimator for discrete variables, on bits, categories and counts, and along temperature, samples and pairs.",
        (
            block(f"{EVERY},{LISTED},{BITS}", "bernoulli-nonseparable,bernoulli-qubo", 20_000),
            block(
                f"{EVERY},{LISTED},{CATEGORIES}",
                "categorical-nonseparable,categorical-quadratic:dimension=8,categorical-nonseparable:skew=3",
                20_000,
            ),
            block(COUNTS, counting, 20_000),
            block(f"{COUNTS},{grid('generalized-gumbel-softmax', 'temperature', TEMPERATURES)}", smooth_counts, 20_000),
            block(temperatures, "categorical-nonseparable", 20_000),
            block(on_bits, "bernoulli-nonseparable", 20_000),
            block(pairs, "bernoulli-nonseparable", 20_000),
            block(on_categories, "categorical-nonseparable", 20_000),
            block(normal_logits, "invertible-gaussian-nonseparable", 20_000),
        ),
    )


@SUITES.register("structures")
def structures() -> Suite:
    """Every estimator for discrete variables on what the toys of papers look like beyond a few variables."""
    bits = "bernoulli-separable,bernoulli-targets,bernoulli-chain,bernoulli-chain-weight"
    categories = "categorical-polynomial,categorical-embedding,categorical-chain,categorical-chain-weight"
    counts = ",".join(f"{family}-quadratic" for family in ("poisson", "geometric", "binomial"))
    return Suite(
        "structures",
        "Every estimator for discrete variables on the toys of its paper and on separable, tied and chained ones of up to 200 variables.",
        (
            block(f"{EVERY},{LISTED},{BITS}", "bernoulli-near-half", 20_000),
            block(f"{EVERY},{LISTED},{CATEGORIES}", "categorical-dirichlet,categorical-tied", 20_000),
            block(f"{EVERY},{BITS}", bits, 5_000),
            block(f"{EVERY},{CATEGORIES}", categories, 5_000),
            block(COUNTS, counts, 20_000),
        ),
    )
