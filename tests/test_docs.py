"""What the documents say is what the product does: commands, settings, errors, links, the version."""

from __future__ import annotations

import ast
import contextlib
import re
import tomllib
from pathlib import Path

import pytest
from django.core.management import get_commands

from core import errors
from imagesapi import catalogue_files, configuration, providers
from imagesapi.providers import base
from tests import sources
from tests.sources import ROOT

DOCUMENTS = tuple(path for path in sources.files() if path.suffix == ".md")
EXAMPLE = (ROOT / ".env.example").read_text()
# What a shell, a test or our own supervisor sets, and nobody configures.
INTERNAL = {"DJANGO_SETTINGS_MODULE", "READY_FILE", "FAULT", "MALLOC_ARENA_MAX", "PYTHONPATH"}
# Words in capitals that are no settings.
FOREIGN = {"PIXELPAR_API_KEY", "NAME_FILE", "SETTINGS", "INFO"}


def text_of(*names: str) -> str:
    return "\n".join((ROOT / name).read_text() for name in names)


def settings_read() -> set[str]:
    """Every environment variable the product reads, from its source."""
    found = set()
    for module in sources.product():
        for call, name in sources.calls(module):
            reads = name.startswith(("ENV.", "settings.ENV.")) or name in ("os.environ.get", "os.getenv")
            if reads and call.args and isinstance(call.args[0], ast.Constant):
                found.add(str(call.args[0].value))
    return (found | {setting.name for setting in settings_declared()}) - INTERNAL


def settings_declared() -> list[base.Setting]:
    """What the adapters declare, and for those that serve several providers what each shipped one of these needs."""
    found: list[base.Setting] = []
    for path in (ROOT / "imagesapi" / "providers").glob("[!_]*.py"):
        with contextlib.suppress(LookupError):
            found += providers.load(path.stem).SETTINGS
    for slug, row in catalogue_files.read().providers.items():
        found += configuration.settings_of(row["adapter"], slug=slug, options=row["options"])
    return found


def test_it_documents_every_setting_and_no_other() -> None:
    assert set(re.findall(r"^#?([A-Z][A-Z_]+)=", EXAMPLE, re.MULTILINE)) == settings_read()


def test_it_explains_every_setting_to_operators() -> None:
    explained = set(re.findall(r"`([A-Z][A-Z_]{3,})(?:=[^`]*)?`", text_of("docs/operating.md", "docs/providers.md")))
    assert settings_read() <= explained
    assert explained - settings_read() <= FOREIGN


def test_readme_names_only_settings_that_exist() -> None:
    named = set(re.findall(r"`([A-Z][A-Z_]{3,})`", text_of("README.md", "docs/quickstart.md")))
    assert named - settings_read() <= FOREIGN


def test_example_settings_show_the_defaults() -> None:
    """A default that changed in the settings and not in the example would mislead whoever copies it."""
    values = dict(re.findall(r"^#([A-Z][A-Z_]+)=(.+)$", EXAMPLE, re.MULTILINE))
    for setting in settings_declared():
        assert values.get(setting.name, "") == setting.default, setting.name
    tree = next(module.tree for module in sources.product() if module.path == "platform/config/settings.py")
    for call in ast.walk(tree):
        if isinstance(call, ast.Call) and ast.unparse(call.func) in ("ENV.int", "ENV.bool") and call.args:
            default = next(keyword.value for keyword in call.keywords if keyword.arg == "default")
            number = _number(default)
            if number is not None:
                name = str(ast.literal_eval(call.args[0]))
                assert values[name] == str(number).lower(), name


def _number(node: ast.expr) -> int | bool | None:
    """A literal or a product of literals."""
    if isinstance(node, ast.Constant) and isinstance(node.value, int):
        return node.value
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Mult):
        left, right = _number(node.left), _number(node.right)
        return left * right if left is not None and right is not None else None
    return None


def test_it_names_only_commands_that_exist() -> None:
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    ours = get_commands()
    for path in DOCUMENTS:
        text = path.read_text()
        commands = "\n".join(re.findall(r"`[^`]+`|```.*?```", text, re.DOTALL))
        for verb in re.findall(r"\bmake ([a-z]+)\b", commands):
            assert verb in targets, f"{path.name}: make {verb}"
        for command in re.findall(r"manage\.py ([a-z_]+)", commands):
            assert command in ours, f"{path.name}: manage.py {command}"


def test_readme_lists_every_command_of_ours() -> None:
    ours = {name for name, app in get_commands().items() if app in ("accounts", "billing", "imagesapi")}
    table = (ROOT / "README.md").read_text().partition("## Operators' commands")[2].partition("\n## ")[0]
    assert {name.split()[0] for name in re.findall(r"^\| `([^`]+)`", table, re.MULTILINE)} == ours


def test_makefile_explains_every_verb() -> None:
    makefile = (ROOT / "Makefile").read_text()
    for target in re.findall(r"^\.PHONY: (.+)$", makefile, re.MULTILINE)[0].split():
        assert re.search(rf"^{target}:.*## \w", makefile, re.MULTILINE), f"make does not print {target}"


def test_changelog_has_this_version() -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert re.search(rf"^## {re.escape(version)}\b", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_its_links_lead_somewhere(path: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", path.read_text()):
        if target.startswith(("https://", "http://")):
            continue
        name, _, anchor = target.partition("#")
        linked = (path.parent / name).resolve() if name else path
        assert linked.exists(), f"{path.name} links to {target}"
        if anchor:
            assert anchor in _anchors(linked), f"{path.name} links to {target}"


def _anchors(path: Path) -> set[str]:
    headings = re.findall(r"^#+ (.+)$", path.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_every_document_is_reached_from_the_index() -> None:
    for folder in (ROOT / "docs", ROOT / "docs" / "decisions"):
        index = (folder / "index.md").read_text()
        for path in folder.glob("*.md"):
            assert path.name == "index.md" or f"({path.name})" in index, path


def codes_raised() -> set[str]:
    """The error tree's codes, the providers', and those given by hand where an error is raised."""
    found: set[str] = set()
    for root in (errors.PixelparError, base.ProviderError):
        kinds = [root]
        for kind in kinds:
            kinds += kind.__subclasses__()
            if kind.__module__ in ("core.errors", "imagesapi.providers.base"):
                found.add(kind.code)
    for module in sources.product():
        for call, _ in sources.calls(module):
            found |= {
                str(keyword.value.value)
                for keyword in call.keywords
                if keyword.arg == "code" and isinstance(keyword.value, ast.Constant)
            }
    return found


def test_it_documents_every_error_and_no_other() -> None:
    rows = re.findall(r"^\|(?: (\d{3}) \|)? `([a-z_]+)` \|", (ROOT / "docs" / "errors.md").read_text(), re.MULTILINE)
    assert {code for _, code in rows} == codes_raised()
    stated = {code: int(status) for status, code in rows if status}
    kinds = [errors.PixelparError]
    for kind in kinds:
        kinds += kind.__subclasses__()
        if kind.__module__ == "core.errors" and kind is not errors.PixelparError:
            assert stated[kind.code] == kind.status, kind.code


def test_it_names_no_machine_and_no_index() -> None:
    secretive = re.compile(r"(?<![\w.])/(work|root|home/\w+)/|//[\w.-]*(pypi|pythonhosted|npmjs)")
    for path in sources.files():
        if path.suffix in {".png", ".webp", ".jpg", ".ico"}:
            continue
        found = secretive.search(path.read_text())
        assert found is None, f"{path.relative_to(ROOT)} says {found[0] if found else ''}"
