"""Take each defence away, one at a time, and see its test fail.

    python -m tests.mutation_checks [--only NUMBER]             on SQLite
    python -m tests.on_postgresql python -m tests.mutation_checks

A test that passes without what it is meant to test is no test. Works on a copy of the project.
The numbers are those of docs/threats.md.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.mutations_of_bounds import BOUNDS
from tests.mutations_of_decisions import DECISIONS, Defence

ROOT = Path(__file__).resolve().parent.parent


A, T, C = "agents/services", "tests/agents", "tests/actions"
DEFENCES = (
    Defence(
        1,
        "an assertion is spent",
        f"{A}/assertions.py",
        "if not claim_once(f\"{client_id}\\x00{used.claims['jti']}\", expires_at):",
        "if claim_once is None:",
        f"{T}/test_token_service.py {T}/test_two_workers.py",
    ),
    Defence(
        2,
        "an assertion names this issuer alone",
        f"{A}/assertions.py",
        'if claims.get("aud") != settings.ISSUER:',
        "if False:",
        f"{T}/test_token_service.py",
    ),
    Defence(
        2,
        "an assertion lives at most five minutes",
        f"{A}/assertions.py",
        "if not in_time or not 0 < expires - issued <= longest:",
        "if not in_time:",
        f"{T}/test_token_service.py",
    ),
    Defence(
        3,
        "a key signs for its own environment",
        "agents/tokens.py",
        "if any(claims.get(name) != value for name, value in expected.items()):",
        "if False:",
        f"{T}/test_tokens.py",
    ),
    Defence(
        4,
        "a token says that it is one",
        "agents/tokens.py",
        ' or header.get("typ") != "at+jwt"',
        "",
        f"{T}/test_tokens.py",
    ),
    Defence(
        5,
        "one Authorization header",
        "agents/api/authentication.py",
        'header = request.META.get("HTTP_AUTHORIZATION", "")',
        'header = request.META.get("HTTP_AUTHORIZATION", "").split(",")[0]',
        f"{T}/test_tokens.py",
    ),
    Defence(
        6,
        "what is lent lies within what the lender has",
        f"{A}/token_service.py",
        "scope = tokens.meet(tokens.meet(parent.scopes, rule.scopes), wanted.split())",
        "scope = frozenset(wanted.split())",
        f"{T}/test_delegation.py",
    ),
    Defence(
        6,
        "a line has an end",
        f"{A}/token_service.py",
        "or len(parent.chain) + 1 > rule.max_depth",
        "",
        f"{T}/test_delegation.py",
    ),
    Defence(
        7,
        "a token is of the present epoch",
        "agents/tokens.py",
        "and known.epoch == epoch",
        "",
        f"{T}/test_tokens.py {T}/test_delegation.py",
    ),
    Defence(
        8,
        "a decision looks again in its transaction",
        "actions/services/decisions.py",
        "if seen != mark:",
        "if False:",
        f"{C}/test_stale_decisions.py {C}/test_halts.py",
        only="postgresql",
    ),
    Defence(
        9,
        "what flies is cut",
        "actions/in_flight.py",
        "if known is not None and one.is_stopped(known):",
        "if False:",
        f"{C}/test_in_flight.py",
    ),
    Defence(
        10,
        "a watcher that is behind lets nothing through",
        "actions/in_flight.py",
        "if time.monotonic() - self._looked_at > STALE_SECONDS:",
        "if False:",
        f"{C}/test_in_flight.py",
    ),
    Defence(
        11,
        "a bound token wants a proof",
        "agents/api/authentication.py",
        "    _ensure_held(caller, request, token, scheme=scheme.lower())\n",
        "",
        f"{T}/test_revoking.py",
    ),
    Defence(
        11,
        "a proof is seen once",
        f"{A}/token_service.py",
        'if not claim_once(f"dpop\\x00{thumbprint}\\x00{jti}", datetime.fromtimestamp(over, UTC)):',
        "if over is None:",
        f"{T}/test_revoking.py {T}/test_two_workers.py",
    ),
    Defence(
        12,
        "a thumbprint is one identity's",
        "agents/migrations/0001_initial.py",
        "help_text='RFC 7638; unique over all agents and all time.', max_length=64, unique=True",
        "help_text='RFC 7638; unique over all agents and all time.', max_length=64",
        f"{T}/test_enrolment.py",
    ),
    Defence(
        12,
        "an issuer's subject is one identity's",
        "agents/migrations/0001_initial.py",
        "fields=('issuer', 'subject'), name=",
        "fields=('issuer', 'subject', 'id'), name=",
        f"{T}/test_revoking.py",
    ),
    Defence(
        13,
        "a superseded key locks",
        f"{A}/assertions.py",
        "if key.is_superseded(timezone.now()):",
        "if False:",
        f"{T}/test_rotation.py {T}/test_findings.py",
    ),
    Defence(
        14,
        "the former signing key is accepted until its tokens are over",
        f"{A}/signing_keys.py",
        "active.status, active.retired_at = SigningKey.Status.RETIRING, moment",
        "active.status, active.retired_at = SigningKey.Status.REVOKED, moment",
        f"{T}/test_rotation.py {T}/test_two_workers.py",
    ),
    Defence(
        15,
        "live grants decide",
        "policies/authorization.py",
        "        (not granted, NOT_GRANTED),\n",
        "",
        "tests/policies/test_grants.py",
    ),
    Defence(
        15,
        "an elevation ends",
        "policies/snapshot.py",
        "if tool in one.tools and now < one.ends_at",
        "if tool in one.tools",
        "tests/policies/test_elevations.py",
    ),
    Defence(
        16,
        "who answers for the agent does not approve its elevation",
        "policies/services/elevations.py",
        "conflicted_users=_involved(identity, initiator),",
        "conflicted_users=[],",
        "tests/policies/test_elevations.py",
    ),
    Defence(
        16,
        "what was approved is what is given",
        "policies/services/elevations.py",
        " or shown != approved",
        "",
        "tests/policies/test_elevations.py",
    ),
    Defence(
        16,
        "a second factor is fresh",
        "approvals/services.py",
        "factor is None or not factor.is_fresh(now)",
        "factor is None",
        "tests/accounts/test_signing_in.py",
    ),
    Defence(
        16,
        "a session that was left open gets no factor",
        "accounts/urls.py",
        "if request.user.is_authenticated and not may_change_factors(request):",
        "if False:",
        "tests/accounts/test_signing_in.py",
    ),
    Defence(
        16,
        "an old question does not answer a new one",
        f"{A}/activation.py",
        "    take_back_questions(identity, actor=actor)\n    question",
        "    question",
        f"{T}/test_people_answer.py",
    ),
    Defence(
        16,
        "a provider's word is looked at",
        "accounts/second_factor.py",
        'request.session[SSO_FACTOR] = uid if vouched else ""',
        "request.session[SSO_FACTOR] = uid",
        "tests/accounts/test_signing_in.py",
    ),
    Defence(
        17,
        "a value has no representation",
        "tools/credentials.py",
        "    def __repr__(self) -> str:\n        return MASK",
        "    def __repr__(self) -> str:\n        return self._value",
        "tests/tools/test_secrets.py",
    ),
    Defence(
        17,
        "ciphertexts stay out of the change log",
        "tools/apps.py",
        'hidden=("ciphertext",), ignored=("key_id", "wrapped_key")',
        "ignored=()",
        "tests/tools/test_secrets.py tests/audit/test_changes.py",
    ),
    Defence(
        18,
        "a sealed value is bound to its row",
        "tools/envelope.py",
        'named = ["chancery-secret-v1", part, self.secret, self.version, self.environment]',
        'named = ["chancery-secret-v1", part]',
        "tests/tools/test_secrets.py",
    ),
    Defence(
        18,
        "a process without the key does not start",
        "portal/startup.py",
        "    if found:\n        raise",
        "    if False:\n        raise",
        "tests/tools/test_secrets.py",
    ),
    Defence(
        19,
        "a secret goes to its origin",
        "tools/services/secret_leases.py",
        "if secret.origin != origin or version.secret.origin != origin:",
        "if False:",
        "tests/tools/test_secrets.py",
    ),
    Defence(
        19,
        "redirects are not followed, nor taken for an answer",
        "tools/connectors/http.py",
        "    if status in _ELSEWHERE:\n",
        "    if False:\n",
        "tests/tools/test_secrets.py tests/tools/test_http_connector.py",
    ),
    Defence(
        19,
        "metadata services are not called",
        "common/addresses.py",
        "if never or address in _METADATA:",
        "if False:",
        "tests/tools/test_addresses.py",
    ),
    Defence(
        19,
        "the address that was checked is the one that is called",
        "tools/connectors/http.py",
        'literal = f"[{address}]" if ":" in address else address',
        "literal = host",
        "tests/tools/test_http_connector.py",
    ),
    Defence(
        20,
        "what a system echoes is masked",
        "tools/invocation.py",
        "mask(result.value, call.credentials)",
        "result.value",
        "tests/tools/test_secrets.py",
    ),
    Defence(
        22,
        "what cannot be parsed is refused",
        "agents/tokens.py",
        "(JoseError, ValueError, TypeError, RecursionError) as error:\n        raise InvalidToken",
        "JoseError as error:\n        raise InvalidToken",
        f"{T}/test_hostile_input.py {T}/test_tokens.py",
    ),
    Defence(
        23,
        "requests are counted",
        "agents/api/oauth.py",
        '    """Raises TooManyRequests beyond the limit of one address."""\n',
        '    """Raises nothing."""\n    return\n',
        f"{T}/test_token_service.py",
    ),
    Defence(
        24,
        "an unknown client costs a signature check",
        f"{A}/assertions.py",
        '    ring = KeySet.import_key_set({"keys": found.jwks}) if found else _NOBODYS\n',
        "    if found is None:\n        raise InvalidClient\n"
        '    ring = KeySet.import_key_set({"keys": found.jwks})\n',
        f"{T}/test_token_service.py",
    ),
    Defence(
        25,
        "what is from the future is refused",
        f"{A}/assertions.py",
        "in_time = max(issued, begins) <= now + tokens.CLOCK_SKEW_SECONDS and now < expires",
        "in_time = now < expires",
        f"{T}/test_token_service.py",
    ),
    Defence(
        26,
        "nobody signs up, and sign-on brings nobody in by itself",
        "accounts/adapters.py",
        "        return bool(settings.OIDC_AUTO_PROVISION)\n",
        "        return True\n",
        "tests/accounts/test_signing_in.py",
    ),
    Defence(
        26,
        "a person's word that was taken back is dead",
        "agents/tokens.py",
        "return found is not None and found.ends_at > time.time()",
        "return True",
        f"{T}/test_persons.py",
    ),
    Defence(
        28,
        "no token without its record",
        f"{A}/token_service.py",
        "        _record_issued(used, claims)\n",
        "",
        f"{T}/test_token_service.py",
    ),
    Defence(
        28,
        "no use of a secret without its record",
        "tools/services/secret_leases.py",
        "write(connection, [(LEASES, leases), (EVENTS, recorded)])",
        "write(connection, [(LEASES, leases)])",
        "tests/tools/test_secrets.py",
    ),
)


def copied(folder: Path) -> Path:
    """The project's files as git knows them, and what is new."""
    listed = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    for name in listed.stdout.splitlines():
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / name, target)
    return folder


def noticed(defence: Defence, folder: Path) -> bool | None:
    """Whether a test fails without the defence."""
    path = folder / defence.path
    text = path.read_text()
    if text.count(defence.old) < 1:
        message = f"{defence.path} has no {defence.old!r} any more"
        raise SystemExit(message)
    path.write_text(text.replace(defence.old, defence.new, 1))
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-x",
        "-q",
        "-p",
        "no:randomly",
        "-p",
        "no:cacheprovider",
    ]
    try:
        done = subprocess.run(
            [*command, *defence.tests.split()],
            cwd=folder,
            env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
            capture_output=True,
            text=True,
            check=False,
            timeout=600,
        )
    finally:
        path.write_text(text)
    # No test: what asks no database is not run again on PostgreSQL.
    return None if done.returncode == 5 else done.returncode == 1


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", type=int, help="one threat's number")
    options = parser.parse_args()
    vendor = "postgresql" if "postgres" in os.environ.get("DATABASE_URL", "") else "sqlite"
    missed = 0
    with tempfile.TemporaryDirectory(prefix="chancery-mutations-") as name:
        folder = copied(Path(name))
        for defence in (*DEFENCES, *DECISIONS, *BOUNDS):
            if options.only not in {None, defence.threat} or defence.only not in {"", vendor}:
                continue
            found = noticed(defence, folder)
            missed += found is False
            word = {True: "noticed", False: "NOT NOTICED", None: "no test here"}[found]
            print(f"{defence.threat:>3}  {word:<12}  {defence.title}", flush=True)  # noqa: T201
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
