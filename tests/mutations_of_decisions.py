"""Changes to decisions, approvals, evidence and edges; see `tests.mutation_checks`."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Defence:
    """What is taken away, and the tests that must notice."""

    threat: int
    title: str
    path: str
    old: str
    new: str
    tests: str
    only: str = ""  # a database, where the test needs one


# Number, title, file, what is taken away, what stands in its place, the tests that must notice.
DECISIONS = tuple(
    Defence(*one)
    for one in (
        (
            29,
            "a key of the log is handed over by the old key's signature",
            "audit/evidence/verify.py",
            'ensure(signed, "the old key did not sign that the new one follows it")',
            'ensure(True, "")',
            "tests/audit/test_forged_evidence.py",
        ),
        (
            29,
            "the log continues what its former key has signed",
            "audit/evidence/verify.py",
            '    ensure_continues(first, size, root, key["continuation"], otherwise)\n',
            "",
            "tests/audit/test_forged_evidence.py",
        ),
        (
            29,
            "a name stands once in an object of the evidence",
            "audit/evidence/verify.py",
            'ensure(len(found) == len(pairs), "a name stands twice in one object")',
            "pass",
            "tests/audit/test_forged_evidence.py",
        ),
        (
            30,
            "a session with a password alone is admitted nowhere",
            "audit/admission.py",
            "return not settings.REQUIRE_MFA or has_second_factor(request)",
            "return True",
            "tests/portal/test_admission.py",
        ),
        (
            31,
            "facts are read again if something was begun since",
            "actions/services/freshness.py",
            "return read_at.effects == effects and is_own_turn",
            "return is_own_turn",
            "tests/actions/test_facts_in_time.py",
        ),
        (
            31,
            "calls with one value of an argument go one at a time",
            "actions/services/freshness.py",
            "    if key and begun.filter(exclusive_key=key).exists():\n        return True\n",
            "",
            "tests/actions/test_turns.py",
        ),
        (
            31,
            "an approval is for the facts that people saw",
            "actions/services/redecision.py",
            "        and _rests_on_the_same(shown, approval.reasons, prepared)\n",
            "",
            "tests/actions/test_facts_in_time.py",
        ),
        (
            31,
            "an approval is for the address that people saw",
            "actions/services/redecision.py",
            '        and shown.get("endpoint") == held.catalog.address_of(prepared.call.tool, action.environment)\n',  # noqa: E501
            "",
            "tests/actions/test_facts_in_time.py",
        ),
        (
            32,
            "who may no longer decide does not count",
            "approvals/eligibility.py",
            "        if refusal is None:\n            good.append(vote)",
            "        if True:\n            good.append(vote)",
            "tests/approvals/test_eligibility.py",
        ),
        (
            32,
            "an approval is used with its votes only",
            "approvals/services.py",
            " or not is_backed(request):",
            ":",
            "tests/approvals/test_eligibility.py tests/reported",
        ),
        (
            32,
            "people are known by all forms of their name",
            "accounts/people.py",
            'forms = keys_in(text) | {text.strip()} - {""}',
            "forms = {text}",
            "tests/accounts/test_people.py",
        ),
        (
            32,
            "whose act is in a release's difference does not approve it",
            "policies/services/release_writers.py",
            '    return {int(pk) for pk in acts.values_list("actor_id", flat=True).distinct() if pk.isdigit()}',  # noqa: E501
            "    return set()",
            "tests/policies/test_releases.py",
        ),
        (
            33,
            "unknown members of a body are refused",
            "common/serializers.py",
            "        if unknown:\n",
            "        if False:\n",
            "tests/reported tests/actions/test_api.py",
        ),
        (
            33,
            "a name stands once in an object",
            "common/json_text.py",
            "    if len(found) != len(pairs):\n",
            "    if False:\n",
            "tests/common/test_json_text.py",
        ),
        (
            33,
            "a mark of redaction is no value",
            "tools/definitions.py",
            "        if holds_mark(plain):\n",
            "        if False:\n",
            "tests/reported",
        ),
        (
            33,
            "one bad item stops no others",
            "common/isolation.py",
            "except Exception as error:",
            "except ZeroDivisionError as error:",
            "tests/common/test_each.py",
        ),
        (
            34,
            "a rule names what there is",
            "policies/names.py",
            "            found.append(name)\n",
            "            pass\n",
            "tests/policies/test_names.py",
        ),
        (
            34,
            "a name that went away stops a release",
            "policies/services/releases.py",
            "        if gone:\n",
            "        if False:\n",
            "tests/policies/test_names.py",
        ),
        (
            35,
            "all agents of an owner share a limit",
            "agents/services/limits.py",
            '    _ensure(known, "owner", str(known.owner), settings.OWNER_REQUESTS_PER_MINUTE)\n',
            "",
            "tests/agents/test_limits.py",
        ),
        (
            35,
            "a limit that is reached is an event",
            "agents/services/limits.py",
            "        _record_reached(known, limit, per_minute)\n",
            "        pass\n",
            "tests/agents/test_limits.py",
        ),
        (
            36,
            "an issuer's keys are not fetched from inside",
            "agents/services/issuer_keys.py",
            "is_private = jwks_uri in settings.PRIVATE_ISSUERS",
            "is_private = True",
            "tests/agents/test_issuer_keys.py",
        ),
        (
            37,
            "no process serves with a setting that cannot be read",
            "portal/startup.py",
            "found = environment.problems or problems()",
            "found = problems()",
            "tests/portal/test_deploy.py",
        ),
        (
            37,
            "agents never take the last threads",
            "portal/request_slots.py",
            "SERVING_AGENTS = max(settings.WEB_THREADS - 6, 1)",
            "SERVING_AGENTS = settings.WEB_THREADS * 100",
            "tests/portal/test_slots.py",
        ),
        (
            37,
            "slow senders take few threads",
            "portal/request_slots.py",
            "                with reading.taken(client_address(request)):\n",
            "                if True:\n",
            "tests/portal/test_slots.py",
            "postgresql",
        ),
        (
            38,
            "a declared secret is kept apart",
            "tools/secret_arguments.py",
            "return (replaced(arguments, marks), secrets) if marks else (arguments, {})",
            "return arguments, {}",
            "tests/actions/test_secret_arguments.py",
        ),
        (
            38,
            "a secret is sent in the place of its own mark only",
            "tools/secret_arguments.py",
            "if there.get(where) != (secret_mark(secret) if marks is None else marks.get(where)):",
            "if there.get(where) is None:",
            "tests/actions/test_secret_arguments.py",
        ),
        (
            38,
            "no rule looks at a secret",
            "policies/schema.py",
            "SECRET in said_of(schema, root, KEYWORD)",
            "not root",
            "tests/actions/test_secret_arguments.py",
        ),
        (
            38,
            "what a system echoes of a secret is masked",
            "actions/services/execution.py",
            "call=replace(call, credentials=credentials),",
            "call=call,",
            "tests/actions/test_secret_arguments.py",
        ),
        (
            38,
            "a definition that changed meanwhile lets nothing in",
            "actions/services/proposals.py",
            "if proposal.vouched_by and proposal.vouched_by != spec.digest:",
            "if False:",
            "tests/actions/test_secret_arguments.py",
        ),
        (
            39,
            "one agent's calls leave workers for others",
            "actions/worker_shares.py",
            "    raise ShareTaken\n",
            "    return False\n",
            "tests/actions/test_shares.py",
        ),
        (
            39,
            "a share is given back",
            "actions/worker_shares.py",
            '            caches["counters"].delete(key)\n',
            "            pass\n",
            "tests/actions/test_shares.py",
        ),
    )
)
