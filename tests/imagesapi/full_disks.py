"""Full disks without filling one: the database refuses to write as it then does, and so do the store's system calls."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from django.db import connection
from psycopg import sql

from tests import databases

DISK_FULL = "53100"
READ_ONLY = "25006"
# What else may come of a disk: out of memory, a server that starts or ends, one that crashed, an error of the disk's.
OTHERS = ("53200", "57P01", "57P02", "57P03", "58030", READ_ONLY)
# In a trigger's language, so that it reaches the driver the way the server's own words do.
_REFUSE = """
CREATE OR REPLACE FUNCTION tests.refuse() RETURNS trigger LANGUAGE plpgsql AS
$$ BEGIN RAISE 'could not extend file "base/1/2": No space left on device' USING ERRCODE = TG_ARGV[0]; END $$
"""


@dataclass(frozen=True)
class Write:
    """One of the writes of a request: on which table, what, and when it is this one and no other."""

    table: str
    when: str = "INSERT"
    condition: str = "true"


HOLD = Write("billing_hold")
GENERATION = Write("imagesapi_generation")
FIRST_ATTEMPT = Write("imagesapi_attempt", condition="NEW.number = 1")
NEXT_ATTEMPT = Write("imagesapi_attempt", condition="NEW.number = 2")
REMEMBER = Write("imagesapi_attempt", "UPDATE", "NEW.job IS NOT NULL AND NEW.status = 'sent'")
SETTLE = Write("imagesapi_generation", "UPDATE", "NEW.status = 'completed'")
TRANSFER = Write("billing_transfer", condition="NEW.kind = 'charge'")
IMAGE = Write("imagesapi_image")
VOID = Write("imagesapi_generation", "UPDATE", "NEW.status = 'upstream_failure'")


@contextlib.contextmanager
def refused(*writes: Write, code: str = DISK_FULL) -> Iterator[None]:
    """Meanwhile the server answers these writes with an error of this SQLSTATE, whoever makes them."""
    with databases.connect(str(connection.settings_dict["NAME"])) as owner:
        owner.execute(_REFUSE)
        for number, write in enumerate(writes):
            owner.execute(
                sql.SQL(
                    "CREATE TRIGGER {} BEFORE {} ON {} FOR EACH ROW WHEN ({}) EXECUTE FUNCTION tests.refuse({})"
                ).format(
                    sql.Identifier(f"refuse{number}"),
                    sql.SQL(write.when),
                    sql.Identifier(write.table),
                    sql.SQL(write.condition),
                    sql.Literal(code),
                )
            )
        try:
            yield
        finally:
            for number, write in enumerate(writes):
                owner.execute(
                    sql.SQL("DROP TRIGGER {} ON {}").format(
                        sql.Identifier(f"refuse{number}"), sql.Identifier(write.table)
                    )
                )


class FullStore:
    """Stands in for `os` in the modules that write to the store; the named call fails the way it does on a full disk.

    `after` of them succeed first.
    """

    def __init__(self, call: str, *, number: int = errno.ENOSPC, after: int = 0) -> None:
        self._call, self._number, self._left = call, number, after
        self.is_full = True

    def __getattr__(self, name: str) -> Any:
        found = getattr(os, name)
        if name != self._call or not self.is_full:
            return found

        def call(*arguments: Any, **more: Any) -> Any:
            if name == "open" and not arguments[1] & os.O_CREAT:
                return found(*arguments, **more)
            if self._left:
                self._left -= 1
                return found(*arguments, **more)
            raise OSError(self._number, os.strerror(self._number))

        return call
