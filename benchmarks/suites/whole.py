"""The suite of all suites."""

from .base import SUITES, Suite

PARTS = (
    "toys",
    "discrete",
    "structures",
    "crossovers",
    "continuous",
    "variational",
    "subsampling",
    "layers",
    "perturbation",
    "policies",
    "bounds",
    "vae",
)


@SUITES.register("paper")
def paper() -> Suite:
    """Everything."""
    names = ", ".join(f"`{name}`" for name in PARTS)
    blocks = tuple(block for name in PARTS for block in SUITES.create(name).blocks)
    return Suite("paper", f"The suites {names} together.", blocks)
