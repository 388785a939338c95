"""The store that an import path names, as in `app.tokens:store`: any store that a program has made."""

from __future__ import annotations

import importlib
import inspect
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, cast

from evertoken._model.redaction import scrub

if TYPE_CHECKING:
    from evertoken._model.protocols import ListedStore

__all__ = ["store_named"]

_STEPS: Final = ("read", "begin", "mark", "commit", "abandon", "renew")


def store_named(path: str, /, *, here: bool = False, needs: tuple[str, ...] = _STEPS) -> ListedStore:
    """
    Return the store that stands under *path*, or that the function there returns.

    Args:
        path: The name of a module, a colon, and the name of a store in it, or of a function without arguments.

        here: Whether modules of the working directory count, as for `python -m`.

        needs: The methods that it must have.

    Raises:
        ValueError: No store is found. The message describes the mistake and names the path.
    """
    module, colon, name = path.partition(":")
    if not colon or not all(part.isidentifier() for part in [*module.split("."), *name.split(".")]):
        msg = f"a store is named by a module and a name in it, as in app.tokens:store, and not by {scrub(path)!r}"
        raise ValueError(msg)
    if here and str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))
    found: Any = _imported(path, module)
    for part in name.split("."):
        if not hasattr(found, part):
            msg = f"{path}: there is no {part!r} in {getattr(found, '__name__', type(found).__name__)}"
            raise ValueError(msg)
        found = getattr(found, part)
    if callable(found) and not hasattr(found, "begin"):
        found = _made(path, found)
    missing = [step for step in needs if not callable(getattr(found, step, None))]
    if missing or inspect.isclass(found):
        what = f"the class {found.__name__}" if inspect.isclass(found) else f"of type {type(found).__name__}"
        lacks = f": it lacks {', '.join(missing)}" if missing else ""
        msg = f"{path} is {what}, and no store that can be used here{lacks}"
        raise ValueError(msg)
    return cast("ListedStore", found)


def _imported(path: str, module: str) -> Any:
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        # A module that the named module lacks is another matter.
        if error.name is not None and f"{module}.".startswith(f"{error.name}."):
            failed = f"{path}: there is no module {error.name!r}"
        else:
            failed = f"{path}: {module} cannot be imported: {scrub(str(error))}"
    except Exception as error:  # noqa: BLE001 - a module of the user's may raise anything
        failed = f"{path}: {module} cannot be imported: {type(error).__name__}: {scrub(str(error))}"
    raise ValueError(failed)


def _made(path: str, make: Any) -> Any:
    if inspect.iscoroutinefunction(make):
        failed = f"{path} is an async function: a plain one is needed, which returns a store"
        raise ValueError(failed)
    try:
        return make()
    except Exception as error:  # noqa: BLE001 - a function of the user's may raise anything
        failed = f"{path} failed: {type(error).__name__}: {scrub(str(error))}"
    raise ValueError(failed)
