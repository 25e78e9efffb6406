"""The suites of models and systems: Bayesian layers, unrolled systems, importance-weighted bounds, and policies."""

from .base import SUITES, Suite, block, grid


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
            block("sumo,mlmc,tail-adaptive", grid("conjugate-iwae", "num_samples", samples), 20_000),
            # Where weights have no variance, and what doubling buys is lost.
            block("sumo,mlmc,bound-pathwise", grid("conjugate-iwae:stretch=0.5", "num_samples", samples[3:]), 20_000),
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


@SUITES.register("policies")
def policies() -> Suite:
    """Policy gradients with exact truth, over horizons."""
    names = (
        "score-function,moving-average-baseline,optimal-baseline,leave-one-out,group-normalized-advantage,reward-to-go,"
        "leave-one-out-reward-to-go,step-baseline,state-baseline,generalized-advantage,actor-critic"
    )
    return Suite(
        "policies",
        "Policy gradients of a tabular decision process over its horizon, and of a contextual bandit, exact by dynamic programming.",
        (
            block(names, grid("tabular-mdp", "horizon", [1, 3, 6, 12]), 100_000),
            block(names, "contextual-bandit", 100_000),
            block(grid("generalized-advantage", "trace_decay", [0.0, 0.5, 0.9, 1.0]), "tabular-mdp", 100_000),
        ),
    )
