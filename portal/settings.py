"""Settings. The only file that reads the environment; each variable is listed in the README."""

import os
from datetime import timedelta
from pathlib import Path

import dj_database_url
from csp.constants import NONE, SELF

from portal.environment import (
    WEB_POOL_SIZE,
    flag,
    one_of,
    origin_of,
    refuse_former_names,
    required,
    seconds,
    whole,
    words,
)

BASE_DIR = Path(__file__).resolve().parent.parent

refuse_former_names()

# -- What must be set in production; system checks say what is missing -------------------------
DEBUG = flag("CHANCERY_DEBUG")
SECRET_KEY = required("CHANCERY_SECRET_KEY")
ENCRYPTION_KEYS = os.environ.get("CHANCERY_ENCRYPTION_KEYS", "")
ISSUER = os.environ.get("CHANCERY_URL", "http://localhost:8000").rstrip("/")
ALLOWED_HOSTS = words("CHANCERY_ALLOWED_HOSTS", "localhost,127.0.0.1")
CSRF_TRUSTED_ORIGINS = [ISSUER]
HTTPS = ISSUER.startswith("https://")
# The log's name in what it signs; and its key, which the sealer's process alone should be given.
LOG_ORIGIN = os.environ.get("CHANCERY_LOG_ORIGIN", "") or f"{ISSUER.partition('://')[2]}/log"
CONTROLS_FILE = os.environ.get("CHANCERY_CONTROLS_FILE", "")
LOG_SINKS = os.environ.get("CHANCERY_LOG_SINKS", "")
LOG_SINK_SECRET = os.environ.get("CHANCERY_LOG_SINK_SECRET", "")
LOG_WITNESSES = os.environ.get("CHANCERY_LOG_WITNESSES", "")
LOG_SIGNING_KEY = os.environ.get("CHANCERY_LOG_SIGNING_KEY", "")

# -- Limits ------------------------------------------------------------------------------------
AGENT_REQUESTS_PER_MINUTE = whole("CHANCERY_AGENT_REQUESTS_PER_MINUTE", 6_000, least=1)
# Over all agents of an owner, and over all that act for a person.
OWNER_REQUESTS_PER_MINUTE = whole("CHANCERY_OWNER_REQUESTS_PER_MINUTE", 30_000, least=1)
PERSON_REQUESTS_PER_MINUTE = whole("CHANCERY_PERSON_REQUESTS_PER_MINUTE", 6_000, least=1)
TOKEN_LIMIT_PER_ADDRESS = whole("CHANCERY_TOKEN_LIMIT_PER_ADDRESS", 600, least=1)
TOKEN_LIMIT_PER_IDENTITY = whole("CHANCERY_TOKEN_LIMIT_PER_IDENTITY", 120, least=1)
RECERTIFICATION_DAYS = whole("CHANCERY_RECERTIFICATION_DAYS", 90, least=1)
# Calls in flight are cut when they are stopped; off only in tests that share one connection.
HALT_WATCHER_ENABLED = True
# Without a sign of life for so long, whoever carries out a step counts as gone.
WORKFLOW_LEASE_SECONDS = seconds("CHANCERY_WORKFLOW_LEASE_SECONDS", 30)
# A hint that nobody has followed for so long is sent again.
WORKFLOW_HINT_SECONDS = seconds("CHANCERY_WORKFLOW_HINT_SECONDS", 15)
DATA_UPLOAD_MAX_MEMORY_SIZE = 1_000_000

# -- Apps --------------------------------------------------------------------------------------
DEMO = flag("CHANCERY_DEMO")
DEMO_AIRLINE_DB = os.environ.get("CHANCERY_DEMO_AIRLINE_DB", str(BASE_DIR / "var/airline.sqlite3"))
DEMO_ACCOUNTING_URL = os.environ.get("CHANCERY_DEMO_ACCOUNTING_URL", "http://127.0.0.1:8800")
INSTALLED_APPS = [
    "portal.apps.PortalConfig",
    *(["demo.apps.DemoConfig"] if DEMO else []),
    "insights.apps.InsightsConfig",
    "workflows.apps.WorkflowsConfig",
    "actions.apps.ActionsConfig",
    "policies.apps.PoliciesConfig",
    "agents.apps.AgentsConfig",
    "tools.apps.ToolsConfig",
    "approvals.apps.ApprovalsConfig",
    "audit.apps.AuditConfig",
    "accounts.apps.AccountsConfig",
    "common.apps.CommonConfig",
    "portal.apps.ChanceryAdminConfig",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "whitenoise.runserver_nostatic",
    "django.contrib.staticfiles",
    "django.contrib.humanize",  # allauth's page of passkeys
    "auditlog",
    "guardian",
    "allauth",
    "allauth.account",
    "allauth.socialaccount",
    "allauth.socialaccount.providers.openid_connect",
    "allauth.mfa",
    "axes",
    "django_celery_beat",
    "django_linear_migrations",
    "rest_framework",
    "drf_spectacular",
    "drf_spectacular_sidecar",
    "csp",
]
MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "accounts.middleware.RequestIdMiddleware",
    "portal.failures.AwayMiddleware",
    "portal.request_slots.SlotsMiddleware",
    "csp.middleware.CSPMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "accounts.middleware.ActingUserMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "allauth.account.middleware.AccountMiddleware",
    "axes.middleware.AxesMiddleware",
]
ROOT_URLCONF = "portal.urls"
WSGI_APPLICATION = "portal.wsgi.application"
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ],
        },
    },
]

# -- Database, cache, queue --------------------------------------------------------------------
# The most connections of one web process; 0: every thread its own. `portal.wsgi` sets it.
DATABASE_POOL = whole("CHANCERY_DATABASE_POOL", 0, most=1000)
# How many processes of each kind this machine runs, for the check of a deployment.
WEB_WORKERS = whole("WEB_WORKERS", 2, least=1)
# As in the Procfile.
WEB_THREADS = whole("WEB_THREADS", 24, least=1)
WEB_POOL = DATABASE_POOL or WEB_POOL_SIZE
WORKERS = whole("WORKERS", 4, least=1)
DATABASES = {
    "default": dj_database_url.parse(
        os.environ.get("DATABASE_URL") or f"sqlite:///{BASE_DIR / 'var/chancery.sqlite3'}",
        conn_max_age=60,
        conn_health_checks=True,
    )
}
if DATABASES["default"]["ENGINE"] == "django.db.backends.sqlite3":
    DATABASES["default"]["CONN_HEALTH_CHECKS"] = False
    DATABASES["default"]["OPTIONS"] = {
        # One writer at a time, waiting its turn; a commit is on disk before anybody acts on it.
        "transaction_mode": "IMMEDIATE",
        "timeout": 20,
        "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL; "
        # Hot pages are written back once for many commits.
        "PRAGMA wal_autocheckpoint=8000; PRAGMA cache_size=-8000;",
    }
else:
    # The few statements of the governed path are planned once per connection. Behind a pooler that
    # shares connections between transactions, prepared statements must be off.
    DATABASES["default"]["OPTIONS"] = {
        "server_side_binding": True,
        "prepare_threshold": 5 if flag("CHANCERY_PREPARED_STATEMENTS", default=True) else None,
    }
    if flag("CHANCERY_PREPARED_STATEMENTS", default=True):
        # A process that is frozen in the middle of a transaction would hold its locks, and with
        # them a halt, as long as it sleeps. A pooler has to be given this as a server's setting.
        DATABASES["default"]["OPTIONS"]["options"] = "-c idle_in_transaction_session_timeout=10s"
    if DATABASE_POOL:
        # A server's threads come and go; what they leave open would count against the database's
        # limit. A web process shares a pool, of which a thread holds a connection while it serves.
        DATABASES["default"]["CONN_MAX_AGE"] = 0
        DATABASES["default"]["OPTIONS"]["pool"] = {
            "min_size": 0,
            "max_size": DATABASE_POOL,
            "timeout": 5,
            "max_idle": 60,
        }
REDIS_URL = os.environ.get("REDIS_URL", "")
BROKER_URL = os.environ.get("BROKER_URL", "") or REDIS_URL
# `counters` limits agents and fails when it is away; the other must let people in whatever fails.
_REDIS = {
    "LOCATION": REDIS_URL,
    "OPTIONS": {"socket_connect_timeout": 1, "socket_timeout": 1},
}
_MEMORY = {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"}
CACHES = {
    "default": {"BACKEND": "common.fallback_cache.FallbackRedisCache", **_REDIS}
    if REDIS_URL
    else _MEMORY,
    "counters": {"BACKEND": "django.core.cache.backends.redis.RedisCache", **_REDIS}
    if REDIS_URL
    else {**_MEMORY, "LOCATION": "counters"},
}
CELERY_BROKER_URL = BROKER_URL
# A hint is worth a second: a broker that is down must not hold up a decision.
CELERY_BROKER_TRANSPORT_OPTIONS = {
    "socket_connect_timeout": 1,
    "socket_timeout": 5,
    "max_retries": 1,
    "interval_start": 0,
    "interval_step": 0.2,
    "interval_max": 0.2,
}
CELERY_TASK_IGNORE_RESULT = True
CELERY_TASK_ACKS_LATE = False
CELERY_BROKER_CONNECTION_RETRY_ON_STARTUP = True
# A worker takes one hint at a time: none waits behind a slow step while others are idle.
CELERY_WORKER_PREFETCH_MULTIPLIER = 1
# Beyond the longest call and the longest turn, a child that hangs is ended; its attempt is unknown.
CELERY_TASK_TIME_LIMIT = 420
# How many calls of one identity workers carry out at a time: one child at least is for others.
WORKER_SHARE = whole("CHANCERY_WORKER_SHARE", max(WORKERS - 1, 1), least=1)
CELERY_TIMEZONE = "UTC"
CELERY_BEAT_SCHEDULER = "django_celery_beat.schedulers:DatabaseScheduler"
CELERY_BEAT_SCHEDULE = {
    "approvals.flag_undecidable": {"task": "approvals.flag_undecidable", "schedule": 60.0},
    "approvals.expire_overdue": {"task": "approvals.expire_overdue", "schedule": 10.0},
    "actions.reap_abandoned": {"task": "actions.reap_abandoned", "schedule": 5.0},
    "actions.hint_overdue": {"task": "actions.hint_overdue", "schedule": 5.0},
    "actions.discard_encrypted_arguments": {
        "task": "actions.discard_encrypted_arguments",
        "schedule": 30.0,
    },
    "workflows.sweep": {"task": "workflows.sweep", "schedule": 1.0},
    "workflows.fire_schedules": {"task": "workflows.fire_schedules", "schedule": 5.0},
    "workflows.guard_rollouts": {"task": "workflows.guard_rollouts", "schedule": 5.0},
    "agents.prune_assertions": {"task": "agents.prune_assertions", "schedule": 300.0},
    "actions.end_elevations": {"task": "actions.end_elevations", "schedule": 10.0},
    "actions.watch_usage": {"task": "actions.watch_usage", "schedule": 30.0},
    "actions.prune_usage": {"task": "actions.prune_usage", "schedule": 86_400.0},
    "tools.prune_leases": {"task": "tools.prune_leases", "schedule": 3600.0},
    "agents.recertify": {"task": "agents.recertify", "schedule": 60.0},
    # In a queue of its own: its worker alone has the key. What nobody took in time is dropped.
    "audit.seal": {
        "task": "audit.seal",
        "schedule": 1.0,
        "options": {"queue": "sealing", "expires": 5},
    },
    "audit.index_events": {
        "task": "audit.index_events",
        "schedule": 2.0,
        "options": {"expires": 5},
    },
    "audit.reconcile": {
        "task": "audit.reconcile",
        "schedule": 30.0,
        "options": {"expires": 30},
    },
    "audit.forward_events": {
        "task": "audit.forward_events",
        "schedule": 2.0,
        "options": {"expires": 5},
    },
    "audit.verify": {"task": "audit.verify", "schedule": 86_400.0},
    "audit.apply_retention": {"task": "audit.apply_retention", "schedule": 86_400.0},
    "audit.request_cosignatures": {
        "task": "audit.request_cosignatures",
        "schedule": 10.0,
        "options": {"expires": 10},
    },
    "agents.refresh_issuer_keys": {"task": "agents.refresh_issuer_keys", "schedule": 120.0},
    "agents.rotate_keys": {"task": "agents.rotate_keys", "schedule": 60.0},
}

# -- People ------------------------------------------------------------------------------------
AUTH_USER_MODEL = "accounts.User"
AUTHENTICATION_BACKENDS = [
    # First: whoever has guessed too often is not looked at.
    "axes.backends.AxesStandaloneBackend",
    "audit.auth_backends.AuditorPassBackend",
    "django.contrib.auth.backends.ModelBackend",
    "allauth.account.auth_backends.AuthenticationBackend",
    "guardian.backends.ObjectPermissionBackend",
]
ANONYMOUS_USER_NAME = None
AUTH_PASSWORD_VALIDATORS = [
    {
        "NAME": "django.contrib.auth.password_validation.MinimumLengthValidator",
        "OPTIONS": {"min_length": 12},
    },
    {"NAME": "django.contrib.auth.password_validation.CommonPasswordValidator"},
]
LOGIN_URL = "account_login"
LOGIN_REDIRECT_URL = "admin:index"
LOGOUT_REDIRECT_URL = ACCOUNT_LOGOUT_REDIRECT_URL = "account_login"
# Staff pages open with two factors only; the demonstration and a portal without https may do less.
REQUIRE_MFA = flag("CHANCERY_REQUIRE_MFA", default=HTTPS and not DEMO)
ACCOUNT_ADAPTER = "accounts.adapters.AccountAdapter"
ACCOUNT_LOGIN_METHODS = {"username"}
ACCOUNT_SIGNUP_FIELDS = ["username*", "email", "password1*"]
ACCOUNT_EMAIL_VERIFICATION = "none"
ACCOUNT_SESSION_REMEMBER = False
ACCOUNT_REAUTHENTICATION_TIMEOUT = 300
# Failures are counted by axes, by name and address: a limit by name would lock its owner out.
# Codes are counted by person as well, for a password that is known leaves them to be guessed.
ACCOUNT_RATE_LIMITS = {"login_failed": "60/m/ip,20/5m/key"}
SOCIALACCOUNT_REAUTHENTICATION_REQUIRED = True
MFA_ADAPTER = "accounts.adapters.SecondFactorAdapter"
MFA_SUPPORTED_TYPES = ["webauthn", "totp", "recovery_codes"]
MFA_PASSKEY_LOGIN_ENABLED = True
MFA_WEBAUTHN_USER_VERIFICATION = "required"
MFA_WEBAUTHN_ALLOW_INSECURE_ORIGIN = not HTTPS
MFA_RECOVERY_CODES_SHOW_ONCE = True
MFA_FORMS = {"add_webauthn": "accounts.forms.AddPasskeyForm"}
# -- Single sign-on: any OpenID Connect provider, by its discovery address
SOCIALACCOUNT_ADAPTER = "accounts.adapters.SocialAccountAdapter"
SOCIALACCOUNT_AUTO_SIGNUP = True
# A provider's word about a mail address takes over nobody's account.
SOCIALACCOUNT_EMAIL_AUTHENTICATION = False
SOCIALACCOUNT_STORE_TOKENS = False
OIDC_ISSUER = os.environ.get("CHANCERY_OIDC_ISSUER", "")
# Browsers follow a form only to origins that the page names: the provider's, and others that it
# sends people on to.
OIDC_ORIGINS = list(dict.fromkeys([origin_of(OIDC_ISSUER), *words("CHANCERY_OIDC_ORIGINS")]))
OIDC_AUTO_PROVISION = flag("CHANCERY_OIDC_AUTO_PROVISION")
# What the provider says in `acr` or `amr` when somebody has shown two factors to it.
OIDC_MFA_VALUES = frozenset(words("CHANCERY_OIDC_MFA_VALUES"))
SOCIALACCOUNT_PROVIDERS = {
    "openid_connect": {
        "OAUTH_PKCE_ENABLED": True,
        "APPS": [
            {
                "provider_id": "sso",
                "name": os.environ.get("CHANCERY_OIDC_NAME", "Single sign-on"),
                "client_id": os.environ.get("CHANCERY_OIDC_CLIENT_ID", ""),
                "secret": os.environ.get("CHANCERY_OIDC_CLIENT_SECRET", ""),
                "settings": {"server_url": OIDC_ISSUER},
            }
        ]
        if OIDC_ISSUER
        else [],
    }
}
# -- Passwords that are guessed at
AXES_FAILURE_LIMIT = 5
AXES_COOLOFF_TIME = timedelta(minutes=15)
# A name and an address together: nobody can lock somebody else out.
AXES_LOCKOUT_PARAMETERS = [["username", "ip_address"]]
AXES_USERNAME_CALLABLE = "accounts.adapters.attempted_name"
AXES_CLIENT_IP_CALLABLE = "accounts.adapters.counted_address"
AXES_RESET_ON_SUCCESS = True
AXES_VERBOSE = False
AXES_ENABLE_ADMIN = False
SESSION_COOKIE_AGE = 8 * 3600
SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = HTTPS
SESSION_COOKIE_HTTPONLY = True
SESSION_COOKIE_SAMESITE = CSRF_COOKIE_SAMESITE = "Lax"
SECURE_SSL_REDIRECT = HTTPS and flag("CHANCERY_SSL_REDIRECT", default=True)
SECURE_HSTS_SECONDS = 31_536_000 if HTTPS else 0
SECURE_HSTS_INCLUDE_SUBDOMAINS = SECURE_HSTS_PRELOAD = HTTPS
SECURE_REFERRER_POLICY = "same-origin"
X_FRAME_OPTIONS = "DENY"
BEHIND_PROXY = flag("CHANCERY_BEHIND_PROXY")
# How many proxies of one's own stand in front: the address of a sender is as far from the end.
PROXIES = whole("CHANCERY_PROXIES", 1)
# Addresses of issuers' keys (whole addresses) that may lie in a private network.
PRIVATE_ISSUERS = frozenset(
    os.environ.get("CHANCERY_PRIVATE_ISSUERS", "").replace(",", " ").split()
)
if BEHIND_PROXY:
    SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")
CONTENT_SECURITY_POLICY = {
    "DIRECTIVES": {
        "default-src": [SELF],
        "script-src": [SELF],
        "style-src": [SELF],
        "img-src": [SELF, "data:"],
        "object-src": [NONE],
        "base-uri": [NONE],
        "form-action": [SELF, *(OIDC_ORIGINS if OIDC_ISSUER else [])],
        "frame-ancestors": [NONE],
    },
}

# -- Mail -------------------------------------------------------------------------------------
# Authorities that are trusted beside the public ones, as a PEM file; mail goes by OpenSSL's own
# SSL_CERT_FILE.
CA_FILE = os.environ.get("CHANCERY_CA_FILE", "")
EMAIL_HOST = os.environ.get("CHANCERY_SMTP_HOST", "")
EMAIL_PORT = whole("CHANCERY_SMTP_PORT", 587, least=1)
EMAIL_HOST_USER = os.environ.get("CHANCERY_SMTP_USER", "")
EMAIL_HOST_PASSWORD = os.environ.get("CHANCERY_SMTP_PASSWORD", "")
_SMTP_TLS = one_of("CHANCERY_SMTP_TLS", "starttls", ("starttls", "implicit", "off"))
EMAIL_USE_TLS = bool(EMAIL_HOST) and _SMTP_TLS == "starttls"
EMAIL_USE_SSL = bool(EMAIL_HOST) and _SMTP_TLS == "implicit"
EMAIL_TIMEOUT = 10
DEFAULT_FROM_EMAIL = os.environ.get("CHANCERY_MAIL_FROM", "chancery@localhost")
EMAIL_BACKEND = f"django.core.mail.backends.{'smtp' if EMAIL_HOST else 'console'}.EmailBackend"

# -- Change log --------------------------------------------------------------------------------
AUDITLOG_STORE_JSON_CHANGES = True
AUDITLOG_CID_GETTER = "common.request_context.current_request_id"
AUDITLOG_DISABLE_REMOTE_ADDR = True

# -- API ---------------------------------------------------------------------------------------
REST_FRAMEWORK = {
    "DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.JSONRenderer"],
    "DEFAULT_PARSER_CLASSES": ["common.parsers.BoundedJSONParser"],
    "DEFAULT_AUTHENTICATION_CLASSES": [],
    "DEFAULT_PERMISSION_CLASSES": ["rest_framework.permissions.IsAuthenticated"],
    "DEFAULT_SCHEMA_CLASS": "drf_spectacular.openapi.AutoSchema",
    "EXCEPTION_HANDLER": "common.problems.as_problem",
    "UNAUTHENTICATED_USER": None,
}
SPECTACULAR_SETTINGS = {
    "TITLE": "Chancery",
    "DESCRIPTION": "Governed tool calls for AI agents.",
    "VERSION": "1.0.0",
    "OAS_VERSION": "3.1.0",
    "SERVE_INCLUDE_SCHEMA": False,
    "SERVE_PERMISSIONS": ["rest_framework.permissions.AllowAny"],
    "SWAGGER_UI_DIST": "SIDECAR",
    "SWAGGER_UI_FAVICON_HREF": "SIDECAR",
    "ENUM_NAME_OVERRIDES": {
        "ActionStatus": "actions.models.Action.Status",
        "RunStatus": "actions.models.Run.Status",
        "ApprovalStatus": "approvals.models.ApprovalRequest.Status",
    },
}

# -- The rest ----------------------------------------------------------------------------------
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
LANGUAGE_CODE = "en-gb"
TIME_ZONE = "UTC"
USE_TZ = True
STATIC_URL = "static/"
STATIC_ROOT = BASE_DIR / "var/static"
STORAGES = {
    "default": {"BACKEND": "django.core.files.storage.FileSystemStorage"},
    "staticfiles": {
        "BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"
        if DEBUG
        else "whitenoise.storage.CompressedManifestStaticFilesStorage"
    },
}
LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"plain": {"format": "%(asctime)s %(levelname)s %(name)s %(message)s"}},
    "filters": {"refusals": {"()": "common.logs.WithoutTracebackOfRefusals"}},
    "handlers": {
        "console": {
            "class": "logging.StreamHandler",
            "formatter": "plain",
            "filters": ["refusals"],
        }
    },
    "root": {"handlers": ["console"], "level": "WARNING"},
    # At DEBUG they write requests with their headers, and so with secrets.
    "loggers": {"httpcore": {"level": "WARNING"}, "httpx": {"level": "WARNING"}},
}
