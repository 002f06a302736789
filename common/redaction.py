"""Finding credentials in what somebody sends or a system answers, and leaving them out.

Detectors know the published forms of credentials; names such as `password` tell the others. In
place of a value stands its kind and a keyed fingerprint, so that the same secret is recognised
where it turns up again, and nothing else can be learned. What is encoded beyond recognition (in
base64, say) is not found: this catches accidents, not intent.
"""

import hmac
import json
import re
import unicodedata
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from django.conf import settings

from common.encryption import derived_keys
from common.secret_names import SecretRule, rule_of

_FINGERPRINT_BYTES = 8
_written = json.JSONEncoder(ensure_ascii=False, default=str).encode


@dataclass(frozen=True, slots=True)
class SensitiveMatch:
    """A secret's place (RFC 6901), kind and fingerprint; never the secret."""

    where: str
    kind: str
    fingerprint: str


@dataclass(frozen=True, slots=True)
class _Detector:
    """`hints`: one of them is in every text that the pattern finds something in. The secret is
    the pattern's first group, or all of it.
    """

    kind: str
    hints: tuple[str, ...]
    pattern: re.Pattern[str]


def _detector(kind: str, hints: str, pattern: str, flags: int = 0) -> _Detector:
    return _Detector(kind, tuple(hints.split("¦")), re.compile(pattern, flags))


_DETECTORS = (
    _detector(
        "private_key",
        "PRIVATE KEY",
        r"-----BEGIN [A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?-----.*?"
        r"(?:-----END [A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?-----|\Z)",
        re.DOTALL,
    ),
    _detector("jwt", "eyJ", r"(?<![\w-])eyJ[\w-]{10,}\.eyJ[\w-]{10,}\.[\w-]*"),
    _detector("aws_key", "AKIA¦ASIA", r"\b(?:AKIA|ASIA)[A-Z0-9]{16}\b"),
    _detector(
        "aws_secret",
        "aws¦AWS",
        r"(?i)aws_?\w{0,20}(?:secret|session)\w{0,20}[\"']?\s{0,5}[:=]\s{0,5}[\"']?"
        r"([A-Za-z0-9/+]{40,})",
    ),
    _detector(
        "github_token",
        "ghp_¦gho_¦ghu_¦ghs_¦ghr_¦github_pat_",
        r"\b(?:gh[pousr]_[A-Za-z0-9]{36,255}|github_pat_\w{40,255})",
    ),
    _detector("gitlab_token", "glpat-", r"(?<![\w-])glpat-[\w-]{20,}"),
    _detector(
        "slack_token",
        "xox¦hooks.slack.com",
        r"(?<![\w-])xox[a-z]-[A-Za-z0-9-]{10,}|hooks\.slack\.com/services/\w+/\w+/\w+",
    ),
    _detector(
        "stripe_key",
        "sk_live_¦sk_test_¦rk_live_¦rk_test_¦whsec_",
        r"\b(?:[sr]k_(?:live|test)_[A-Za-z0-9]{16,}|whsec_[A-Za-z0-9+/=]{16,})",
    ),
    _detector(
        "google_key",
        "AIza¦GOCSPX-¦ya29.",
        r"\b(?:AIza[\w-]{35}|GOCSPX-[\w-]{28}|ya29\.[\w-]{20,})",
    ),
    _detector("model_key", "sk-", r"(?<![\w-])sk-(?:proj-|ant-|svcacct-|or-)?[A-Za-z0-9_-]{20,}"),
    _detector("sendgrid_key", "SG.", r"\bSG\.[\w-]{16,32}\.[\w-]{32,64}"),
    _detector("npm_token", "npm_", r"\bnpm_[A-Za-z0-9]{36}\b"),
    _detector("pypi_token", "pypi-", r"\bpypi-AgE[\w-]{50,}"),
    _detector("azure_key", "AccountKey=", r"AccountKey=([A-Za-z0-9+/=]{40,})"),
    _detector(
        "password_in_address",
        "://",
        r"\b[a-z][a-z0-9+.-]{1,30}://[^\s:/@\"']{0,200}:([^\s/@\"']+)@",
    ),
    _detector(
        "authorization",
        "earer ¦EARER ¦asic ¦ASIC ¦DPoP ¦dpop ¦DPOP ",
        r"(?i)\b(?:bearer|basic|dpop) {1,3}([A-Za-z0-9._~+/-]{20,}={0,2})",
    ),
    _detector(
        "password",
        "=",
        r"(?i)(?<![a-z])(?:pass(?:word|wd|phrase)|pwd|secret|api[_-]?key|client[_-]?secret|"
        r"(?:access|refresh|auth|id|session)[_-]?token)[\"']?\s{0,3}=\s{0,3}[\"']?"
        r"([^\s\"'&;,<>(){}\[\]]{6,})",
    ),
)
# In words, and only what has letters and digits: "password: forgotten" is none, nor is an address,
# a date or the number of a ticket. Hints in small letters.
_VALUE = r"[^\s\"',;<>(){}\[\]]"
_IN_WORDS = _detector(
    "password",
    "password¦passwd¦passphrase¦pwd¦api key¦api_key¦api-key¦apikey¦client secret¦client_secret¦"
    'client-secret¦token:¦token :¦token is¦token":',
    r"(?i)(?<![a-z])(?:pass(?:word|wd|phrase)|pwd|api[ _-]?key|client[ _-]?secret|"
    r"(?:access|refresh|auth|id|session|api)[ _-]?token)[\"']?(?:\s{0,3}:|\s{1,3}is\s)\s{0,3}[\"']?"
    rf"(?={_VALUE}{{0,60}}\d)(?-i:(?={_VALUE}{{0,60}}[a-z]))(?!\w{{0,20}}#\d|\w{{1,20}}://)"
    rf"({_VALUE}{{6,}})",
)
_HINTS = tuple({hint: None for found in _DETECTORS for hint in found.hints})
# The numbers of payment cards (ISO/IEC 7812): 14 to 19 digits of an issuer's range, in groups or
# not, whose last digit is right (Luhn).
# In JSON a line break is two characters, of which the second is a letter.
_SHORTEST_ACCOUNT = 15
_ACCOUNT = re.compile(r"\b[A-Z]{2}\d\d(?: ?[A-Z0-9]{4}){2,7}(?: ?[A-Z0-9]{1,3})?\b")
_DIGITS = re.compile(r"(?:(?<![\w.-])|(?<=\\[nrt]))[2-6]\d{3}[ -]?\d{4}")
_CARD = re.compile(
    r"(?<![\w.-])(?:4\d{3}|5[1-5]\d\d|2[2-7]\d\d|3[47]\d\d|3[0689]\d\d|6\d{3})"
    r"(?:[ -]?\d{4}){2}[ -]?\d{2,7}(?![\w-])|(?<![\w.-])3[47]\d\d[ -]?\d{6}[ -]?\d{5}(?![\w-])"
)
_MARK = re.compile(r"^\[(?:redacted [a-z_]+ [0-9a-f]{16}|secret)\]$")
_ANY_MARK = re.compile(r"\[redacted [a-z_]+ [0-9a-f]{16}\]")


def hidden(value: str) -> str:
    """The mask of the change log: says that there was a value, and nothing about it."""
    return "(hidden)" if value else ""


def fingerprint(secret: str) -> str:
    """The same for the same secret in this portal; of no use to anybody without its key."""
    key = _fingerprint_key(settings.ENCRYPTION_KEYS)
    return hmac.digest(key, secret.encode(), "sha256")[:_FINGERPRINT_BYTES].hex()


@lru_cache(maxsize=4)
def _fingerprint_key(ring: str) -> bytes:
    # By the oldest key: a new one in front leaves fingerprints as they were.
    return list(derived_keys(ring, purpose="secret fingerprint").values())[-1]


class _Findings(list[SensitiveMatch]):
    """The matches so far; `vouched`: digits that somebody has declared to be no secret."""

    def __init__(self, vouched: frozenset[str]) -> None:
        super().__init__()
        self.vouched = vouched


def plain_digits(text: str) -> str:
    """Without the spaces and dashes between groups of digits."""
    return text.replace(" ", "").replace("-", "")


def redact(value: Any, *, vouched: frozenset[str] = frozenset()) -> Any:
    """The value with a mark in place of each secret; the same object if there is none. `vouched`:
    numbers (as `plain_digits`) that are none, though they have the form of a card's.
    """
    if not may_hold_secret(value):
        return value
    found = _Findings(vouched)
    cleaned = _cleaned(value, None, "", found)
    return cleaned if found else value


def findings(value: Any, *, vouched: frozenset[str] = frozenset()) -> list[SensitiveMatch]:
    """Every secret in it; `vouched` as in `redact`."""
    found = _Findings(vouched)
    if may_hold_secret(value):
        _cleaned(value, None, "", found)
    return found


def holds_mark(value: Any) -> bool:
    """Whether a text in it is, or holds, what stands in the place of a secret: no data."""
    if isinstance(value, str):
        return value == "[secret]" or _ANY_MARK.search(value) is not None
    if isinstance(value, Mapping):
        return any(holds_mark(key) or holds_mark(item) for key, item in value.items())
    return isinstance(value, list | tuple) and any(holds_mark(item) for item in value)


def mark_of(kind: str, secret: str) -> str:
    return f"[redacted {kind} {fingerprint(secret)}]"


def may_hold_secret(value: Any) -> bool:
    """One look at everything, since nearly nothing holds a secret. Of a text in JSON only what has
    the form of one; of a value also what is named as one.
    """
    text = _composed(value if isinstance(value, str) else _written(value))
    for hint in _HINTS:  # not any(): this is on the way of every call
        if hint in text:
            return True
    if _DIGITS.search(text):
        return True
    lowered = text.lower()
    for hint in _IN_WORDS.hints:
        if hint in lowered:
            return True
    return not isinstance(value, str) and any(rule_of(name) for name in _names_in(value))


def _composed(text: str) -> str:
    """The text as it is decided on and sent (NFC): some other letters become Latin ones."""
    return text if text.isascii() else unicodedata.normalize("NFC", text)


def _names_in(value: Any) -> Iterator[str]:
    if isinstance(value, Mapping):
        for name, item in value.items():
            yield str(name)
            if isinstance(item, Mapping | list | tuple):
                yield from _names_in(item)
    elif isinstance(value, list | tuple):
        for item in value:
            if isinstance(item, Mapping | list | tuple):
                yield from _names_in(item)


def _cleaned(value: Any, rule: SecretRule | None, where: str, found: _Findings) -> Any:
    """`rule`: what the name says that it is under."""
    if isinstance(value, str):
        return _cleaned_text(value, rule, where, found)
    if isinstance(value, Mapping):
        return {
            _cleaned_text(str(key), None, f"{where}/(name)", found): _cleaned(
                item, rule_of(str(key), rule), f"{where}/{_pointer(str(key))}", found
            )
            for key, item in value.items()
        }
    if isinstance(value, list | tuple):
        return [_cleaned(item, rule, f"{where}/{n}", found) for n, item in enumerate(value)]
    if isinstance(value, int | float) and not isinstance(value, bool):
        if rule is not None and rule.is_secret(value):
            return _marked("named_secret", str(value), where, found)
        # A whole number is one number, with a decimal point or without.
        is_whole = isinstance(value, int) or value.is_integer()
        number = str(int(value)) if is_whole else ""
        if _is_card(number) and number not in found.vouched:
            return _marked("card_number", number, where, found)
    return value


def _pointer(name: str) -> str:
    # A name may itself hold a secret, and what is said of where it was is shown.
    if len(name) > 64 or any(hint in name for hint in _HINTS) or _CARD.search(name):
        return "(name)"
    return name.replace("~", "~0").replace("/", "~1")


def _cleaned_text(text: str, rule: SecretRule | None, where: str, found: _Findings) -> str:
    if not text or _MARK.match(text):
        return text
    text = _composed(text)
    if rule is not None and rule.is_secret(text):
        return _marked("named_secret", text, where, found)
    for detector in _DETECTORS:
        if any(hint in text for hint in detector.hints):
            text = _without(detector, text, where, found)
    lowered = text.lower()
    if any(hint in lowered for hint in _IN_WORDS.hints):
        text = _without(_IN_WORDS, text, where, found)
    return _without_cards(text, where, found)


def _without_cards(text: str, where: str, found: _Findings) -> str:
    """An account number (IBAN, ISO 13616) has groups of digits, too, and is none."""
    if _CARD.search(text) is None:
        return text
    accounts = [one.span() for one in _ACCOUNT.finditer(text) if _is_account(one.group())]

    def replaced(match: re.Match[str]) -> str:
        if any(start <= match.start() < end for start, end in accounts):
            return match.group()
        return _card_in_place(match, where, found)

    return _CARD.sub(replaced, text)


def _is_account(text: str) -> bool:
    """ISO 7064 MOD 97-10, letters as numbers from 10 on; what follows after a space may be none of
    it.
    """
    groups = text.split(" ")
    for end in range(len(groups), 0, -1):
        plain = "".join(groups[:end])
        number = int("".join(str(int(one, 36)) for one in plain[4:] + plain[:4]))
        if len(plain) >= _SHORTEST_ACCOUNT and number % 97 == 1:
            return True
    return False


def _without(detector: _Detector, text: str, where: str, found: _Findings) -> str:
    return detector.pattern.sub(lambda match: _in_place(detector, match, where, found), text)


def _in_place(detector: _Detector, match: re.Match[str], where: str, found: _Findings) -> str:
    group = match.lastindex or 0
    secret, whole = match.group(group), match.group(0)
    if _MARK.match(secret) or "[redacted" in secret:
        return whole
    start, end = match.start(group) - match.start(0), match.end(group) - match.start(0)
    return whole[:start] + _marked(detector.kind, secret, where, found) + whole[end:]


def _card_in_place(match: re.Match[str], where: str, found: _Findings) -> str:
    digits = plain_digits(match.group(0))
    if not _is_card(digits) or digits in found.vouched:
        return match.group(0)
    return _marked("card_number", digits, where, found)


def _marked(kind: str, secret: str, where: str, found: _Findings) -> str:
    found.append(SensitiveMatch(where or "/", kind, fingerprint(secret)))
    return mark_of(kind, secret)


def _is_card(digits: str) -> bool:
    if not 14 <= len(digits) <= 19 or _CARD.fullmatch(digits) is None:
        return False
    doubled = [int(d) * (1 + n % 2) for n, d in enumerate(reversed(digits))]
    return sum(d - 9 if d > 9 else d for d in doubled) % 10 == 0
