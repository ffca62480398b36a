"""The project's own files, read and parsed once, for the tests that hold the house to its rules."""

from __future__ import annotations

import ast
import fnmatch
import functools
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
ROOMS = ("accounts", "billing", "imagesapi", "platform/config", "platform/core", "platform/ui", "platform/web")


@dataclass(frozen=True, slots=True)
class Module:
    """One Python file; `path` is relative to the root, with slashes."""

    path: str
    text: str
    tree: ast.Module


@functools.cache
def _ignored() -> re.Pattern[str]:
    """What git would not see of a folder that it sees, by the plain patterns of our .gitignore.

    A name is looked for at any depth, a path from the root on.
    """
    patterns = [".git", *(line.rstrip("/") for line in (ROOT / ".gitignore").read_text().split())]
    return re.compile("|".join(fnmatch.translate(pattern) for pattern in patterns))


@functools.cache
def files() -> tuple[Path, ...]:
    """Every file of the project, none of what is generated."""
    return tuple(ROOT / name for name in sorted(_walk(ROOT, "")))


def _walk(folder: Path, inside: str) -> Iterator[str]:
    with os.scandir(folder) as entries:
        for entry in entries:
            name = inside + entry.name
            if _ignored().match(entry.name) or _ignored().match(name):
                continue
            if entry.is_dir():
                yield from _walk(folder / entry.name, f"{name}/")
            else:
                yield name


def top_level() -> set[str]:
    """The names in the root, none of what is generated."""
    return {path.relative_to(ROOT).parts[0] for path in files()}


@functools.cache
def modules() -> tuple[Module, ...]:
    """Every Python file, the tests among them."""
    found = []
    for path in files():
        if path.suffix == ".py":
            text = path.read_text()
            found.append(Module(path=path.relative_to(ROOT).as_posix(), text=text, tree=ast.parse(text)))
    return tuple(found)


@functools.cache
def product(*, migrations: bool = False) -> tuple[Module, ...]:
    """What runs in production: manage.py and the rooms."""
    return tuple(
        module
        for module in modules()
        if (module.path == "manage.py" or module.path.startswith(tuple(f"{room}/" for room in ROOMS)))
        and (migrations or "/migrations/" not in module.path)
    )


@functools.cache
def nodes(tree: ast.AST) -> tuple[ast.AST, ...]:
    """Everything in a module, found once for all who look for something in it."""
    return tuple(ast.walk(tree))


def imports(module: Module) -> Iterator[tuple[int, str]]:
    """Line and full name of everything a module imports; `from a import b` is `a.b`."""
    for node in nodes(module.tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, name.name) for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from ((node.lineno, f"{node.module}.{name.name}") for name in node.names)


def functions(module: Module) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    """Every function and method of a module, also the nested ones."""
    for node in nodes(module.tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


@functools.cache
def calls(module: Module) -> tuple[tuple[ast.Call, str], ...]:
    """Every call with the name that is called, dotted as it is written."""
    return tuple((node, _dotted(node.func)) for node in nodes(module.tree) if isinstance(node, ast.Call))


def _dotted(node: ast.expr) -> str:
    """What `ast.unparse` says, which takes a hundred times as long for a name."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name | ast.Attribute):
        return f"{_dotted(node.value)}.{node.attr}"
    return ast.unparse(node)
