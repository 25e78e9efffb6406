"""Programs as they were traced, kept on disk from one run to the next.

JAX's cache keeps what XLA has compiled, and finds it by the program: to be told that nothing need be compiled, one has to
trace and to lower first, which for small cells is most of a warm run. Here the lowered program is kept beside it, in the
portable form of `jax.export` (no code of Python's and no pickle), under the name of all that it was made from: the sources
of this project, the versions and settings of what it builds on, the devices, and the classes, settings and shapes of
estimator, state and problem. What has no such name is traced every time: a plug-in, or a function made on the spot.

Only a command keeps programs, after `keep`: a session in which somebody may redefine a method traces what it runs.
"""

import dataclasses
import functools
import hashlib
import json
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

import equinox as eqx
import jax
import numpy as np
from jax import export
from jaxtyping import PyTree

from .environment import versions
from .files import StoreError, write_aside

ROOT = Path(__file__).resolve().parent.parent
OWN = ("benchmarks", "estimators")
# Packages whose version, which is a part of the name, says what their functions and classes do.
VERSIONED = ("builtins", "equinox", "jax", "jaxlib", "numpy", "optax")
PLAIN = (type(None), bool, int, float, complex, str, bytes)

_folder: Path | None = None


class Unnamed(Exception):
    """Something of which a name does not say all that it does."""


class Kept:
    """A program on disk, or the place for one; `name` is `None` for what is not kept."""

    def __init__(self, name: str | None):
        self.path = None if name is None or _folder is None else _folder / f"{name}.traced"
        self.facts, self.exported = {}, None
        with suppress(OSError, ValueError):
            if self.path is not None:
                self._read(self.path.read_bytes())

    def _read(self, content: bytes) -> None:
        """Take what was said of the program and the program, unless the digest before them is not theirs."""
        digest, rest = content.split(b"\n", 1)
        if digest == _digest(rest):
            facts, program = rest.split(b"\n", 1)
            self.facts, self.exported = json.loads(facts), export.deserialize(bytearray(program))

    def _write(self, facts: dict) -> None:
        content = json.dumps(facts).encode() + b"\n" + self.exported.serialize()
        # A cache that cannot be written is one that does not help.
        with suppress(StoreError):
            write_aside(self.path, _digest(content) + b"\n" + content)

    def compile(
        self,
        function: Callable,
        arguments: Sequence,
        facts: dict,
        shardings: tuple | None = None,
        options: dict | None = None,
    ) -> Callable:
        """The compiled `function` of these arrays or shapes; traced only if it is not here, and then kept with `facts`.

        `shardings` are those of the arguments where the function runs on several devices, `options` those of XLA.
        """
        placed = {} if shardings is None else {"in_shardings": shardings}
        if self.path is not None and self.exported is None:
            # A program may call what `jax.export` does not vouch for.
            with suppress(ValueError):
                self.exported = export.export(jax.jit(function))(*arguments)
                self._write(facts)
        if self.exported is not None:
            function = self.exported.call
        return jax.jit(function, **placed).lower(*arguments).compile(options)


def keep(folder: Path | None) -> None:
    """From now on, keep programs in this folder; in none with `None`."""
    global _folder
    _folder = folder


def name(*things: PyTree) -> str | None:
    """The name of the program that is made from these: estimators, problems, states, devices and settings, of whose arrays
    the shapes count. `None` if it has none, or is not to be kept."""
    if _folder is None:
        return None
    try:
        described = [_described(thing) for thing in things]
    except Unnamed:
        return None
    said = json.dumps([_sources(), versions(), _settings(), described])
    return hashlib.sha256(said.encode()).hexdigest()


@functools.cache
def _sources() -> str:
    """A digest of every file of this project's packages: its code, and the data that it ships."""
    digest = hashlib.sha256()
    for package in OWN:
        for file in sorted(path for path in (ROOT / package).rglob("*") if path.is_file() and path.suffix != ".pyc"):
            digest.update(f"{file.relative_to(ROOT)}\0{file.stat().st_size}\0".encode() + file.read_bytes())
    return digest.hexdigest()


def _settings() -> list[str]:
    """What JAX is set to, but for where it keeps its own cache."""
    return sorted(f"{setting}={value}" for setting, value in jax.config.values.items() if "cache" not in setting)


def _digest(content: bytes) -> bytes:
    return hashlib.sha256(content).hexdigest().encode()


def _described(thing, fixed: bool = False) -> list | str:
    """The thing in words and lists of them, such that equal descriptions are of things that are traced to one program.

    Of an array the shape is enough, for a program takes it as an argument; but not where it is `fixed`, in a static field,
    or NumPy's: there it is a constant of the program, and has no name."""
    if isinstance(thing, PLAIN):
        return f"{type(thing).__name__} {thing!r}"
    if isinstance(thing, jax.Array | jax.ShapeDtypeStruct) and not fixed:
        return f"array {thing.shape} {thing.dtype} {thing.weak_type}"
    if isinstance(thing, np.dtype):
        return f"dtype {thing}"
    if isinstance(thing, jax.Device):
        return f"device {thing.platform} {thing.device_kind}"
    if isinstance(thing, tuple | list):
        return [type(thing).__name__, *(_described(item, fixed) for item in thing)]
    if isinstance(thing, dict):
        return ["dict", *([_described(k, True), _described(v, fixed)] for k, v in thing.items())]
    if isinstance(thing, eqx.Module):
        static = {field.name for field in dataclasses.fields(thing) if field.metadata.get("static", False)}
        fields = sorted(vars(thing).items())
        return [_found(type(thing)), *([name, _described(value, fixed or name in static)] for name, value in fields)]
    return _found(thing)


def _found(thing) -> str:
    """The name by which a class or function of a known package is found; raises `Unnamed` for all else."""
    module, qualified = getattr(thing, "__module__", None), getattr(thing, "__qualname__", None)
    if module is None or qualified is None or module.partition(".")[0] not in OWN + VERSIONED:
        raise Unnamed
    with suppress(AttributeError, KeyError):
        if functools.reduce(getattr, qualified.split("."), sys.modules[module]) is thing:
            return f"{module}:{qualified}"
    raise Unnamed
