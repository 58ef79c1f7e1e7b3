"""``edgeagent verify FILE.wasm --signature FILE.sig``: whether a signature is of this module with this manifest.

With ``--key`` or ``--keys`` also whether that key made it. Exits with 1 and says what differs where it is not so.
"""

from __future__ import annotations

import argparse
import hashlib
from pathlib import Path

from edgeagent.cli.deploy import add_module_arguments, module_of, read_signature_file
from edgeagent.cli.output import print_json
from edgeagent.model.signature import differences, public_keys, read_signature

__all__ = ["add_arguments", "run"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_module_arguments(parser)
    parser.add_argument("--signature", type=Path, required=True, help="what edgeagent sign made")
    whose = parser.add_mutually_exclusive_group()
    whose.add_argument("--key", metavar="HEX", help="the public key that must have signed")
    whose.add_argument("--keys", metavar="FOLDER", help="or the folder of its keys; node.crt in it is enough")


def run(args: argparse.Namespace) -> int:
    wasm, manifest, _ = module_of(args)
    signature = read_signature(read_signature_file(args.signature))
    wrong = differences(signature, hashlib.sha256(wasm).hexdigest(), manifest)
    wanted = _wanted(args)
    if wanted is not None and bytes.fromhex(signature.key) not in wanted:
        wrong.append(f"it is signed by {signature.key}, not by {', '.join(key.hex() for key in wanted)}")
    name = manifest.function.name
    if args.json:
        print_json({"ok": not wrong, "function": name, "key": signature.key, "differs": wrong})
    elif wrong:
        print(f"{args.signature} is not a signature of {name}:")
        for one in wrong:
            print(f"  {one}")
    else:
        print(f"{name}: signed by {signature.key}")
        if wanted is None:
            print("whose key that is was not asked: --key or --keys")
    return 1 if wrong else 0


def _wanted(args: argparse.Namespace) -> frozenset[bytes] | None:
    """The keys that may have signed, None: any."""
    if args.key is not None:
        return public_keys(args.key, "--key")
    if args.keys is None:
        return None
    from edgeagent.mesh.key_files import NODE_CERT, load_certificate

    certificate = load_certificate(Path(args.keys) / NODE_CERT)
    return frozenset((certificate.public_key().public_bytes_raw(),))
