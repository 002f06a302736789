"""Whether two names are of one person: by case, Unicode form, look-alike letters, or mail address.

People type their names in many ways, and agents repeat what they were told. Whoever is behind a
piece of work must be recognised however they are named.
"""

import unicodedata
from functools import lru_cache

from confusable_homoglyphs import confusables


def name_key(text: str) -> str:
    """The same for names that differ by case, Unicode form (NFKC, UAX #15), white space, or letters
    of another script that look like Latin ones (UTS #39).
    """
    folded = unicodedata.normalize("NFKC", text).casefold()
    plain = "".join(_latin(letter) for letter in folded if not _is_invisible(letter))
    return unicodedata.normalize("NFKC", " ".join(plain.split()).casefold())


def mail_key(text: str) -> str:
    """The same for addresses that differ by case or Unicode form; empty for what is none."""
    address = unicodedata.normalize("NFKC", text).casefold().strip()
    return address if "@" in address else ""


def _is_invisible(letter: str) -> bool:
    return unicodedata.category(letter) in {"Cf", "Cc"}


@lru_cache(maxsize=4096)
def _latin(letter: str) -> str:
    """The Latin letter or digit that this one of another script looks like, or itself."""
    if letter.isascii():
        return letter
    found = confusables.is_confusable(letter, greedy=True, preferred_aliases=["latin"])
    for look_alike in found[0]["homoglyphs"] if found else ():
        plain = str(look_alike["c"])
        if plain.isascii() and plain.isalnum():
            return plain.casefold()
    return letter
