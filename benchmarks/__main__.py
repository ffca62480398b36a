"""`python -m benchmarks`: measures the upstream, nginx, Pixelpar and two other gateways in one run."""

from __future__ import annotations

import argparse
import functools
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks import lists, measure, peers, processes, report
from benchmarks.targets import LARGE_BYTES, ROOT, SMALL_BYTES, Missing, Nginx, Pixelpar, Target, Upstream

Figures = dict[str, Any]
GROUPS = ("throughput", "latency", "in-flight", "overload", "ledger", "kill", "lists")
# The overloaded house is small, so that ten times its capacity is a load that the generator's cores can offer.
_SMALL_HOUSE = 50


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a smoke test in under a minute: own parts, small sizes")
    parser.add_argument("--only", action="append", choices=GROUPS, help="only this group; may be repeated")
    parser.add_argument("--target", action="append", help="only this target, by name; may be repeated")
    parser.add_argument("--peers", action=argparse.BooleanOptionalAction, help="LiteLLM and Portkey (default: yes)")
    parser.add_argument("--seconds", type=float, help="length of each throughput round (default 6, quick 2)")
    parser.add_argument("--rounds", type=int, help="interleaved rounds (default 3, quick 1)")
    parser.add_argument("--rows", type=int, help="requests on record for the lists (default 10 million, quick 50 000)")
    parser.add_argument("--data", type=Path, default=ROOT / "var/benchmarks", help="where peers are installed and kept")
    found = parser.parse_args()
    found.peers = not found.quick if found.peers is None else found.peers
    found.seconds = found.seconds or (2.0 if found.quick else 6.0)
    found.rounds = found.rounds or (1 if found.quick else 3)
    found.rows = max(found.rows or (50_000 if found.quick else lists.MANY), lists.FEW)
    found.only = found.only or list(GROUPS)
    return found


def _say(line: str) -> None:
    print(f"[{time.strftime('%H:%M:%S')}] {line}", file=sys.stderr, flush=True)


class Run:
    """One run: the targets that work here, and the figures gathered so far."""

    def __init__(self, arguments: argparse.Namespace, folder: Path) -> None:
        self.arguments = arguments
        self.folder = folder
        self.upstream = Upstream(folder / "upstream")
        self.pixelpar: Pixelpar | None = None
        self.targets: list[Target] = []
        self.results: Figures = {"machine": report.machine(), "versions": {}, "missing": {}, "failed": {}}

    def bring_up(self) -> None:
        if self.arguments.only == ["lists"]:  # has a server of its own
            self.results["targets"] = []
            return
        self._adopt(self.upstream)
        candidates: list[Target] = [
            Nginx(self.folder / "nginx", self.upstream),
            Pixelpar(self.folder / "pixelpar", self.upstream),
        ]
        if self.arguments.peers:
            environments = self.arguments.data.absolute() / "peers"
            candidates += peers.all_of(self.folder / "peers", self.upstream, environments=environments)
        for target in candidates:
            if not self.arguments.target or target.name in self.arguments.target:
                self._adopt(target)
        self.results["targets"] = [target.name for target in self.targets]

    def _adopt(self, target: Target) -> None:
        _say(f"preparing {target.name}")
        target.folder.mkdir(parents=True, exist_ok=True)
        target.folder.chmod(0o755)
        try:
            target.prepare()
            target.start()
            self._check(target)
        except (Missing, processes.NotReady) as error:
            self.results["missing"][target.name] = str(error)
            _say(f"without {target.name}: {error}")
            target.stop()
            return
        self.targets.append(target)
        self.results["versions"][target.name] = target.version
        if isinstance(target, Pixelpar):
            self.pixelpar = target

    def _check(self, target: Target) -> None:
        """One small and one large request must come back whole before anything is timed."""
        for size_bytes in (SMALL_BYTES, LARGE_BYTES):
            seen = measure.generate(
                {"mode": "open", "targets": [target.plan(size_bytes)], "count": 1, "over_s": 0.1, "timeout_s": 30.0}
            )
            if seen["completed"] != 1:
                raise processes.NotReady(f"{seen['errors']} {seen['examples']}\n{processes.tail(target.log)}")

    def _guard(self, name: str, work: Callable[[], Any]) -> None:
        """A group that fails is said and left out; the others still run."""
        _say(name)
        try:
            self.results[name] = work()
        except Exception as error:  # noqa: BLE001 - whatever broke one measurement, the others are worth having
            self.results["failed"][name] = f"{type(error).__name__}: {error}"
            _say(traceback.format_exc())

    def measure_all(self) -> None:
        wanted, quick = self.arguments.only, self.arguments.quick
        if "throughput" in wanted:
            for key, size_bytes in (("small", SMALL_BYTES), ("large", LARGE_BYTES)):
                self._guard(f"throughput_{key}", functools.partial(self._throughput, size_bytes))
        if "latency" in wanted:
            seconds = 2.0 if quick else 15.0
            self._guard("added_latency", lambda: measure.added_latency(self.targets, seconds=seconds))
        if "in-flight" in wanted:
            self._guard("in_flight_small", lambda: self._in_flight(200 if quick else 2_000, SMALL_BYTES))
            self._guard("in_flight_large", lambda: self._in_flight(100 if quick else 1_000, LARGE_BYTES))
        if self.pixelpar is not None:
            self._promises(self.pixelpar)
        if "lists" in wanted:
            found = lists.Lists(self.folder / "lists", _say)
            self._guard("lists", lambda: found.run(self.arguments.rows))

    def _throughput(self, size_bytes: int) -> Figures:
        return measure.throughput(
            self.targets,
            size_bytes=size_bytes,
            seconds=self.arguments.seconds,
            rounds=self.arguments.rounds,
            say=_say,
        )

    def _in_flight(self, count: int, size_bytes: int) -> Figures:
        found = {}
        measured = [target for target in self.targets[1:] if not self.arguments.quick or target is self.pixelpar]
        for target in measured:
            over_s, delay_s = (1.0, 3.0) if self.arguments.quick else (6.0, 10.0)
            found[target.name] = measure.in_flight(
                target, count=count, over_s=over_s, delay_s=delay_s, size_bytes=size_bytes
            )
            _say(f"{target.name}: {found[target.name]['latency_s']} {found[target.name]['errors']}")
        return found

    def _promises(self, pixelpar: Pixelpar) -> None:
        wanted, quick = self.arguments.only, self.arguments.quick
        if "overload" in wanted:
            if not quick:
                self._guard("overload_full", lambda: self._full_house(pixelpar))
            self._guard("overload", lambda: self._overload(pixelpar))
        if "ledger" in wanted:
            self._guard("ledger", lambda: measure.ledger(pixelpar, timeout_s=30.0))
        if "kill" in wanted:
            self._guard("recovery", lambda: self._kill(pixelpar))

    def _full_house(self, pixelpar: Pixelpar) -> Figures:
        pixelpar.restart()
        return measure.overload(pixelpar, slots=2_000, delay_s=10.0, seconds=5.0, patient=False)

    def _overload(self, pixelpar: Pixelpar) -> Figures:
        places, delay_s, seconds = (20, 1.0, 2.0) if self.arguments.quick else (_SMALL_HOUSE, 2.0, 10.0)
        pixelpar.settings.update(IN_FLIGHT_LIMIT=str(places), WEB_PROCESSES="2")
        try:
            pixelpar.restart()
            return measure.overload(pixelpar, slots=2 * places, delay_s=delay_s, seconds=seconds, patient=True)
        finally:
            pixelpar.settings.clear()

    def _kill(self, pixelpar: Pixelpar) -> Figures:
        lease_s = 10 if self.arguments.quick else 60
        pixelpar.settings.update(LEASE_S=str(lease_s))
        pixelpar.restart()
        delay_s = 4.0 if self.arguments.quick else 10.0
        return measure.kill_in_mid_flight(pixelpar, count=200, delay_s=delay_s, timeout_s=2.0 * lease_s + 30.0)

    def tear_down(self) -> None:
        for target in (self.upstream, *self.targets):
            target.stop()
        processes.stop_all()


def main() -> int:
    arguments = _arguments()
    # A termination is an exit like any other: everything that was started is ended on the way out.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    processes.raise_file_limit()
    folder = Path(tempfile.mkdtemp(prefix="pixelpar-benchmark-"))
    folder.chmod(0o755)
    run = Run(arguments, folder)
    try:
        run.bring_up()
        run.measure_all()
    except KeyboardInterrupt:
        _say("interrupted")
        return 130
    finally:
        run.tear_down()
        shutil.rmtree(folder, ignore_errors=True)
    print(report.render(run.results))
    path = report.save(run.results, ROOT / "benchmarks/results")
    print(f"\neverything measured: {path.relative_to(ROOT)}")
    broken = run.results["failed"] or Pixelpar.name in run.results["missing"]
    return 1 if broken or any(line.met is False for line in report.lines(run.results)) else 0


if __name__ == "__main__":
    sys.exit(main())
