"""`manage.py ledger verify`: exit 1 and say where, if a stored amount differs from the journal."""

from __future__ import annotations

import sys
from typing import Any

from django.core.management.base import BaseCommand, CommandParser

from billing import ledger


class Command(BaseCommand):
    help = "Prove that balances equal the sum of transfers and held amounts the sum of open holds."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("action", choices=["verify"])

    def handle(self, *args: Any, **options: Any) -> None:
        proof = ledger.verify(self.stderr.write)
        if proof.differences:
            self.stderr.write(f"{len(proof.differences)} differences; nothing was changed")
            sys.exit(1)
        self.stdout.write(f"exact: {proof.transfers} transfers, {proof.holds} holds, {proof.open_holds} of them open")
