"""The load generator: one process, one epoll loop; reads a plan as JSON on stdin and writes what it saw to stdout.

A plan names `mode` (closed, open or pairs), `targets` (host, port, request text, min_bytes) and the mode's numbers.
"""

from __future__ import annotations

import heapq
import itertools
import json
import select
import socket
import sys
import time
from collections import Counter, deque
from typing import Any

from benchmarks.replies import Reader, ReplyBroken


class Tally:
    """What was seen: latencies by outcome, wrong answers with one example each."""

    def __init__(self, min_bytes: int) -> None:
        self._min_bytes = min_bytes
        self.good_s: list[float] = []
        self.finished_at: list[float] = []
        self.refused_s: list[float] = []
        self.with_retry_after = 0
        self.errors: Counter[str] = Counter()
        self.examples: dict[str, str] = {}
        self.stale_connections = 0
        self.late_s = 0.0

    def note(self, reader: Reader, elapsed_s: float, now: float) -> None:
        if reader.status in (429, 503):
            self.refused_s.append(elapsed_s)
            self.with_retry_after += reader.retry_after_s is not None
            self.examples.setdefault(str(reader.status), reader.sample.decode("utf-8", "replace"))
        elif reader.status != 200:
            self.fail(f"status {reader.status}", reader.sample)
        elif reader.body_bytes < self._min_bytes or b"}" not in reader.tail:
            self.fail("body too short", reader.sample)
        else:
            self.good_s.append(elapsed_s)
            self.finished_at.append(now)

    def fail(self, kind: str, sample: bytes = b"") -> None:
        self.errors[kind] += 1
        self.examples.setdefault(kind, sample.decode("utf-8", "replace"))

    @property
    def answered(self) -> int:
        return len(self.good_s) + len(self.refused_s) + self.errors.total()

    def summary(self) -> dict[str, Any]:
        return {
            "completed": len(self.good_s),
            "latency_s": spread(self.good_s),
            "refused": len(self.refused_s),
            "refused_with_retry_after": self.with_retry_after,
            "refusal_latency_s": spread(self.refused_s),
            "errors": dict(self.errors),
            "error_count": self.errors.total(),
            "examples": self.examples,
            "stale_connections": self.stale_connections,
            "generator_late_s": round(self.late_s, 4),
        }


def spread(values: list[float]) -> dict[str, float]:
    if not values:
        return {}
    ordered = sorted(values)
    last = len(ordered) - 1
    at = {"min": 0, "p50": last // 2, "p90": last * 90 // 100, "p99": last * 99 // 100, "max": last}
    return {name: round(ordered[place], 6) for name, place in at.items()}


class _Line:
    """One connection and the request on it."""

    __slots__ = ("connecting", "due", "expires_at", "fd", "reader", "sock", "used")

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.fd = sock.fileno()
        self.reader = Reader()
        self.connecting = True
        self.used = False
        self.due = 0.0
        self.expires_at = 0.0


class Generator:
    """Requests to one target over kept-alive connections; `closed` and `opened` are the two ways to offer load."""

    def __init__(self, plan: dict[str, Any]) -> None:
        target = plan["targets"][0]
        self._address = (target["host"], target["port"])
        self._request = target["request"].encode()
        self._timeout_s = plan.get("timeout_s", 120.0)
        self._patient = plan.get("honour_retry_after", False)
        self._epoll = select.epoll()
        self._lines: dict[int, _Line] = {}
        self._idle: deque[_Line] = deque()
        self._due: list[tuple[float, int]] = []
        self._numbers = itertools.count()
        self._again_until = 0.0
        self._closed = False
        self.tally = Tally(target["min_bytes"])

    def closed(self, *, connections: int, seconds: float, warm_s: float) -> dict[str, Any]:
        """`connections` callers who each ask again as soon as they are answered."""
        self._closed = True
        started_at = time.monotonic()
        self._again_until = ends_at = started_at + warm_s + seconds
        for _ in range(connections):
            self._launch(started_at)
        while self._lines and time.monotonic() < ends_at + self._timeout_s:
            self._turn(ends_at + self._timeout_s)
            if time.monotonic() >= ends_at and len(self._idle) == len(self._lines):
                break
        inside = sum(started_at + warm_s <= at < ends_at for at in self.tally.finished_at)
        return {**self.tally.summary(), "rate_per_s": round(inside / seconds, 2)}

    def opened(self, *, count: int, over_s: float) -> dict[str, Any]:
        """`count` requests arriving evenly over `over_s`, whatever becomes of the earlier ones."""
        started_at = time.monotonic()
        self._due = [(started_at + over_s * number / count, next(self._numbers)) for number in range(count)]
        gives_up_at = started_at + over_s + self._timeout_s
        offered = 0
        while (self._due or len(self._idle) < len(self._lines)) and time.monotonic() < gives_up_at:
            now = time.monotonic()
            while self._due and self._due[0][0] <= now:
                due, _ = heapq.heappop(self._due)
                self.tally.late_s = max(self.tally.late_s, now - due)
                self._launch(due)
                offered += 1
            self._turn(min(gives_up_at, self._due[0][0] if self._due else gives_up_at))
        for _ in range(len(self._lines) - len(self._idle)):
            self.tally.fail("no answer in time")
        return {**self.tally.summary(), "offered": offered, "wall_s": round(time.monotonic() - started_at, 3)}

    def _launch(self, due: float) -> None:
        while self._idle:
            line = self._idle.pop()
            if self._lines.get(line.fd) is line:
                self._send(line, due)
                return
        sock = socket.socket()
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        line = _Line(sock)
        line.due, line.expires_at = due, time.monotonic() + self._timeout_s
        try:
            sock.connect(self._address)
        except BlockingIOError:
            pass
        except OSError as error:
            sock.close()
            self.tally.fail(f"connect: {error.strerror}")
            return
        self._lines[line.fd] = line
        self._epoll.register(sock, select.EPOLLOUT)

    def _send(self, line: _Line, due: float) -> None:
        line.due, line.expires_at = due, time.monotonic() + self._timeout_s
        line.reader.start()
        try:
            line.sock.sendall(self._request)
        except OSError:
            self._broken(line, "send")

    def _turn(self, until: float) -> None:
        events = self._epoll.poll(min(max(0.0, until - time.monotonic()), 1.0))
        for fd, event in events:
            line = self._lines.get(fd)
            if line is None:
                continue
            if line.connecting:
                self._connected(line)
            elif event:
                self._receive(line)
        if not events:
            now = time.monotonic()
            idle = set(map(id, self._idle))
            for line in [one for one in self._lines.values() if one.expires_at < now and id(one) not in idle]:
                self._broken(line, "no answer in time")

    def _connected(self, line: _Line) -> None:
        code = line.sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if code:
            self._broken(line, f"connect: error {code}")
            return
        line.connecting = False
        self._epoll.modify(line.sock, select.EPOLLIN)
        self._send(line, line.due)

    def _receive(self, line: _Line) -> None:
        try:
            while not line.reader.read(line.sock):
                pass
        except BlockingIOError:
            return
        except (OSError, ReplyBroken, ValueError) as error:
            self._broken(line, str(error) or type(error).__name__)
            return
        now = time.monotonic()
        reader = line.reader
        self.tally.note(reader, now - line.due, now)
        line.used = True
        if self._patient and reader.retry_after_s is not None:
            heapq.heappush(self._due, (now + reader.retry_after_s, next(self._numbers)))
        if reader.closing:
            self._drop(line)
            if now < self._again_until:
                self._launch(now)
        elif now < self._again_until:
            self._send(line, now)
        else:
            self._idle.append(line)

    def _broken(self, line: _Line, why: str) -> None:
        """A kept connection that the server closed just as we reused it is nobody's error: ask again on a new one."""
        self._drop(line)
        if line in self._idle:
            self._idle.remove(line)
            return
        now = time.monotonic()
        if line.used and line.reader.untouched and why != "no answer in time":
            self.tally.stale_connections += 1
            self._launch(line.due)
            return
        self.tally.fail(why)
        if now < self._again_until and self.tally.errors.total() < 1_000:
            self._launch(now)

    def _drop(self, line: _Line) -> None:
        del self._lines[line.fd]
        line.sock.close()


def pairs(plan: dict[str, Any]) -> dict[str, Any]:
    """One caller going round all targets, so that every target meets the same moments of the machine."""
    lines = []
    for target in plan["targets"]:
        sock = socket.create_connection((target["host"], target["port"]), timeout=plan.get("timeout_s", 30.0))
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        lines.append((sock, Reader(), target["request"].encode(), Tally(target["min_bytes"])))
    ends_at = time.monotonic() + plan["seconds"]
    warm_rounds = plan.get("warm_rounds", 10)
    for number in itertools.count():
        if time.monotonic() >= ends_at and number > warm_rounds:
            break
        for sock, reader, request, tally in lines:
            reader.start()
            started_at = time.monotonic()
            sock.sendall(request)
            while not reader.read(sock):
                pass
            now = time.monotonic()
            if number >= warm_rounds or reader.status != 200:
                tally.note(reader, now - started_at, now)
    return {"targets": [tally.summary() for *_, tally in lines]}


def run(plan: dict[str, Any]) -> dict[str, Any]:
    if plan["mode"] == "pairs":
        return pairs(plan)
    generator = Generator(plan)
    if plan["mode"] == "closed":
        return generator.closed(
            connections=plan["connections"], seconds=plan["seconds"], warm_s=plan.get("warm_s", 1.0)
        )
    return generator.opened(count=plan["count"], over_s=plan["over_s"])


if __name__ == "__main__":
    json.dump(run(json.load(sys.stdin)), sys.stdout)
