"""What a key's rules leave of the candidates for a request."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, NoReturn

from accounts.callers import Caller
from core import errors

if TYPE_CHECKING:
    from imagesapi.routing import Candidate


def allowed(
    caller: Caller, candidates: tuple[Candidate, ...], *, aliases: Mapping[str, str] | None = None
) -> tuple[Candidate, ...]:
    """The candidates that the key may use, in their order. What counts is what would be made, not what was asked.

    `aliases` are the catalogue's, from alias to slug. A model that knows no qualities is not kept from a key by a rule
    about them. Raises PermissionDenied when none is left: `model_not_allowed`, `size_not_allowed` or
    `quality_not_allowed`.
    """
    rules = caller.rules
    if rules.models:
        known = aliases or {}
        named = tuple(one for one in candidates if _is_named(one, rules.models, known))
        candidates = named or _refuse("model", rules.models, candidates[0].offer.model, code="model_not_allowed")
    if rules.sizes:
        fits = tuple(one for one in candidates if one.fitted.size in rules.sizes)
        candidates = fits or _refuse("size", rules.sizes, candidates[0].fitted.size, code="size_not_allowed")
    if rules.qualities:
        fits = tuple(one for one in candidates if one.fitted.quality in (None, *rules.qualities))
        candidates = fits or _refuse(
            "quality", rules.qualities, candidates[0].fitted.quality, code="quality_not_allowed"
        )
    return candidates


def _refuse(param: str, entries: tuple[str, ...], used: str | None, *, code: str) -> NoReturn:
    raise errors.PermissionDenied(
        f"This key allows as '{param}' only: {', '.join(entries)}. This request comes to {used}.",
        param=param,
        code=code,
    )


def _is_named(candidate: Candidate, entries: tuple[str, ...], aliases: Mapping[str, str]) -> bool:
    """Whether a rule names this offer: its model by slug or alias, that at its provider, or all of its provider."""
    offer = candidate.offer
    for entry in entries:
        provider, _, model = entry.partition("/")
        if aliases.get(entry, entry) == offer.model:
            return True
        if provider == offer.provider and (model == "*" or aliases.get(model, model) == offer.model):
            return True
    return False
