"""All settings, from the environment: safe for development with nothing set, refusing production with danger in it."""

from __future__ import annotations

import secrets
import socket
from pathlib import Path
from typing import Any

import environ

from core import database, money

ROOT = Path(__file__).resolve().parents[2]

# `NAME_FILE` may hold the path of a file with the value, as container secrets do.
ENV = environ.FileAwareEnv()
if (ROOT / ".env").is_file():
    environ.Env.read_env(ROOT / ".env")

DEBUG = False
DEVELOPMENT = ENV.bool("DEVELOPMENT", default=True)
HOST = ENV.str("HOST", default="127.0.0.1")
PORT = ENV.int("PORT", default=8000)
DATA_DIR = Path(ENV.str("DATA_DIR", default=str(ROOT / "var"))).absolute()
_EVERYWHERE = ("0.0.0.0", "::")  # noqa: S104 - recognised here, chosen by the operator
BASE_URL = ENV.str("BASE_URL", default=f"http://{'127.0.0.1' if HOST in _EVERYWHERE else HOST}:{PORT}")
BASE_URL = BASE_URL.rstrip("/")  # links are put together behind it


def _development_secret(name: str) -> str:
    """A secret of this data folder's own, made once, so that development needs none and shares none."""
    path = DATA_DIR / "secrets" / name
    try:
        return path.read_text().strip()
    except FileNotFoundError:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.parent.chmod(0o700)
        unfinished = path.with_name(f"{name}.{secrets.token_hex(4)}")
        unfinished.touch(mode=0o600)
        unfinished.write_text(secrets.token_urlsafe(48))
        try:
            path.hardlink_to(unfinished)  # the first of several processes wins
        except FileExistsError:
            pass
        finally:
            unfinished.unlink()
        return path.read_text().strip()


SECRET_KEY = ENV.str("SECRET_KEY", default="") or (_development_secret("secret_key") if DEVELOPMENT else "")
SECRET_KEY_FALLBACKS: list[str] = ENV.list("SECRET_KEY_FALLBACKS", default=[])
ENCRYPTION_KEY = ENV.str("ENCRYPTION_KEY", default="")
ENCRYPTION_KEY_FALLBACKS: list[str] = ENV.list("ENCRYPTION_KEY_FALLBACKS", default=[])

ALLOWED_HOSTS: list[str] = ENV.list(
    "ALLOWED_HOSTS", default=["localhost", "127.0.0.1", "[::1]", socket.gethostname(), HOST] if DEVELOPMENT else []
)
CSRF_TRUSTED_ORIGINS: list[str] = ENV.list("CSRF_TRUSTED_ORIGINS", default=[BASE_URL])

INSTALLED_APPS = [
    "core",
    "ui",
    "accounts",
    "billing",
    "imagesapi",
    "web",
    "config",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.postgres",
    "whitenoise.runserver_nostatic",
    "django.contrib.staticfiles",
    "allauth",
    "allauth.account",
    "rest_framework",
    "drf_spectacular_sidecar",
    "corsheaders",
    "procrastinate.contrib.django",
]

MIDDLEWARE = [
    "core.middleware.Entrance",
    "core.pages.ForPages",
    "allauth.account.middleware.AccountMiddleware",
]
PAGE_MIDDLEWARE = [
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "ui.middleware.private_pages",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
]
PROCRASTINATE_ON_APP_READY = "core.queueing.use_connector"
API_ROOTS = ("/openai/v1/", "/v1/")

ROOT_URLCONF = "config.urls"
WSGI_APPLICATION = "config.wsgi.application"
APPEND_SLASH = False
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [ROOT / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
                "ui.context.site",
            ]
        },
    }
]

# --- database ---------------------------------------------------------------------------------------------------------
# PostgreSQL only. With no DATABASE_URL the platform runs its own server; migrations use the owner's role, and the
# application's role can neither change nor delete what is in the journals.
DATABASE_URL = ENV.str("DATABASE_URL", default="")
DATABASE_OWNER_URL = ENV.str("DATABASE_OWNER_URL", default=DATABASE_URL)
EMBEDDED_DATABASE = None if DATABASE_URL else database.locate(DATA_DIR)
# Within the embedded server, another database than the usual one (tests use this).
DATABASE_NAME = ENV.str("DATABASE_NAME", default=database.NAME)
DATABASE_POOL_SIZE = ENV.int("DATABASE_POOL_SIZE", default=6)


def _database(url: str, role: str) -> dict[str, Any]:
    if EMBEDDED_DATABASE is not None:
        found: dict[str, Any] = {"NAME": DATABASE_NAME, "USER": role, "HOST": str(EMBEDDED_DATABASE.sockets)}
    else:
        found = environ.Env.db_url_config(url)
        found.pop("OPTIONS", None)
    return {
        **found,
        "ENGINE": "django.db.backends.postgresql",
        "CONN_MAX_AGE": 0,
        "OPTIONS": {
            # Opened on first use, so after the fork; a connection goes back at the end of each statement that counts.
            "pool": {
                "min_size": 1,
                "max_size": DATABASE_POOL_SIZE,
                "timeout": 10,
                "max_waiting": 0,
                # By default it pauses ever longer for five minutes: as long again after the server is back. Given up
                # early, the next request that needs a connection begins anew.
                "reconnect_timeout": 5,
            },
            "application_name": "pixelpar",
            # The hot statements are prepared and touch single rows: planning them anew each time costs more than
            # running them, and compiling them more still.
            "options": "-c plan_cache_mode=force_generic_plan -c jit=off",
        },
    }


DATABASES = {"default": _database(DATABASE_URL, database.APP_ROLE)}
APPLICATION_ROLE = DATABASES["default"]["USER"]
DATABASE_OWNER = _database(DATABASE_OWNER_URL, database.OWNER_ROLE)
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

# --- requests ---------------------------------------------------------------------------------------------------------
# One process works on this many image requests; the threads above it answer refusals, pages and health at once.
IN_FLIGHT_LIMIT = ENV.int("IN_FLIGHT_LIMIT", default=1_200)
WEB_PROCESSES = ENV.int("WEB_PROCESSES", default=0)  # 0: one per core
# Each keeps to one core, where all cores get equally many of them.
WEB_KEEPS_TO_CORES = ENV.bool("WEB_KEEPS_TO_CORES", default=True)
WEB_THREADS = ENV.int("WEB_THREADS", default=IN_FLIGHT_LIMIT + 100)
JSON_BODY_MAX_BYTES = ENV.int("JSON_BODY_MAX_BYTES", default=1024 * 1024)
# Asynchronous requests and other background tasks that one worker does at a time; they wait for providers.
WORKER_CONCURRENCY = ENV.int("WORKER_CONCURRENCY", default=60)
# Edits and variations bring pictures: up to 16 in one body.
EDIT_BODY_MAX_BYTES = ENV.int("EDIT_BODY_MAX_BYTES", default=256 * 1024 * 1024)
DATA_UPLOAD_MAX_MEMORY_SIZE = 2_621_440
# The whole time a caller may wait for a provider, failover included; SDKs give up after 600 s.
PROVIDER_TIMEOUT_S = ENV.int("PROVIDER_TIMEOUT_S", default=300)
PROVIDER_REPLY_MAX_BYTES = ENV.int("PROVIDER_REPLY_MAX_BYTES", default=256 * 1024 * 1024)
# A timed-out attempt may have been billed: trying another provider then can cost the operator twice.
FAILOVER_AFTER_TIMEOUT = ENV.bool("FAILOVER_AFTER_TIMEOUT", default=False)
# What customers name (image addresses, webhooks) must be public and https. Hosts of one's own, host:port, are let pass.
OUTSIDE_ALLOW_HTTP = ENV.bool("OUTSIDE_ALLOW_HTTP", default=False)
OUTSIDE_ALLOWED_HOSTS: list[str] = ENV.list("OUTSIDE_ALLOWED_HOSTS", default=[])
LEASE_S = ENV.int("LEASE_S", default=60)
# Bills are read with keys of their own, which the providers give to administrators.
OPENAI_ADMIN_KEY = ENV.str("OPENAI_ADMIN_KEY", default="")
OPENAI_ADMIN_URL = ENV.str("OPENAI_ADMIN_URL", default="https://api.openai.com/v1")
OPENAI_BILL_PROJECTS: list[str] = ENV.list("OPENAI_BILL_PROJECTS", default=[])
FAL_ADMIN_KEY = ENV.str("FAL_ADMIN_KEY", default="")
FAL_ADMIN_URL = ENV.str("FAL_ADMIN_URL", default="https://api.fal.ai/v1")
# A day is compared once its bill was read this long after its end: providers are still adding to it before.
BILL_SETTLES_H = ENV.int("BILL_SETTLES_H", default=12)
DEFAULT_MODEL = ENV.str("DEFAULT_MODEL", default="gpt-image-1")
# A model without any configured provider is drawn by the mock and priced by the real list; said in every answer.
SIMULATE_UNCONFIGURED = ENV.bool("SIMULATE_UNCONFIGURED", default=DEVELOPMENT)
STORE_DIR = Path(ENV.str("STORE_DIR", default=str(DATA_DIR / "images"))).absolute()
STORE_FSYNC = ENV.bool("STORE_FSYNC", default=True)
# Children of each process that decode and encode pictures, started when first needed.
WORKSHOP_PROCESSES = ENV.int("WORKSHOP_PROCESSES", default=0)  # 0: one per core

CORS_ALLOW_ALL_ORIGINS = True
CORS_URLS_REGEX = r"^/((openai/)?v1/.*|openapi\.json)$"
CORS_ALLOW_HEADERS_EXTRA = ("openai-organization", "openai-project", "idempotency-key", "prefer", "x-max-cost")
CORS_ALLOW_HEADERS = [
    "accept",
    "authorization",
    "content-type",
    "user-agent",
    *CORS_ALLOW_HEADERS_EXTRA,
    *(
        f"x-stainless-{name}"
        for name in (
            "lang", "package-version", "os", "arch", "runtime", "runtime-version", "async", "retry-count",
            "read-timeout", "timeout", "helper-method", "poll-helper", "custom-poll-interval",
        )
    ),
]  # fmt: skip
# What a program in a browser may read. SDKs obey the first two: unread, they send again what would cost twice.
CORS_EXPOSE_HEADERS = [
    "retry-after", "x-should-retry", "x-request-id", "idempotency-replayed", "location", "preference-applied",
    "x-pixelpar-provider", "x-pixelpar-model", "x-pixelpar-cost", "openai-processing-ms", "content-disposition",
    "x-ratelimit-limit-requests", "x-ratelimit-remaining-requests", "x-ratelimit-reset-requests",
    "x-ratelimit-limit-concurrent", "x-ratelimit-remaining-concurrent",
]  # fmt: skip

REST_FRAMEWORK = {
    "DEFAULT_AUTHENTICATION_CLASSES": [],
    "DEFAULT_PERMISSION_CLASSES": ["rest_framework.permissions.IsAuthenticated"],
    "DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.JSONRenderer"],
    "DEFAULT_PARSER_CLASSES": [],
    "EXCEPTION_HANDLER": "core.api.exception_handler",
    "DEFAULT_SCHEMA_CLASS": "core.openapi.AutoSchema",
    "UNAUTHENTICATED_USER": None,
    "UNAUTHENTICATED_TOKEN": None,
}
SPECTACULAR_SETTINGS = {
    "OAS_VERSION": "3.1.1",
    "TITLE": "Pixelpar",
    "VERSION": "v1",
    "DESCRIPTION": (
        "One OpenAI-compatible images API in front of many providers, at the providers' own prices. Images and models "
        "answer under both roots, since mixing them up is easily done."
    ),
    "LICENSE": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
    "SERVERS": [{"url": "/", "description": "the server that this document comes from"}],
    "PREPROCESSING_HOOKS": ["core.openapi.only_api"],
    "POSTPROCESSING_HOOKS": [],
    "DISABLE_ERRORS_AND_WARNINGS": False,
}

# --- money from outside -----------------------------------------------------------------------------------------------
# Without a key nobody can pay by card: balances come from the operator's grants only, and the pages say so.
STRIPE_SECRET_KEY = ENV.str("STRIPE_SECRET_KEY", default="")
STRIPE_WEBHOOK_SECRET = ENV.str("STRIPE_WEBHOOK_SECRET", default="")
STRIPE_BASE_URL = ENV.str("STRIPE_BASE_URL", default="https://api.stripe.com")
STRIPE_TIMEOUT_S = ENV.int("STRIPE_TIMEOUT_S", default=20)
# Ask Stripe to compute tax on top of what is credited.
STRIPE_TAX = ENV.bool("STRIPE_TAX", default=False)
# A pretended Stripe beside the server: a whole top-up can be tried with no account. In development only.
STRIPE_FAKE = ENV.bool(
    "STRIPE_FAKE",
    default=DEVELOPMENT and not STRIPE_SECRET_KEY and (ROOT / "tests" / "fakes" / "stripe.py").is_file(),
)
STRIPE_FAKE_PORT = ENV.int("STRIPE_FAKE_PORT", default=PORT + 10_000 if PORT < 50_000 else PORT - 10_000)
if STRIPE_FAKE and DEVELOPMENT and not STRIPE_SECRET_KEY:
    STRIPE_SECRET_KEY = "sk_test_pretended"  # noqa: S105 - opens nothing
    STRIPE_WEBHOOK_SECRET = f"whsec_{_development_secret('stripe_webhook')}"
    STRIPE_BASE_URL = f"http://{'127.0.0.1' if HOST in _EVERYWHERE else HOST}:{STRIPE_FAKE_PORT}"
# Whole dollars that the page offers; anything from the least to the most can be typed.
TOP_UP_OFFERS_USD: list[str] = ENV.list("TOP_UP_OFFERS_USD", default=["10", "25", "50", "100"])
TOP_UP_MIN_USD = ENV.int("TOP_UP_MIN_USD", default=5)
TOP_UP_MAX_USD = ENV.int("TOP_UP_MAX_USD", default=1000)
# Against people who try stolen cards: tries a day of one organization and of one address, and declined cards a day.
TOP_UP_TRIES_PER_DAY = ENV.int("TOP_UP_TRIES_PER_DAY", default=20)
TOP_UP_DECLINES_PER_DAY = ENV.int("TOP_UP_DECLINES_PER_DAY", default=5)
# Between two tries of an automatic top-up.
AUTOMATIC_TOP_UP_PAUSE_S = ENV.int("AUTOMATIC_TOP_UP_PAUSE_S", default=600)

# --- people -----------------------------------------------------------------------------------------------------------
AUTH_USER_MODEL = "accounts.User"
AUTHENTICATION_BACKENDS = ["allauth.account.auth_backends.AuthenticationBackend"]
PASSWORD_HASHERS = ["django.contrib.auth.hashers.Argon2PasswordHasher"]
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": f"django.contrib.auth.password_validation.{name}"}
    for name in ("UserAttributeSimilarityValidator", "MinimumLengthValidator", "CommonPasswordValidator")
]
LOGIN_URL = "account_login"
LOGIN_REDIRECT_URL = "/app"
ACCOUNT_LOGIN_METHODS = {"email"}
ACCOUNT_SIGNUP_FIELDS = ["email*", "password1*"]
ACCOUNT_USER_MODEL_USERNAME_FIELD = None
ACCOUNT_EMAIL_VERIFICATION = "mandatory"
ACCOUNT_PREVENT_ENUMERATION = True
ACCOUNT_LOGOUT_ON_PASSWORD_CHANGE = True
ACCOUNT_EMAIL_SUBJECT_PREFIX = ""
ACCOUNT_LOGIN_ON_EMAIL_CONFIRMATION = False
ACCOUNT_SESSION_REMEMBER = True
ACCOUNT_ADAPTER = "accounts.adapter.AccountAdapter"
ACCOUNT_FORMS = {"login": "accounts.forms.LoginForm", "reset_password": "accounts.forms.ResetPasswordForm"}
# How many proxies of ours stand in front: 0 means X-Forwarded-For is never believed.
ALLAUTH_TRUSTED_PROXY_COUNT = ENV.int("TRUSTED_PROXY_COUNT", default=0)
# allauth counts its attempts in the cache; the database's is shared by all processes.
CACHES = {"default": {"BACKEND": "django.core.cache.backends.db.DatabaseCache", "LOCATION": "core_cache"}}

# Development keeps mails as files beside the data; production names a server.
EMAIL_URL = ENV.str("EMAIL_URL", default="")
if EMAIL_URL:
    vars().update(environ.Env.email_url_config(EMAIL_URL))
else:
    EMAIL_BACKEND = "django.core.mail.backends.filebased.EmailBackend"
    EMAIL_FILE_PATH = DATA_DIR / "mail"
DEFAULT_FROM_EMAIL = ENV.str("DEFAULT_FROM_EMAIL", default="Pixelpar <no-reply@localhost>")

# --- promotional credit -----------------------------------------------------------------------------------------------
# What a verified sign-up gets, for how many days, how often from one network (/24, /48) and for how much in all a day.
SIGNUP_CREDIT_NANOS = money.nanos(ENV.str("SIGNUP_CREDIT_USD", default="0"))
SIGNUP_CREDIT_DAYS = ENV.int("SIGNUP_CREDIT_DAYS", default=30)
SIGNUP_CREDITS_PER_NETWORK = ENV.int("SIGNUP_CREDITS_PER_NETWORK", default=3)
SIGNUP_CREDIT_DAILY_NANOS = money.nanos(ENV.str("SIGNUP_CREDIT_DAILY_USD", default="20"))
DISPOSABLE_MAIL_DOMAINS: list[str] = ENV.list("DISPOSABLE_MAIL_DOMAINS", default=[])
# What visitors without a key may spend of the platform's money in a day, on one request, and how often each may ask.
PLAYGROUND_DAILY_NANOS = money.nanos(ENV.str("PLAYGROUND_DAILY_USD", default="1" if DEVELOPMENT else "0"))
PLAYGROUND_REQUEST_NANOS = money.nanos(ENV.str("PLAYGROUND_REQUEST_USD", default="0.02"))
PLAYGROUND_PER_COOKIE = ENV.int("PLAYGROUND_PER_COOKIE", default=5)
PLAYGROUND_PER_ADDRESS = ENV.int("PLAYGROUND_PER_ADDRESS", default=20)

# --- pages ------------------------------------------------------------------------------------------------------------
LANGUAGE_CODE = "en-us"
USE_I18N = False
USE_TZ = True
TIME_ZONE = "UTC"
STATIC_URL = "/static/"
WHITENOISE_USE_FINDERS = True
SESSION_COOKIE_HTTPONLY = True
SESSION_COOKIE_SAMESITE = "Lax"
SECURE_REFERRER_POLICY = "same-origin"
X_FRAME_OPTIONS = "DENY"
if BASE_URL.startswith("https://"):
    SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = True
    SECURE_HSTS_SECONDS = 31_536_000
if ALLAUTH_TRUSTED_PROXY_COUNT:
    SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")

LOG_LEVEL = ENV.str("LOG_LEVEL", default="INFO")
LOGGING_CONFIG = "config.logs.configure"
LOGGING: dict[str, Any] = {"level": LOG_LEVEL, "pretty": DEVELOPMENT}
