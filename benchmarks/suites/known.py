"""The suites of the estimators that everybody knows, on toys and on autoencoders."""

from .base import SUITES, Suite, block, grid

DISCRETE = (
    "score-function,moving-average-baseline,learned-baseline,optimal-baseline,leave-one-out,leave-one-out:num_samples=4,"
    "rebar,relax,measure-valued,gumbel-softmax,straight-through,straight-through-gumbel-softmax,enumeration"
)
BINARY = f"{DISCRETE},arm,disarm"
TEMPERATURES = [0.05, 0.1, 0.2, 0.5, 1.0, 2.0]
CONTINUOUS = "score-function,moving-average-baseline,optimal-baseline,leave-one-out,leave-one-out:num_samples=4,measure-valued,pathwise"
FIXED = "score-function,leave-one-out,arm,disarm,gumbel-softmax,straight-through,straight-through-gumbel-softmax"

# What came later, of bits and categories, and of paths: on an autoencoder, at one checkpoint.
LATER = "muprop,double-cv,dlax,gumbel-rao,zgr,darn,reinmax,imle,aimle"
LATER_BITS = "arms-d,arms-n,rodeo,bitflip-1"
LATER_CATEGORIES = "arsm,carms-i,carms-sb,carms-g,disarm-sb,disarm-tree,gapped-straight-through"
LATER_PATHS = "antithetic-pathwise,quasi-monte-carlo-pathwise,moment-matched-pathwise,rv-rge,measure-valued"


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
    """The estimators that everybody knows on every family of toy expectations, with the grids that papers draw."""
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
        "The estimators that everybody knows on every family of toys, over the grids of the literature and what its degenerate toy hides.",
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
            block(f"{LATER},{LATER_BITS}", "bernoulli-vae:checkpoint=early", 5_000),
            block(f"{LATER},{LATER_CATEGORIES}", "categorical-vae:checkpoint=early", 5_000),
            block(LATER_PATHS, "gaussian-vae:checkpoint=early", 5_000),
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
