"""The rules of the house that no linter knows: what a module says of itself, how money and SQL are written, units."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

import pytest

from tests import sources
from tests.sources import Module

# Written apart, or this file would find itself.
_WORDS = ("TO-DO", "FIX-ME", "XX-X", "HA-CK", "NotImplemented-Error", "pytest.sk-ip", "pytest.xf-ail")
UNFINISHED = re.compile(rf"\b({'|'.join(re.escape(word.replace('-', '')) for word in _WORDS)})\b")
TEXT = {".py", ".sql", ".html", ".css", ".js", ".md", ".toml", ".json", ".txt", ""}


def test_every_module_says_in_one_line_what_it_is_for() -> None:
    for module in sources.modules():
        if module.path.startswith("tests/contract/examples/"):  # as people paste them
            continue
        if "/migrations/" in module.path or not module.text.strip():
            continue
        docstring = ast.get_docstring(module.tree) or ""
        first, _, rest = docstring.partition("\n")
        assert first.endswith((".", "?", "!")), f"{module.path} does not start with a sentence about itself"
        assert not rest or rest.startswith("\n"), f"{module.path}: its first line runs on"


def test_every_function_is_annotated() -> None:
    for module in sources.product():
        for function in sources.functions(module):
            arguments = function.args
            named = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs]
            bare = [a.arg for a in named if a.annotation is None and a.arg not in ("self", "cls")]
            assert not bare, f"{module.path}:{function.lineno} {function.name} does not say what {bare} are"
            assert function.returns is not None, f"{module.path}:{function.lineno} {function.name} returns what?"


def test_it_leaves_nothing_unfinished() -> None:
    for path in sources.files():
        if path.suffix not in TEXT or "requirements" in path.parts:
            continue
        found = UNFINISHED.search(path.read_text())
        assert found is None, f"{path.relative_to(sources.ROOT)} says {found[0] if found else ''}"


def test_it_computes_money_in_integers() -> None:
    """One function turns an amount into the JSON number that some fields must be; nothing computes with it."""
    for module in sources.product():
        if not module.path.startswith(("billing/", "platform/core/money.py")):
            continue
        allowed = {
            node
            for function in sources.functions(module)
            if (module.path, function.name) in JSON_NUMBERS
            for node in ast.walk(function)
        }
        for node in sources.nodes(module.tree):
            if node in allowed:
                continue
            where = f"{module.path}:{getattr(node, 'lineno', 0)}"
            assert not (isinstance(node, ast.Name) and node.id in ("float", "Decimal", "round")), where
            assert not (isinstance(node, ast.Constant) and isinstance(node.value, float)), where
            assert not isinstance(node, ast.Div), where
            assert not (isinstance(node, ast.Attribute) and node.attr in ("FloatField", "DecimalField")), where


# Where JSON asks for a number, or may hold one.
JSON_NUMBERS = {("platform/core/money.py", "json_number"), ("platform/core/money.py", "nanos_from_json")}
# What is put together from something else than constants, and why that is safe.
COMPOSED = {
    ("platform/core/libpq.py", "bound.name"),  # of a prepared statement, made from the statement itself
    ("platform/core/sql.py", "statement"),  # the two doors, row and Locks: everybody who calls them is checked here
    ("imagesapi/uploads.py", "data"),  # a picture's bytes, which pictures.prepare reads
    ("billing/budget_alerts.py", "_DUE"),  # with STARTS, a constant of billing.budgets
    ("billing/ledger.py", "query"),  # constants of this file, and what rooms register at start
    ("accounts/keys.py", "_lookup('k.id = %(key_id)s AND o.id = %(organization_id)s AND o.suspended_at IS NULL')"),
    ("accounts/keys.py", "_lookup(condition)"),  # constants of this file, and what rooms register at start
    ("platform/core/management/commands/migrate.py", "f'GRANT USAGE ON SCHEMA public TO {name}'"),  # quoted names
    ("platform/core/management/commands/migrate.py", "f'GRANT SELECT, INSERT, UPDATE, DELETE {everything} TO {name}'"),
    (
        "platform/core/management/commands/migrate.py",
        "f'GRANT USAGE, SELECT ON ALL SEQUENCES IN SCHEMA public TO {name}'",
    ),
    (
        "platform/core/management/commands/migrate.py",
        "f'REVOKE INSERT, UPDATE, DELETE, TRUNCATE ON {table} FROM {name}'",
    ),
    (
        "platform/core/management/commands/migrate.py",
        "f'REVOKE UPDATE, DELETE, TRUNCATE ON {table} FROM {name}'",
    ),
}


def test_it_never_writes_a_value_into_a_statement() -> None:
    for module in sources.product():
        for line, statement in _statements(module):
            if _is_constant(statement, module) or (module.path, ast.unparse(statement)) in COMPOSED:
                continue
            pytest.fail(f"{module.path}:{line} puts a statement together: {ast.unparse(statement)[:120]}")


def _statements(module: Module) -> Iterator[tuple[int, ast.expr]]:
    """The first argument of whatever takes SQL."""
    for call, name in sources.calls(module):
        takes_sql = name.endswith((".execute", ".executemany", ".raw", ".extra", ".prepare"))
        if (takes_sql or name in ("sql.row", "libpq.bind", "Locks", "RawSQL")) and call.args:
            yield call.lineno, call.args[0]


def _is_constant(node: ast.expr, module: Module) -> bool:
    """A literal, a name in capitals whose value is one, or a literal that holds only such names."""
    if isinstance(node, ast.Constant):
        return True
    if isinstance(node, ast.JoinedStr):
        values = [part.value for part in node.values if isinstance(part, ast.FormattedValue)]
        return all(_is_constant(value, module) for value in values)
    if isinstance(node, ast.IfExp):
        return _is_constant(node.body, module) and _is_constant(node.orelse, module)
    if isinstance(node, ast.Attribute):
        return node.attr.isupper() and isinstance(node.value, ast.Name)
    if isinstance(node, ast.Name) and node.id.isupper():
        assigned = [
            statement.value
            for statement in module.tree.body
            if isinstance(statement, ast.Assign) and ast.unparse(statement.targets[0]) == node.id
        ]
        return bool(assigned) and all(_is_constant(value, module) for value in assigned)
    return False


def test_it_prints_only_from_commands() -> None:
    for module in sources.product():
        for call, name in sources.calls(module):
            assert name != "print" or module.path == "manage.py", f"{module.path}:{call.lineno} prints"


# Words that say a quantity without its unit, at the end of a name of a number.
UNITLESS = re.compile(
    r"(^|_)(amount|price|cost|fee|balance|credit|timeout|delay|duration|interval|ttl|age|expiry|filesize|weight_of)$"
)
# gunicorn's own names.
FOREIGN = {"platform/config/gunicorn.py"}


def test_it_puts_the_unit_into_the_name_of_a_number() -> None:
    for module in sources.product():
        if module.path in FOREIGN:
            continue
        for line, name in _numbers(module):
            assert not UNITLESS.search(name.lower()), f"{module.path}:{line} {name} of what: _nanos, _s, _bytes, _px?"


def _numbers(module: Module) -> Iterator[tuple[int, str]]:
    """Names of arguments, fields and constants that hold a plain number."""
    for node in sources.nodes(module.tree):
        if isinstance(node, ast.arg) and node.annotation is not None and _is_number(node.annotation):
            yield node.lineno, node.arg
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and _is_number(node.annotation):
            yield node.lineno, node.target.id
        elif (
            isinstance(node, ast.Assign)
            and isinstance(node.value, ast.Constant)
            and type(node.value.value) in (int, float)
            and isinstance(node.targets[0], ast.Name)
        ):
            yield node.lineno, node.targets[0].id


def _is_number(annotation: ast.expr) -> bool:
    return ast.unparse(annotation) in ("int", "float", "int | None", "float | None", "int | float")
