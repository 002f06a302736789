from typing import Any

from django.core.management.base import BaseCommand, CommandError

from accounts.services import reseal_factors
from actions.services import sealed_arguments
from agents.services import signing_keys
from common.actors import SYSTEM
from common.console import bar
from common.encryption import CannotUnseal, sealing_key_id
from tools.services import secrets


class Command(BaseCommand):
    help = (
        "Wrap every data key, and seal every signing key, with the first key of "
        "CHANCERY_ENCRYPTION_KEYS. The portal can stay in use; the command can be interrupted and "
        "repeated. Afterwards, remove all keys but the first from the variable."
    )

    def handle(self, *args: Any, **options: Any) -> None:
        done, total = 0, secrets.to_rewrap()
        try:
            with bar("Data keys") as show:
                for number in secrets.rewrap_all(actor=SYSTEM):
                    done += number
                    show(done, total)
            token_keys = signing_keys.reseal_all(actor=SYSTEM)
            factors = reseal_factors(actor=SYSTEM)
            arguments = sealed_arguments.reseal_all()
        except CannotUnseal as error:
            message = f"{error}. Put its key back into CHANCERY_ENCRYPTION_KEYS, after the new one."
            raise CommandError(message) from error
        self.stdout.write(
            f"{done:,} data keys, {token_keys} signing keys, {factors} factors of people and "
            f"{arguments} secret arguments are under key {sealing_key_id()}."
        )
