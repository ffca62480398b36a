"""The WSGI application that gunicorn serves."""

import os

from django.conf import settings
from django.core.wsgi import get_wsgi_application

from core import bodies

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
application = bodies.measured(
    get_wsgi_application(), max_bytes=max(settings.JSON_BODY_MAX_BYTES, settings.DATA_UPLOAD_MAX_MEMORY_SIZE)
)
