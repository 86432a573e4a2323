"""Objects as trees of plain values, and put back into objects of the same kinds.

A tree holds dicts, lists, numbers, texts and arrays: nothing in it is ever called. So
it can only fill what has been built already, and says where it doesn't fit.
"""

import dataclasses
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from ptystream.errors import FileFormatError
from ptystream.models.field import Box

KIND = "@"
"""The key under which a tree says what it is the tree of."""
_PLUMBING = set(vars(nn.Module())) - {"_parameters", "_buffers", "_modules"}
_NOTHING = object()


def tree_of(thing: object, *, without: frozenset[str] = frozenset()) -> Any:
    """Return what an object of this package holds, copied to the host.

    Left out are attributes named in ``without``, frozen options, functions, and what
    was met before: an optimiser's parameters are those of its field.
    """
    return _tree(thing, without, {})


def fill(thing: object, tree: Any, device: torch.device) -> None:
    """Put a tree into an object of the same kinds; tensors go to the device.

    Raises:
        FileFormatError: it doesn't fit; part of it may be filled by then.
    """
    _filled(thing, tree, type(thing).__name__, device)


def _tree(value: object, without: frozenset[str], met: dict[int, object]) -> Any:
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, Box):
        return {KIND: "Box", "at": list(value)}
    if id(value) in met:
        return _NOTHING
    met[id(value)] = value
    if isinstance(value, Tensor):
        # A copy, always: the engine goes on while this is written.
        host = value.detach().to("cpu", copy=True).contiguous()
        return {KIND: "Tensor", "values": host.numpy()}
    if isinstance(value, np.ndarray):
        return value.copy()
    if isinstance(value, torch.optim.Optimizer):
        return {KIND: "Optimizer", "state": _tree(value.state_dict(), without, met)}
    if isinstance(value, list | tuple):
        items = cast("list[object]", list(value))
        return [None if t is _NOTHING else t for t in _trees(items, without, met)]
    parts = value if isinstance(value, dict) else _parts(value)
    if parts is None:
        return _NOTHING
    names = [name for name in parts if name not in without]
    trees = _trees([parts[name] for name in names], without, met)
    kept = {n: t for n, t in zip(names, trees, strict=True) if t is not _NOTHING}
    return kept if isinstance(value, dict) else {KIND: type(value).__name__, **kept}


def _trees(
    values: list[object], without: frozenset[str], met: dict[int, object]
) -> list[Any]:
    return [_tree(value, without, met) for value in values]


def _parts(value: object) -> dict[str, object] | None:
    """Return the attributes of one of our objects, or a module; None of any other."""
    module = isinstance(value, nn.Module)
    if not (module or type(value).__module__.startswith("ptystream.")):
        return None
    if not hasattr(value, "__dict__") or isinstance(value, type):
        return None
    if dataclasses.is_dataclass(value):
        return None  # options, and other values that never change
    return {k: v for k, v in vars(value).items() if not module or k not in _PLUMBING}


def _filled(old: Any, tree: Any, where: str, device: torch.device) -> Any:
    """Return what is to stand in the old one's place: itself, if it can be filled."""
    if isinstance(tree, np.ndarray):
        return tree.copy()
    if isinstance(tree, list):
        return _filled_items(old, cast("list[Any]", tree), where, device)
    if not isinstance(tree, dict):
        return tree
    kind, parts = tree.get(KIND), cast("dict[Any, Any]", tree)
    if kind == "Box":
        return Box(*tree["at"])
    if kind == "Tensor":
        return _filled_tensor(old, tree["values"], where, device)
    if kind == "Optimizer" and isinstance(old, torch.optim.Optimizer):
        old.load_state_dict(_filled(old.state_dict(), tree["state"], where, device))
        return old
    if kind is None:
        into = cast("dict[Any, Any]", old) if isinstance(old, dict) else {}
    elif type(old).__name__ == kind:
        into = vars(old)
    else:
        raise FileFormatError(f"{where}: {kind} in place of a {type(old).__name__}")
    for name, part in parts.items():
        if name != KIND:
            into[name] = _filled(into.get(name), part, f"{where}.{name}", device)
    return into if kind is None else old


def _filled_items(old: Any, tree: list[Any], where: str, device: torch.device) -> Any:
    """Fill a list's items in place, so that whoever shares it sees them."""
    known = list(old) if isinstance(old, list | tuple) else [None] * len(tree)
    if len(known) != len(tree):
        raise FileFormatError(f"{where}: {len(tree)} items, expected {len(known)}")
    for n, part in enumerate(tree):
        if part is not None:
            known[n] = _filled(known[n], part, f"{where}[{n}]", device)
    if isinstance(old, list):
        old[:] = known
        return cast("list[Any]", old)
    return known if old is None else old


def _filled_tensor(
    old: Any, values: np.ndarray, where: str, device: torch.device
) -> Tensor:
    """Return the values on the device; a parameter keeps its identity."""
    tensor = torch.from_numpy(values.copy()).to(device)
    if not isinstance(old, nn.Parameter):
        return tensor
    if old.shape != tensor.shape or old.dtype != tensor.dtype:
        raise FileFormatError(
            f"{where}: {tensor.dtype} {tuple(tensor.shape)}, "
            f"expected {old.dtype} {tuple(old.shape)}"
        )
    old.data = tensor
    return old
