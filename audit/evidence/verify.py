#!/usr/bin/env python3
"""Check a bundle of audit evidence, offline, with nothing but Python's standard library:

    python3 -I verify.py BUNDLE.zip [--key VKEY] [--checkpoint FILE]

--key: the log's public key, from elsewhere than the bundle. --checkpoint: one that you kept from
before, which this log must continue. What is shown: these are all events of the range in their
order; none is changed, left out (what is withheld is counted) or invented; each value is the one
that was recorded, or an event says who erased it. Hashes and proofs are those of RFC 6962,
signatures Ed25519 (RFC 8032) under C2SP signed notes, values disclosures of RFC 9901.
"""

import argparse
import base64
import hashlib
import json
import sys
import zipfile

P, ORDER = 2**255 - 19, 2**252 + 27742317777372353535851937790883648493
D = -121665 * pow(121666, P - 2, P) % P


def ensure(holds, otherwise):
    if not holds:
        raise ValueError(otherwise)


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


def checkpoint(text, vkey):
    """Size and root of a checkpoint that is signed with the key; None if it is not."""
    name, hashed, encoded = vkey.strip().split("+", 2)
    key, (body, _, lines) = base64.b64decode(encoded), text.partition("\n\n")
    named = sha(name.encode(), b"\n", key)[:4]
    ensure(named.hex() == hashed and len(key) == 33 and key[0] == 1, "a key of the log is not one")
    for line in lines.splitlines():
        mark, by, value = line.split(" ")
        value = base64.b64decode(value, validate=True)
        if (mark, by, value[:4]) == ("\u2014", name, named):
            ensure(is_signed(key[1:], body.encode() + b"\n", value[4:]), "a signature is false")
            origin, size, root = body.split("\n")[:3]
            ensure(origin == name, "a checkpoint is of another log")
            return int(size), base64.b64decode(root, validate=True)
    return None


def values(seq, line, leaf, erasures, counts):
    shown, erased = line.get("values", {}), line.get("erased", {})
    for name, digest in leaf["sd"].items():
        if name in shown:
            hashed = base64.urlsafe_b64encode(sha(shown[name].encode()))
            opened = base64.urlsafe_b64decode(shown[name] + "==")
            right = hashed.decode().rstrip("=") == digest and json.loads(opened)[1] == name
            ensure(right, f"{name} of event {seq} is not what was recorded")
        elif name in erased:
            by = erasures.get(erased[name], {"erased": []})
            right = leaf["uid"] in by["erased"] and name in by["fields"]
            ensure(right, f"no event says who erased {name} of event {seq}")
        kind = "shown" if name in shown else "erased" if name in erased else "withheld"
        counts["values " + kind] = counts.get("values " + kind, 0) + 1
    ensure(set(shown) | set(erased) <= set(leaf["sd"]), "there is a value that nobody recorded")


def check(bundle, trusted, held):
    manifest, proofs = (json.loads(bundle.read(name)) for name in ("manifest.json", "proofs.json"))
    keys = [key["vkey"] for key in proofs["keys"]]
    for n, key in enumerate(proofs["keys"][1:]):
        both = all(checkpoint(key["introduced"], vkey) for vkey in keys[n : n + 2])
        ensure(both, "a key of the log was not introduced by the one before it")
    ensure(trusted is None or trusted.strip() in keys, "the log is signed with another key")
    signed = checkpoint(bundle.read("checkpoint").decode(), keys[-1])
    ensure(signed is not None, "the checkpoint is not signed with the log's key")
    (size, root), seq, erasures, hashes, writers = signed, 0, {}, [], {}
    for one in proofs["erasures"]:
        hashed, erasure = [sha(b"\0", one["leaf"].encode())], json.loads(one["leaf"])
        ensure_there(hashed, one["seq"], size, root, one["path"], "an erasure is not in the log")
        erasures[erasure["uid"]] = erasure["details"]
    counts = {"events": 0, "withheld": 0}
    for seq, text in enumerate(bundle.open("events.jsonl"), manifest["start"]):
        line = json.loads(text)
        counts["events" if "leaf" in line else "withheld"] += 1
        if "leaf" not in line:
            hashes += hashes_of([line["hash"]])
            continue
        hashes.append(sha(b"\0", line["leaf"].encode()))
        leaf = json.loads(line["leaf"])
        values(seq, line, leaf, erasures, counts)
        writer, number = leaf["w"][:2]
        is_next = counts["withheld"] or writers.get(writer, number - 1) == number - 1
        ensure(is_next, f"an event before {seq} was taken out before it was signed")
        writers[writer] = number
    ensure_there(hashes, manifest["start"], size, root, proofs["range"], "other events were signed")
    if held is not None:
        old = next(filter(None, (checkpoint(held, key) for key in keys)), None)
        ensure(old is not None, "your checkpoint is not signed with a key of this log")
        ensure(old[0] == proofs["since"], "the bundle has no proof from your checkpoint")
        roots = both_roots(*old, iter(hashes_of(proofs["continuation"])), 0, size)
        ensure(roots == (old[1], root), "the log does not continue your checkpoint")
    return size, seq, counts, keys[-1]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Check a bundle of audit evidence.")
    parser.add_argument("bundle")
    parser.add_argument("--key", help="the log's public key, from elsewhere than the bundle")
    parser.add_argument("--checkpoint", help="a file with a checkpoint that you kept from before")
    given = parser.parse_args()
    kept = open(given.checkpoint, encoding="utf-8").read() if given.checkpoint else None
    try:
        with zipfile.ZipFile(given.bundle) as archive:
            total, last, counted, vkey = check(archive, given.key, kept)
    except (LookupError, TypeError, ValueError) as error:
        sys.exit(f"WRONG: {str(error) or type(error).__name__}")
    print(f"Up to event {last} of {total - 1}: none is changed, left out or invented.")
    print(*(f"  {name:18} {n}" for name, n in counted.items()), f"Signed with {vkey}", sep="\n")
    print("  the key that you gave" if given.key else "  NOT compared: give the key with --key")
    print("Continues your checkpoint" if kept else "NOT compared with an older --checkpoint")
