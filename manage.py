#!/usr/bin/env python3
"""Runs the platform's commands; starts the embedded database for as long as a command needs it."""

import gc
import os
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent
# Commands that touch no database, or manage it themselves.
WITHOUT_DATABASE = {"help", "serve", "collectstatic", "version", "write_openapi", "--help", "--version"}


def main() -> None:
    """Put both import roots on the path, make the database answer, and hand over to Django."""
    if any("\ud800" <= letter <= "\udfff" for word in sys.argv for letter in word):
        sys.exit("What was typed is not valid UTF-8.")  # no database, file or log would take it
    sys.path[0:0] = [str(ROOT), str(ROOT / "platform")]
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
    gc.disable()  # loading makes next to no garbage, and the collector would look for it for a tenth of the time
    import django
    from django.conf import settings
    from django.core.management import execute_from_command_line

    from core import database

    django.setup(set_prefix=False)
    gc.freeze()
    gc.enable()
    server = settings.EMBEDDED_DATABASE
    wanted = len(sys.argv) > 1 and sys.argv[1] not in WITHOUT_DATABASE and "--help" not in sys.argv
    if server is None or not wanted:
        execute_from_command_line(sys.argv)
        return
    try:
        database.start(server, lambda line: print(line, file=sys.stderr))
    except database.DatabaseError as error:
        sys.exit(str(error))
    try:
        execute_from_command_line(sys.argv)
    finally:
        database.stop(server)


if __name__ == "__main__":
    main()
