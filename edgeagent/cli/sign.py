"""``edgeagent sign FILE.wasm --keys FOLDER``: vouch for a module and its manifest, so that peers may bring it.

edgeagent sign fire.wasm --keys olga                       writes fire.sig
edgeagent verify fire.wasm --signature fire.sig --keys olga
edgeagent deploy fire.wasm --signature fire.sig

The manifest and the name are part of what is signed: ``deploy`` and ``verify`` take the same ones. Nodes count the
signatures of the keys that their ``placement.signers`` and ``mesh.operators`` name.
"""

from __future__ import annotations

import argparse
import hashlib
import os
from pathlib import Path

from edgeagent.cli.client import KEYS_VARIABLE
from edgeagent.cli.deploy import add_module_arguments, module_of
from edgeagent.cli.output import print_json
from edgeagent.model.errors import BadRequest
from edgeagent.model.signature import read_signature, sign_function

__all__ = ["add_arguments", "run"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_module_arguments(parser)
    parser.add_argument(
        "--keys", metavar="FOLDER", help="the signer's folder of edgeagent keys (default: $EDGEAGENT_KEYS)"
    )
    parser.add_argument("--out", type=Path, help="where to (default: FILE with .sig)")


def run(args: argparse.Namespace) -> int:
    from edgeagent.mesh.key_files import NODE_KEY, load_private_key

    folder = os.environ.get(KEYS_VARIABLE, "")
    if not folder:
        raise BadRequest(
            "functions are signed with an operator's keys",
            hint="name a folder by --keys, or in EDGEAGENT_KEYS (edgeagent keys issue CLUSTER --operator NAME)",
        )
    wasm, manifest, _ = module_of(args)
    document = sign_function(
        hashlib.sha256(wasm).hexdigest(), manifest, load_private_key(Path(folder) / NODE_KEY)
    )
    out = args.out or args.file.with_suffix(".sig")
    try:
        out.write_bytes(document + b"\n")
    except OSError as error:
        raise BadRequest(f"cannot write {out}: {error.strerror}") from None
    made = read_signature(document)
    name = manifest.function.name
    if args.json:
        print_json(
            {
                "ok": True,
                "function": name,
                "file": str(out),
                "sha256": made.sha256,
                "manifest_sha256": made.manifest_sha256,
                "key": made.key,
            }
        )
    else:
        print(
            f"{out}: {name} ({made.sha256[:12]}, manifest {made.manifest_sha256[:12]}) signed by {made.key}"
        )
    return 0
