#!/usr/bin/env python3
"""A second reader of pg_hardstorage's repositories, written from docs/reference/repository-format.md alone.

It shares no code with the program, so that the page can be trusted to be enough. It reads directories (file://) only,
writes nothing into them, and checks everything that it reads: MACs, the manifest's signature, the seal and hash of every
frame, the CRC32C of every file, digest and hash of every WAL object.

    hsread.py [--kek FILE] list REPO [DEPLOYMENT]
    hsread.py [--kek FILE] restore REPO DEPLOYMENT BACKUP|latest TARGET [--tablespace OID=DIR]... [--with-wal]
    hsread.py [--kek FILE] wal REPO DEPLOYMENT NAME OUTPUT [--lineage L] [--timeline N]
    hsread.py [--kek FILE] wals REPO DEPLOYMENT [--lineage L]

REPO is file:///path or a path; FILE is kek.bin of the keyring, left out for a repository without encryption. `restore`
makes TARGET; with --with-wal it puts the segments into pg_wal that make the backup consistent, so that PostgreSQL starts
on it as it is. `wal` writes a segment (from its tails when it is not finished) or a .history, .partial or .backup file;
with --timeline a segment of an ancestor of that timeline only as far as it belongs to its history. `wals` prints the SHA-256
of every file of WAL, as its own timeline has it and as the latest one sees it.

Needs Python 3.9, `cryptography`, `zstandard` and `blake3`; `google-crc32c` makes checksums fast where it is installed.
scripts/fetch-reader puts all of them into the cache. Anything that is not as the page says ends with a message and 1.
"""

import argparse
import hashlib
import json
import os
import struct
import sys
from collections import OrderedDict
from pathlib import Path
from urllib.parse import unquote, urlsplit

import zstandard
from blake3 import blake3
from cryptography.exceptions import InvalidSignature, InvalidTag
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

try:
    from google_crc32c import extend as crc32c
except ImportError:

    def _table():
        for byte in range(256):
            for _ in range(8):
                byte = byte >> 1 ^ (0x82F63B78 if byte & 1 else 0)
            yield byte

    _TABLE = list(_table())

    def crc32c(crc, data):
        crc ^= 0xFFFFFFFF
        for byte in data:
            crc = crc >> 8 ^ _TABLE[(crc ^ byte) & 0xFF]
        return crc ^ 0xFFFFFFFF


PUBLIC_KEK = b"pg_hardstorage public fixed key1"
SECTION = 1 << 30
ATTACHMENTS = 0xFFFFFFFF
ZEROS = 0xFFFFFFFF


class Wrong(Exception):
    """Something is not as the page says."""


def need(condition, what):
    if not condition:
        raise Wrong(what)


# ---------------------------------------------------------------------------------------------------- cryptography


def derive(key, salt, info):
    return HKDF(algorithm=SHA256(), length=32, salt=salt, info=info.encode()).derive(key)


def keyed(key, data):
    return blake3(data, key=key).digest()


def open_sealed(key, number, associated, sealed, what):
    try:
        return AESGCM(key).decrypt(bytes(4) + number.to_bytes(8, "big"), bytes(sealed), associated)
    except InvalidTag:
        raise Wrong(f"{what} does not open") from None


def decompress(codec, payload, raw_len, what):
    if codec == 1:
        try:
            payload = zstandard.ZstdDecompressor().decompress(payload, max_output_size=raw_len)
        except zstandard.ZstdError as error:
            raise Wrong(f"{what}: {error}") from None
    need(len(payload) == raw_len, f"{what} has another length than promised")
    return payload


class Fields:
    """Little-endian fields, one behind the other."""

    def __init__(self, data, what):
        self.data, self.at, self.what = data, 0, what

    def take(self, length):
        need(self.at + length <= len(self.data), f"{self.what} is cut short")
        self.at += length
        return self.data[self.at - length : self.at]

    def read(self, form):
        return struct.unpack("<" + form, self.take(struct.calcsize("<" + form)))

    def one(self, form):
        return self.read(form)[0]

    def zero(self, length):
        need(not any(self.take(length)), f"{self.what} has something where zeros should be")

    def expect(self, magic):
        need(self.take(len(magic)) == magic, f"{self.what} does not begin as it should")

    def end(self):
        need(self.at == len(self.data), f"{self.what} has something behind its end")


# ---------------------------------------------------------------------------------------- the repository and its keys


class Repository:
    def __init__(self, url, kek):
        parts = urlsplit(url)
        need(parts.scheme in ("", "file"), f"{url}: this reader knows directories only")
        self.root = Path(unquote(parts.path) if parts.scheme else url)
        stored = self.get("HARDSTORAGE")
        self.descriptor_hash = blake3(stored).digest()
        facts = json.loads(split_envelope("descriptor", stored)[1])
        need(facts["schema"] == "hardstorage.repository.v1" and facts["format"] == 1, "an unknown format")
        need(not facts["must_read"], f"features that this reader does not know: {facts['must_read']}")
        self.sealed = facts["encryption"] == "required"
        need(self.sealed == (kek is not None), "a KEK for a repository without encryption, or the other way round")
        self.kek = kek if self.sealed else PUBLIC_KEK
        self.fingerprint = derive(self.kek, b"hs1 kek", "fingerprint")[:8].hex() if self.sealed else None
        policies = self.numbered("config", ".json")
        if policies:
            policy = self.document("config", f"config/{policies[-1]:08x}.json", self.mac_kek("config"))
            need(policy["sequence"] == policies[-1], "the newest policy is another one than its name says")
            need(policy["descriptor_hash"] == self.descriptor_hash.hex(), "the policy belongs to another descriptor")
        else:
            open_envelope("descriptor", stored, self.mac_kek("descriptor"), "HARDSTORAGE")

    def get(self, name):
        try:
            return (self.root / name).read_bytes()
        except FileNotFoundError:
            raise Wrong(f"{name} is not there") from None

    def has(self, name):
        return (self.root / name).is_file()

    def range(self, name, offset, length):
        try:
            with open(self.root / name, "rb") as file:
                file.seek(offset)
                data = file.read(length)
        except FileNotFoundError:
            raise Wrong(f"{name} is not there") from None
        need(len(data) == length, f"{name} is cut short")
        return data

    def names(self, folder):
        """What lies in a folder; temporary names begin with a dot and are no objects."""
        path = self.root / folder
        found = os.listdir(path) if path.is_dir() else []
        return sorted(name for name in found if not name.startswith("."))

    def numbered(self, folder, suffix):
        stems = (name[: -len(suffix)] for name in self.names(folder) if name.endswith(suffix))
        return sorted(int(stem, 16) for stem in stems if len(stem) == 8)

    def mac_kek(self, kind):
        return derive(self.kek, b"hs1 kek", f"envelope {kind}")

    def document(self, kind, name, mac):
        return json.loads(open_envelope(kind, self.get(name), mac, name))

    def unwrap(self, purpose, about, wrapped, what):
        if wrapped["form"] == "clear":
            need(not self.sealed, f"{what} lies in the clear")
            return bytes.fromhex(wrapped["bytes"])
        key = derive(self.kek, bytes.fromhex(wrapped["salt"]), f"wrap {purpose}")
        return open_sealed(key, 0, about + self.descriptor_hash, bytes.fromhex(wrapped["bytes"]), what)


def split_envelope(kind, stored):
    line, newline, payload = stored.partition(b"\n")
    words = line.split(b" ")
    need(newline and len(words) == 3 and words[0] == b"hsenv1" and words[1] == kind.encode(), f"no envelope of {kind}")
    return words[2].decode(), payload


def open_envelope(kind, stored, mac, name):
    digits, payload = split_envelope(kind, stored)
    need(keyed(mac, payload).hex() == digits, f"the MAC of {name} does not hold")
    return payload


class Deployment:
    def __init__(self, repository, name):
        self.repository, self.name = repository, name
        number = max((int(n) for n in repository.names(f"keys/{name}")), default=None)
        need(number is not None, f"there is no deployment {name}")
        folder = f"keys/{name}/{number}"
        self.key, problem = None, None
        for file in reversed(repository.names(folder)):
            try:
                self.open_key(f"{folder}/{file}", number, int(file[:-5], 16))
                break
            except Wrong as error:
                problem = problem or error
        need(self.key, f"no data key opens: {problem}")
        derived = {"page hash", "frame hash", "root hash", "wal segment hash", "wal page hash"}
        self.hash_keys = {info: derive(self.key, b"hs1", info) for info in derived}
        self.frames = OrderedDict()

    def open_key(self, name, number, generation):
        wrapped = self.repository.document("key", name, self.repository.mac_kek("key"))
        said = (wrapped["schema"], wrapped["deployment"], wrapped["number"], wrapped["generation"])
        need(said == ("hardstorage.data_key.v1", self.name, number, generation), f"{name} is another object")
        key_id = bytes.fromhex(wrapped["key_id"])
        about = f"hardstorage.data_key.v1\0{self.name}\0{number}\0{generation}\0".encode() + key_id
        self.key = self.repository.unwrap("data key", about, wrapped["key"], name)
        self.key_id = key_id

    def mac(self, kind):
        return derive(self.key, b"hs1", f"envelope {kind}")

    def hash(self, which, data):
        return keyed(self.hash_keys[which], data)

    def signer(self, fingerprint):
        folder = f"signers/{self.name}"
        files = [n for n in self.repository.names(folder) if n[:16] == fingerprint]
        # "<fingerprint>.json" is generation 1; a dash sorts before a dot, so it has to be put in order by number.
        by_generation = sorted(((1 if n[16] == "." else int(n[17:21], 16)), n) for n in files)
        for generation, file in reversed(by_generation):
            name = f"{folder}/{file}"
            try:
                signer = self.repository.document("signer", name, self.repository.mac_kek("signer"))
                about = f"hardstorage.signer.v1\0{self.name}\0{fingerprint}\0{generation}\0".encode()
                public = self.repository.unwrap("signer", about, signer["key"], name)
            except Wrong:
                continue
            need(blake3(public).digest()[:8].hex() == fingerprint, f"{name} holds another key than its name says")
            return Ed25519PublicKey.from_public_bytes(public)
        raise Wrong(f"the signer {fingerprint} is not known")

    def backups(self):
        return [name for name in self.repository.names(f"manifests/{self.name}")]

    def manifest(self, backup):
        """The verified manifest, or None for a backup that was collected, voided or never committed."""
        for mark in self.repository.names(f"manifests/{self.name}/{backup}/gone"):
            name = f"manifests/{self.name}/{backup}/gone/{mark}"
            open_envelope("gone", self.repository.get(name), self.mac("gone"), name)
            return None
        name = f"manifests/{self.name}/{backup}/manifest.json"
        if not self.repository.has(name):
            return None
        stored = self.repository.get(name)
        if stored.startswith(b"hsenv1 void "):
            open_envelope("void", stored, self.mac("void"), name)
            return None
        line, _, payload = stored.partition(b"\n")
        words = line.decode().split(" ")
        need(len(words) == 3 and words[0] == "hsmanifest1", f"{name} is no manifest")
        try:
            signed = b"pg_hardstorage manifest v1\n" + payload
            self.signer(words[1]).verify(bytes.fromhex(words[2]), signed)
        except InvalidSignature:
            raise Wrong(f"the signature of {name} does not hold") from None
        manifest = json.loads(payload)
        need(manifest["format"] == 1 and not manifest["features"], f"{name} has an unknown format")
        said = (manifest["deployment"], manifest["backup_id"], manifest["data_key_id"], manifest["signer"])
        need(said == (self.name, backup, self.key_id.hex(), words[1]), f"{name} is another object than its name says")
        return manifest

    def state(self, backup):
        folder = f"manifests/{self.name}/{backup}/state"
        numbers = self.repository.numbered(folder, ".json")
        if not numbers:
            return {}
        record = self.repository.document("state", f"{folder}/{numbers[-1]:08x}.json", self.mac("state"))
        need((record["backup_id"], record["sequence"]) == (backup, numbers[-1]), "a state is another object")
        return record["state"]

    # ---------------------------------------------------------------------------------------------------- frames

    def frame(self, pack, kind, place, hashed=True):
        """The raw bytes of a frame; pack is (writer id, number), kind "data" or "meta"."""
        at = (pack, place["number"])
        if at in self.frames:
            self.frames.move_to_end(at)
            return self.frames[at]
        writer, sequence = pack
        name = f"packs/{self.name}/{writer.hex()}/{sequence:08x}"
        what = f"frame {place['number']} of {name}"
        stored = self.repository.range(name, place["offset"], 16 + place["stored_len"])
        fields = Fields(stored, what)
        fields.expect(b"HSF")
        header = fields.read("BIII")
        said = (place["codec"], place["number"], place["stored_len"], place["raw_len"])
        need(header == said, f"{what} says otherwise than what points at it")
        payload = stored[16:]
        if self.repository.sealed:
            key = derive(self.key, writer + sequence.to_bytes(4, "big"), f"pack {kind}")
            associated = b"hsframe1" + self.key_id + writer + struct.pack(
                "<IBBHIII", sequence, {"data": 1, "meta": 2}[kind], header[0], 0, header[1], header[2], header[3]
            )
            payload = open_sealed(key, header[1], associated, payload, what)
        if hashed:
            need(self.hash("frame hash", payload)[:16] == place["hash"], f"the hash of {what} does not match")
        raw = decompress(header[0], payload, header[3], what)
        self.frames[at] = raw
        while len(self.frames) > 256:
            self.frames.popitem(last=False)
        return raw

    def root(self, root, what):
        value = bytearray()
        for frame in root["frames"]:
            pack = (bytes.fromhex(frame["writer"]), frame["sequence"])
            value += self.frame(pack, frame["kind"], {**frame, "offset": int(frame["offset"])}, hashed=False)
        value = bytes(value)
        need(len(value) == int(root["length"]), f"the {what} has another length")
        need(self.hash("root hash", value).hex() == root["hash"], f"the hash of the {what} does not match")
        return value


def read_place(fields):
    pack, number, offset, stored_len, raw_len, codec = fields.read("IIQIIB")
    fields.zero(3)
    place = {"number": number, "offset": offset, "stored_len": stored_len, "raw_len": raw_len, "codec": codec}
    return pack, {**place, "hash": fields.take(16)}


# ----------------------------------------------------------------------------------------------------- one backup


class Backup:
    def __init__(self, deployment, manifest):
        self.deployment, self.manifest, self.deepest = deployment, manifest, 0
        fields = Fields(deployment.root(manifest["pack_list"], "pack list"), "the pack list")
        fields.expect(b"HSPACKS\x01")
        count = fields.one("I")
        fields.zero(4)
        fields.one("Q")
        fields.zero(8)
        self.packs = []
        for _ in range(count):
            writer, number, kind = fields.take(16), fields.one("I"), fields.one("B")
            fields.zero(3)
            fields.take(96)
            self.packs.append(((writer, number), {1: "data", 2: "meta"}[kind]))
        fields.end()

    def frame(self, pack, place):
        need(pack < len(self.packs), "a place points at no pack of the list")
        return self.deployment.frame(*self.packs[pack], place)

    def entries(self):
        fields = Fields(self.deployment.root(self.manifest["file_table"], "file table"), "the index")
        fields.expect(b"HSTABLE\x01")
        entries, runs = fields.read("QI")
        fields.zero(4)
        seen = 0
        for _ in range(runs):
            in_run, frames = fields.read("QI")
            last, count = (-1, b""), 0
            for _ in range(frames):
                place = read_place(fields)
                tablespace, length = fields.read("IH")
                first = (tablespace, fields.take(length))
                inner = Fields(self.frame(*place), "a frame of the file table")
                for index, entry in enumerate(iter(lambda: self.entry(inner), None)):
                    need(index or entry["key"] == first, "a frame begins with another entry than the index says")
                    need(last < entry["key"], "the file table is not sorted")
                    last, count = entry["key"], count + 1
                    yield entry
            need(count == in_run, "a run has another number of entries")
            seen += count
        fields.end()
        need(seen == entries, "the file table has another number of entries")

    def entry(self, outer):
        if outer.at == len(outer.data):
            return None
        fields = Fields(outer.take(outer.one("I")), "an entry")
        tablespace, order, kind = fields.read("IQB")
        fields.zero(3)
        mode, mtime, length = fields.read("IqH")
        entry = {"key": (tablespace, fields.take(length)), "order": order, "kind": kind, "mode": mode, "mtime": mtime}
        if kind == 3:
            entry["target"] = fields.take(fields.one("H"))
        elif kind == 1:
            entry["size"], entry["crc"], entry["block_size"], packs = fields.read("QIII")
            fields.take(8 * packs)
            entry["sections"] = []
            for _ in range(fields.one("I")):
                layers = [(self.value(fields), self.value(fields)) for _ in range(fields.one("I"))]
                entry["sections"].append([layer_map for layer_map, _column in layers])
            need(len(entry["sections"]) == -(-entry["size"] // SECTION), "the sections do not make up the size")
        else:
            need(kind == 2, "an unknown kind of entry")
        fields.end()
        return entry

    @staticmethod
    def value(fields):
        where, count = fields.read("BI")
        if where == 0:
            return fields.take(count)
        need(where == 1, "a value lies neither here nor in frames")
        return [read_place(fields) for _ in range(count)]

    def map(self, value):
        data = value if isinstance(value, bytes) else b"".join(self.frame(*place) for place in value)
        fields = Fields(data, "a map")
        fields.expect(b"HSLM")
        version, flags, block = fields.read("HHI")
        need(version == 1 and flags in (0, 1), "a map of an unknown version")
        fields.zero(4)
        length, packs, frames, runs, _column = fields.read("QIIII")
        packs = [(fields.take(16), fields.one("I")) for _ in range(packs)]
        places = []
        for _ in range(frames):
            pack, place = read_place(fields)
            fields.one("I")
            places.append((packs[pack], place))
        result = {"base": flags == 1, "block": block, "length": length, "frames": places}
        result["runs"] = [fields.read("IIII") for _ in range(runs)]
        fields.end()
        return result

    def section(self, layers):
        """Length and, for each page, None for zeros or (pack, place of the frame, offset in it)."""
        length, pages, nowhere = 0, [], object()
        for index, layer in enumerate(layers):
            need(layer["base"] == (index == 0), "the base is not at the bottom")
            block, new = layer["block"], layer["length"]
            extent = lambda end, page: max(0, min(block, end - page * block))  # noqa: E731
            for page in {length // block, new // block}:
                if page < len(pages) and extent(length, page) != extent(new, page):
                    pages[page] = nowhere
            length, count = new, -(-new // block)
            pages = pages[:count] + [nowhere] * (count - len(pages))
            for first, number, frame, offset in layer["runs"]:
                need(first + number <= count, "a run lies outside of its section")
                for i in range(number):
                    stored = frame != ZEROS
                    pages[first + i] = (*layer["frames"][frame], offset + i * block) if stored else None
        need(all(page is not nowhere for page in pages), "a stack of layers does not cover every page")
        return length, pages

    def write(self, entry, path):
        crc = 0
        with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, entry["mode"] & 0o777 | 0o600), "wb") as file:
            for number, values in enumerate(entry["sections"]):
                layers = [self.map(value) for value in values]
                self.deepest = max(self.deepest, len(layers))
                length, pages = self.section(layers)
                need(length == min(SECTION, entry["size"] - number * SECTION), f"{path}: a section of another length")
                block = layers[0]["block"]
                for index, page in enumerate(pages):
                    size = min(block, length - index * block)
                    data = bytes(size)
                    if page is not None:
                        pack, place, offset = page
                        data = self.deployment.frame(pack, "data", place)[offset : offset + size]
                        need(len(data) == size, f"{path}: a page lies outside of its frame")
                    crc = crc32c(crc, data)
                    file.write(data)
        need(crc == entry["crc"], f"the CRC32C of {path} does not match")

    def restore(self, target, mappings):
        roots = {0: target}
        target.mkdir(mode=0o700)
        links = []
        for space in self.manifest["tablespaces"]:
            oid, location = space["oid"], space["location"]
            if not os.path.isabs(location):
                roots[oid] = target / location
                continue
            need(oid in mappings, f"say where tablespace {oid} ({location}) goes: --tablespace {oid}=DIR")
            roots[oid] = mappings[oid]
            roots[oid].mkdir(mode=0o700)
            links.append(oid)
        files = []
        for entry in self.entries():
            tablespace, name = entry["key"]
            if tablespace == ATTACHMENTS:
                continue
            need(tablespace in roots, f"an entry of an unknown tablespace {tablespace}")
            parts = name.split(b"/")
            need(not {b"", b".", b".."} & set(parts) and b"\0" not in name, f"{name!r} is no plain path")
            path = roots[tablespace] / os.fsdecode(name)
            if entry["kind"] == 2:
                path.mkdir(mode=entry["mode"] & 0o777, exist_ok=True)
            elif entry["kind"] == 3:
                os.symlink(os.fsdecode(entry["target"]), path)
            else:
                files.append((entry["order"], entry, path))
        for oid in links:
            os.symlink(roots[oid], target / "pg_tblspc" / str(oid))
        for _, entry, path in sorted(files, key=lambda file: file[0]):
            self.write(entry, path)
        return len(files), sum(entry["size"] for _, entry, _ in files)


# ------------------------------------------------------------------------------------------------------------ WAL


class Wal:
    def __init__(self, deployment, lineage):
        self.deployment, self.lineage = deployment, lineage
        self.folder = f"wal/{deployment.name}/{lineage}"
        system, _, incarnation = lineage.partition("-")
        self.identity = (int(system, 16), int(incarnation, 16))

    def opened(self, name, kind, header, metadata):
        """How parts of an object are opened, what its metadata says, and the size of a segment."""
        deployment = self.deployment
        sealed = deployment.repository.sealed
        fields = Fields(header, f"the header of {name}")
        fields.expect(b"HSWALOBJ")
        version, said, flags, longest = fields.read("HBBI")
        need((version, said, flags, longest) == (1, kind, int(sealed), 1 << 20), f"{name} is another kind of object")
        need(fields.take(16) == deployment.key_id, f"{name} was written with another data key")
        salt, segment_size = fields.take(16), fields.one("Q")
        fields.zero(8)

        def part(info, head, number, stored):
            what = f"{info} {number} of {name}"
            if sealed:
                return open_sealed(derive(deployment.key, salt, f"wal {info}"), number, header + head, stored, what)
            payload, tag = stored[:-16], stored[-16:]
            mac = deployment.hash("frame hash", header + head + number.to_bytes(8, "little") + payload)
            need(mac[:16] == tag, f"{what} is damaged")
            return payload

        own = b"HSM" + struct.pack("<BIII", 0, 0, 272, 256)
        meta = Fields(part("metadata", own, 0, metadata), f"the metadata of {name}")
        return part, meta, segment_size

    def object(self, name, kind, timeline, start, length):
        """The raw bytes of a segment (kind 1), tail (2) or partial segment (3), which must be what its name says."""
        data, deployment = self.deployment.repository.get(name), self.deployment
        need(len(data) >= 64 + 32 + 400, f"{name} is too short")
        need(blake3(data[:-32]).digest() == data[-32:], f"the digest of {name} does not match")
        header = data[:64]
        fields = Fields(data[-128:], f"the footer of {name}")
        need(fields.take(64) == header, f"header and footer of {name} differ")
        directory_at, whole, directory_len, frames = fields.read("QQII")
        need(fields.take(8) == b"HSWALEND" and whole == len(data), f"{name} does not end as it should")
        need(directory_at + directory_len + 400 == whole, f"the lengths of {name} do not add up")
        part, meta, segment_size = self.opened(name, kind, header, data[-400:-128])
        system, of_timeline, incarnation, _flags, first, size, raw_len = meta.read("QIHHQQQ")
        need((system, incarnation) == self.identity, f"{name} belongs to another cluster")
        need((of_timeline, first, raw_len) == (timeline, start, length), f"{name} holds other WAL than its name says")
        need(size == segment_size, f"{name}: the segment's size differs")
        digest = meta.take(32)

        at, raw, places = 64, bytearray(), []
        for number in range(frames):
            head = data[at : at + 16]
            fields = Fields(head, f"frame {number} of {name}")
            fields.expect(b"HSW")
            codec, said, stored_len, raw_frame = fields.read("BIII")
            need(said == number and at + 16 + stored_len <= directory_at, f"frame {number} of {name} is misplaced")
            payload = part("frames", head, number, data[at + 16 : at + 16 + stored_len])
            what = f"frame {number} of {name}"
            raw += bytes(raw_frame) if codec == 2 else decompress(codec, payload, raw_frame, what)
            places.append((at, stored_len, raw_frame, codec))
            at += 16 + stored_len
        need(at == directory_at, f"{name} has something between its frames and its directory")
        need(len(raw) == length, f"{name} has another length")
        need(deployment.hash("wal segment hash", bytes(raw)) == digest, f"the hash of {name} does not match")

        head = data[at : at + 16]
        fields = Fields(head, f"the directory of {name}")
        fields.expect(b"HSD")
        codec, _, stored_len, plain_len = fields.read("BIII")
        payload = part("directory", head, 0, data[at + 16 : at + 16 + stored_len])
        fields = Fields(decompress(codec, payload, plain_len, f"the directory of {name}"), f"the directory of {name}")
        n, p, _points, page_len = fields.read("IIII")
        need(n == frames and page_len == 8192, f"the directory of {name} says otherwise")
        for place in places:
            need(fields.read("QIIB") == place, f"the directory of {name} says otherwise")
            fields.zero(7)
        begin = start
        for _ in range(p):
            end = min((begin // 8192 + 1) * 8192, start + length)
            page = deployment.hash("wal page hash", bytes(raw[begin - start : end - start]))
            need(fields.take(8) == page[:8], f"a page of {name} does not match its hash")
            begin = end
        need(begin == start + length, f"the directory of {name} does not cover every page")
        return bytes(raw)

    def journal(self, name, timeline, start):
        """The raw bytes of a journal, as far as its records are whole."""
        data, deployment = self.deployment.repository.get(name), self.deployment
        need(len(data) >= 512 and blake3(data[:336]).digest() == data[336:368], f"the head of {name} is damaged")
        need(not any(data[368:512]), f"the head of {name} has something where zeros should be")
        header = data[:64]
        part, meta, segment_size = self.opened(name, 4, header, data[64:336])
        system, of_timeline, incarnation, flags, first, size, length = meta.read("QIHHQQQ")
        need((system, incarnation) == self.identity, f"{name} belongs to another cluster")
        need((of_timeline, first, flags, length) == (timeline, start, 0, 0), f"{name} is not what its name says")
        need(size == segment_size, f"{name}: the segment's size differs")

        def whole(at):
            """Codec, number, raw length, stored bytes and end of the record at a place, if a whole one is there."""
            if at + 32 > len(data) or data[at : at + 3] != b"HSJ":
                return None
            codec, number, stored, raw = struct.unpack("<BIII", data[at + 3 : at + 16])
            end = at + (32 + stored + 511) // 512 * 512
            if codec > 2 or stored < 16 or raw > 1 << 20 or end > len(data):
                return None
            bytes_ = data[at + 32 : at + 32 + stored]
            if blake3(header + data[at : at + 16] + bytes_).digest()[:16] != data[at + 16 : at + 32]:
                return None
            return codec, number, raw, bytes_, end

        raw, at, expected = bytearray(), 512, 0
        while True:
            found = whole(at)
            if found is None or found[1] != expected:
                break
            codec, number, raw_len, stored, end = found
            what = f"record {number} of {name}"
            need(raw_len > 0 and not any(data[at + 32 + len(stored) : end]), f"{what} is damaged")
            fields = Fields(part("records", data[at : at + 16], number, stored), what)
            flags = fields.one("B")
            fields.zero(3)
            points = fields.one("I")
            need(flags < 32, f"{what} has unknown flags")
            fields.take(16 * bin(flags & 7).count("1") + 8 * bin(flags >> 3).count("1"))
            for _ in range(points):
                fields.take(16)
                fields.take(fields.one("B"))
            payload = fields.take(len(fields.data) - fields.at)
            raw += bytes(raw_len) if codec == 2 else decompress(codec, payload, raw_len, what)
            at, expected = end, expected + 1
        for behind in range(at + 512, len(data), 512):
            later = whole(behind)
            need(later is None or later[1] <= expected, f"record {expected} of {name} is damaged")
        need(expected, f"the first record of {name} is damaged")
        need(start % size + len(raw) <= size, f"{name} reaches beyond its segment")
        return bytes(raw)

    def segment_size(self):
        """What every object says at the same place of its header."""
        repository = self.deployment.repository
        for kind in ("segments", "tails", "aux"):
            for path in sorted((repository.root / self.folder / kind).rglob("*")):
                name = path.relative_to(repository.root).as_posix()
                if path.is_file() and repository.range(name, 0, 8) == b"HSWALOBJ":
                    return int.from_bytes(repository.range(name, 48, 8), "little")
        raise Wrong("no WAL is stored that tells the size of a segment")

    def numbers(self):
        """The timelines that have anything."""
        names = self.deployment.repository.names
        return {int(name[:8], 16) for kind in ("segments", "tails", "timelines") for name in names(f"{self.folder}/{kind}")}

    def every_name(self):
        """What recovery may ask for."""
        names, found = self.deployment.repository.names, set()
        for timeline in names(f"{self.folder}/segments"):
            for log in names(f"{self.folder}/segments/{timeline}"):
                found.update(names(f"{self.folder}/segments/{timeline}/{log}"))
        for timeline in names(f"{self.folder}/tails"):
            found.update(names(f"{self.folder}/tails/{timeline}"))
        return sorted(found.union(names(f"{self.folder}/timelines"), names(f"{self.folder}/aux")))

    def history(self, timeline):
        """Where each ancestor of a timeline was left, by its number."""
        if timeline == 1:
            return {}
        text = self.verbatim(f"{timeline:08X}.history").decode()
        lines = (line.split("#")[0].split() for line in text.splitlines())
        return {int(words[0]): lsn(words[1]) for words in lines if len(words) >= 2}

    def gap_begins(self, timeline, position):
        begin = f"{timeline:08X}-{position:016X}-"
        return any(name.startswith(begin) for name in self.deployment.repository.names(f"{self.folder}/gaps"))

    def later(self, timeline, position, segment_size):
        """Whether a timeline has anything behind a position."""
        repository = self.deployment.repository
        for kind in ("segments", "tails"):
            for path in (repository.root / self.folder / kind / f"{timeline:08X}").rglob("*"):
                if path.is_file() and not path.name.startswith("."):
                    if kind == "tails" and path.name[17:25] == "journal-":
                        begin = int(path.name[:16], 16)
                        end = begin + len(self.journal(path.relative_to(repository.root).as_posix(), timeline, begin))
                    elif kind == "tails":
                        end = int(path.name[17:33], 16)
                    else:
                        end = (int(path.name[8:16], 16) << 32) + (int(path.name[16:], 16) + 1) * segment_size
                    if end > position:
                        return True
        return False

    def segment(self, name, segment_size, follow=None):
        """A segment as recovery along the timeline `follow` is to see it, or all that is stored of it."""
        whole, _ = self.stored_segment(name, segment_size)
        if follow is None:
            return whole
        timeline, log, low = (int(name[i : i + 8], 16) for i in (0, 8, 16))
        if timeline == follow:
            return whole
        left = self.history(follow).get(timeline)
        need(left is not None, f"timeline {timeline} is no ancestor of {follow}")
        kept = left - ((log << 32) + low * segment_size)
        need(kept > 0, f"timeline {follow} left timeline {timeline} before {name}")
        return whole[:kept] + bytes(max(0, segment_size - kept))

    def of_the_ancestor(self, timeline, start, reached, segment_size):
        """What a timeline began with, where its own tails end before the switch and its ancestor's bytes reach farther."""
        known = self.deployment.repository.has(f"{self.folder}/timelines/{timeline:08X}.history")
        ended = self.history(timeline) if known else {}
        if not ended:
            return None
        ancestor, switch = max(ended.items())
        if not reached < switch < start + segment_size:
            return None
        try:
            whole, to = self.stored_segment(segment_name(ancestor, start, segment_size), segment_size)
        except Wrong:
            return None
        kept = switch - start
        return (whole[:kept] + bytes(segment_size - kept), min(to, switch)) if to > reached else None

    def stored_segment(self, name, segment_size):
        """A segment, zeros behind what is stored of it, and where that ends."""
        timeline, log, low = (int(name[i : i + 8], 16) for i in (0, 8, 16))
        start = (log << 32) + low * segment_size
        finished = f"{self.folder}/segments/{name[:8]}/{name[8:16]}/{name}"
        if self.deployment.repository.has(finished):
            return self.object(finished, 1, timeline, start, segment_size), start + segment_size
        folder = f"{self.folder}/tails/{name[:8]}/{name}"
        tails = []
        for file in self.deployment.repository.names(folder):
            begin = int(file[:16], 16)
            if file[17:25] == "journal-":
                tails.append((begin, self.journal(f"{folder}/{file}", timeline, begin)))
                continue
            end = int(file[17:33], 16)
            tails.append((begin, self.object(f"{folder}/{file}", 2, timeline, begin, end - begin)))
        need(tails, f"{name} is not in the archive")
        out, reached = bytearray(segment_size), start
        for begin, raw in sorted(tails):
            need(begin <= reached, f"the tails of {name} have a hole")
            common = min(reached - begin, len(raw))
            at = begin - start
            need(out[at : at + common] == raw[:common], f"the tails of {name} differ")
            out[at : at + len(raw)] = raw
            reached = max(reached, begin + len(raw))
        if reached < start + segment_size and self.later(timeline, reached, segment_size):
            need(self.gap_begins(timeline, reached), f"{name} is not whole, and the timeline goes on behind it")
        return self.of_the_ancestor(timeline, start, reached, segment_size) or (bytes(out), reached)

    def partial(self, name, segment_size):
        timeline, log, low = (int(name[i : i + 8], 16) for i in (0, 8, 16))
        return self.object(f"{self.folder}/aux/{name}", 3, timeline, (log << 32) + low * segment_size, segment_size)

    def verbatim(self, name):
        kind, folder = ("history", "timelines") if name.endswith(".history") else ("aux", "aux")
        where = f"{self.folder}/{folder}/{name}"
        return open_envelope(kind, self.deployment.repository.get(where), self.deployment.mac(kind), where)


def segment_name(timeline, position, size):
    return f"{timeline:08X}{position >> 32:08X}{(position & 0xFFFFFFFF) // size:08X}"


def lsn(text):
    high, low = text.split("/")
    return int(high, 16) << 32 | int(low, 16)


def lineage_of(manifest):
    lineage = manifest["lineage"]
    return f"{int(lineage['system_id']):016x}-{lineage['incarnation']:04x}"


# ------------------------------------------------------------------------------------------------------- commands


def command_list(repository, args):
    names = [args.deployment] if args.deployment else repository.names("keys")
    for name in names:
        deployment = Deployment(repository, name)
        for backup in deployment.backups():
            manifest = deployment.manifest(backup)
            if manifest is None:
                continue
            state = [word for word in ("held", "deleted", "purged") if word in deployment.state(backup)]
            wal, totals = manifest["wal"], manifest["totals"]
            facts = [backup, wal["stop_lsn"], wal["timeline"], totals["files"], totals["logical_bytes"], *state]
            print("\t".join(str(fact) for fact in facts))


def command_restore(repository, args):
    deployment = Deployment(repository, args.deployment)
    if args.backup == "latest":
        found = ((deployment.manifest(b), deployment.state(b)) for b in deployment.backups())
        there = [manifest for manifest, state in found if manifest and "deleted" not in state]
        need(there, f"there is no backup of {args.deployment}")
        manifest = max(there, key=lambda manifest: lsn(manifest["wal"]["stop_lsn"]))
    else:
        manifest = deployment.manifest(args.backup)
        need(manifest, f"there is no backup {args.backup}")
    mappings = {}
    for mapping in args.tablespace:
        oid, _, place = mapping.partition("=")
        mappings[int(oid)] = Path(place)
    target = Path(args.target)
    backup = Backup(deployment, manifest)
    files, size = backup.restore(target, mappings)
    segments = 0
    if args.with_wal:
        wal, segment_size = Wal(deployment, lineage_of(manifest)), manifest["server"]["wal_segment_size"]
        for stretch in manifest["wal"]["needed"]:
            position = lsn(stretch["from"]) // segment_size * segment_size
            while position < lsn(stretch["to"]):
                name = segment_name(stretch["timeline"], position, segment_size)
                (target / "pg_wal" / name).write_bytes(wal.segment(name, segment_size))
                position, segments = position + segment_size, segments + 1
    print(f"{manifest['backup_id']}: {files} files, {size} bytes, {backup.deepest} layers, {segments} WAL segments")


def command_wal(repository, args):
    deployment = Deployment(repository, args.deployment)
    lineages = [args.lineage] if args.lineage else repository.names(f"wal/{args.deployment}")
    need(len(lineages) == 1, f"say which with --lineage: {', '.join(lineages) or 'there is none'}")
    wal = Wal(deployment, lineages[0])
    partial = args.name.endswith(".partial")
    if len(args.name) == 24 or partial:
        size = wal.segment_size()
        data = wal.partial(args.name, size) if partial else wal.segment(args.name, size, args.timeline)
    else:
        data = wal.verbatim(args.name)
    Path(args.output).write_bytes(data)


def command_wals(repository, args):
    deployment = Deployment(repository, args.deployment)
    for lineage in [args.lineage] if args.lineage else repository.names(f"wal/{args.deployment}"):
        wal = Wal(deployment, lineage)
        size, latest = wal.segment_size(), max([1, *wal.numbers()])
        for name in wal.every_name():
            for told, timeline in ((str(int(name[:8], 16)), None), ("latest", latest)):
                try:
                    if len(name) == 24:
                        data = wal.segment(name, size, timeline)
                    else:
                        data = wal.partial(name, size) if name.endswith(".partial") else wal.verbatim(name)
                    answer = hashlib.sha256(data).hexdigest()
                except Wrong as error:
                    answer = f"- {error}"
                print(f"{name} {told}\t{answer}")


def main():
    parser = argparse.ArgumentParser(description="Reads pg_hardstorage's repositories by its format's description.")
    parser.add_argument("--kek", metavar="FILE")
    commands = parser.add_subparsers(required=True)
    for name, run, words in (
        ("list", command_list, ["repo"]),
        ("restore", command_restore, ["repo", "deployment", "backup", "target"]),
        ("wal", command_wal, ["repo", "deployment", "name", "output"]),
        ("wals", command_wals, ["repo", "deployment"]),
    ):
        command = commands.add_parser(name)
        command.set_defaults(run=run)
        for word in words:
            command.add_argument(word)
        if name == "list":
            command.add_argument("deployment", nargs="?")
        elif name == "restore":
            command.add_argument("--tablespace", metavar="OID=DIR", action="append", default=[])
            command.add_argument("--with-wal", action="store_true")
        else:
            command.add_argument("--lineage")
            if name == "wal":
                command.add_argument("--timeline", type=int)
    args = parser.parse_args()
    try:
        kek = Path(args.kek).read_bytes() if args.kek else None
        need(kek is None or len(kek) == 32, "a KEK has 32 bytes")
        args.run(Repository(args.repo, kek), args)
    except (Wrong, OSError) as error:
        sys.exit(f"hsread.py: {error}")


if __name__ == "__main__":
    main()
