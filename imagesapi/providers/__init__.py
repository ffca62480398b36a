"""One file per provider; a file with SETTINGS is an adapter, found by its name."""

from __future__ import annotations

import functools
import importlib
from typing import cast

from imagesapi.providers.base import Adapter


@functools.cache
def load(name: str) -> Adapter:
    """The adapter module of a provider. Raises LookupError when there is none of that name."""
    if not name.isidentifier():
        raise LookupError(f"{name!r} is no adapter's name")
    try:
        module = importlib.import_module(f"imagesapi.providers.{name}")
    except ModuleNotFoundError as error:
        raise LookupError(f"there is no imagesapi/providers/{name}.py") from error
    if not hasattr(module, "SETTINGS"):
        raise LookupError(f"imagesapi/providers/{name}.py is not an adapter: it has no SETTINGS")
    return cast(Adapter, module)
