"""The WSGI application that gunicorn serves."""

import os

import django
from django.conf import settings

from core import bodies, handler

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
django.setup(set_prefix=False)


def _body_max_bytes(path: str) -> int:
    """Pictures are sent to two routes only; everything else is small."""
    if path.endswith(("/images/edits", "/images/variations")):
        return int(settings.EDIT_BODY_MAX_BYTES)
    return max(settings.JSON_BODY_MAX_BYTES, settings.DATA_UPLOAD_MAX_MEMORY_SIZE)


application = bodies.measured(handler.Handler(), max_bytes=_body_max_bytes)
