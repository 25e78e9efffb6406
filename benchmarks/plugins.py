"""Plug-ins: a file of the user's that registers estimators or problems by importing this project and decorating its
classes."""

import importlib.util
import sys
from pathlib import Path

from .specs import UserError


def load_plugin(file: str) -> None:
    """Run `file` as a module of its own. Raises `UserError` with a sentence if there is no such file or it does not
    load."""
    path = Path(file)
    if path.suffix != ".py" or not path.is_file():
        raise UserError(f"There is no plug-in file {file!r}; `--plugin` takes the path of a Python file.")
    name = f"scorepath_plugin_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        del sys.modules[name]
        raise UserError(f"The plug-in {file!r} does not load: {type(error).__name__}: {error}") from error
