"""What this server offers as plain text for language models: one overview, and one text for each model."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.views.decorators.http import require_safe

from imagesapi import catalog, listing

_TEXT = "text/plain; charset=utf-8"
_CALL = """curl {base}/openai/v1/images/generations \\
  -H "Authorization: Bearer $PIXELPAR_API_KEY" -H "Content-Type: application/json" \\
  -d '{{"model": "{model}", "prompt": "a red fox in the snow at dawn"}}'"""
_EDIT = """curl {base}/openai/v1/images/edits \\
  -H "Authorization: Bearer $PIXELPAR_API_KEY" \\
  -F model={model} -F image=@source.png -F prompt="make it night\""""


@require_safe
def overview(request: HttpRequest) -> HttpResponse:
    """GET /llms.txt."""
    return _text(_overview(listing.models(catalog.snapshot())))


@require_safe
def model(request: HttpRequest, slug: str) -> HttpResponse:
    """GET /models/<slug>/llms.txt."""
    snapshot = catalog.snapshot()
    entry = snapshot.models.get(slug)
    if entry is None or not entry.offers:
        response = HttpResponse("There is no such model; /llms.txt names them all.\n", status=404, content_type=_TEXT)
        response.headers["Cache-Control"] = "no-store"
        return response
    edits = any(offer.capabilities.edits is not None for offer in entry.offers)
    return _text(_model(listing.model(snapshot, slug), generates=_generates(entry), edits=edits))


def _generates(entry: catalog.Entry) -> bool:
    return any(offer.capabilities.generates for offer in entry.offers)


def _text(lines: Iterator[str]) -> HttpResponse:
    response = HttpResponse("\n".join(lines) + "\n", content_type=_TEXT)
    response.headers["Cache-Control"] = "public, max-age=300"
    return response


def _overview(models: list[dict[str, Any]]) -> Iterator[str]:
    base = settings.BASE_URL
    yield "# Pixelpar"
    yield ""
    yield "> One OpenAI-compatible images API in front of many providers, at the providers' own prices."
    yield ""
    yield f"Point any OpenAI SDK at {base}/openai/v1 and send a key as `Authorization: Bearer pxp_<id>.<secret>`."
    yield "Each answer says in `metadata` who made the picture, what it cost and what was done to the request."
    yield "`?dryRun=true` tells the price without running; `max_cost` refuses what could cost more."
    yield ""
    yield "## API"
    yield ""
    yield f"- [OpenAPI 3.1]({base}/openapi.json): every operation, parameter, answer and error"
    yield f"- [Reference]({base}/docs/api): the same to read and to try"
    yield ""
    yield "## Models"
    yield ""
    for found in models:
        price = f"from ${found['starting_price']} an image" if found["starting_price"] else "without a price"
        state = "" if found["model_status"] == "active" else f", {found['model_status']}"
        yield f"- [{found['id']}]({base}/models/{found['id']}/llms.txt): {found['name']}, {price}{state}"


def _model(found: dict[str, Any], *, generates: bool, edits: bool) -> Iterator[str]:
    names = {"base": settings.BASE_URL, "model": found["id"]}
    yield f"# {found['name']}"
    yield ""
    yield f"> {found['description']}"
    yield ""
    yield f"Call it `{found['id']}`{_also(found['aliases'])}."
    yield f"Made by {found['creator_organization']}; {found['model_status']}."
    if found["shutdown_date"]:
        yield f"Its last provider stops serving it on {found['shutdown_date']}."
    for title, wanted, call in (("Generate", generates, _CALL), ("Edit", edits, _EDIT)):
        if wanted:
            yield from ("", f"## {title}", "", "```sh", call.format(**names), "```")
    for provider in found["providers"]:
        yield from ("", f"## At {provider['name']} (`{provider['provider']}/{found['id']}`)", "")
        yield from _provider(provider)


def _also(aliases: list[str]) -> str:
    return f", or {', '.join(f'`{alias}`' for alias in aliases)}" if aliases else ""


def _provider(provider: dict[str, Any]) -> Iterator[str]:
    sizes = provider["sizes"] if isinstance(provider["sizes"], list) else [f"by {provider['sizes']}"]
    yield f"- state: {provider['status']}{'' if provider['configured'] else ', not configured on this server'}"
    yield f"- images in one call: up to {provider['max_n']}"
    yield f"- sizes: {', '.join(sizes)}"
    for name in ("qualities", "output_formats"):
        if provider[name]:
            yield f"- {name.replace('_', ' ')}: {', '.join(provider[name])}"
    for price in provider["prices"]:
        conditions = " ".join(f"{name}={value}" for name, value in price["conditions"].items())
        what = f"{price['meter']} {conditions}".strip()
        yield f"- {price['basis']} price, {what}: ${price['unit_price']} (as of {price['as_of']}, {price['source']})"
