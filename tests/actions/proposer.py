"""A process that proposes payments until its standard input ends: for the test of halts.

python -m tests.actions.proposer CLIENT_ID
"""

import os
import sys
import threading

import django

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tests.settings")
django.setup()

from actions.errors import DecisionConflict, RunNotOpen  # noqa: E402
from agents.directory import directory  # noqa: E402
from agents.tokens import Caller  # noqa: E402
from tests import factories  # noqa: E402
from tests.toolbox import ToolboxSystem  # noqa: E402
from tools.connectors import in_process  # noqa: E402


def main() -> None:
    ended = threading.Event()

    def wait_for_the_end() -> None:
        sys.stdin.read()
        ended.set()

    threading.Thread(target=wait_for_the_end, daemon=True).start()
    in_process.register("toolbox", ToolboxSystem())
    known = directory.current().identities[sys.argv[1]]
    caller = Caller(known, frozenset({"tools"}), "jti", known.epoch, 0)
    from actions.services import submission  # noqa: PLC0415

    run = factories.run(caller)
    while not ended.is_set():
        asked = factories.proposal(caller, run, "toolbox.pay", {"account": "a", "amount": 1})
        try:
            submission.submit(asked)
        except RunNotOpen:
            run = factories.run(caller)
        except DecisionConflict:
            continue


if __name__ == "__main__":
    main()
