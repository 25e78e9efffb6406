"""Suites: named lists of cells that are run, reported and cited together.

A suite is data: blocks of estimators, problems and a number of replicates. A pair that does not fit is still a cell,
and becomes a row that says why.
"""

from typing import NamedTuple

from estimators.registry import Registry

from .specs import Spec, parse_list

SUITES = Registry("suite", "scorepath.suites")

DISCRETE = (
    "score-function,moving-average-baseline,learned-baseline,optimal-baseline,leave-one-out,leave-one-out:num_samples=4,"
    "rebar,relax,measure-valued,gumbel-softmax,straight-through,straight-through-gumbel-softmax,enumeration"
)
BINARY = f"{DISCRETE},arm,disarm"
TEMPERATURES = [0.05, 0.1, 0.2, 0.5, 1.0, 2.0]
CONTINUOUS = "score-function,moving-average-baseline,optimal-baseline,leave-one-out,leave-one-out:num_samples=4,measure-valued,pathwise"
# What the `discrete` suite measures: of any discrete variable, of bits alone, of categories alone, of counts.
SCORES = (
    "score-function,constant-baseline,exact-mean-baseline,moving-average-baseline,learned-baseline,optimal-baseline,"
    "two-sample-baseline,self-critical,leave-one-out,leave-one-out:num_samples=4,estimated-coefficient,"
    "group-normalized-advantage,stratified-score-function,systematic-score-function"
)
CONTROLS = "muprop,simple-muprop,rebar,dynamic-rebar,relax,dlax,double-cv"
STRUCTURES = (
    "go,local-expectation,measure-valued,stochastic-triples,sum-and-sample,stochastic-sum-and-sample,unordered-set,"
    "reinforce-without-replacement,normalized-reinforce-without-replacement,finite-difference"
)
RELAXED = (
    "direct-loss,imle,perturbed-argmax,gumbel-softmax,gumbel-rao,straight-through,tempered-straight-through,"
    "straight-through-gumbel-softmax,darn,zgr,reinmax"
)
BITS = "ar,arm,disarm,arms-d,arms-n,bitflip-1,rodeo,identity-straight-through,slope-annealed-straight-through"
CATEGORIES = (
    "ars,arsm,carms-i,carms-sb,disarm-sb,disarm-tree,gumbel-sparsemax,gumbel-entmax,gapped-straight-through,"
    "gapped-straight-through-p,optimal-straight-through"
)
COUNTS = (
    "score-function,leave-one-out,leave-one-out:num_samples=4,measure-valued,go,stochastic-triples,finite-difference"
)
FIXED = "score-function,leave-one-out,arm,disarm,gumbel-softmax,straight-through,straight-through-gumbel-softmax"


class Block(NamedTuple):
    """Every one of `estimators` on every one of `problems`."""

    estimators: tuple[Spec, ...]
    problems: tuple[Spec, ...]
    replicates: int


class Cell(NamedTuple):
    """One estimator on one problem."""

    estimator: Spec
    problem: Spec
    replicates: int


class Suite(NamedTuple):
    """A named list of blocks."""

    name: str
    description: str
    blocks: tuple[Block, ...]

    def cells(self) -> list[Cell]:
        """The cells in order, problem by problem, each once."""
        cells = [
            Cell(e, p, block.replicates) for block in self.blocks for p in block.problems for e in block.estimators
        ]
        return list(dict.fromkeys(cells))


def block(estimators: str, problems: str, replicates: int) -> Block:
    """A block from two lists of specifications."""
    return Block(tuple(parse_list(estimators)), tuple(parse_list(problems)), replicates)


def grid(family: str, argument: str, values: list) -> str:
    """The points of a family along one argument; `family` may fix others.

    >>> grid("bernoulli-quadratic:target=0.45", "logit", [-2, 0])
    'bernoulli-quadratic:target=0.45,logit=-2,bernoulli-quadratic:target=0.45,logit=0'
    """
    separator = "," if ":" in family else ":"
    return ",".join(f"{family}{separator}{argument}={value}" for value in values)


@SUITES.register("quick")
def quick() -> Suite:
    """The estimators everybody knows, on one toy and one VAE."""
    return Suite(
        "quick",
        "Estimators of a discrete gradient on a toy and on a VAE, and three of a Gaussian one: a first look in under a minute.",
        (
            block(f"{FIXED},optimal-baseline,rebar", "bernoulli-nonseparable", 20_000),
            block(f"{FIXED},leave-one-out:num_samples=4", "bernoulli-vae:checkpoint=early", 4_000),
            block("score-function,measure-valued,pathwise", "gaussian-quadratic", 20_000),
        ),
    )


@SUITES.register("toys")
def toys() -> Suite:
    """Every seed estimator on every family of toy expectations, with the grids that papers draw."""
    targets = [grid(f"bernoulli-quadratic:target={target}", "logit", [-2, 0, 1]) for target in (0.45, 0.49, 0.499)]
    binary = "bernoulli-rare,bernoulli-linear,bernoulli-parity,bernoulli-qubo,bernoulli-nonseparable,bernoulli-step"
    quadratic = grid("categorical-quadratic", "dimension", [4, 8, 12])
    gaussian = [
        grid("gaussian-quadratic", "k", [-3, -1.5, 0, 1, 3]),
        grid("gaussian-cosine", "k", [0.5, 1, 2, 5]),
        grid("gaussian-exponential", "k", [0.1, 1, 10]),
        grid("gaussian-step", "threshold", [0, 2]),
        "gaussian-nonseparable",
    ]
    relaxations = ("gumbel-softmax", "straight-through-gumbel-softmax", "rebar")
    sweep = ",".join(grid(name, "temperature", TEMPERATURES) for name in relaxations)
    return Suite(
        "toys",
        "Every estimator on every family of toys, over the grids of the literature and what its degenerate toy hides.",
        (
            block(BINARY, ",".join([*targets, binary]), 20_000),
            block(DISCRETE, f"{quadratic},categorical-nonseparable,categorical-linear,categorical-reward", 20_000),
            block(CONTINUOUS, ",".join(gaussian), 20_000),
            block(sweep, "bernoulli-nonseparable,categorical-nonseparable", 20_000),
        ),
    )


@SUITES.register("vae")
def vae() -> Suite:
    """Gradients of evidence bounds on the 8x8 digits, at three frozen checkpoints."""
    checkpoints = ["initial", "early", "late"]
    return Suite(
        "vae",
        "Evidence-bound gradients of small VAEs on the 8x8 digits, exact truth, at three checkpoints of an exact-gradient trajectory.",
        (
            block(BINARY, grid("bernoulli-vae", "checkpoint", checkpoints), 5_000),
            block(DISCRETE, grid("categorical-vae", "checkpoint", checkpoints), 5_000),
            block(CONTINUOUS, grid("gaussian-vae", "checkpoint", checkpoints), 5_000),
            block(
                "score-function,leave-one-out,disarm",
                grid("bernoulli-vae:kl=sampled", "checkpoint", checkpoints),
                5_000,
            ),
            block(
                "score-function,leave-one-out,pathwise",
                grid("gaussian-vae:kl=sampled", "checkpoint", checkpoints),
                5_000,
            ),
        ),
    )


@SUITES.register("discrete")
def discrete() -> Suite:
    """Every estimator for discrete variables, on bits, categories and counts, and along what papers turn."""
    every = f"{SCORES},{CONTROLS},{STRUCTURES},{RELAXED}"
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
        grid(name, "num_samples", samples) for name in ("leave-one-out", "carms-i", "carms-sb", "unordered-set")
    )
    pairs = ",".join(grid(name, "num_pairs", [1, 2, 3, 4]) for name in ("arm", "disarm"))
    counting = ",".join(f"{family}-nonseparable" for family in ("poisson", "geometric", "binomial"))
    return Suite(
        "discrete",
        "Every estimator for discrete variables, on bits, categories and counts, and along temperature, samples and pairs.",
        (
            block(f"{every},{BITS}", "bernoulli-nonseparable,bernoulli-qubo", 20_000),
            block(
                f"{every},{CATEGORIES}",
                "categorical-nonseparable,categorical-quadratic:dimension=8,categorical-nonseparable:skew=3",
                20_000,
            ),
            block(COUNTS, counting, 20_000),
            block(temperatures, "categorical-nonseparable", 20_000),
            block(on_bits, "bernoulli-nonseparable", 20_000),
            block(pairs, "bernoulli-nonseparable", 20_000),
            block(on_categories, "categorical-nonseparable", 20_000),
        ),
    )


@SUITES.register("crossovers")
def crossovers() -> Suite:
    """Score-function, pathwise and measure-valued gradients along the grids of Mohamed et al.: where the ranking turns."""
    # Here, because problems import JAX, and naming a suite must not.
    from .problems import mohamed_grid

    costs = ("gaussian-quadratic", "gaussian-exponential", "gaussian-cosine")
    grids = [grid(cost, "k", [f"{k:.4g}" for k in mohamed_grid(cost, points=25)]) for cost in costs]
    return Suite(
        "crossovers",
        "Score-function, pathwise and measure-valued gradients of three costs of a normal variable, each along its parameter; at scale "
        "1, where a gradient in log_scale is the paper's in the scale.",
        (block("score-function,pathwise,measure-valued", ",".join(grids), 100_000),),
    )


@SUITES.register("layers")
def layers() -> Suite:
    """What examples of a minibatch share of one another's weight noise, over batch sizes."""
    batches = [2**n for n in range(9)]
    problems = ",".join(grid(name, "batch", batches) for name in ("bayesian-linear", "bayesian-hidden-layer"))
    return Suite(
        "layers",
        "Bayesian layers over batch sizes: one draw of the weights for all examples, Flipout, and local reparameterization.",
        (block("score-function,leave-one-out,pathwise,flipout,local-reparameterization", problems, 20_000),),
    )


@SUITES.register("perturbation")
def perturbation() -> Suite:
    """The gradient of a deterministic function from its values, or one derivative, along random directions."""
    names = (
        "spsa,random-directions,forward-gradient,evolution-strategies,rank-shaped-es,guided-es,truncated-es,pes,nres"
    )
    windows = [1, 2, 3, 4, 6, 12]
    sigmas = ",".join(grid(name, "sigma", [0.03, 0.1, 0.3, 1.0]) for name in ("evolution-strategies", "pes", "nres"))
    steps = ",".join(grid(name, "step", [0.03, 0.1, 0.3, 1.0]) for name in ("spsa", "random-directions"))
    return Suite(
        "perturbation",
        "Parameter perturbation on unrolled systems: over windows of truncation, and over the size of the perturbation.",
        (
            block(names, grid("unrolled-linear", "window", windows), 50_000),
            block(names, grid("unrolled-gradient-descent", "window", windows), 50_000),
            block(f"{sigmas},{steps}", "unrolled-gradient-descent", 50_000),
        ),
    )


@SUITES.register("bounds")
def bounds() -> Suite:
    """Importance-weighted bounds, along the number of samples and the order, and what stands in for a bound."""
    paths = "bound-pathwise,bound-sticking-the-landing,bound-dreg"
    scores = "bound-score-function,vimco,vimco-arithmetic,ovis-gamma-zero,ovis-asymptotic"
    samples = [1, 4, 16, 64, 256, 1024]
    numbers = [4, 16, 64, 256]
    selfnormalised = ",".join(grid(name, "num_samples", numbers) for name in ("rws-wake-phi", "rws-dreg"))
    evidence = ",".join(
        grid(f"evidence-{name}", "num_samples", numbers) for name in ("importance-weighted", "jackknife", "gdreg")
    )
    return Suite(
        "bounds",
        "Gradients of importance-weighted bounds, exact truth for every number of samples: signal, noise and bias along it.",
        (
            block(paths, grid("conjugate-iwae", "num_samples", samples), 20_000),
            block(scores, grid("conjugate-iwae", "num_samples", samples[:4]), 20_000),
            # Its baselines take the cube of the number of samples.
            block("ovis-mc", grid("conjugate-iwae", "num_samples", samples[:3]), 20_000),
            block(f"{paths},vimco", grid("conjugate-renyi", "alpha", [-1, 0, 0.5, 0.9]), 20_000),
            block(f"{paths},vimco", grid("conjugate-jackknife", "num_samples", [4, 16, 64]), 20_000),
            block(
                f"{scores},ovis-mc,local-disarm,local-arms",
                grid("bernoulli-iwae", "num_samples", [1, 2, 4, 16]),
                20_000,
            ),
            block(selfnormalised, "conjugate-inclusive", 20_000),
            block(grid("tvo", "num_samples", numbers), "conjugate-thermodynamic", 20_000),
            block(evidence, "conjugate-evidence", 20_000),
        ),
    )


@SUITES.register("subsampling")
def subsampling() -> Suite:
    """Rows of a table drawn by an estimator: which of the two sources of noise a control variate takes away."""
    names = (
        "doubly-stochastic",
        "monte-carlo-control-variate",
        "incremental-control-variate",
        "joint-control-variate",
    )
    tables = ["german", "australian", "ionosphere", "sonar"]
    # From 2 on, the default warm-up sees every row of the table.
    batches = ",".join(grid(name, "batch", [2, 8, 32, 128, 512]) for name in names)
    points = ["initial", "optimum"]
    return Suite(
        "subsampling",
        "Bayesian logistic regression from a few rows at a time: control variates of the noise, of the rows, and of both.",
        (
            block(
                f"pathwise,rv-rge,{','.join(names)}", grid("logistic-regression:point=optimum", "data", tables), 20_000
            ),
            block(f"pathwise,rv-rge,{batches}", grid("logistic-regression", "point", points), 20_000),
        ),
    )


@SUITES.register("paper")
def paper() -> Suite:
    """Everything."""
    parts = (toys(), discrete(), crossovers(), layers(), subsampling(), perturbation(), bounds(), vae())
    names = ", ".join(f"`{part.name}`" for part in parts)
    return Suite("paper", f"The suites {names} together.", tuple(block for part in parts for block in part.blocks))
