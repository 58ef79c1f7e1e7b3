"""What a Python program makes in order to call it: layers and chains of them, networks, and functions with something
around them.
"""

from __future__ import annotations

import ast
from abc import ABC, abstractmethod

import msgspec

from edgeagent.accel.python_comprehensions import Comprehensions
from edgeagent.accel.python_layers import apply_layer
from edgeagent.accel.python_loops import ITEMS_MAX
from edgeagent.accel.python_names import words
from edgeagent.accel.python_networks import make_layer, network_of
from edgeagent.accel.python_record import Record
from edgeagent.accel.python_values import Array, Layer, Sequence, Symbol, Table, Value, integer, options

__all__ = ["Made"]

# A backward pass is about two more.
_GRADIENT_FACTOR = 3.0
_WRAPPERS = words("jit pmap compile njit checkpoint remat script trace")
_CALLED = words("predict predict_on_batch predict_step forward __call__ call apply")
_GRADIENTS = words("grad value_and_grad jacrev jacfwd vjp")


class Made(Comprehensions, ABC):
    """Calling what is called is the subclass's."""

    def __init__(self, record: Record) -> None:
        super().__init__(record)
        self._symbols = 0

    @abstractmethod
    def call(self, target: Value, args: list[Value], keywords: dict[str, Value], node: ast.AST) -> Value: ...

    def make(self, path: str, args: list[Value], keywords: dict[str, Value]) -> Value:
        """What a library's function makes of a function or a layer, or the layer that it makes; None: nothing."""
        name = path.rsplit(".", 1)[-1]
        first = args[0] if args else None
        if name == "vmap" and args:
            return Layer("each", parts=(first,))
        if name in _GRADIENTS and args and not isinstance(first, Array):
            return Layer("times", parts=(first,))
        if name in _WRAPPERS and args:
            return first
        if name == "Model" and (network := network_of(args, keywords)) is not None:
            return network
        made = make_layer(path, args, keywords)
        is_new = isinstance(made, Layer) and not made.name
        return msgspec.structs.replace(made, name=name) if is_new and isinstance(made, Layer) else made

    def call_made(self, made: Layer, args: list[Value], keywords: dict[str, Value], node: ast.AST) -> Value:
        first = args[0] if args else next(iter(keywords.values()), None)
        if made.kind == "partial":
            given, named = made.parts[1], made.parts[2]
            before = list(given.items) if isinstance(given, Sequence) else []
            names = {str(key): one for key, one in named.items.items()} if isinstance(named, Table) else {}
            return self.call(made.parts[0], [*before, *args], {**names, **keywords}, node)
        if made.kind == "each":
            return self._each(made.parts[0], args, keywords, node)
        if made.kind == "times":
            with self.record.repeated(_GRADIENT_FACTOR, is_loop=False):
                self.call(made.parts[0], args, keywords, node)
            return first if isinstance(first, Array) else None
        if made.kind == "chain":
            value = first
            for part in made.parts:
                self.record.step()
                value = self.call(part, [value], {}, node)
            return value
        array = next((one for one in options(first) if isinstance(one, Array | Symbol | Sequence)), None)
        symbols = [
            one
            for one in (array.items if isinstance(array, Sequence) else (array,))
            if isinstance(one, Symbol)
        ]
        if symbols:
            return self._symbolic(made, symbols, is_list=isinstance(array, Sequence))
        value, work, exact = apply_layer(made, array)
        if not exact:
            self.record.unknown(node)
        if not exact and not work:
            return value
        return self.spend(node, made.name or made.kind, (value, work))

    def of_symbols(self, name: str, args: list[Value]) -> Value:
        """A function of tensors of a network under construction; None: it is given none."""
        first = args[0] if args else None
        given = first.items if isinstance(first, Sequence) else args
        symbols = [one for one in given if isinstance(one, Symbol)]
        if not symbols or name[:1].isupper():
            return None
        return self._symbolic(Layer("join" if "concat" in name else "sum"), symbols, is_list=True)

    def _symbolic(self, made: Layer, symbols: list[Symbol], *, is_list: bool) -> Value:
        """A layer of a network that is only put together: nothing runs yet."""
        arrays: list[Value] = [one.array for one in symbols]
        value, work, _ = apply_layer(made, Sequence(tuple(arrays)) if is_list else arrays[0])
        value = value.items[0] if isinstance(value, Sequence) and value.items else value
        if not isinstance(value, Array):
            return None
        self._symbols += 1
        before = frozenset().union(*(one.made_by for one in symbols))
        self.record.copy(len(before))
        return Symbol(value, before | {(self._symbols, work)})

    def _each(self, part: Value, args: list[Value], keywords: dict[str, Value], node: ast.AST) -> Value:
        """``vmap``: for each of the first index."""
        arrays = [one for one in args if isinstance(one, Array) and one.shape]
        rows: list[Value] = [
            Array(one.shape[1:], one.item_bytes) if isinstance(one, Array) and one.shape else one
            for one in args
        ]
        times = arrays[0].shape[0] if arrays else None
        with self.record.repeated(times or 1, known=times is not None, is_loop=False):
            value = self.call(part, rows, keywords, node)
        return Array((times, *value.shape), value.item_bytes) if isinstance(value, Array) else None

    def call_made_method(
        self, owner: Layer, name: str, args: list[Value], keywords: dict[str, Value], node: ast.AST
    ) -> Value:
        """``model.predict(x)`` and training of what was made."""
        if name in _CALLED:
            return self.call_made(owner, args, keywords, node)
        if name in ("fit", "train_on_batch"):
            rounds = integer(keywords.get("epochs")) or 1
            with self.record.repeated(_GRADIENT_FACTOR * rounds, is_loop=False):
                self.call_made(owner, args[:1], {"x": keywords.get("x")}, node)
        return None

    def shrunk(self, owner: Value, name: str, args: list[Value]) -> tuple[Value, Value] | None:
        """``items.pop()``: what comes out, and the list that stays; None: it is no such call."""
        if name != "pop" or args or not isinstance(owner, Sequence) or not owner.items:
            return None
        return owner.items[-1], self.listed(owner.items[:-1])

    def grown(self, owner: Value, name: str, args: list[Value]) -> Value:
        """A list, or a chain of layers, with more in it; None: it is no such call."""
        first = args[0] if args else None
        if isinstance(owner, Layer) and owner.kind == "chain":
            part = args[1] if name == "add_module" and len(args) > 1 else first
            if name not in ("add", "append", "add_module") or len(owner.parts) >= ITEMS_MAX:
                return None
            self.record.copy(len(owner.parts))
            return Layer("chain", parts=(*owner.parts, part))
        if not isinstance(owner, Sequence):
            return None
        if name == "append":
            more: tuple[Value, ...] = (first,)
        elif name in ("extend", "__iadd__") and isinstance(first, Sequence):
            more = first.items
        elif name == "insert" and integer(first) == 0 and len(args) > 1:
            return self.listed((args[1], *owner.items))
        else:
            return None
        return self.listed((*owner.items, *more))
