"""The machine and the versions that numbers were made with."""

import functools
import json
import os
import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

PACKAGES = ("scorepath", "jax", "jaxlib", "equinox", "optax", "numpy", "scipy", "pandas")


def cores() -> int:
    """How many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def give_cores(process: int, first: int, count: int) -> None:
    """Keep a process (0: this one) that has not used JAX yet to `count` of the cores, the `first` and those after it, round again if
    there are not as many; where the system can."""
    if hasattr(os, "sched_setaffinity"):
        own = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(process, {own[(first + i) % len(own)] for i in range(count)})


@functools.cache
def versions() -> str:
    """Versions of Python and of the packages that numbers depend on, as a JSON object."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not installed"
    return json.dumps(found)


@functools.cache
def commit() -> str | None:
    """The commit of the source tree when this process first asked, `+` if it was changed since; `None` outside of one."""
    root = Path(__file__).resolve().parent.parent
    if not (root / ".git").exists():
        return None

    def git(*arguments: str) -> str:
        return subprocess.run(
            ["git", "-C", str(root), *arguments], capture_output=True, text=True, check=True
        ).stdout.strip()

    try:
        return git("rev-parse", "--short=12", "HEAD") + (
            "+" if git("status", "--porcelain", "--untracked-files=no") else ""
        )
    except (OSError, subprocess.CalledProcessError):
        return None


def machine() -> dict[str, str]:
    """Processor, cores, memory and devices, in words. Imports JAX."""
    import jax

    devices = jax.local_devices()
    return {
        "system": f"{platform.system()} {platform.machine()}",
        "processor": _processor(),
        "cores": str(cores()),
        "devices": f"{len(devices)} x {devices[0].device_kind} ({devices[0].platform})",
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or "unknown"
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "unknown")
