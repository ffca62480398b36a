"""Reads and checks the catalogue's dated data files; later files change fields and add prices."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson

from core import money
from imagesapi import values
from imagesapi.catalogue_format import (
    BLOCK_FIELDS,
    CAPABILITY_FIELDS,
    CONDITIONS,
    CONFIDENCES,
    EDIT_FIELDS,
    FORMAT,
    FORMAT_VERSION,
    INPUT_RULES,
    METERS,
    MODEL_DEFAULTS,
    MODEL_FIELDS,
    OFFER_DEFAULTS,
    OFFER_FIELDS,
    OPTION_FIELDS,
    PRICING_FIELDS,
    PROVIDER_FIELDS,
    SIZE_RULES,
    Fields,
)
from imagesapi.providers import openai_compatible

FOLDER = Path(__file__).parent / "catalogue"


class CatalogueError(ValueError):
    """A data file is wrong; the message names the file, the row and what is allowed."""


@dataclass(frozen=True, slots=True)
class Line:
    """One price as a file states it."""

    meter: str
    conditions: Mapping[str, str]
    basis: str
    valid_from: dt.datetime
    unit_price_picos: int
    source: str
    as_of: dt.date
    confidence: str

    @property
    def key(self) -> tuple[str, frozenset[tuple[str, str]], str, dt.datetime]:
        return self.meter, frozenset(self.conditions.items()), self.basis, self.valid_from


@dataclass(slots=True)
class Catalogue:
    """All files together: each row's fields by its key, and every price line of an offer."""

    providers: dict[str, dict[str, Any]] = field(default_factory=dict)
    models: dict[str, dict[str, Any]] = field(default_factory=dict)
    offers: dict[tuple[str, str], dict[str, Any]] = field(default_factory=dict)
    lines: dict[tuple[str, str], list[Line]] = field(default_factory=dict)


def read(paths: Sequence[Path] | None = None) -> Catalogue:
    """All files in the order of their names, checked. Raises CatalogueError."""
    found = Catalogue()
    for path in sorted(FOLDER.glob("*.json")) if paths is None else paths:
        _add(found, path)
    for slug, row in found.providers.items():
        _complete(f"provider {slug}", row, PROVIDER_FIELDS, {"website": "", "options": {}})
        _check_options(f"provider {slug}: options", row["options"])
    for slug, row in found.models.items():
        _complete(f"model {slug}", row, MODEL_FIELDS, MODEL_DEFAULTS)
    for (model, provider), row in found.offers.items():
        where = f"offer {provider}/{model}"
        _complete(where, row, OFFER_FIELDS, OFFER_DEFAULTS)
        _check_offer(where, row, found.lines[model, provider])
    _check_names(found)
    return found


def _check_options(where: str, options: Mapping[str, Any]) -> None:
    _check_types(where, options, OPTION_FIELDS)
    if options.get("dialect", "plain") not in openai_compatible.DIALECTS:
        raise CatalogueError(f"{where}: dialect must be one of {', '.join(openai_compatible.DIALECTS)}")
    if not options.get("base_url", "https://").startswith(("https://", "http://")):
        raise CatalogueError(f"{where}: base_url must be an http or https address")


def capabilities(data: Mapping[str, Any], *, where: str = "capabilities") -> values.Capabilities:
    """The typed value of an offer's capabilities. Raises CatalogueError."""
    _check_types(where, data, CAPABILITY_FIELDS)
    for name in ("max_n", "prompt_max_chars"):
        if not isinstance(data.get(name), int) or data[name] < 1:
            raise CatalogueError(f"{where}: {name} must be a whole number of at least 1")
    style, rules = data.get("size_style", "enum"), data.get("size_rules", {})
    if style not in ("enum", "pixels", "preset_or_pixels", "ratio"):
        raise CatalogueError(f"{where}: size_style must be enum, pixels, preset_or_pixels or ratio, not {style!r}")
    if style == "ratio" and not data.get("ratio_sizes", {}).get("1K"):
        raise CatalogueError(f"{where}: ratio_sizes must give sizes by ratio, at least for the tier 1K")
    if style in ("pixels", "preset_or_pixels") and (
        set(rules) != SIZE_RULES or not all(type(number) is int for number in rules.values())
    ):
        raise CatalogueError(f"{where}: size_rules must give {', '.join(sorted(SIZE_RULES))} as whole numbers")
    fields: dict[str, Any] = {name: tuple(v) if isinstance(v, list) else v for name, v in data.items()}
    if "edits" in data:
        fields["edits"] = _edits(data["edits"], where=f"{where}: edits")
    return values.Capabilities(**fields)


def _edits(data: Mapping[str, Any], *, where: str) -> values.EditCapabilities:
    _check_types(where, data, EDIT_FIELDS)
    if data.get("mask", "") not in ("alpha", "white", ""):
        raise CatalogueError(f"{where}: mask must be alpha, white or empty")
    if not 1 <= data.get("max_images", 1) <= 16:
        raise CatalogueError(f"{where}: max_images must be from 1 to 16")
    fields: dict[str, Any] = {name: tuple(v) if isinstance(v, list) else v for name, v in data.items()}
    return values.EditCapabilities(**fields)


def _add(found: Catalogue, path: Path) -> None:
    try:
        data = orjson.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise CatalogueError(f"{path.name}: cannot be read: {error}") from error
    if not isinstance(data, dict) or (data.get("format"), data.get("format_version")) != (FORMAT, FORMAT_VERSION):
        raise CatalogueError(f"{path.name}: not a file of format {FORMAT!r} version {FORMAT_VERSION}")
    for row in _rows(path, data, "providers", PROVIDER_FIELDS, ("slug",)):
        found.providers.setdefault(row["slug"], {}).update(row)
    for row in _rows(path, data, "models", MODEL_FIELDS, ("slug",)):
        found.models.setdefault(row["slug"], {}).update(row)
    for row in _rows(path, data, "offers", {**OFFER_FIELDS, "prices": list}, ("model", "provider")):
        key = (row["model"], row["provider"])
        blocks = row.pop("prices", [])
        found.offers.setdefault(key, {}).update(row)
        lines = found.lines.setdefault(key, [])
        for index, block in enumerate(blocks):
            lines += _lines(f"{path.name}: offer {key[1]}/{key[0]}: prices[{index}]", block)


def _rows(
    path: Path, data: Mapping[str, Any], name: str, fields: Fields, keys: tuple[str, ...]
) -> list[dict[str, Any]]:
    rows = data.get(name, [])
    if not isinstance(rows, list):
        raise CatalogueError(f"{path.name}: {name} must be a list")
    for index, row in enumerate(rows):
        where = f"{path.name}: {name}[{index}]"
        _check_types(where, row, fields)
        for key in keys:
            if not row.get(key):
                raise CatalogueError(f"{where}: {key} is missing")
    return [dict(row) for row in rows]


def _check_types(where: str, row: Any, fields: Fields) -> None:
    if not isinstance(row, Mapping):
        raise CatalogueError(f"{where}: must be an object")
    for name, value in row.items():
        if name not in fields:
            raise CatalogueError(f"{where}: unknown field {name!r}; known are {', '.join(fields)}")
        wanted = fields[name]
        wrong_bool = isinstance(value, bool) and wanted is not bool
        if wrong_bool or not isinstance(value, wanted):
            raise CatalogueError(f"{where}: {name} has the wrong type ({type(value).__name__})")
        kind = int if name == "scale_factors" else str
        if isinstance(value, list) and name != "prices" and not all(type(entry) is kind for entry in value):
            raise CatalogueError(f"{where}: {name} must hold {'whole numbers' if kind is int else 'words'} only")


def _complete(where: str, row: dict[str, Any], fields: Fields, defaults: Mapping[str, Any]) -> None:
    for name in fields:
        if name not in row:
            if name not in defaults:
                raise CatalogueError(f"{where}: {name} is missing")
            row[name] = defaults[name]
    for name in ("released_on", "deprecated_on", "retires_on"):
        if row.get(name) is not None:
            row[name] = _date(f"{where}: {name}", row[name])


def _date(where: str, text: str) -> dt.date:
    try:
        return dt.date.fromisoformat(text)
    except ValueError as error:
        raise CatalogueError(f"{where}: not a date like 2026-11-22: {text!r}") from error


def _lines(where: str, block: Any) -> list[Line]:
    """A block of prices in one of its three forms: token `rates`, a `table` by quality and size, or one `price`."""
    _check_types(where, block, BLOCK_FIELDS)
    for name in ("basis", "valid_from", "source", "as_of", "confidence"):
        if not block.get(name):
            raise CatalogueError(f"{where}: {name} is missing")
    if block["basis"] not in ("billed", "listed"):
        raise CatalogueError(f"{where}: basis must be billed or listed")
    if block["confidence"] not in CONFIDENCES:
        raise CatalogueError(f"{where}: confidence must be one of {', '.join(CONFIDENCES)}")
    start = dt.datetime.combine(_date(f"{where}: valid_from", block["valid_from"]), dt.time(), dt.UTC)
    as_of = _date(f"{where}: as_of", block["as_of"])
    when = _conditions(where, block.get("when", {}))
    found = []
    for meter, conditions, picos in _prices(where, block):
        if meter not in METERS:
            raise CatalogueError(f"{where}: unknown meter {meter!r}; known are {', '.join(METERS)}")
        found.append(
            Line(
                meter, {**when, **conditions}, block["basis"], start, picos, block["source"], as_of, block["confidence"]
            )
        )
    return found


def _conditions(where: str, when: Mapping[str, Any]) -> dict[str, str]:
    for name, value in when.items():
        words = CONDITIONS.get(name, ())
        if not isinstance(value, str) or (words is not None and value not in words):
            raise CatalogueError(f"{where}: when: {name} cannot be {value!r}; a price may depend on {CONDITIONS}")
    return dict(when)


def _prices(where: str, block: Mapping[str, Any]) -> list[tuple[str, dict[str, str], int]]:
    if "rates" in block:
        per = block.get("per_tokens", 0)
        return [(meter, {}, _picos(f"{where}: {meter}", price, per=per)) for meter, price in block["rates"].items()]
    unit = block.get("unit", "")
    if "price" in block:
        return [(unit, {}, _picos(where, block["price"]))]
    if "table" in block:
        return [
            (unit, {"quality": quality, "size": size}, _picos(f"{where}: {quality} {size}", price))
            for quality, row in block["table"].items()
            for size, price in row.items()
        ]
    raise CatalogueError(f"{where}: needs rates, a table or a price")


def _picos(where: str, text: Any, *, per: int = 1) -> int:
    """A decimal string of dollars for `per` units as pico-USD for one; refused when that is not a whole number."""
    if per < 1:
        raise CatalogueError(f"{where}: per_tokens must be at least 1")
    try:
        price, rest = divmod(money.picos(text), per)
    except (ValueError, AttributeError):
        price, rest = -1, 0
    if price < 0 or rest:
        raise CatalogueError(f"{where}: not a price in whole pico-dollars, written as a decimal string: {text!r}")
    return price


def _check_offer(where: str, row: Mapping[str, Any], lines: list[Line]) -> None:
    able = capabilities(row["capabilities"], where=f"{where}: capabilities")
    pricing = row["pricing"]
    _check_types(f"{where}: pricing", pricing, PRICING_FIELDS)
    words = [word for word in able.qualities if word != "auto"]
    billed = [line for line in lines if line.basis == "billed"]
    rounding, unit = pricing.get("rounding"), pricing.get("billable_unit")
    steps = (pricing.get("quantity_rounding") or {}).values()
    rules: list[tuple[bool, str]] = [
        (not words or pricing.get("assumed_quality") in words, f"assumed_quality must be one of {', '.join(words)}"),
        (rounding is None or _is_step(rounding, "step_nanos", "request"), "rounding is by step_nanos, up, per request"),
        (
            all(_is_step(step, "step_micros", "image") for step in steps),
            "quantity_rounding is by step_micros, up, per image",
        ),
        (unit in (None, "image", "megapixel"), "billable_unit must be image or megapixel"),
        (not (unit and rounding), "billable_unit and rounding exclude each other"),
        # Tokens come for all calls of a request together, so that none of them could be rounded alone.
        (not (able.reports_usage and rounding), "rounding and reported usage exclude each other"),
        (pricing.get("size_match") in (None, "nearest_pixels"), "size_match can only be nearest_pixels"),
        (_counts(pricing), "token counts must be whole numbers above zero"),
        (
            "text_output_ceiling_tokens" in pricing or not any(line.meter == "text_output_token" for line in billed),
            "text output that is billed needs text_output_ceiling_tokens, else no hold covers it",
        ),
        (
            all((line.unit_price_picos == 0) == bool(pricing.get("free")) for line in billed),
            "a billed price of zero and pricing.free go together",
        ),
    ]
    for holds, message in rules:
        if not holds:
            raise CatalogueError(f"{where}: pricing: {message}")
    seen: dict[Any, int] = {}
    for line in lines:
        if seen.setdefault(line.key, line.unit_price_picos) != line.unit_price_picos:
            raise CatalogueError(f"{where}: two prices for {line.meter} {dict(line.conditions)} from {line.valid_from}")


def _is_step(rule: Mapping[str, Any], name: str, per: str) -> bool:
    return (
        set(rule) == {name, "direction", "per"}
        and type(rule[name]) is int
        and rule[name] > 0
        and (rule["direction"], rule["per"]) == ("up", per)
    )


def _counts(pricing: Mapping[str, Any]) -> bool:
    """Whether every number of tokens is a positive whole one."""
    found: list[Any] = []
    for name in ("ceiling_tokens", "image_input_ceiling_tokens", "partial_image_tokens", "input_image_ceiling_picos"):
        stated = pricing.get(name, 1)
        found += stated.values() if isinstance(stated, dict) else [stated]
    rule = pricing.get("image_input_tokens")
    if rule is not None:
        known = INPUT_RULES.get(rule.get("by", ""), set())
        found += [rule[name] for name in known] if set(rule) == {"by", *known} else [None]
    for row in pricing.get("output_tokens", {}).values():
        found += row.values() if isinstance(row, dict) else [None]
    formula = pricing.get("output_tokens_formula")
    if formula is not None:
        constants = formula.get("constants", {})
        found += [*formula.get("quality_factor", {"": None}).values(), constants.get("divisor")]
        found.append(constants.get("offset_pixels"))
    return all(type(number) is int and number > 0 for number in found)


def _check_names(found: Catalogue) -> None:
    """Every name leads to one model, and every reference to a row that exists."""
    owner: dict[str, str] = {slug: slug for slug in found.models}
    for slug, row in found.models.items():
        for alias in row["aliases"]:
            if owner.setdefault(alias, slug) != slug:
                raise CatalogueError(f"model {slug}: {alias} already names {owner[alias]}")
        if row["successor"] and row["successor"] not in found.models:
            raise CatalogueError(f"model {slug}: its successor {row['successor']} is not in the catalogue")
    for model, provider in found.offers:
        if model not in found.models:
            raise CatalogueError(f"offer {provider}/{model}: there is no such model")
        if provider not in found.providers:
            raise CatalogueError(f"offer {provider}/{model}: there is no such provider")
