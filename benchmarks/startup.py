"""What a command sets before JAX compiles anything: a cache of programs on disk, with which a second run starts at once.

`JAX_COMPILATION_CACHE_DIR` is another folder for it, and `SCOREPATH_COMPILE_CACHE=off` none.
"""

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import jax
import pooch

from . import traced

SWITCH = "SCOREPATH_COMPILE_CACHE"
HIT = "/jax/compilation_cache/cache_hits"
# Programs that compile in less are not worth a file.
SHORTEST_COMPILE_SECONDS = 0.1

_hits = threading.local()


def prepare() -> None:
    """Keep programs from now on."""
    folder = cache_folder()
    if folder is None:
        jax.config.update("jax_enable_compilation_cache", False)
    else:
        jax.config.update("jax_compilation_cache_dir", str(folder))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", SHORTEST_COMPILE_SECONDS)
    traced.keep(folder)


def cache_folder() -> Path | None:
    """Where compiled programs are kept; `None` where they are not."""
    if os.environ.get(SWITCH, "").lower() in ("off", "0", "no", "false"):
        return None
    return Path(os.environ.get("JAX_COMPILATION_CACHE_DIR") or pooch.os_cache("scorepath") / "compiled")


@contextmanager
def watch_cache() -> Iterator[list[str]]:
    """The programs that this thread finds in the cache meanwhile: a compile time that they save is none."""
    _hits.found = found = []
    try:
        yield found
    finally:
        _hits.found = None


def _note(event: str, **details) -> None:
    found = getattr(_hits, "found", None)
    if event == HIT and found is not None:
        found.append(event)


jax.monitoring.register_event_listener(_note)
