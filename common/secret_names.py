"""Names under which credentials are kept: what counts as one there, and what does not."""

import re
from dataclasses import dataclass
from functools import lru_cache

# Longer names name nothing; looking at each of them would take long.
_LONGEST_NAME = 64
# What forms say of a password that they do not have.
_NO_VALUES = frozenset(
    {
        "none", "null", "nil", "n/a", "unknown", "true", "false", "yes", "no", "set", "unset",
        "not set", "not_set", "required", "requested", "optional", "expired", "changed", "reset",
        "forgotten", "incorrect", "wrong", "missing", "hidden",
    }
)  # fmt: skip
# A number with fewer digits is how many there are, and no password.
_SHORTEST_NUMBER = 4
_LETTERS_AND_MORE = re.compile(r"(?=\S*[A-Za-z])(?=\S*[\d!#$%^&*+=~@])\S{6,}")


@dataclass(frozen=True, slots=True)
class SecretRule:
    """`fits`: what a text has to be; None: anything. `numbers`: whether a number can be one.
    `holds`: whether what lies below it, however deep, is looked at as well.
    """

    fits: re.Pattern[str] | None = None
    numbers: bool = False
    holds: bool = False

    def is_secret(self, value: str | float) -> bool:
        if not isinstance(value, str):
            return self.numbers and len(str(value)) >= _SHORTEST_NUMBER
        if self.fits is not None:
            return self.fits.fullmatch(value) is not None
        return value.strip().casefold() not in _NO_VALUES


_BELOW = SecretRule(_LETTERS_AND_MORE, holds=True)
_PASSWORD = SecretRule(numbers=True, holds=True)
_KEY = SecretRule(holds=True)
_SCHEMES = r"(?is)(?:bearer|basic|digest|dpop|token|negotiate|aws4-\S+)\s.*"
_RULES = {
    **dict.fromkeys(("password", "passwd", "pwd", "passphrase"), _PASSWORD),
    **dict.fromkeys(
        (
            "secret", "secretkey", "clientsecret", "apikey", "xapikey", "apisecret", "apitoken",
            "accesstoken", "refreshtoken", "idtoken", "authtoken", "bearertoken", "sessiontoken",
            "privatekey", "accesskey", "secretaccesskey",
        ),
        _KEY,
    ),
    "credential": _BELOW,
    "credentials": _BELOW,
    # Under these names there are also words that are no secrets ("authorization": "by phone").
    "authorization": SecretRule(re.compile(_SCHEMES)),
    "proxyauthorization": SecretRule(re.compile(_SCHEMES)),
    "cookie": SecretRule(re.compile(r"(?s)[\w.-]+=.*")),
    "setcookie": SecretRule(re.compile(r"(?s)[\w.-]+=.*")),
    # And other things than credentials: a currency, a place in a list, an identifier.
    "token": SecretRule(re.compile(r"(?=.*[A-Za-z])(?=.*\d)[\w.~+/=]{20,}")),
}  # fmt: skip
_ENDS = {
    **dict.fromkeys(
        ("password", "passwd", "passphrase", "passwordconfirmation", "passwordagain"), _PASSWORD
    ),
    **dict.fromkeys(
        (
            "clientsecret", "apisecret", "apikey", "privatekey", "secretkey", "accesstoken",
            "refreshtoken", "authtoken", "apitoken", "clientsecretvalue", "privatekeypem",
        ),
        _KEY,
    ),
}  # fmt: skip
_NOT_OF_NAMES = re.compile(r"[^a-z]")


@lru_cache(maxsize=4096)
def _own_rule(name: str) -> SecretRule | None:
    plain = _NOT_OF_NAMES.sub("", name.lower())
    known = _RULES.get(plain)
    if known is not None:
        return known
    return next((rule for end, rule in _ENDS.items() if plain.endswith(end)), None)


def rule_of(name: str, above: SecretRule | None = None) -> SecretRule | None:
    """Return the rule for credentials under this name, within what has the rule `above`."""
    own = _own_rule(name) if len(name) <= _LONGEST_NAME else None
    if above is None or not above.holds:
        return own
    # A rule of its own counts where it is the stricter one.
    return own if own is not None and own.fits is None else _BELOW
