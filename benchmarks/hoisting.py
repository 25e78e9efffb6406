"""Hoisting: what no replicate changes is computed once, before the loop over replicates.

An estimate is mostly a function of its key, and partly not: the encoder of an autoencoder, the probabilities that its logits stand for.
XLA fuses such a part into whatever reads it, and computes it anew for every replicate, or for every element. Here the program of
one replicate is traced, its equations that do not depend on the argument are evaluated at once, and what is left is a
function of the argument that reads their results.
"""

from collections.abc import Callable, Sequence

import jax
from jax.extend.core import ClosedJaxpr, Jaxpr, Literal, jaxpr_as_fun
from jax.interpreters.partial_eval import dce_jaxpr
from jaxtyping import Array, PyTree

_UNKNOWN = object()


def hoisted(function: Callable[[Array], PyTree], example: Array) -> Callable[[Array], PyTree]:
    """The same function of one array, with all that does not depend on it computed now.

    `example` has the shape and type of the argument. Where `function` closes over tracers, the computation now is a part of their
    trace.

    >>> import jax.numpy as jnp
    >>> shifted = hoisted(lambda x: x + jnp.sum(jnp.sin(jnp.arange(3.0))), jnp.zeros(()))
    >>> [equation.primitive.name for equation in jax.make_jaxpr(shifted)(1.0).eqns]
    ['add']
    """
    closed, shapes = jax.make_jaxpr(function, return_shape=True)(example)
    closed = closed.replace(jaxpr=dce_jaxpr(closed.jaxpr, True, instantiate=True)[0])
    computed: dict[tuple[int, ...], list] = {}
    _interpret(closed, [_UNKNOWN], (), computed, _defer)

    def remaining(argument: Array) -> PyTree:
        values = _interpret(closed, [argument], (), computed, _bind)
        return jax.tree.unflatten(jax.tree.structure(shapes), values)

    return remaining


def dependent(jaxpr: Jaxpr, inputs: Sequence[bool]) -> list[bool]:
    """Which of the outputs depend on the marked `inputs`, as far as can be seen without looking into loops.

    >>> import jax.numpy as jnp
    >>> traced = jax.make_jaxpr(lambda x, y: (x + y, jnp.sin(y)))(1.0, 2.0)
    >>> dependent(traced.jaxpr, [True, False])
    [True, False]
    """
    marked = dict(zip(jaxpr.invars, inputs, strict=True))

    def marks(atoms: Sequence) -> list[bool]:
        return [not isinstance(atom, Literal) and marked.get(atom, False) for atom in atoms]

    for equation in jaxpr.eqns:
        own = marks(equation.invars)
        if equation.primitive.name in ("jit", "pjit"):
            outputs = dependent(equation.params["jaxpr"].jaxpr, own)
        elif equation.primitive.name == "cond" and not own[0]:
            each = [dependent(branch.jaxpr, own[1:]) for branch in equation.params["branches"]]
            outputs = [any(branches) for branches in zip(*each, strict=True)]
        else:
            outputs = [any(own)] * len(equation.outvars)
        marked.update(zip(equation.outvars, outputs, strict=True))
    return marks(jaxpr.outvars)


def _interpret(
    closed: ClosedJaxpr, arguments: list, path: tuple[int, ...], computed: dict, otherwise: Callable
) -> list:
    """The outputs for these arguments. Equations without unknown inputs are evaluated the first time and remembered in `computed`
    by where they stand; the others are left to `otherwise`; calls among them are entered, and so are
    the branches of a choice that is known."""
    jaxpr = closed.jaxpr
    values = dict(zip([*jaxpr.constvars, *jaxpr.invars], [*closed.consts, *arguments], strict=True))
    for number, equation in enumerate(jaxpr.eqns):
        inputs = [atom.val if isinstance(atom, Literal) else values[atom] for atom in equation.invars]
        place = (*path, number)
        if place in computed:
            outputs = computed[place]
        elif otherwise is _defer and not equation.effects and not any(value is _UNKNOWN for value in inputs):
            outputs = computed[place] = _bind(jaxpr, equation, inputs)
        elif equation.primitive.name in ("jit", "pjit"):
            outputs = _interpret(equation.params["jaxpr"], inputs, place, computed, otherwise)
        elif equation.primitive.name == "cond" and inputs[0] is not _UNKNOWN:
            outputs = _choose(equation.params["branches"], inputs, place, computed, otherwise)
        else:
            outputs = otherwise(jaxpr, equation, inputs)
        values.update(zip(equation.outvars, outputs, strict=True))
    return [atom.val if isinstance(atom, Literal) else values[atom] for atom in jaxpr.outvars]


def _choose(branches: tuple, inputs: list, place: tuple[int, ...], computed: dict, otherwise: Callable) -> list:
    """The outputs of the branch that is chosen by the first of the inputs, which is known. What does not depend on the argument is
    computed now for every branch: most have it in common, and it is the work of one replicate."""
    chosen, *operands = inputs
    paths = [(*place, number) for number in range(len(branches))]
    if otherwise is _defer:
        for branch, path in zip(branches, paths, strict=True):
            _interpret(branch, operands, path, computed, _defer)
        return [_UNKNOWN] * len(branches[0].jaxpr.outvars)
    own = [
        lambda *operands, branch=branch, path=path: _interpret(branch, list(operands), path, computed, otherwise)
        for branch, path in zip(branches, paths, strict=True)
    ]
    return jax.lax.switch(chosen, own, *operands)


def _defer(jaxpr: Jaxpr, equation, inputs: list) -> list:
    return [_UNKNOWN] * len(equation.outvars)


def _bind(jaxpr: Jaxpr, equation, inputs: list) -> list:
    """The outputs of one equation, evaluated as the program that it alone is."""
    given = {atom: value for atom, value in zip(equation.invars, inputs, strict=True) if not isinstance(atom, Literal)}
    names = jaxpr.debug_info._replace(arg_names=None, result_paths=None)
    alone = Jaxpr([], list(given), equation.outvars, [equation], equation.effects, names)
    return jaxpr_as_fun(ClosedJaxpr(alone, []))(*given.values())
