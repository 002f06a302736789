"""Archives that this program reads one way and another reader reads another way.

`verify.py` speaks of the files it has read. Whoever unpacks the archive with another tool must get
the same ones: an archive of which that is not sure is refused.
"""

import struct
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from audit.models import LogKey
from tests.audit.sealed_log import many
from tests.audit.test_evidence import checked
from tests.audit.test_forged_evidence import files_of, genuine  # noqa: F401 - a fixture

pytestmark = pytest.mark.django_db

END = b"PK\5\6"
REFUSED = "the archive holds more than its files"


def entry(
    name: bytes, data: bytes, *, at: int, size: int | None = None, crc: int | None = None
) -> tuple[bytes, bytes]:
    """A file of an archive and its line of the directory."""
    packer = zlib.compressobj(6, zlib.DEFLATED, -15)
    packed = packer.compress(data) + packer.flush()
    fields = (
        zlib.crc32(data) if crc is None else crc,
        len(packed),
        len(data) if size is None else size,
        len(name),
    )
    local = struct.pack("<4s5H3I2H", b"PK\3\4", 20, 0, 8, 0, 0x21, *fields, 0) + name + packed
    line = struct.pack("<4s6H3I5H2I", b"PK\1\2", 20, 20, 0, 8, 0, 0x21, *fields, 0, 0, 0, 0, 0, at)
    return local, line + name


def written(
    files: Mapping[str, bytes], more: Mapping[str, bytes] | None = None
) -> tuple[bytes, bytes]:
    """The files and the directory. `more`: what the stream of a file holds beyond its size."""
    body, directory = b"", b""
    for name, data in files.items():
        beyond = (more or {}).get(name, b"")
        local, line = entry(
            name.encode(), data + beyond, at=len(body), size=len(data), crc=zlib.crc32(data)
        )
        body += local
        directory += line
    return body, directory


def end_record(count: int, size: int, at: int) -> bytes:
    return struct.pack("<4s4H2IH", END, 0, 0, count, count, size, at, 0)


@pytest.fixture
def sealed(genuine: Callable[[], bytes]) -> dict[str, bytes]:  # noqa: F811 - the fixture
    many(3)
    return files_of(genuine())


def verdict(archive: bytes, sealed: Mapping[str, bytes], folder: Path) -> tuple[int, str]:
    """Exit code and message of the program for this archive."""
    body, directory = written(sealed)
    accepted = body + directory + end_record(len(sealed), len(directory), len(body))
    told = checked(accepted, folder, "--key", LogKey.objects.get().vkey, archive=archive)
    return told.returncode, told.stderr


def refused(archive: bytes, sealed: Mapping[str, bytes], folder: Path) -> bool:
    code, message = verdict(archive, sealed, folder)
    return code == 1 and REFUSED in message


def test_the_archive_written_here_is_accepted(sealed: dict[str, bytes], tmp_path: Path) -> None:
    """The others are refused for what they change, and not for how this file writes archives."""
    body, directory = written(sealed)
    archive = body + directory + end_record(len(sealed), len(directory), len(body))
    assert verdict(archive, sealed, tmp_path) == (0, "")


def test_a_stream_that_goes_on_beyond_the_size_of_its_file_is_refused(
    sealed: dict[str, bytes], tmp_path: Path
) -> None:
    body, directory = written(sealed, {"events.jsonl": b'{"leaf": "more"}\n'})
    archive = body + directory + end_record(len(sealed), len(directory), len(body))
    assert refused(archive, sealed, tmp_path)


def test_a_stream_longer_than_the_directory_says_is_refused(
    sealed: dict[str, bytes], tmp_path: Path
) -> None:
    """The sizes behind the data are the true ones; those of the directory are of a shorter file."""
    body, directory = b"", b""
    for name, data in sealed.items():
        whole = data + (b'{"leaf": "more"}\n' if name == "events.jsonl" else b"")
        local, line = entry(name.encode(), whole, at=len(body))
        packed = local[30 + len(name) :]
        start = local[:6] + b"\10\0" + local[8:14] + bytes(12) + local[26:30] + name.encode()
        sizes = struct.pack("<4s3I", b"PK\7\10", zlib.crc32(whole), len(packed), len(whole))
        body += start + packed + sizes
        told = struct.pack("<3I", zlib.crc32(data), len(packed), len(data))
        directory += line[:8] + b"\10\0" + line[10:16] + told + line[28:]
    archive = body + directory + end_record(len(sealed), len(directory), len(body))
    assert refused(archive, sealed, tmp_path)


def test_a_second_directory_that_only_some_readers_follow_is_refused(
    sealed: dict[str, bytes], tmp_path: Path
) -> None:
    """Python follows the zip64 record; `unzip` and Go the classic one, with one other file."""
    body, directory = written(sealed)
    line = entry(b"events.jsonl", b'{"leaf": "other"}\n', at=0)[1]
    count, size, at = len(sealed), len(directory), len(body)
    wide = struct.pack("<4sQ2H2I4Q", b"PK\6\6", 44, 45, 45, 0, 0, count, count, size, at)
    locator = struct.pack("<4sIQI", b"PK\6\7", 0, at + size, 1)
    tail = end_record(1, len(line), at + size + len(wide) - len(line))
    assert refused(body + directory + wide + locator + tail, sealed, tmp_path)


@pytest.mark.parametrize("field", range(8))
def test_an_end_record_with_any_other_number_is_refused(
    sealed: dict[str, bytes], tmp_path: Path, field: int
) -> None:
    body, directory = written(sealed)
    numbers = [0, 0, len(sealed), len(sealed), len(directory), len(body), 0]
    if field < len(numbers):
        numbers[field] += 1
    tail = struct.pack("<4s4H2IH", END, *numbers) + (b"x" if field == len(numbers) else b"")
    code, message = verdict(body + directory + tail, sealed, tmp_path)
    assert (code, message[:5]) == (1, "WRONG")


@pytest.mark.parametrize("name", ["", "a\0b", "PK\3\4\x14"])
def test_a_signers_name_is_a_word_that_can_be_read(
    sealed: dict[str, bytes], tmp_path: Path, name: str
) -> None:
    line = f"\u2014 {name} MTIzNDU2Nzg=\n".encode()
    body, directory = written(sealed | {"checkpoint": sealed["checkpoint"] + line})
    archive = body + directory + end_record(len(sealed), len(directory), len(body))
    code, message = verdict(archive, sealed, tmp_path)
    assert code == 1
    assert "is no signature" in message
