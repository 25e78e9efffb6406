"""Files, written whole or not at all, and the error that says in a sentence why one cannot be."""

import os
import secrets
from contextlib import contextmanager, suppress
from pathlib import Path


class StoreError(ValueError):
    """Why a folder cannot be read or written as a run, as a sentence."""


def write_aside(path: Path, content: str | bytes) -> Path:
    """Write `path` whole or not at all, making its folder; the path."""
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    with in_a_sentence(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with open(temporary, "wb") as file:
                file.write(content.encode() if isinstance(content, str) else content)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
        finally:
            with suppress(OSError):
                temporary.unlink(missing_ok=True)
    return path


@contextmanager
def in_a_sentence(path: Path):
    """Say of an error of the file system what to do."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or error
        raise StoreError(f"`{path}` cannot be written: {reason}. Choose another folder with `--out`.") from error
