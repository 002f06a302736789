"""Whether two names are of one person: by case, Unicode form, look-alike letters, or mail address.

People type their names in many ways, and agents repeat what they were told. The person behind a
piece of work must be recognised in every spelling of the name.
"""

import re
import unicodedata
from functools import lru_cache

from confusable_homoglyphs import confusables

_ADDRESS = re.compile(r"[^\s<>()\[\]\",;]+@[^\s<>()\[\]\",;]+")
# Default_Ignorable_Code_Point (UAX #44) beyond the format characters, and the empty Braille cell.
_IGNORABLE = re.compile(
    "[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u2065\u2800\u3164\ufe00-\ufe0f\uffa0"
    "\U000e0000-\U000e0fff]"
)


def name_key(text: str) -> str:
    """The same for names that differ by case, Unicode form (NFKC, UAX #15), white space, or letters
    of another script that look like Latin ones (UTS #39).
    """
    # Before NFKC too: it makes other letters of some that nobody sees.
    seen = "".join(letter for letter in text if not _is_invisible(letter))
    folded = unicodedata.normalize("NFKC", seen).casefold()
    plain = "".join(_latin(letter) for letter in folded if not _is_invisible(letter))
    return unicodedata.normalize("NFKC", " ".join(plain.split()).casefold())


def keys_in(text: str) -> set[str]:
    """The keys of all that a text may be: a name, addresses in it (RFC 5322's `Name <address>`,
    `mailto:`, a tag behind +), and an account of a domain (`domain\\name`, `@name`).
    """
    plain = name_key(text)
    found = {plain, mail_key(text), plain.removeprefix("@"), plain.rpartition("\\")[2]}
    found.add(plain.partition("<")[0].strip(" \"'"))
    for address in _ADDRESS.findall(plain):
        box, _, domain = address.removeprefix("mailto:").rstrip(".").rpartition("@")
        found |= {f"{box}@{domain}", f"{box.partition('+')[0]}@{domain}"}
    return found - {""}


def mail_key(text: str) -> str:
    """The same for addresses that differ by case or Unicode form; empty for what is none."""
    address = unicodedata.normalize("NFKC", text).casefold().strip()
    return address if "@" in address else ""


def _is_invisible(letter: str) -> bool:
    return unicodedata.category(letter) in {"Cf", "Cc"} or bool(_IGNORABLE.match(letter))


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
