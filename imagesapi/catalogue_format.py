"""The form of the catalogue's data files: which fields each row may have, of which types, with which defaults."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

FORMAT, FORMAT_VERSION = "pixelpar-catalogue", 1
METERS = (
    "image",
    "megapixel",
    "text_input_token",
    "image_input_token",
    "image_output_token",
    "text_output_token",
    "input_image",
    "input_megapixel",
)
# What a price may depend on, besides the quality and size of a table's cells.
CONDITIONS = {"operation": ("generation", "edit"), "resolution": ("1K", "2K", "4K"), "quality": None, "size": None}
CONFIDENCES = ("certain", "likely", "inferred", "third_party")

Fields = Mapping[str, type | tuple[type, ...]]
_TEXT, _LIST, _DATE = str, list, (str, type(None))
PROVIDER_FIELDS: Fields = {"slug": _TEXT, "name": _TEXT, "adapter": _TEXT, "website": _TEXT, "options": dict}
MODEL_FIELDS: Fields = {
    "slug": _TEXT,
    "name": _TEXT,
    "description": _TEXT,
    "creator": _TEXT,
    "released_on": _TEXT,
    "aliases": _LIST,
    "tags": _LIST,
    "successor": _TEXT,
}
OFFER_FIELDS: Fields = {
    "model": _TEXT,
    "provider": _TEXT,
    "wire_id": _TEXT,
    "edit_wire_id": _TEXT,
    "deprecated_on": _DATE,
    "retires_on": _DATE,
    "weight": int,
    "notes": _TEXT,
    "capabilities": dict,
    "pricing": dict,
}
OPTION_FIELDS: Fields = {
    "dialect": _TEXT,
    "base_url": _TEXT,
    "result_hosts": _LIST,  # where pictures that come as an address may be fetched from
    "key_optional": bool,
}
OFFER_DEFAULTS: Mapping[str, Any] = {
    "edit_wire_id": "",
    "deprecated_on": None,
    "retires_on": None,
    "weight": 0,
    "notes": "",
}
MODEL_DEFAULTS: Mapping[str, Any] = {"description": "", "creator": "", "aliases": [], "tags": [], "successor": ""}
CAPABILITY_FIELDS: Fields = {
    "max_n": int,
    "prompt_max_chars": int,
    "sizes": _LIST,
    "size_style": _TEXT,
    "size_rules": dict,
    "qualities": _LIST,
    "backgrounds": _LIST,
    "output_formats": _LIST,
    "compression": bool,
    "moderation": bool,
    "styles": _LIST,
    "extras": _LIST,
    "reports_usage": bool,
    "ratio_sizes": dict,  # tier -> ratio -> size
    "generates": bool,
    "edits": dict,
    "streaming": bool,
    "partial_images_max": int,
}
EDIT_FIELDS: Fields = {
    "max_images": int,
    "mask": _TEXT,
    "mask_format": _TEXT,
    "markup": bool,
    "input_fidelities": _LIST,
    "input_formats": _LIST,
    "scale_factors": _LIST,
    "image_field": _TEXT,
    "keeps_size": bool,
}
PRICING_FIELDS: Fields = {
    "output_tokens": dict,  # quality -> size -> tokens of one picture
    "output_tokens_formula": dict,
    "output_tokens_estimated": bool,  # table and formula only estimate; holds take ceiling_tokens
    "ceiling_tokens": (int, dict),  # of one picture, one number or by quality, where no table holds ("auto" size)
    "prompt_overhead_tokens": int,  # what a provider adds to every prompt
    "text_output_ceiling_tokens": int,  # of one picture
    "partial_image_tokens": int,  # of one unfinished picture, where it is not OpenAI's number
    # Of one picture given to an edit: the most, one number or by input fidelity, and a rule for what is likely.
    "image_input_ceiling_tokens": (int, dict),
    "image_input_tokens": dict,  # by "tiles", "patches" or "fidelity", with the numbers of each
    "assumed_input_fidelity": _TEXT,
    "input_images_included": int,  # in the price of a result; without it all are
    "input_image_ceiling_picos": int,  # what one given picture may add, where only the reported cost tells
    "inputs_per_picture": bool,  # prompt and given pictures are read anew for each picture made
    "reported_cost": bool,  # the provider tells what a call cost, and that is charged
    # What an estimate takes "auto" or nothing for; the provider's default where it states one.
    "assumed_quality": _TEXT,
    "rounding": dict,  # of a request's money: step_nanos, direction "up", per "request"
    "quantity_rounding": dict,  # of a picture's quantity, by meter: step_micros, direction "up", per "image"
    "pixels_per_megapixel": int,
    "size_match": _TEXT,  # "nearest_pixels": a size outside the table takes the nearest row
    "billable_unit": _TEXT,  # the meter that the provider's own count of billable units is in
    "free": bool,
}
BLOCK_FIELDS: Fields = {
    "basis": _TEXT,
    "valid_from": _TEXT,
    "source": _TEXT,
    "as_of": _TEXT,
    "confidence": _TEXT,
    "unit": _TEXT,
    "price": _TEXT,
    "table": dict,  # quality -> size -> price of one picture
    "per_tokens": int,
    "rates": dict,  # token meter -> price of `per_tokens` tokens
    "when": dict,  # conditions of all prices in the block
}
# How pictures given to an edit turn into tokens, and the numbers that each rule needs.
INPUT_RULES = {
    "tiles": {"base", "each", "tile_px", "high_square", "high_other"},
    "patches": {"patch_px", "most", "magnify_to_px", "magnify_most", "max_ratio"},
    "fidelity": {"low", "high"},
}
SIZE_RULES = {"step_px", "max_edge_px", "max_ratio", "min_pixels", "max_pixels"}
