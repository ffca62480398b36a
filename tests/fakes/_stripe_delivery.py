"""How the fake Stripe tells of events: signed, again until they are taken, and as badly as one asks for."""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import queue
import random
import threading
import time
import urllib.error
import urllib.request
from dataclasses import dataclass

import orjson

from tests.fakes._stripe_objects import Object

_AGAIN_AFTER_S = (0.2, 1.0, 5.0, 15.0, 60.0)


def sign(body: bytes, secret: str, *, at_s: int | None = None) -> str:
    """The Stripe-Signature header of a body."""
    stamp = int(time.time()) if at_s is None else at_s
    digest = hmac.new(secret.encode(), b"%d." % stamp + body, hashlib.sha256).hexdigest()
    return f"t={stamp},v1={digest}"


@dataclass(slots=True)
class Knobs:
    """What goes wrong on the way: each event so often, not at all, so much later, out of order."""

    copies: int = 1
    drop: bool = False
    delay_s: float = 0.0
    shuffle: bool = False


class Delivery:
    """Posts every event to one address from a thread of its own."""

    def __init__(self, url: str, secret: str, *, knobs: Knobs | None = None) -> None:
        self.url, self.secret = url, secret
        self.knobs = knobs or Knobs()
        self.taken: list[str] = []  # ids of events that were answered with 2xx, once for each time
        self._waiting: queue.Queue[tuple[Object, int] | None] = queue.Queue()
        self._thread = threading.Thread(target=self._run, name="stripe-delivery", daemon=True)
        self._thread.start()

    def take(self, event: Object) -> None:
        """Called with every event, as it happens."""
        if self.knobs.drop:
            return
        for _ in range(self.knobs.copies):
            self._waiting.put((event, 0))

    def stop(self) -> None:
        self._waiting.put(None)
        self._thread.join(5)

    def _run(self) -> None:
        while (first := self._waiting.get()) is not None:
            if self.knobs.delay_s:
                time.sleep(self.knobs.delay_s)
            batch = [first]
            with contextlib.suppress(queue.Empty):
                while self.knobs.shuffle:
                    following = self._waiting.get_nowait()
                    if following is None:
                        self._waiting.put(None)  # after this batch
                        break
                    batch.append(following)
            if self.knobs.shuffle:
                random.shuffle(batch)
            for event, tries in batch:
                if not self.send(event) and tries < len(_AGAIN_AFTER_S):
                    again = threading.Timer(_AGAIN_AFTER_S[tries], self._waiting.put, [(event, tries + 1)])
                    again.daemon = True
                    again.start()

    def send(self, event: Object) -> bool:
        """Post one event now; whether it was taken."""
        body = orjson.dumps(event)
        headers = {"Content-Type": "application/json", "Stripe-Signature": sign(body, self.secret)}
        request = urllib.request.Request(self.url, data=body, headers=headers, method="POST")
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                taken = 200 <= answer.status < 300
        except (urllib.error.URLError, OSError):
            return False
        if taken:
            self.taken.append(event["id"])
        return taken
