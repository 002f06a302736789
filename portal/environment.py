"""Reading settings from the environment: a value that cannot be read is one sentence, not a crash.

`problems` collects the sentences; a system check reports them, and no process serves with one.
"""

import os
import secrets
from collections.abc import Sequence
from urllib.parse import urlsplit

problems: list[str] = []
# Connections of a web process: for the 24 threads of the Procfile, the watcher of halts, and some.
WEB_POOL_SIZE = 28
_TRUE, _FALSE = frozenset({"1", "true", "yes", "on"}), frozenset({"0", "false", "no", "off", ""})

FORMER_NAMES = {
    "CHANCERY_CONTROLS": "CHANCERY_CONTROLS_FILE",
    "CHANCERY_HOSTS": "CHANCERY_ALLOWED_HOSTS",
    "CHANCERY_OIDC_PEOPLE_JOIN": "CHANCERY_OIDC_AUTO_PROVISION",
    "CHANCERY_OIDC_SECOND_FACTOR": "CHANCERY_OIDC_MFA_VALUES",
    "CHANCERY_RECERTIFY_DAYS": "CHANCERY_RECERTIFICATION_DAYS",
    "CHANCERY_SEALING_KEY": "CHANCERY_ENCRYPTION_KEYS",
    "CHANCERY_SECOND_FACTOR": "CHANCERY_REQUIRE_MFA",
    "CHANCERY_TOKENS_PER_MINUTE": "CHANCERY_TOKEN_LIMIT_PER_IDENTITY",
    "CHANCERY_TOKEN_REQUESTS_PER_MINUTE": "CHANCERY_TOKEN_LIMIT_PER_ADDRESS",
}
"""Renamed variables. One that is still set would otherwise be ignored without a word."""


def refuse_former_names() -> None:
    """Report each renamed variable that is still set, with its new name."""
    problems.extend(
        f"{old} was renamed: set {new} instead and remove {old}."
        for old, new in FORMER_NAMES.items()
        if old in os.environ
    )


def required(name: str) -> str:
    """The value; without one, one that lasts as long as this process, which serves nobody."""
    given = os.environ.get(name, "")
    if not given:
        problems.append(f"{name} is not set: python -m common.local_env makes one.")
    return given or secrets.token_urlsafe(60)


def flag(name: str, *, default: bool = False) -> bool:
    text = os.environ.get(name)
    if text is None:
        return default
    given = text.strip().lower()
    if given not in _TRUE | _FALSE:
        problems.append(f"{name} is neither on nor off: write 1 or 0.")
        return default
    return given in _TRUE


def one_of(name: str, default: str, choices: Sequence[str]) -> str:
    text = os.environ.get(name, "").strip().lower() or default
    if text not in choices:
        problems.append(f"{name} is none of {', '.join(choices)}.")
        return default
    return text


def whole(name: str, default: int, *, least: int = 0, most: int = 10**9) -> int:
    text = os.environ.get(name, "").strip()
    if not text:
        return default
    try:
        value = int(text)
    except ValueError:
        problems.append(f"{name} is no whole number.")
        return default
    if not least <= value <= most:
        problems.append(f"{name} must be between {least} and {most}.")
        return default
    return value


def seconds(name: str, default: float, *, least: float = 0.1, most: float = 86_400.0) -> float:
    text = os.environ.get(name, "").strip()
    if not text:
        return default
    try:
        value = float(text)
    except ValueError:
        problems.append(f"{name} is no number of seconds.")
        return default
    if not least <= value <= most:
        problems.append(f"{name} must be between {least:g} and {most:g} seconds.")
        return default
    return value


def words(name: str, default: str = "") -> list[str]:
    """Comma-separated."""
    return [part.strip() for part in os.environ.get(name, default).split(",") if part.strip()]


def origin_of(address: str) -> str:
    """Scheme, host and port of an address (RFC 6454); nothing of nothing."""
    parts = urlsplit(address)
    return f"{parts.scheme}://{parts.netloc}" if parts.netloc else ""
