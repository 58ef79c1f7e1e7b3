"""Whether a call asks for a GPU: always, on some paths, or not."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

from edgeagent.accel.python_names import GPU_PROVIDERS, asks_for_gpu, is_gpu_name, words
from edgeagent.accel.python_values import Array, Const, Instance, Layer, Method, Ref, Value, integer, options
from edgeagent.accel.python_values import Sequence as Written

__all__ = ["GPU_DEVICE", "Asked", "asked_by_function", "asked_by_method", "device_of"]

Asked = Literal["always", "maybe", "no"]

_KEYS = (
    "device",
    "device_type",
    "device_name",
    "device_map",
    "map_location",
    "backend",
    "target",
    "platform",
)
# What torch.device("cuda") and the like give.
GPU_DEVICE = Const("cuda")
_NUMBERS_ARE_GPUS = words("to pipeline cuda set_device predict train device_put")


def device_of(value: Value, *, numbers: bool = False) -> Asked:
    """Whether a value names a GPU; ``numbers``: as 0 does where a device is meant."""
    named = [_is_gpu(one, numbers) for one in options(value)]
    if all(named):
        return "always"
    return "maybe" if any(named) else "no"


def _is_gpu(value: Value, numbers: bool) -> bool:
    if isinstance(value, Const):
        if isinstance(value.value, str):
            return is_gpu_name(value.value)
        number = integer(value)
        return numbers and number is not None and not isinstance(value.value, bool) and number >= 0
    if isinstance(value, Written):
        return bool(value.items) and _is_gpu(value.items[0], numbers)
    return isinstance(value, Ref) and (value.path.startswith("torch.cuda.") or value.path == "mxnet.gpu")


def _most(asked: Sequence[Asked]) -> Asked:
    return "always" if "always" in asked else "maybe" if "maybe" in asked else "no"


def _keywords(keywords: Mapping[str, Value], numbers: bool) -> list[Asked]:
    found: list[Asked] = [device_of(keywords[key], numbers=numbers) for key in _KEYS if key in keywords]
    if "accelerator" in keywords:
        found.append(device_of(keywords["accelerator"]))
    automatic = keywords.get("device_map")
    if isinstance(automatic, Const) and automatic.value == "auto":
        found.append("maybe")
    method = keywords.get("tree_method")
    if isinstance(method, Const) and method.value == "gpu_hist":
        found.append("always")
    if "providers" in keywords:
        found.append(_providers(keywords["providers"]))
    return found


def _providers(value: Value) -> Asked:
    """An execution provider of a GPU; one of the CPU beside it is where a runtime falls back to."""
    found: list[Asked] = []
    for one in options(value):
        items = one.items if isinstance(one, Written) else ()
        names = [item.items[0] if isinstance(item, Written) and item.items else item for item in items]
        texts = [name.value for name in names if isinstance(name, Const)]
        has_gpu = any(text in GPU_PROVIDERS for text in texts)
        whole = bool(items) and len(texts) == len(items) and all(text in GPU_PROVIDERS for text in texts)
        found.append("always" if whole else "maybe" if has_gpu else "no")
    return "always" if all(one == "always" for one in found) else "no" if set(found) == {"no"} else "maybe"


def asked_by_function(path: str, args: Sequence[Value], keywords: Mapping[str, Value]) -> Asked:
    """A call of a library's function or class, by its full name."""
    name = path.rsplit(".", 1)[-1]
    numbers = name in _NUMBERS_ARE_GPUS or path.startswith(("torch.", "transformers."))
    asked = _keywords(keywords, numbers)
    by_name = asks_for_gpu(path)
    if by_name or (name == "cuda" and args):
        asked.append("always")
    elif by_name is None:
        asked.extend(device_of(keywords[key]) for key in ("type", "device_name", "name") if key in keywords)
        place = 1 if path == "jax.config.update" else 0
        asked.extend(device_of(one, numbers=path == "torch.device") for one in args[place : place + 1])
    elif path == "onnxruntime.InferenceSession" and len(args) > 2:
        asked.append(_providers(args[2]))
    elif path == "jax.device_put" and len(args) > 1:
        asked.append(device_of(args[1]))
    return _most(asked)


def asked_by_method(owner: Value, name: str, args: Sequence[Value], keywords: Mapping[str, Value]) -> Asked:
    """A call of a method: ``.cuda()``, ``.to("cuda")``, and device= of what is like an array or a model."""
    if isinstance(owner, Const | Written):
        return "no"
    if name == "cuda":
        return "always"
    may_be_array = (
        owner is None or isinstance(owner, Array | Layer | Instance | Method | Ref) or len(options(owner)) > 1
    )
    if not may_be_array:
        return "no"
    asked = _keywords(keywords, numbers=name in _NUMBERS_ARE_GPUS)
    if name in ("to", "type"):
        asked.extend(device_of(one, numbers=not isinstance(owner, Const)) for one in args[:1])
    if name == "set_providers":
        asked.extend(_providers(one) for one in args[:1])
    if name == "compile_model":
        asked.extend(device_of(one) for one in args[1:2])
    if name in ("setPreferableTarget", "setPreferableBackend"):
        asked.extend("always" for one in args[:1] if isinstance(one, Ref) and "CUDA" in one.path)
    return _most(asked)
