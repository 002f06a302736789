#!/usr/bin/env python3
"""Check a bundle of audit evidence, offline, with nothing but Python's standard library:

    python3 -I verify.py BUNDLE.zip [--key VKEY] [--checkpoint FILE]

Take this program, and the key, from elsewhere than the bundle. --key: the log's public key.
--checkpoint: one that you kept from before, which this log must continue. What is shown: these are
all events of the range in their order; none is changed, left out (what is withheld is counted) or
invented; each value is the one that was recorded, or an event says who erased it; who asked for
the bundle and who approved it. If they asked for the whole log, nothing of it may be withheld. If
they asked for a part, nobody can tell by a hash alone whether an event belongs to it. Every file of
the archive is checked. Hashes and proofs are those of RFC 6962, signatures Ed25519 (RFC 8032) under
C2SP signed notes, values disclosures of RFC 9901.
"""

import argparse
import base64
import hashlib
import json
import sys
import zipfile
import zlib

P, ORDER = 2**255 - 19, 2**252 + 27742317777372353535851937790883648493
D = -121665 * pow(121666, P - 2, P) % P
MAX_LINE, MAX_FILE, MAX_DEPTH = 2**24, 2**28, 64
FILES = "events.jsonl checkpoint proofs.json manifest.json controls.json verify.py README.txt"
MORE = "the archive holds more than its files"
APART = "details.sensitive"  # personal or sensitive values: exported by a right of their own
# The SHA-256 of the README of this release: nothing in the log speaks of it.
README = "194d2a990d1361147fb29b40224313c15a93487d5c4074a957a9ae2ce9125396"


def ensure(holds, otherwise):
    if not holds:
        raise ValueError(otherwise)


def unique(pairs):
    found = dict(pairs)
    ensure(len(found) == len(pairs), "a name stands twice in one object")
    return found


def parsed(text):
    """JSON without names that stand twice, without NaN, and not nested without end."""
    depth, in_text, is_escaped = 0, False, False
    for letter in text:
        if in_text:
            in_text, is_escaped = letter != '"' or is_escaped, letter == "\\" and not is_escaped
        elif letter in "[{":
            depth += 1
            ensure(depth <= MAX_DEPTH, "JSON is nested too deeply")
        else:
            depth, in_text = depth - (letter in "]}"), letter == '"'
    return json.loads(text, object_pairs_hook=unique, parse_constant=int)  # int refuses NaN


def members(value, name, needed, optional=""):
    """The object, if it has these members and no others."""
    ensure(isinstance(value, dict), f"{name} is not an object")
    ensure(set(needed.split()) <= set(value), f"{name} lacks a member")
    unknown = set(value) - set(needed.split()) - set(optional.split())
    ensure(not unknown, f"{name} has a member that nothing signs")
    return value


def whole(value):
    ensure(type(value) is int and value >= 0, "a place is not a whole number")
    return value


def read(archive, name):
    data = archive.open(name).read(MAX_FILE + 1)
    ensure(len(data) <= MAX_FILE, f"{name} is too large")
    return data.decode()


def ensure_whole(archive):
    """Every byte of the archive is a part of its files, so that no other reader finds others."""
    end, file = 0, archive.fp
    for one in sorted(archive.infolist(), key=lambda one: one.header_offset):
        ensure(one.compress_type == zipfile.ZIP_DEFLATED and one.header_offset == end, MORE)
        file.seek(end)
        head, name, left = file.read(30), file.read(len(one.filename)), one.compress_size
        stream, size, crc = zlib.decompressobj(-15), 0, 0
        while left and not stream.eof and (piece := file.read(min(left, 2**12))):
            left, data = left - len(piece), stream.decompress(piece)
            size, crc = size + len(data), zlib.crc32(data, crc)
        sizes = b"".join(n.to_bytes(4, "little") for n in (crc, one.compress_size, size))
        ensure((crc, size) == (one.CRC, one.file_size), MORE)
        late = one.flag_bits == 8  # the sizes follow the data
        same = b"PK\3\4" + head[4:6] + one.flag_bits.to_bytes(2, "little") + b"\10\0" + head[10:14]
        same += (bytes(12) if late else sizes) + bytes([len(name), 0, 0, 0])
        ensure(head == same and name == one.filename.encode() and one.flag_bits in (0, 8), MORE)
        ensure(stream.eof and not (left or stream.unused_data or one.extra or one.comment), MORE)
        ensure(not late or file.read(16) == b"PK\7\10" + sizes, MORE)
        end = file.tell()
    # The directory, and its one end record: with a zip64 record readers would differ.
    files = archive.infolist()
    directory = sum(46 + len(one.filename) for one in files)
    last = b"PK\5\6" + bytes(4) + 2 * len(files).to_bytes(2, "little")
    last += directory.to_bytes(4, "little") + end.to_bytes(4, "little") + bytes(2)
    file.seek(end + directory)
    ensure(archive.start_dir == end and file.read(2**12) == last, MORE)


def lines_of(archive):
    with archive.open("events.jsonl") as file:
        while line := file.readline(MAX_LINE + 1):
            ensure(len(line) <= MAX_LINE, "a line is too long")
            yield line.decode()


def point(data):
    number = int.from_bytes(data, "little")
    y, sign = number & ((1 << 255) - 1), number >> 255
    square = (y * y - 1) * pow(D * y * y + 1, P - 2, P) % P
    x = pow(square, (P + 3) // 8, P)
    if (x * x - square) % P:
        x = x * pow(2, (P - 1) // 4, P) % P
    ensure(y < P and (x * x - square) % P == 0 and (x or not sign), "a point is not on the curve")
    x = P - x if x & 1 != sign else x
    return x, y, 1, x * y % P


def add(p, q):
    a, b = (p[1] - p[0]) * (q[1] - q[0]) % P, (p[1] + p[0]) * (q[1] + q[0]) % P
    c, d = 2 * p[3] * q[3] * D % P, 2 * p[2] * q[2] % P
    e, f, g, h = b - a, d - c, d + c, b + a
    return e * f % P, g * h % P, f * g % P, e * h % P


def times(scalar, p):
    total = (0, 1, 1, 0)
    while scalar:
        total = add(total, p) if scalar & 1 else total
        p, scalar = add(p, p), scalar >> 1
    return total


def is_signed(public, message, signature):
    base = point((4 * pow(5, P - 2, P) % P).to_bytes(32, "little"))
    s = int.from_bytes(signature[32:], "little")
    ensure(len(signature) == 64 and s < ORDER, "a signature is malformed")
    k = int.from_bytes(hashlib.sha512(signature[:32] + public + message).digest(), "little")
    p, q = times(s, base), add(point(signature[:32]), times(k % ORDER, point(public)))
    return all((p[n] * q[2] - q[n] * p[2]) % P == 0 for n in (0, 1))


def sha(*parts):
    return hashlib.sha256(b"".join(parts)).digest()


def hashes_of(hexadecimal):
    found = [bytes.fromhex(one) for one in hexadecimal]
    ensure(all(len(one) == 32 for one in found), "a hash has not 32 bytes")
    return found


def root_of(row):
    while len(row) > 1:
        pairs = [sha(b"\1", *row[n : n + 2]) for n in range(0, len(row) - 1, 2)]
        row = pairs + row[len(row) & ~1 :]
    return row[0]


def range_root(leaves, start, proof, low, high):
    """The root, from the leaves of a range and the subtrees left and right of it."""
    if start + len(leaves) <= low or high <= start:
        return next(proof, b"")
    if start <= low and high <= start + len(leaves):
        return root_of(leaves[low - start : high - start])
    middle = low + (1 << ((high - low - 1).bit_length() - 1))
    left = range_root(leaves, start, proof, low, middle)
    return sha(b"\1", left, range_root(leaves, start, proof, middle, high))


def ensure_there(leaves, start, size, root, proof, otherwise):
    steps = iter(hashes_of(proof))
    ensure(leaves and 0 <= start <= size - len(leaves), "a range lies outside the log")
    ensure(range_root(leaves, start, steps, 0, size) == root and not list(steps), otherwise)


def both_roots(old, old_root, proof, low, high):
    """The old and the new root, from a consistency proof (RFC 6962 section 2.1.2)."""
    if old == high:
        return (old_root if low == 0 else next(proof, b""),) * 2
    middle = low + (1 << ((high - low - 1).bit_length() - 1))
    if old > middle:
        before, after = both_roots(old, old_root, proof, middle, high)
        left = next(proof, b"")
        return sha(b"\1", left, before), sha(b"\1", left, after)
    before, after = both_roots(old, old_root, proof, low, middle)
    return before, sha(b"\1", after, next(proof, b""))


def decoded(text):
    """Base64, in the one way to write it."""
    value = base64.b64decode(text, validate=True)
    ensure(base64.b64encode(value).decode() == text, "base64 is not written in its one way")
    return value


def key_of(vkey):
    """Name, first bytes of its hash, and Ed25519 key."""
    name, hashed, encoded = vkey.strip().split("+", 2)
    key = decoded(encoded)
    named = sha(name.encode(), b"\n", key)[:4]
    ensure(named.hex() == hashed and len(key) == 33 and key[0] == 1, "a key of the log is not one")
    return name, named, key[1:]


def ensure_continues(old, size, root, proof, otherwise):
    """Raise unless the log of this size and root is the one of the old checkpoint, grown."""
    steps = iter(hashes_of(proof))
    ensure(0 < old[0] <= size, otherwise)
    ensure(both_roots(*old, steps, 0, size) == (old[1], root) and not list(steps), otherwise)


def checkpoint(text, vkey):
    """Size and root of a checkpoint that is signed with the key; None if it is not."""
    (name, named, key), (body, _, lines) = key_of(vkey), text.partition("\n\n")
    ensure(not lines or lines.endswith("\n"), "a checkpoint does not end with its signatures")
    found = None
    for line in lines.split("\n")[:-1]:
        mark, by, value = line.split(" ")
        value = decoded(value)
        if (mark, by, value[:4]) == ("\u2014", name, named):
            ensure(is_signed(key, body.encode() + b"\n", value[4:]), "a signature is false")
            origin, size, root = body.split("\n")[:3]
            ensure(origin == name, "a checkpoint is of another log")
            ensure(size.isascii() and size.isdigit(), "a checkpoint has no size")
            found = int(size), decoded(root)
        right = mark == "\u2014" and by and by.isprintable() and len(value) > 4
        ensure(right, "a line of a checkpoint is no signature")
    return found


def ensure_handed_over(old, key, size, root):
    """The old key signed the new one; a checkpoint of both, of this log, holds that statement."""
    members(key, "a key", "vkey introduced seq leaf path continuation")
    first, leaf = checkpoint(key["introduced"], old), parsed(key["leaf"])
    both = first is not None and first == checkpoint(key["introduced"], key["vkey"])
    ensure(both, "a key of the log was not introduced by the one before it")
    said, (name, named, public) = leaf.get("details", {}), key_of(old)
    ensure(leaf["type"] == "audit.key_rotated", "a key of the log was not handed over by an event")
    ensure((said["previous"], said["key"]) == (old, key["vkey"]), "an event names other keys")
    head = ("chancery/log-key-handover/v1", name, old, key["vkey"])
    text = "".join(f"{line}\n" for line in (*head, said["size"], said["root"]))
    value = decoded(said["signature"])
    signed = value[:4] == named and is_signed(public, text.encode(), value[4:])
    ensure(signed, "the old key did not sign that the new one follows it")
    hashed, otherwise = [sha(b"\0", key["leaf"].encode())], "the hand-over is not in the log"
    ensure_there(hashed, whole(key["seq"]), *first, key["path"], otherwise)
    otherwise = "the log does not continue the checkpoint of its former key"
    ensure_continues(first, size, root, key["continuation"], otherwise)


def values(seq, line, leaf, erasures, counts):
    shown, erased = line.get("values", {}), line.get("erased", {})
    for name, digest in leaf["sd"].items():
        if name in shown:
            hashed = base64.urlsafe_b64encode(sha(shown[name].encode()))
            right = hashed.decode().rstrip("=") == digest
            opened = base64.urlsafe_b64decode(shown[name] + "==").decode() if right else "[0,0]"
            right = right and parsed(opened)[1] == name
            ensure(right, f"{name} of event {seq} is not what was recorded")
        elif name in erased:
            by = erasures.get(erased[name], {"erased": []})
            right = leaf["uid"] in by["erased"] and name in by["fields"]
            ensure(right, f"no event says who erased {name} of event {seq}")
        kind = "shown" if name in shown else "erased" if name in erased else "withheld"
        counts["values " + kind] = counts.get("values " + kind, 0) + 1
    ensure(set(shown) | set(erased) <= set(leaf["sd"]), "there is a value that nobody recorded")


def proved(one, kind, size, root):
    """The leaf of an event that is in the log, with the values beside it."""
    members(one, kind, "seq leaf path", "values")
    hashed, leaf = [sha(b"\0", one["leaf"].encode())], parsed(one["leaf"])
    ensure_there(hashed, whole(one["seq"]), size, root, one["path"], f"{kind} is not in the log")
    values(one["seq"], one, leaf, {}, {})
    told = one.get("values", {})
    texts = (base64.urlsafe_b64decode(text + "==") for text in told.values())
    ensure("values" not in one or set(told) == set(leaf["sd"]), f"{kind} is not shown in whole")
    return leaf, {name: value for _, name, value in map(json.loads, texts)}


def requested(manifest, size, root):
    """Return who requested the bundle and why, and who approved it: as the log says, not the
    archive.
    """
    asked, wanted = proved(manifest["asked"], "the request for this bundle", size, root)
    decided, reason = proved(manifest["decided"], "the approval of this bundle", size, root)
    ensure("values" in manifest["asked"] and "values" in manifest["decided"], "words are withheld")
    kinds = (asked["type"], decided["type"], decided["details"]["answer"])
    right = kinds == ("audit.export_requested", "audit.export_decided", "approved")
    ensure(right and asked["subject"] == decided["subject"], "nobody approved this bundle")
    ensure(asked["actor"] != decided["actor"], "who asked for this bundle approved it")
    return wanted, reason, asked["details"], whole(manifest["decided"]["seq"])


def check(bundle, trusted, held):
    names = bundle.namelist()
    ensure_whole(bundle)
    right = sorted(names) == sorted(FILES.split())
    ensure(right, "the archive has a file that nothing signs, or lacks one, or has one twice")
    same = sha(read(bundle, "README.txt").encode()).hex() == README
    ensure(same, "README.txt is not the one of this release of verify.py")
    same = read(bundle, "verify.py") == open(__file__, encoding="utf-8").read()
    ensure(same, "verify.py in the archive is not this program")
    manifest, proofs = (parsed(read(bundle, name)) for name in ("manifest.json", "proofs.json"))
    members(manifest, "the manifest", "format start end size asked decided")
    members(proofs, "the proofs", "keys range since continuation erasures")
    ensure(manifest["format"] == "chancery-evidence/2", "the bundle has another format")
    members(proofs["keys"][0], "a key", "vkey")
    keys = [key["vkey"] for key in proofs["keys"]]
    ensure(trusted is None or trusted.strip() in keys, "the log is signed with another key")
    signed = checkpoint(read(bundle, "checkpoint"), keys[-1])
    ensure(signed is not None, "the checkpoint is not signed with the log's key")
    (size, root), erasures, hashes, writers = signed, {}, [], {}
    for n, key in enumerate(proofs["keys"][1:]):
        ensure_handed_over(keys[n], key, size, root)
    *words, asked, decided = requested(manifest, size, root)
    with_values, is_whole = asked["values"], not any(words[0]["details.wanted"].values())
    same = parsed(read(bundle, "controls.json")) == words[0].pop("details.controls", [])
    ensure(same, "controls.json is not what was recorded with the request")
    for one in proofs["erasures"]:
        erasure = proved(one, "an erasure", size, root)[0]
        kinds = ("audit.payload_erased", "audit.retention_applied")
        ensure(erasure["type"] in kinds, "an event that erases nothing is shown as an erasure")
        erasures[erasure["uid"]] = erasure["details"]
    counts, start = {"events": 0, "withheld": 0}, whole(manifest["start"])
    for seq, text in enumerate(lines_of(bundle), start):
        ensure(seq <= size, "a range lies outside the log")
        line = parsed(text)
        counts["events" if "leaf" in line else "withheld"] += 1
        if "leaf" not in line:
            hashes += hashes_of([members(line, "a line", "hash")["hash"]])
            continue
        members(line, "a line", "leaf", "values erased")
        ensure(with_values is True or not line.get("values"), "values were not asked for")
        hashes.append(sha(b"\0", line["leaf"].encode()))
        leaf = parsed(line["leaf"])
        values(seq, line, leaf, erasures, counts)
        told = {*line.get("values", {}), *line.get("erased", {})}
        apart = set() if asked["apart"] else {APART}
        ensure(not with_values or set(leaf["sd"]) - apart <= told, f"event {seq} lacks a value")
        writer, number = leaf["w"][:2]
        is_next = counts["withheld"] or writers.get(writer, number - 1) == number - 1
        ensure(is_next, f"an event before {seq} was taken out before it was signed")
        writers[writer] = number
    ensure_there(hashes, start, size, root, proofs["range"], "other events were signed")
    end = start + len(hashes)
    if is_whole:
        ensure(start == 0 and end > decided, "the whole log was asked for, and it is cut")
        ensure(not counts["withheld"], "the whole log was asked for, and an event is withheld")
    ensure((manifest["end"], manifest["size"]) == (end, size), "the manifest has another range")
    whole(proofs["since"] or 0)
    hashes_of(proofs["continuation"])
    if held is not None:
        old = next(filter(None, (checkpoint(held, key) for key in keys)), None)
        ensure(old is not None, "your checkpoint is not signed with a key of this log")
        ensure(old[0] == proofs["since"], "the bundle has no proof from your checkpoint")
        otherwise = "the log does not continue your checkpoint"
        ensure_continues(old, size, root, proofs["continuation"], otherwise)
    return size, start, end - 1, counts, keys, words


def main():
    parser = argparse.ArgumentParser(description="Check a bundle of audit evidence.")
    parser.add_argument("bundle")
    parser.add_argument("--key", help="the log's public key, from elsewhere than the bundle")
    parser.add_argument("--checkpoint", help="a file with a checkpoint that you kept from before")
    given = parser.parse_args()
    try:
        kept = open(given.checkpoint, encoding="utf-8").read() if given.checkpoint else None
        with zipfile.ZipFile(given.bundle) as archive:
            total, first, last, counted, keys, words = check(archive, given.key, kept)
    except Exception as error:  # noqa: BLE001 - whatever cannot be read was not shown to be right
        sys.exit(f"WRONG: {str(error) or type(error).__name__}")
    print(f"Up to event {last} of {total - 1}: none is changed, left out or invented.")
    print(f"  from event {first}" + (": nothing is shown of what is before" if first else ""))
    print(*(f"  {name:18} {n}" for name, n in counted.items()), sep="\n")
    if counted["withheld"]:
        print("  Whether what is withheld is outside of what was requested, a hash cannot tell.")
    print(f"Requested: {json.dumps(words[0], sort_keys=True)}")
    print(f"Approved: {json.dumps(words[1], sort_keys=True)}")
    for n, key in enumerate(keys[1:]):
        print(f"The key {keys[n]}\n  handed over to {key}")
    print(f"Signed with {keys[-1]}")
    which = "the key that you gave" if given.key == keys[-1] else "a later one than you gave"
    print(f"  {which}" if given.key else "  NOT compared: give the key with --key")
    print("Continues your checkpoint" if kept else "NOT compared with an older --checkpoint")


if __name__ == "__main__":
    main()
