"""Secrets that are none: made by a seeded generator in the published forms of real ones."""

import base64
import json
import random
import string
from collections.abc import Callable, Mapping

_WORD = string.ascii_letters + string.digits
_UPPER = string.ascii_uppercase + string.digits


class Seeds:
    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)  # they are to be the same in every run

    def text(self, number: int, letters: str = _WORD) -> str:
        return "".join(self.random.choices(letters, k=number))

    def private_key(self) -> str:
        kind = self.random.choice(["", "RSA ", "EC ", "OPENSSH ", "ENCRYPTED "])
        body = "\n".join(self.text(64, _WORD + "+/") for _ in range(4))
        return f"-----BEGIN {kind}PRIVATE KEY-----\n{body}\n-----END {kind}PRIVATE KEY-----"

    def jwt(self) -> str:
        parts = [{"alg": "ES256", "kid": self.text(8)}, {"sub": self.text(10), "exp": 1}]
        coded = [base64.urlsafe_b64encode(json.dumps(p).encode()).decode() for p in parts]
        return ".".join([*(part.rstrip("=") for part in coded), self.text(86, _WORD + "-_")])

    def aws_key(self) -> str:
        return self.random.choice(["AKIA", "ASIA"]) + self.text(16, _UPPER)

    def github(self) -> str:
        start = self.random.choice(["ghp_", "gho_", "ghu_", "ghs_", "ghr_"])
        return self.random.choice([start + self.text(36), "github_pat_" + self.text(82)])

    def gitlab(self) -> str:
        return "glpat-" + self.text(20)

    def slack(self) -> str:
        kind = self.random.choice("bpar")
        return f"xox{kind}-{self.text(12, string.digits)}-{self.text(24)}"

    def stripe(self) -> str:
        return self.random.choice(["sk_live_", "rk_live_", "sk_test_", "whsec_"]) + self.text(24)

    def google(self) -> str:
        return self.random.choice(["AIza" + self.text(35), "GOCSPX-" + self.text(28)])

    def model(self) -> str:
        return self.random.choice(["sk-proj-", "sk-ant-", "sk-"]) + self.text(48)

    def sendgrid(self) -> str:
        return f"SG.{self.text(22)}.{self.text(43)}"

    def npm(self) -> str:
        return "npm_" + self.text(36)

    def card(self) -> str:
        digits = self.random.choice(["4", "51", "2221", "6011"])
        digits += self.text(15 - len(digits), string.digits)
        return digits + next(d for d in string.digits if _is_right(digits + d))


def _is_right(digits: str) -> bool:
    # ISO/IEC 7812-1 annex B, from the right: every second digit doubled.
    total = sum(int(d) for d in digits[-1::-2])
    total += sum(sum(divmod(2 * int(d), 10)) for d in digits[-2::-2])
    return total % 10 == 0


KINDS: Mapping[str, Callable[[Seeds], str]] = {
    "private_key": Seeds.private_key,
    "jwt": Seeds.jwt,
    "aws_key": Seeds.aws_key,
    "github_token": Seeds.github,
    "gitlab_token": Seeds.gitlab,
    "slack_token": Seeds.slack,
    "stripe_key": Seeds.stripe,
    "google_key": Seeds.google,
    "model_key": Seeds.model,
    "sendgrid_key": Seeds.sendgrid,
    "npm_token": Seeds.npm,
    "card_number": Seeds.card,
}


def secrets_of_all_kinds(number: int, *, seed: int) -> list[tuple[str, str]]:
    """(kind, secret), the kinds in turn."""
    seeds, kinds = Seeds(seed), list(KINDS)
    return [(kind := kinds[n % len(kinds)], KINDS[kind](seeds)) for n in range(number)]
