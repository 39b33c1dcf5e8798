#!/usr/bin/env python3
"""Reads every object of a repository with the second reader (hsread.py), by docs/reference/repository-format.md alone.

    hscheck.py [--kek FILE] REPO

Every name must be one of the page's table, and what lies there must be what the page says: MACs, signatures and what an
object says about itself, every frame of every pack, every part of every WAL object, the chain of audit records. Prints for
each kind how many there are, then a line `damaged<TAB>name<TAB>why` for each that is not so, and ends with 1 if any is.
"""

import argparse
import json
import re
import sys
from collections import Counter
from pathlib import Path

from blake3 import blake3

from hsread import Deployment, Fields, Repository, Wal, Wrong, decompress, derive, need, open_envelope, open_sealed

KINDS = {1: "data", 2: "meta"}


def check_pack(deployment, name, writer, sequence):
    data, sealed = deployment.repository.get(name), deployment.repository.sealed
    need(len(data) >= 128, "it is too short for a pack")
    fields = Fields(data[:64], "the header")
    fields.expect(b"HSPACK\x00\x01")
    version, kind, flags, number = fields.read("HBBI")
    need((version, flags, number) == (1, int(sealed), sequence) and kind in KINDS, "the header is another one")
    need(fields.take(16) == deployment.key_id and fields.take(16) == writer, "the header is of another pack")
    fields.zero(16)
    fields = Fields(data[-64:], "the footer")
    at, length, count = fields.read("QII")
    digest = fields.take(32)
    fields.zero(8)
    fields.expect(b"HSPACKED")
    need(blake3(data[:-64]).digest() == digest, "its digest does not match")
    need(at + length + 64 == len(data), "directory and footer do not end it")
    stored = data[at:-64]
    salt = writer + sequence.to_bytes(4, "big")

    def associated(magic, codec, number, stored_len, raw_len):
        words = sequence.to_bytes(4, "little") + bytes([kind, codec, 0, 0])
        return magic + deployment.key_id + writer + words + b"".join(
            value.to_bytes(4, "little") for value in (number, stored_len, raw_len)
        )

    if sealed:
        key = derive(deployment.key, salt, f"pack directory {KINDS[kind]}")
        about = associated(b"hsdirec1", 0, count, length, length - 16)
        stored = open_sealed(key, 0, about, stored, "the directory")
    directory, position = Fields(stored, "the directory"), 64
    key = derive(deployment.key, salt, f"pack {KINDS[kind]}")
    for index in range(count):
        offset, stored_len, raw_len, codec = directory.read("QIIB")
        directory.zero(7)
        frame_hash, what = directory.take(16), f"frame {index}"
        need(offset == position, f"{what} is misplaced")
        fields = Fields(data[offset : offset + 16 + stored_len], what)
        fields.expect(b"HSF")
        need(fields.read("BIII") == (codec, index, stored_len, raw_len), f"the header of {what} is another one")
        payload = fields.take(stored_len)
        if sealed:
            payload = open_sealed(key, index, associated(b"hsframe1", codec, index, stored_len, raw_len), payload, what)
        need(deployment.hash("frame hash", payload)[:16] == frame_hash, f"the hash of {what} does not match")
        decompress(codec, payload, raw_len, what)
        position += 16 + stored_len
    directory.end()
    need(position == at, "something lies between the last frame and the directory")


class Check:
    def __init__(self, repository):
        self.repository, self.deployments = repository, {}
        self.counts, self.damaged, self.chains = Counter(), [], {}

    def deployment(self, name):
        if name not in self.deployments:
            self.deployments[name] = Deployment(self.repository, name)
        return self.deployments[name]

    def envelope(self, kind, name, of=None):
        """A document whose MAC comes from the data key of a deployment, or from the KEK."""
        mac = self.deployment(of).mac(kind) if of else self.repository.mac_kek(kind)
        document = json.loads(open_envelope(kind, self.repository.get(name), mac, name))
        need(of is None or document["deployment"] == of, "it belongs to another deployment")
        return document

    def said(self, document, **fields):
        for field, value in fields.items():
            need(document[field] == value, f"its {field} is {document[field]!r}, its name says {value!r}")

    # One method for each row of the page's table; the groups of the pattern are the arguments.

    def descriptor(self, name):
        # Opening the repository proved it.
        pass

    def config(self, name, sequence):
        self.said(self.envelope("config", name), sequence=int(sequence, 16))

    def key(self, name, of, number, generation):
        said = self.envelope("key", name)
        self.said(said, deployment=of, number=int(number), generation=int(generation, 16))

    def signer(self, name, of, fingerprint, generation):
        said = self.envelope("signer", name)
        self.said(said, deployment=of, fingerprint=fingerprint, generation=int(generation or "1", 16))

    def manifest(self, name, of, backup):
        stored = self.repository.get(name)
        if stored.startswith(b"hsenv1 void "):
            self.said(self.envelope("void", name, of), backup_id=backup)
            return "void"
        # Checks the signature and what it says; nothing when only a marker is left of it.
        self.deployment(of).manifest(backup)
        return "manifest"

    def state(self, name, of, backup, sequence):
        self.said(self.envelope("state", name, of), backup_id=backup, sequence=int(sequence, 16))

    def gone(self, name, of, backup, writer):
        self.said(self.envelope("gone", name, of), backup_id=backup, writer=writer)

    def pack(self, name, of, writer, sequence):
        check_pack(self.deployment(of), name, bytes.fromhex(writer), int(sequence, 16))

    def wal(self, name, of, lineage, kind, timeline, start, length):
        Wal(self.deployment(of), lineage).object(name, kind, timeline, start, length)

    def place(self, name, segment):
        size = int.from_bytes(self.repository.range(name, 48, 8), "little")
        need(size and size & (size - 1) == 0, "its size of a segment is no power of two")
        return int(segment[:8], 16), (int(segment[8:16], 16) << 32) + int(segment[16:], 16) * size, size

    def segment(self, name, of, lineage, timeline, log, segment):
        need(segment.startswith(timeline + log), "it lies in the folder of another log")
        self.wal(name, of, lineage, 1, *self.place(name, segment))

    def tail(self, name, of, lineage, timeline, segment, begin, end, _writer):
        need(segment.startswith(timeline), "it lies in the folder of another timeline")
        begin, end = int(begin, 16), int(end, 16)
        _, start, size = self.place(name, segment)
        need(start <= begin < end <= start + size, "it lies outside of its segment")
        self.wal(name, of, lineage, 2, int(timeline, 16), begin, end - begin)

    def journal(self, name, of, lineage, timeline, segment, begin, _writer):
        need(segment.startswith(timeline), "it lies in the folder of another timeline")
        begin = int(begin, 16)
        _, start, size = self.place(name, segment)
        need(start <= begin < start + size, "it lies outside of its segment")
        Wal(self.deployment(of), lineage).journal(name, int(timeline, 16), begin)

    def partial(self, name, of, lineage, segment):
        self.wal(name, of, lineage, 3, *self.place(name, segment))

    def history(self, name, of, _lineage):
        open_envelope("history", self.repository.get(name), self.deployment(of).mac("history"), name)

    def backup_history(self, name, of, _lineage):
        open_envelope("aux", self.repository.get(name), self.deployment(of).mac("aux"), name)

    def gap(self, name, of, lineage, timeline, begin, end):
        said = self.envelope("gap", name, of)
        own = f"{int(said['lineage']['system_id']):016x}-{said['lineage']['incarnation']:04x}"
        need(own == lineage, "it belongs to another cluster")
        lsn = lambda digits: f"{int(digits[:8], 16):X}/{int(digits[8:], 16):X}"  # noqa: E731
        self.said(said, timeline=int(timeline, 16), **{"from": lsn(begin), "to": lsn(end)})

    def session(self, name, of, writer, sequence):
        self.said(self.envelope("session", name, of), writer=writer, sequence=int(sequence, 16))

    def progress(self, name, of, writer, sequence):
        self.said(self.envelope("progress", name, of), writer=writer, sequence=int(sequence, 16))

    def damage(self, name, of, writer, sequence, frame):
        said = self.envelope("damage", name, of)
        self.said(said, writer=writer, sequence=int(sequence, 16), frame=int(frame, 16))

    def audit(self, name, of, month, sequence):
        said = self.envelope("audit", name, of)
        self.said(said, sequence=str(int(sequence, 16)), month=month)
        self.chains.setdefault(of, []).append((int(sequence, 16), name, said["prev_hash"]))

    def receipt(self, name, of, sequence, nonce):
        self.said(self.envelope("anchor", name, of), sequence=str(int(sequence, 16)), nonce=nonce)

    def anchor(self, name, repository, of, sequence, head):
        said = json.loads(self.repository.get(name))
        self.said(said, repository_id=repository, deployment=of, sequence=str(int(sequence, 16)))
        need(said["head"].startswith(head), "its head is another one than its name says")
        # Its signer's key lies in the other repository.

    def scrub(self, name, of, sequence):
        self.said(self.envelope("scrub", name, of), sequence=int(sequence, 16))

    def aside(self, name):
        # Bytes on their way to another name: only whoever puts them there reads them.
        pass

    def look(self, name):
        for kind, pattern in TABLE:
            found = re.fullmatch(pattern, name)
            if not found:
                continue
            try:
                kind = getattr(self, kind)(name, *found.groups()) or kind
            except (Wrong, KeyError, ValueError) as error:
                self.damaged.append((name, str(error)))
            self.counts[kind] += 1
            return
        self.damaged.append((name, "no such name is on the page"))

    def links(self):
        for records in self.chains.values():
            before = bytes(32)
            for number, (sequence, name, prev_hash) in enumerate(sorted(records), 1):
                if sequence != number or prev_hash != before.hex():
                    self.damaged.append((name, "the chain is broken here"))
                before = blake3(self.repository.get(name)).digest()


D = r"([a-z0-9][-a-z0-9.]*)"
B, W, S = r"([-A-Za-z0-9._]+)", r"([0-9a-f]{32})", r"([0-9a-f]{8})"
L, T, X = r"([0-9a-f]{16}-[0-9a-f]{4})", r"([0-9A-F]{8})", r"([0-9A-F]{16})"
SEGMENT = r"([0-9A-F]{24})"
TABLE = [
    ("descriptor", r"HARDSTORAGE"),
    ("config", rf"config/{S}\.json"),
    ("key", rf"keys/{D}/([0-9]+)/([0-9a-f]{{4}})\.json"),
    ("signer", rf"signers/{D}/([0-9a-f]{{16}})(?:-([0-9a-f]{{4}}))?\.json"),
    ("manifest", rf"manifests/{D}/{B}/manifest\.json"),
    ("state", rf"manifests/{D}/{B}/state/{S}\.json"),
    ("gone", rf"manifests/{D}/{B}/gone/{W}\.json"),
    ("pack", rf"packs/{D}/{W}/{S}"),
    ("segment", rf"wal/{D}/{L}/segments/{T}/{T}/{SEGMENT}"),
    ("tail", rf"wal/{D}/{L}/tails/{T}/{SEGMENT}/{X}-{X}-{W}"),
    ("journal", rf"wal/{D}/{L}/tails/{T}/{SEGMENT}/{X}-journal-{W}"),
    ("history", rf"wal/{D}/{L}/timelines/[0-9A-F]{{8}}\.history"),
    ("partial", rf"wal/{D}/{L}/aux/{SEGMENT}\.partial"),
    ("backup_history", rf"wal/{D}/{L}/aux/[0-9A-F]{{24}}\.[0-9A-F]{{8}}\.backup"),
    ("gap", rf"wal/{D}/{L}/gaps/{T}-{X}-{X}\.json"),
    ("session", rf"sessions/{D}/{W}/{S}\.json"),
    ("progress", rf"sessions/{D}/{W}/progress/{S}\.json"),
    ("damage", rf"damage/{D}/{W}-{S}-{S}\.json"),
    ("audit", rf"audit/{D}/([0-9]{{6}})/([0-9a-f]{{16}})\.json"),
    ("receipt", rf"audit/{D}/anchors/([0-9a-f]{{16}})-([0-9a-f]{{16}})\.json"),
    ("anchor", rf"anchors/{W}/{D}/([0-9a-f]{{16}})-([0-9a-f]{{32}})\.json"),
    ("scrub", rf"scrub/{D}/{S}\.json"),
    ("aside", r"heal/.+"),
]


def main():
    parser = argparse.ArgumentParser(description="Reads every object of a repository by its format's description.")
    parser.add_argument("--kek", metavar="FILE")
    parser.add_argument("repo")
    args = parser.parse_args()
    try:
        kek = Path(args.kek).read_bytes() if args.kek else None
        check = Check(Repository(args.repo, kek))
        root = check.repository.root
        for path in sorted(path for path in root.rglob("*") if path.is_file()):
            name = path.relative_to(root).as_posix()
            if not any(part.startswith(".") for part in name.split("/")):
                check.look(name)
        check.links()
    except (Wrong, OSError) as error:
        sys.exit(f"hscheck.py: {error}")
    for kind, count in sorted(check.counts.items()):
        print(f"{kind}\t{count}")
    for name, why in check.damaged:
        print(f"damaged\t{name}\t{why}")
    sys.exit(1 if check.damaged else 0)


if __name__ == "__main__":
    main()
