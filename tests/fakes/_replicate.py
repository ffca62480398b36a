"""Replicate's rules: predictions by the clock, waiting and cancelling, each model's input, files without keys."""

from __future__ import annotations

import re
import threading
import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import pybase64

from tests.fakes import _pictures
from tests.fakes._exchange import Reply, Seen

_PREFER = re.compile(r"wait(?:=(\d+))?")
_LIFE = re.compile(r"(\d+)([smh])")
_LONGEST_WAIT_S = 60
_RATIOS = {"1:1": (1024, 1024), "16:9": (1344, 768), "9:16": (768, 1344), "3:2": (1216, 832), "2:3": (832, 1216)}
_FORMATS = ("webp", "jpg", "png")
_FREE_FIELDS = {"prompt", "output_format", "output_quality", "seed"}


@dataclass(frozen=True, slots=True)
class Model:
    """What one model takes besides a prompt; `lists` says whether its output is a list."""

    fields: frozenset[str]
    most: int = 1
    ratios: bool = True
    pictures: frozenset[str] = frozenset()
    lists: bool = False


MODELS = {
    "black-forest-labs/flux-schnell": Model(
        frozenset({"aspect_ratio", "num_outputs", "num_inference_steps", "go_fast"}), most=4, lists=True
    ),
    "black-forest-labs/flux-dev": Model(
        frozenset({"aspect_ratio", "num_outputs", "num_inference_steps", "guidance", "go_fast"}), most=4, lists=True
    ),
    "black-forest-labs/flux-1.1-pro": Model(frozenset({"aspect_ratio", "width", "height", "prompt_upsampling"})),
    "black-forest-labs/flux-kontext-pro": Model(
        frozenset({"aspect_ratio"}), pictures=frozenset({"input_image", "input_image_2"})
    ),
    "someone/painter": Model(
        frozenset({"width", "height"}), ratios=False, pictures=frozenset({"image", "mask", "images"})
    ),
}


class Refused(Exception):
    def __init__(self, status: int, title: str, detail: str, **more: Any) -> None:
        super().__init__(detail)
        self.reply = problem(status, title, detail, **more)


def problem(status: int, title: str, detail: str, **more: Any) -> Reply:
    """Problem details, the one shape of its errors."""
    body = {"type": "about:blank", "title": title, "status": status, "detail": detail, **more}
    return Reply(status, body, {"Content-Type": "application/problem+json"})


def _invalid(name: str, message: str) -> Refused:
    wrong = {"type": "enum", "field": f"input.{name}", "description": message}
    return Refused(422, "Input validation failed", f"- input.{name}: {message}\n", invalid_fields=[wrong])


@dataclass(slots=True)
class Job:
    """One prediction; its state follows from the clock."""

    model: str
    input: Mapping[str, Any]
    starts_at: float
    ends_at: float
    dies_at: float
    cancelled_at: float | None = None
    output: Any = None
    id: str = field(default_factory=lambda: uuid.uuid4().hex)

    def state(self, now: float, *, failure: str | None) -> str:
        if self.cancelled_at is not None and self.cancelled_at < self.ends_at:
            return "canceled"
        if self.dies_at < self.ends_at and now >= self.dies_at:
            return "aborted" if self.dies_at < self.starts_at else "canceled"
        if now < self.starts_at:
            return "starting"
        if now < self.ends_at:
            return "processing"
        return "failed" if failure is not None else "succeeded"


class Service:
    """Predictions and their files. `base` is the address of this server; `failure` makes predictions fail with it."""

    prefix = "/replicate/"
    creating = frozenset({"predict"})

    def __init__(self, *, key: str, stopping: threading.Event, queue_s: float, delay_s: float) -> None:
        self.key, self.base = key, ""
        self.queue_s, self.delay_s = queue_s, delay_s
        self._stopping = stopping
        self._lock = threading.Lock()
        self.reset()

    def reset(self) -> None:
        """Forget predictions and files, and how to answer."""
        self.jobs: dict[str, Job] = {}
        self.files: dict[str, tuple[str, bytes]] = {}
        self.failure: str | None = None
        self.inline = False  # output as data URIs

    def route(self, method: str, path: str) -> str:
        if re.fullmatch(r"/replicate/v1/models/[\w.-]+/[\w.-]+/predictions", path):
            return "predict" if method == "POST" else "unknown"
        if re.fullmatch(r"/replicate/v1/predictions/\w+", path):
            return "prediction" if method == "GET" else "unknown"
        if re.fullmatch(r"/replicate/v1/predictions/\w+/cancel", path):
            return "predict-cancel" if method == "POST" else "unknown"
        return "predict-file" if method == "GET" and path.startswith("/replicate/files/") else "unknown"

    def work(self, seen: Seen) -> Reply:
        verbs = {"predict": self._create, "prediction": self._show, "predict-cancel": self._cancel}
        try:
            if seen.route == "predict-file":
                return self._file(seen)
            self._authenticate(seen)
            return verbs[seen.route](seen)
        except Refused as refused:
            return refused.reply

    def billed(self) -> int:
        """Pictures of predictions that ran to their end, asked for or not."""
        now = time.monotonic()
        done = [job for job in list(self.jobs.values()) if job.state(now, failure=self.failure) == "succeeded"]
        return sum(len(self._output(job)) for job in done)

    def _authenticate(self, seen: Seen) -> None:
        if seen.headers.get("authorization") != f"Bearer {self.key}":
            raise Refused(401, "Unauthenticated", "You did not pass a valid authentication token")

    def _create(self, seen: Seen) -> Reply:
        name = "/".join(seen.path.split("/")[4:6])
        model = MODELS.get(name)
        if model is None:
            raise Refused(404, "Not found", "The requested resource could not be found.")
        wait = _PREFER.fullmatch(seen.headers.get("prefer", "wait=0"))
        life = _LIFE.fullmatch(seen.headers.get("cancel-after", "24h"))
        wait_s = int(wait[1] or _LONGEST_WAIT_S) if wait else -1
        if not 0 <= wait_s <= _LONGEST_WAIT_S or life is None:
            raise Refused(400, "Bad request", "A header has an invalid value.")
        now = time.monotonic()
        starts_at = now + self.queue_s
        lives_s = int(life[1]) * {"s": 1, "m": 60, "h": 3_600}[life[2]]
        job = Job(name, _check(model, seen.json), starts_at, starts_at + self.delay_s, now + lives_s)
        self.jobs[job.id] = job
        until = min(job.ends_at, now + wait_s)
        self._stopping.wait(max(until - time.monotonic(), 0))
        return Reply(201, self._document(job))

    def _show(self, seen: Seen) -> Reply:
        return Reply(200, self._document(self._job(seen.path.split("/")[4])))

    def _cancel(self, seen: Seen) -> Reply:
        job = self._job(seen.path.split("/")[4])
        job.cancelled_at = job.cancelled_at or time.monotonic()
        return Reply(200, self._document(job))

    def _file(self, seen: Seen) -> Reply:
        if "authorization" in seen.headers:
            return problem(400, "Bad request", "A file host must never see a key.")
        found = self.files.get(seen.path.rpartition("/")[2])
        return Reply(200, found[1], {"Content-Type": found[0]}) if found else problem(404, "Not found", "Expired.")

    def _job(self, number: str) -> Job:
        job = self.jobs.get(number)
        if job is None:
            raise Refused(404, "Not found", "The requested resource could not be found.")
        return job

    def _document(self, job: Job) -> dict[str, Any]:
        state = job.state(time.monotonic(), failure=self.failure)
        address = f"{self.base}/replicate/v1/predictions/{job.id}"
        made = self._output(job) if state == "succeeded" else None
        return {
            "id": job.id,
            "model": job.model,
            "version": "hidden",
            "input": dict(job.input),
            "logs": "",
            "output": made[0] if made and not MODELS[job.model].lists else made,
            "error": self.failure if state == "failed" else None,
            "status": state,
            "created_at": "2026-11-22T12:00:00.000Z",
            "metrics": {"predict_time": 0.5} if state == "succeeded" else {},
            "urls": {"get": address, "cancel": f"{address}/cancel", "web": "https://replicate.com/p/x"},
        }

    def _output(self, job: Job) -> list[str]:
        """Drawn once, when somebody first asks."""
        with self._lock:
            if job.output is None:
                job.output = [self._place(job, number) for number in range(job.input.get("num_outputs", 1))]
            found: list[str] = job.output
            return found

    def _place(self, job: Job, number: int) -> str:
        kind = {"jpg": "jpeg"}.get(job.input.get("output_format", "webp"), job.input.get("output_format", "webp"))
        if "width" in job.input:
            width, height = job.input["width"], job.input["height"]
        else:
            width, height = _RATIOS[job.input.get("aspect_ratio", "1:1")]
        if self.inline:
            return f"data:image/{kind};base64,{_pictures.as_base64(width, height, kind, number)}"
        name = f"{uuid.uuid4().hex}.{kind}"
        self.files[name] = (f"image/{kind}", _pictures.draw(width, height, kind, number))
        return f"{self.base}/replicate/files/{name}"


def _check(model: Model, body: Any) -> Mapping[str, Any]:
    """The input of a prediction. Raises Refused for a field the model does not have, or a value out of its range."""
    asked = body.get("input") if isinstance(body, dict) and set(body) <= {"input", "webhook"} else None
    if not isinstance(asked, dict):
        raise Refused(422, "Input validation failed", "- input: Invalid type. Expected: object\n")
    for name in sorted(set(asked) - model.fields - model.pictures - _FREE_FIELDS):
        raise _invalid(name, "Additional property is not allowed")
    if not isinstance(asked.get("prompt"), str) or not asked["prompt"]:
        raise _invalid("prompt", "prompt is required")
    if asked.get("output_format", "webp") not in _FORMATS:
        raise _invalid("output_format", f"must be one of {', '.join(_FORMATS)}")
    if not (type(asked.get("num_outputs", 1)) is int and 1 <= asked.get("num_outputs", 1) <= model.most):
        raise _invalid("num_outputs", f"Must be less than or equal to {model.most}")
    _check_size(model, asked)
    for name in model.pictures & set(asked):
        _check_picture(name, asked[name])
    return asked


def _check_size(model: Model, asked: Mapping[str, Any]) -> None:
    has_pixels = {"width", "height"} <= set(asked)
    ratio = asked.get("aspect_ratio", "1:1")
    if model.ratios and ratio not in _RATIOS and not (ratio == "custom" and has_pixels):
        raise _invalid("aspect_ratio", f"must be one of {', '.join(_RATIOS)}")
    if model.ratios and has_pixels and ratio != "custom":
        raise _invalid("width", "Only used when aspect_ratio=custom")
    for name in ("width", "height"):
        if not (type(asked.get(name, 1024)) is int and 256 <= asked.get(name, 1024) <= 1440):
            raise _invalid(name, "Must be from 256 to 1440")


def _check_picture(name: str, value: Any) -> None:
    for address in value if isinstance(value, list) else [value]:
        head, comma, text = str(address).partition(",")
        if not re.fullmatch(r"data:image/(png|jpeg|webp);base64", head) or not comma:
            raise _invalid(name, "Does not match format 'uri'")
        pybase64.b64decode(text, validate=True)
