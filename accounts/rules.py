"""What a key may ask for: which models, sizes and qualities, and whether a refusal of content may go on to others."""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import orjson

from core.errors import InvalidRequest, UnknownParameter

ENTRIES_MAX = 100
ENTRY_MAX_CHARS = 120
LISTS = ("models", "sizes", "qualities")
ON_REFUSAL = ("stop", "next")
FORMS = {
    "models": (
        re.compile(r"[A-Za-z0-9._-]+(/([A-Za-z0-9._-]+(/[A-Za-z0-9._-]+)*|\*))?"),
        'a model ("gpt-image-1"), a model at one provider ("openai/gpt-image-1") or all of a provider ("fal/*")',
    ),
    "sizes": (re.compile(r"[1-9][0-9]{0,4}x[1-9][0-9]{0,4}|auto"), '"WIDTHxHEIGHT" or "auto"'),
    "qualities": (re.compile(r"[a-z0-9_-]{1,32}"), 'a model\'s word for a quality, such as "low"'),
}


@dataclass(frozen=True, slots=True)
class KeyRules:
    """The rules of one key; an empty list allows everything."""

    models: tuple[str, ...] = ()
    sizes: tuple[str, ...] = ()
    qualities: tuple[str, ...] = ()
    # Whether the next provider is asked when one refuses the content.
    on_refusal: Literal["stop", "next"] = "stop"

    @classmethod
    def from_stored(cls, stored: Mapping[str, Any]) -> KeyRules:
        """The rules that a row keeps."""
        lists = {name: tuple(stored.get(name, ())) for name in LISTS}
        return cls(**lists, on_refusal=stored.get("on_refusal", "stop"))

    @property
    def restricts(self) -> bool:
        """Whether there is anything that the key may not ask for."""
        return bool(self.models or self.sizes or self.qualities)

    def as_dict(self) -> dict[str, Any]:
        """Every rule, as the API shows them."""
        return {**{name: list(getattr(self, name)) for name in LISTS}, "on_refusal": self.on_refusal}

    def stored(self) -> dict[str, Any]:
        """Only what differs from a key without rules, as the row keeps it."""
        return {name: value for name, value in self.as_dict().items() if value not in ([], "stop")}

    def in_words(self) -> list[str]:
        """What a page says about them."""
        found = [f"only {name} {', '.join(getattr(self, name))}" for name in LISTS if getattr(self, name)]
        return [*found, "tries the next provider after a refusal"] if self.on_refusal == "next" else found


def parse(document: object) -> KeyRules:
    """Rules as a caller writes them. Raises InvalidRequest and its kinds."""
    if not isinstance(document, dict):
        raise InvalidRequest("'rules' must be an object.", param="rules", code="invalid_type")
    for name in document:
        if name not in (*LISTS, "on_refusal"):
            known = ", ".join((*LISTS, "on_refusal"))
            raise UnknownParameter(f"There is no rule {str(name)[:40]!r}; there are {known}.", param="rules")
    on_refusal = document.get("on_refusal")
    if on_refusal not in (None, *ON_REFUSAL):
        raise InvalidRequest(
            '\'on_refusal\' must be "stop" (a refusal of content ends the request) or "next" (the next provider is '
            "asked).",
            param="rules.on_refusal",
        )
    lists = {name: _entries(name, document.get(name)) for name in LISTS}
    return KeyRules(**lists, on_refusal="next" if on_refusal == "next" else "stop")


def _entries(name: str, listed: object) -> tuple[str, ...]:
    form, said = FORMS[name]
    if listed is None:
        return ()
    if not isinstance(listed, list | tuple) or not all(isinstance(entry, str) for entry in listed):
        raise InvalidRequest(f"'{name}' must be a list of strings.", param=f"rules.{name}", code="invalid_type")
    if len(listed) > ENTRIES_MAX:
        raise InvalidRequest(f"'{name}' takes at most {ENTRIES_MAX} entries.", param=f"rules.{name}")
    for entry in listed:
        if len(entry) > ENTRY_MAX_CHARS or not form.fullmatch(entry):
            raise InvalidRequest(f"{entry[:60]!r} in '{name}' is not {said}.", param=f"rules.{name}")
    return tuple(dict.fromkeys(listed))


@functools.lru_cache(maxsize=4096)
def read(stored: str) -> KeyRules:
    """The rules of a row, from its JSON text."""
    return KeyRules.from_stored(orjson.loads(stored))
