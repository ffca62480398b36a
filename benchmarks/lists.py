"""What lists and sums cost with ten thousand requests on record, and with as many as wanted: the same, or nearly."""

from __future__ import annotations

import http.client
import random
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg

from benchmarks import processes
from benchmarks.targets import ROOT, Pixelpar, Upstream

Figures = dict[str, Any]
FEW = 10_000
MANY = 10_000_000
# One request each this often, half of them of the one organization that is measured: three months for ten million.
_STEP_MS = 777
_OTHERS = 200
_ROUNDS = 40
_MUST, _AIM = 1.5, 1.3

_OWNERS = """
INSERT INTO accounts_organization (name, slug, created_at, default_response_format, link_life_minutes)
SELECT 'Other ' || n, 'other-' || n, now(), '', 60 FROM generate_series(1, %(others)s) n
"""
_ACCOUNTS = """
INSERT INTO billing_account (kind, organization_id)
SELECT kind, id FROM accounts_organization CROSS JOIN (VALUES ('wallet'), ('promo')) k(kind) ON CONFLICT DO NOTHING
"""
_PAYEE = """
INSERT INTO billing_account (kind, provider) VALUES ('provider_payable', 'openai') ON CONFLICT DO NOTHING
"""
# The n-th request, the newest first: its id, and whose it is.
_NTH = """
    SELECT n, (lpad(to_hex(%(end_ms)s - n::bigint * %(step_ms)s), 12, '0') || '7' || substr(md5(n::text), 1, 19))::uuid
        AS id, to_timestamp((%(end_ms)s - n::bigint * %(step_ms)s) / 1000.0) AS at,
        CASE WHEN n %% 2 = 0 THEN %(organization)s ELSE %(first_other)s + n %% %(others)s END AS organization_id
    FROM generate_series(%(start)s, %(end)s) n
"""
_GENERATIONS = f"""
INSERT INTO imagesapi_generation (id, organization_id, api_key_id, endpoint, model, provider, status, asked, sent,
    receipt, cost_nanos, created_at, finished_at, response_size_bytes)
SELECT id, organization_id, CASE WHEN organization_id <> %(organization)s THEN NULL
        WHEN n %% 4000 = 0 THEN %(rare_key)s ELSE %(key)s END,
    'images/generations', CASE n %% 10 WHEN 0 THEN 'gpt-image-1-mini' WHEN 2 THEN 'mock-image' ELSE 'gpt-image-1' END,
    'openai', CASE WHEN n %% 8000 = 0 THEN 'cancelled' ELSE 'completed' END,
    '{{"model": "gpt-image-1", "prompt": "a red fox in the snow, at dawn, seen from far away", "size": "1024x1024"}}',
    '{{"model": "gpt-image-1", "prompt": "a red fox in the snow, at dawn, seen from far away", "size": "1024x1024"}}',
    '{{"version": 1, "total": "0.01088", "currency": "USD", "charged": "0.01088"}}',
    CASE WHEN n %% 8000 = 0 THEN NULL ELSE 10880000 END, at, at + interval '9 seconds', 1500000
FROM ({_NTH}) nth
"""  # noqa: S608 - constants
_ATTEMPTS = f"""
INSERT INTO imagesapi_attempt (generation_id, number, offer_id, provider, executed_model, status, worst_case_nanos,
    sent_at, finished_at)
SELECT id, 1, 1, 'openai', 'openai/gpt-image-1', 'succeeded', 20000000, at, at + interval '9 seconds'
FROM ({_NTH}) nth WHERE n %% 20 < 2
"""  # noqa: S608 - constants
_IMAGES = f"""
INSERT INTO imagesapi_image (id, organization_id, generation_id, position, path, content_type, width_px, height_px,
    size_bytes, created_at)
SELECT gen_random_uuid(), organization_id, id, 0, id::text, 'image/png', 1024, 1024, 1500000, at
FROM ({_NTH}) nth WHERE n %% 20 < 2
"""  # noqa: S608 - constants
_TRANSFERS = f"""
INSERT INTO billing_transfer (debit_account_id, credit_account_id, amount_nanos, kind, reference_type, reference_id,
    balance_nanos, created_at)
SELECT account.id, (SELECT id FROM billing_account WHERE kind = 'provider_payable' AND provider = 'openai'), 10880000,
    'charge', 'generation', nth.id, 0, at
FROM ({_NTH}) nth JOIN billing_account account ON account.organization_id = nth.organization_id AND kind = 'wallet'
WHERE n %% 20 < 2 ORDER BY n DESC
"""  # noqa: S608 - constants


class Lists:
    """A server with a past that was written straight into its database."""

    def __init__(self, folder: Path, say: Callable[[str], object]) -> None:
        self.target = Pixelpar(folder, Upstream(folder / "upstream"))
        self.say = say
        self.rows = 0
        self.end_ms = int(time.time() * 1000)
        self.names: dict[str, Any] = {}
        self.line: psycopg.Connection[Any] | None = None

    def run(self, rows: int) -> Figures:
        """Medians at FEW requests and at `rows`, in milliseconds."""
        self.target.folder.mkdir(parents=True, exist_ok=True)
        self.target.folder.chmod(0o755)
        self.target.prepare()
        self.target.start()
        try:
            self._connect()
            found: Figures = {"rows": rows, "few": self._at(FEW), "many": self._at(rows)}
            found["ratios"] = {name: found["many"][name] / found["few"][name] for name in found["few"]}
            return found
        finally:
            if self.line is not None:
                self.line.close()
            self.target.stop()

    def _connect(self) -> None:
        sys.path.insert(0, str(ROOT / "platform"))
        from core import database

        server = database.locate(self.target.data)
        self.line = line = psycopg.connect(
            **server.parameters(database.OWNER_ROLE), autocommit=True, cursor_factory=psycopg.ClientCursor
        )
        # Nothing here must outlive a power cut, and nothing written here is looked at by triggers.
        for statement in (
            "ALTER SYSTEM SET fsync = off",
            "ALTER SYSTEM SET max_wal_size = '16GB'",
            "SELECT pg_reload_conf()",
            "SET session_replication_role = replica",
            "SET synchronous_commit = off",
            "SET work_mem = '256MB'",
        ):
            line.execute(statement)
        line.execute(_OWNERS, {"others": _OTHERS})
        line.execute(_ACCOUNTS)
        line.execute(_PAYEE)
        organization, key = self._key(self.target.headers["Authorization"].split()[-1])
        rare = self.target.manage("create_key", "benchmark", "--name", "rare").split()[-1]
        self.rare_public_id = _public_id(rare)
        self.names = {
            "organization": organization,
            "key": key,
            "rare_key": self._key(rare)[1],
            "first_other": self._one("SELECT min(id) FROM accounts_organization WHERE slug LIKE 'other-%%'")[0],
            "others": _OTHERS,
            "end_ms": self.end_ms,
            "step_ms": _STEP_MS,
        }

    def _key(self, raw: str) -> tuple[int, int]:
        """Organization and row of a key."""
        statement = "SELECT organization_id, id FROM accounts_apikey WHERE public_id = %(word)s"
        organization, key = self._one(statement, word=_public_id(raw))
        return organization, key

    def _one(self, statement: str, **named: Any) -> tuple[Any, ...]:
        assert self.line is not None  # noqa: S101 - connected first
        found = self.line.execute(statement, named).fetchone()
        if found is None:
            raise processes.NotReady(f"no row: {statement}")
        return tuple(found)

    def _at(self, rows: int) -> Figures:
        self._fill(rows)
        return self._measure()

    def _fill(self, rows: int) -> None:
        assert self.line is not None  # noqa: S101 - connected first
        began_s = time.monotonic()
        named = {**self.names, "start": self.rows + 1, "end": rows}
        if self.rows < rows:
            for statement in (_GENERATIONS, _ATTEMPTS, _IMAGES, _TRANSFERS):
                self.line.execute(statement, named)
                self.say(f"{statement.split()[2]}: {time.monotonic() - began_s:.0f} s")
        self.rows = rows
        # What is older than the sums came after them here, as it never does elsewhere.
        self.line.execute("DELETE FROM imagesapi_usagehour")
        self.line.execute("DELETE FROM imagesapi_usagemark")
        for table in ("generation", "attempt", "image"):
            self.line.execute(f"VACUUM ANALYZE imagesapi_{table}")
        self.line.execute("VACUUM ANALYZE billing_transfer")
        self._roll_up()
        self.line.execute("VACUUM ANALYZE imagesapi_usagehour")
        self.line.execute("CHECKPOINT")
        self.say(f"{rows} requests on record after {time.monotonic() - began_s:.0f} s")

    def _roll_up(self) -> None:
        code = "from imagesapi import usage_rollup\nwhile usage_rollup.roll_up(): pass"
        subprocess.run(  # noqa: S603 - our own command
            [sys.executable, str(ROOT / "manage.py"), "shell", "-c", code],
            env=self.target.environment(),
            cwd=ROOT,
            check=True,
            capture_output=True,
            timeout=1_800,
        )

    def _word(self, number: int) -> str:
        """The public id of one of the organization's requests that has everything, counted from the newest."""
        from core import ids

        number = number // 20 * 20 or 20
        statement = f"SELECT id FROM ({_NTH}) nth WHERE organization_id = %(organization)s"  # noqa: S608 - constants
        return ids.public("req", self._one(statement, **{**self.names, "start": number, "end": number})[0])

    def _paths(self) -> dict[str, list[str]]:
        dice = random.Random(self.rows)  # noqa: S311 - not a secret
        words = [self._word(dice.randrange(20, self.rows)) for _ in range(_ROUNDS)]
        return {
            "requests, first page": ["/v1/requests"],
            "requests, deep in the past": [f"/v1/requests?starting_after={word}" for word in words],
            "requests, of a rare status": ["/v1/requests?status=cancelled"],
            "requests, of a rare key": [f"/v1/requests?key_id={self.rare_public_id}"],
            "requests, of one model": ["/v1/requests?model=gpt-image-1-mini"],
            "requests, with a summary": ["/v1/requests?summary=true"],
            "one request": [f"/v1/requests/{word}" for word in words],
            "usage, 30 days": ["/v1/usage"],
            "usage, 30 days by model": ["/v1/usage?group_by=model"],
            "transactions, first page": ["/v1/transactions"],
            "transactions, deep in the past": [
                f"/v1/transactions?starting_after=txn{word[3:]}_charge" for word in words
            ],
        }

    def _measure(self) -> Figures:
        paths = self._paths()
        taken_ms: dict[str, list[float]] = {name: [] for name in paths}
        link = http.client.HTTPConnection(processes.HOST, self.target.port, timeout=60)
        try:
            for number in range(-5, _ROUNDS):
                for name, choices in paths.items():
                    spent_ms = self._get(link, choices[number % len(choices)])
                    if number >= 0:
                        taken_ms[name].append(spent_ms)
        finally:
            link.close()
        return {name: round(statistics.median(samples), 3) for name, samples in taken_ms.items()}

    def _get(self, link: http.client.HTTPConnection, path: str) -> float:
        began_s = time.perf_counter()
        link.request("GET", path, headers=self.target.headers)
        answer = link.getresponse()
        body = answer.read()
        spent_ms = (time.perf_counter() - began_s) * 1_000
        if answer.status != 200:
            raise processes.NotReady(f"{path}: {answer.status} {body[:300]!r}")
        return spent_ms


def _public_id(raw: str) -> str:
    return raw.removeprefix("pxp_").partition(".")[0]


def verdict(found: Figures) -> tuple[float, bool, bool]:
    """The worst ratio, whether it is as it must be, and whether it is as we would like it."""
    worst = max(found["ratios"].values())
    return worst, worst <= _MUST, worst <= _AIM


def table(found: Figures) -> list[tuple[str, ...]]:
    """One row for each list, in words."""
    return [
        (name, f"{few_ms:.1f} ms", f"{found['many'][name]:.1f} ms", f"{found['ratios'][name]:.2f} x")
        for name, few_ms in found["few"].items()
    ]
