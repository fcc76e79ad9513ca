"""What the tests of hostile files share: payloads that leave a trace where they are executed."""

from __future__ import annotations

import builtins
import io
import json
import os
import pickle
import subprocess
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

REFUSED = "refused in one line, and nothing of it is executed"
SECRET = "a-secret-of-the-environment"
_DEEP = 100_000

#: Text files that are no JSON object, or one that has nothing a run writes.
NOT_JSON: dict[str, bytes] = {
    "empty": b"",
    "html": b"<!doctype html><script>alert(1)</script>",
    "not utf-8": b"\xff\xfe\x00{",
    "nul": b"\0" * 64,
    "list": b"[1, 2]",
    "deep list": b"[" * _DEEP + b"]" * _DEEP,
    "deep object": b'{"schema":' * _DEEP + b"1" + b"}" * _DEEP,
    "long number": b'{"schema": ' + b"9" * 5000 + b"}",
    "python": b"__import__('os').system('true')",
}


class Call:
    """Pickled as a call of `function`, which unpickling makes."""

    def __init__(self, function: Callable[..., Any], *arguments: Any) -> None:
        self._reduced = function, arguments

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return self._reduced


@dataclass(frozen=True)
class Sentinel:
    """A file that comes to be where a payload is executed."""

    path: Path

    @property
    def command(self) -> str:
        return f"touch {self.path}"

    def calls(self) -> dict[str, Call]:
        return {
            "os.system": Call(os.system, self.command),
            "exec": Call(builtins.exec, f"open({str(self.path)!r}, 'w').close()"),
            "eval": Call(builtins.eval, f"open({str(self.path)!r}, 'w')"),
            "Popen": Call(subprocess.Popen, ["touch", str(self.path)]),
            "mkdir": Call(os.mkdir, str(self.path)),
        }

    def pickles(self) -> dict[str, bytes]:
        """Plain pickles, in the protocols' different words."""
        made = {
            f"{name}, protocol {protocol}": pickle.dumps({"step": call}, protocol)
            for name, call in self.calls().items()
            for protocol in (0, 2, 4)
        }
        typed = self.command.encode()
        made["global"] = b"cos\nsystem\n(S'" + typed + b"'\ntR."
        made["inst"] = b"(S'" + typed + b"'\nios\nsystem\n."
        return made

    def check(self) -> None:
        assert not self.path.exists(), "the payload was executed"


def torch_files(content: object) -> dict[str, bytes]:
    """`content` in each format that torch has written."""
    made = {}
    for name, zipped in (("zip", True), ("legacy", False)):
        memory = io.BytesIO()
        torch.save(content, memory, _use_new_zipfile_serialization=zipped)
        made[name] = memory.getvalue()
    memory = io.BytesIO(made["zip"])
    with zipfile.ZipFile(memory, "a") as archive:  # taken for TorchScript, which brings code
        folder = archive.namelist()[0].split("/")[0]
        archive.writestr(f"{folder}/constants.pkl", pickle.dumps(content))
    return {**made, "torchscript": memory.getvalue()}


def npy(header: str, content: bytes = b"", version: bytes = b"\1\0") -> bytes:
    """An array file with any header."""
    packed = header.encode("latin1")
    length = len(packed).to_bytes(2 if version == b"\1\0" else 4, "little")
    return b"\x93NUMPY" + version + length + packed + content


def object_array(content: object) -> bytes:
    """An ``.npy`` file of objects, which numpy keeps as a pickle."""
    memory = io.BytesIO()
    array = np.empty(1, object)
    array[0] = content
    np.save(memory, array, allow_pickle=True)
    return memory.getvalue()


def npz_files(sentinel: Sentinel, name: str) -> dict[str, bytes]:
    """Files in place of an ``.npz`` whose array `name` is read."""
    members = {f"object, {kind}": object_array(call) for kind, call in sentinel.calls().items()}
    shape = "{'descr': '|u1', 'fortran_order': False, 'shape': %s}"
    members |= {
        "no array": b"import os",
        "absurd shape": npy(shape % "(2**62,)".replace("2**62", str(2**62))),
        "overflowing shape": npy(shape % f"({2**40}, {2**40})"),
        "negative shape": npy(shape % "(-1,)"),
        "code in the header": npy(f"__import__('os').system({sentinel.command!r})"),
        "deep header": npy("(" * 3000),
        "cut header": npy("{'descr': '|u1"),
        "no type": npy("{'descr': 5, 'fortran_order': 7, 'shape': 'x'}"),
        "version": npy(shape % "(1,)", version=b"\7\7"),
    }
    made = {kind: zipped({f"{name}.npy": member}) for kind, member in members.items()}
    made |= {f"plain pickle, {kind}": sentinel.pickles()[kind] for kind in ("os.system, protocol 4", "inst")}
    made["bare array of objects"] = object_array(sentinel.calls()["os.system"])
    made["outside"] = zipped({f"../../{name}.npy": b"", f"/{name}.npy": b""})
    return made


def zipped(members: dict[str, bytes]) -> bytes:
    memory = io.BytesIO()
    with zipfile.ZipFile(memory, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return memory.getvalue()


def odd_files(path: Path) -> dict[str, Callable[[], None]]:
    """What can stand at `path` and is no file; each is made when it is called."""
    return {
        "folder": path.mkdir,
        "pipe": lambda: os.mkfifo(path),
        "link to itself": lambda: path.symlink_to(path),
        "link to nothing": lambda: path.symlink_to(path.parent / "nothing"),
        "device": lambda: path.symlink_to("/dev/zero"),
    }


def remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        path.rmdir()
    else:
        path.unlink(missing_ok=True)


def one_line(said: str, program: str) -> str:
    """What a command said, which must be one line that a terminal shows as it is."""
    text = said.rstrip("\n")
    assert text.startswith(f"{program}: "), text
    assert text.isprintable(), text
    return text


def changed(result: Path, **fields: object) -> str:
    """A ``result.json`` with other fields."""
    return json.dumps({**json.loads(result.read_text()), **fields})
