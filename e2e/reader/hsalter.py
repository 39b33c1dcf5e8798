#!/usr/bin/env python3
"""Writes fields into one document of a repository in the clear, as a later program might have: for tests of what a program
passes over and what it refuses. MACs, signatures and the policy's hash of the descriptor are made right again.

    hsalter.py --signing-key FILE REPO NAME JSON

FILE is manifest_signing.ed25519 of the keyring; JSON is an object whose fields replace those of the document NAME.
"""

import argparse
import json
import os
import sys
from pathlib import Path

from blake3 import blake3
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from hsread import Deployment, Repository, Wrong, derive, keyed, PUBLIC_KEK

OF_KEK = {"descriptor", "config", "key", "signer"}


def replace(path, stored):
    half = path.with_name(f".{path.name}.half")
    half.write_bytes(stored)
    os.replace(half, path)


def alter(repository, name, fields, signing_key):
    path = repository.root / name
    line, _, payload = path.read_bytes().partition(b"\n")
    document = json.dumps({**json.loads(payload), **fields}).encode()
    words = line.split(b" ")
    if words[0] == b"hsmanifest1":
        key = Ed25519PrivateKey.from_private_bytes(signing_key)
        words[2] = key.sign(b"pg_hardstorage manifest v1\n" + document).hex().encode()
    else:
        kind = words[1].decode()
        if kind in OF_KEK:
            mac = derive(PUBLIC_KEK, b"hs1 kek", f"envelope {kind}")
        else:
            mac = Deployment(repository, name.split("/")[1]).mac(kind)
        words[2] = keyed(mac, document).hex().encode()
    stored = b" ".join(words) + b"\n" + document
    replace(path, stored)
    return stored


class Lenient(Repository):
    """The repository without what reading proves: the descriptor may be one that no reader of today accepts."""

    def __init__(self, url):
        self.root = Path(url.removeprefix("file://"))
        self.sealed, self.kek, self.fingerprint = False, PUBLIC_KEK, None
        self.descriptor_hash = blake3(self.get("HARDSTORAGE")).digest()


def main():
    parser = argparse.ArgumentParser(description="Writes fields into one document of a repository in the clear.")
    parser.add_argument("--signing-key", metavar="FILE", required=True)
    for word in ("repo", "name", "fields"):
        parser.add_argument(word)
    args = parser.parse_args()
    try:
        repository, signing_key = Lenient(args.repo), Path(args.signing_key).read_bytes()
        stored = alter(repository, args.name, json.loads(args.fields), signing_key)
        if args.name == "HARDSTORAGE":
            for sequence in repository.numbered("config", ".json"):
                said = {"descriptor_hash": blake3(stored).hexdigest()}
                alter(repository, f"config/{sequence:08x}.json", said, signing_key)
    except (Wrong, OSError, ValueError) as error:
        sys.exit(f"hsalter.py: {error}")


if __name__ == "__main__":
    main()
