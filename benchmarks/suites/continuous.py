"""The suites of continuous variables: every way to move an event or to weigh it, on every family of laws."""

from .base import SUITES, Suite, block, grid

# Of any law with a score.
SCORED = "score-function,optimal-baseline,leave-one-out,leave-one-out:num_samples=4,estimated-coefficient"
# Of an event that moves with its leaves, alone or several together.
MOVED = "pathwise,antithetic-pathwise,latin-hypercube-pathwise,quasi-monte-carlo-pathwise"
# What else there is for independent normal variables, without and with a second look at `f`.
NORMAL = "antithetic-score-function,measure-valued,uncoupled-measure-valued,lax,stein,overdispersed,pgpe"
CONTROLLED = "moment-matched-pathwise,delta-method,rv-rge,rv-rge-hvp,control-variate-ensemble,quadratic-control-variate"
# Of an event that moves by an equation, or with a velocity.
IMPLICIT = "implicit,optimal-transport"
# Of several normal variables that may be rotated.
FIELDS = "adaptive-velocity-field,unrestricted-velocity-field"


@SUITES.register("crossovers")
def crossovers() -> Suite:
    """Score-function, pathwise and measure-valued gradients along the grids of Mohamed et al.: where the ranking turns."""
    # Here, because problems import JAX, and naming a suite must not.
    from ..problems import mohamed_grid

    costs = ("gaussian-quadratic", "gaussian-exponential", "gaussian-cosine")
    grids = [grid(cost, "k", [f"{k:.4g}" for k in mohamed_grid(cost, points=25)]) for cost in costs]
    return Suite(
        "crossovers",
        "Score-function, pathwise and measure-valued gradients of three costs of a normal variable, each along its parameter; at scale "
        "1, where a gradient in log_scale is the paper's in the scale.",
        (block("score-function,pathwise,measure-valued", ",".join(grids), 100_000),),
    )


@SUITES.register("continuous")
def continuous() -> Suite:
    """Every estimator for continuous variables on every family of laws."""
    normal = "gaussian-quadratic:k=-1.5,gaussian-cosine,gaussian-nonseparable,gaussian-rosenbrock"
    scaled = (
        "laplace-quadratic,logistic-cosine,gumbel-exponential,exponential-quadratic,weibull-moment,lognormal-moment"
    )
    concentrations = grid("gamma-moment", "concentration", [0.05, 0.2, 0.5, 2.0, 8.0])
    return Suite(
        "continuous",
        "Score-function, pathwise, implicit, transported, measure-valued and controlled gradients on seventeen families of laws.",
        (
            block(f"{SCORED},{MOVED},{NORMAL},{CONTROLLED},unrestricted-velocity-field", normal, 20_000),
            block(f"{SCORED},{NORMAL}", "gaussian-step", 20_000),
            block(f"{SCORED},{MOVED},lax,measure-valued", scaled, 20_000),
            block(f"{SCORED},{MOVED}", "kumaraswamy-moment,truncated-normal-quadratic", 20_000),
            block(f"{MOVED},measure-valued", "uniform-cosine", 20_000),
            block(f"{SCORED},{MOVED},lax,optimal-transport,{FIELDS}", "multivariate-normal-quadratic", 20_000),
            block(f"{SCORED},{IMPLICIT},g-rep,rsvi,measure-valued", f"{concentrations},gamma-logarithm", 20_000),
            block(f"{SCORED},{IMPLICIT},g-rep", "beta-moment", 20_000),
            block(f"{SCORED},{IMPLICIT},rsvi", "dirichlet-moment", 20_000),
            block(f"{SCORED},implicit", "student-t-quadratic,von-mises-quadratic", 20_000),
            block(f"{SCORED},implicit,mixture-pathwise", "mixture-quadratic", 20_000),
        ),
    )


@SUITES.register("variational")
def variational() -> Suite:
    """Gradients of evidence bounds of normal posteriors, near the optimum and far from it."""
    forms = "total-derivative,sticking-the-landing,analytic-kl,vargrad"
    distances = grid("conjugate-gaussian", "distance", [-1.0, 0.0, 0.1, 1.0])
    models = grid("linear-gaussian-vae", "distance", [0.0, 0.1, 1.0])
    tables = ("breast-cancer", "german", "australian", "ionosphere", "sonar")
    regressions = ",".join(
        grid(f"logistic-regression:data={table}", "point", ["initial", "optimum"]) for table in tables
    )
    return Suite(
        "variational",
        "Evidence bounds without an encoder: forms of the bound near its optimum, and control variates on logistic regressions.",
        (
            block(f"{forms},score-function,pathwise,leave-one-out", f"{distances},{models}", 20_000),
            block(f"{SCORED},{MOVED},{NORMAL},{CONTROLLED}", regressions, 5_000),
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
