"""Cases of the corpus again, written differently: what means the same must be classed the same.

Python: names, aliases and forms of imports change, top-level definitions change places where they may, comments and
strings that mention devices come in, and code that nobody calls. Modules: functions that nobody calls, instructions
without effect, sections of names. Graphs: other names, nodes that lead nowhere, descriptions. All drawn from a seed.
"""

from __future__ import annotations

import ast
import builtins
import random
import re

import msgspec

from edgeagent.accel.python_names import ENTRY_NAMES
from edgeagent.bench.accel_corpus import LabelledCase

__all__ = ["varied"]

_SYLLABLES = ("ba", "ko", "li", "mu", "ne", "ro", "si", "tu", "ve", "za")
_DEAD_PYTHON = '''
def _unused_{name}(x):
    """Never called."""
    import torch
    return torch.zeros(9999, 9999).to("cuda") @ x
'''
_COMMENT = "# {name}: .to('cuda') import torch; model.cuda()\n_note_{name} = 'device=cuda:0 torch.rand(9999, 9999)'\n"
_WAT_END = re.compile(r"\)\s*$")


def varied(case: LabelledCase, seed: int) -> LabelledCase:
    """The case under the same label."""
    rng = random.Random(f"{seed}/{case.kind}/{case.name}")
    write = {"python": _python, "wasm": _wasm, "onnx": _onnx}[case.kind]
    return msgspec.structs.replace(case, name=f"{case.name}~{seed}", text=write(case.text, rng))


def _word(rng: random.Random) -> str:
    return "".join(rng.choices(_SYLLABLES, k=4))


# -- Python --------------------------------------------------------------------------------------------------


def _python(text: str, rng: random.Random) -> str:
    tree = ast.parse(text)
    tree.body = [new for one in tree.body for new in _imports(one, rng)]
    _Renamer(tree, rng).visit(tree)
    tree.body = _shuffled(tree.body, rng)
    source = ast.unparse(ast.fix_missing_locations(tree))
    name = _word(rng)
    extra = _COMMENT.format(name=name) if rng.random() < 0.7 else ""
    dead = _DEAD_PYTHON.format(name=name) if rng.random() < 0.7 and _has_handler(tree) else ""
    return f"{extra}{source}\n{dead}"


def _has_handler(tree: ast.Module) -> bool:
    return any(isinstance(one, ast.FunctionDef) and one.name in ENTRY_NAMES for one in tree.body)


def _imports(node: ast.stmt, rng: random.Random) -> list[ast.stmt]:
    """``import a.b as c`` and ``from a import b as c`` are the same; an import of several is several imports."""
    if isinstance(node, ast.Import) and len(node.names) > 1:
        return [ast.Import([one]) for one in node.names]
    if isinstance(node, ast.Import) and rng.random() < 0.5:
        module, _, last = node.names[0].name.rpartition(".")
        if module and node.names[0].asname:
            return [ast.ImportFrom(module, [ast.alias(last, node.names[0].asname)], 0)]
    if isinstance(node, ast.ImportFrom) and len(node.names) > 1 and rng.random() < 0.5:
        return [ast.ImportFrom(node.module, [one], node.level) for one in node.names]
    return [node]


def _shuffled(body: list[ast.stmt], rng: random.Random) -> list[ast.stmt]:
    """Imports among themselves, and runs of definitions that run nothing where they stand."""
    runs: list[list[ast.stmt]] = []
    kinds: list[type] = []
    for one in body:
        kind = ast.Import if isinstance(one, ast.Import | ast.ImportFrom) else type(one)
        is_plain = kind is ast.Import or (isinstance(one, ast.FunctionDef) and not one.decorator_list)
        if is_plain and kinds and kinds[-1] is kind and not _has_defaults(one):
            runs[-1].append(one)
        else:
            runs.append([one])
            kinds.append(kind if is_plain else type(None))
    for run in runs:
        rng.shuffle(run)
    return [one for run in runs for one in run]


def _has_defaults(node: ast.stmt) -> bool:
    return isinstance(node, ast.FunctionDef) and bool(node.args.defaults)


class _Renamer(ast.NodeTransformer):
    """Every name that the program makes itself becomes another one; what is called from outside keeps its own."""

    def __init__(self, tree: ast.Module, rng: random.Random) -> None:
        made: set[str] = set()
        keywords = {
            word.arg for node in ast.walk(tree) if isinstance(node, ast.Call) for word in node.keywords
        }
        for node in ast.walk(tree):
            if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
                made.add(node.id)
            elif (isinstance(node, ast.FunctionDef) and not _is_method(tree, node)) or isinstance(
                node, ast.ClassDef
            ):
                made.add(node.name)
            elif isinstance(node, ast.arg):
                made.add(node.arg)
            elif isinstance(node, ast.alias):
                made.add((node.asname or node.name).split(".")[0])
        made -= _fields(tree)  # read as attributes, which keep their names
        made -= ENTRY_NAMES | set(dir(builtins)) | {word for word in keywords if word} | {"*"}
        self._names = {name: f"{_word(rng)}_{place}" for place, name in enumerate(sorted(made))}

    def visit_Name(self, node: ast.Name) -> ast.Name:
        node.id = self._names.get(node.id, node.id)
        return node

    def visit_arg(self, node: ast.arg) -> ast.arg:
        node.arg = self._names.get(node.arg, node.arg)
        return self.generic_visit(node)  # type: ignore[return-value]

    def visit_ClassDef(self, node: ast.ClassDef) -> ast.AST:
        node.name = self._names.get(node.name, node.name)
        return self.generic_visit(node)

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        node.name = self._names.get(node.name, node.name)
        return self.generic_visit(node)

    def visit_Import(self, node: ast.Import) -> ast.Import:
        for one in node.names:
            if one.asname or "." not in one.name:
                bound = (one.asname or one.name).split(".")[0]
                one.asname = self._names.get(bound, bound)
            else:  # "import a.b" binds a
                self._names.pop(one.name.split(".")[0], None)
        return node

    def visit_ImportFrom(self, node: ast.ImportFrom) -> ast.ImportFrom:
        for one in node.names:
            if one.name != "*":
                bound = one.asname or one.name
                one.asname = self._names.get(bound, bound)
        return node


def _fields(tree: ast.Module) -> set[str]:
    """What classes give names to in their bodies, beside methods."""
    return {
        name.id
        for one in ast.walk(tree)
        if isinstance(one, ast.ClassDef)
        for field in one.body
        if isinstance(field, ast.Assign | ast.AnnAssign)
        for name in ast.walk(field)
        if isinstance(name, ast.Name) and isinstance(name.ctx, ast.Store)
    }


def _is_method(tree: ast.Module, function: ast.FunctionDef) -> bool:
    return any(isinstance(one, ast.ClassDef) and function in one.body for one in ast.walk(tree))


# -- modules -------------------------------------------------------------------------------------------------


def _wasm(text: str, rng: random.Random) -> str:
    name = _word(rng)
    for known in sorted(set(re.findall(r"\$[a-z]\w*", text))):
        text = re.sub(rf"\{known}\b", f"${_word(rng)}{known[1:]}", text)
    noise = "nop " * rng.randint(1, 3)
    text = re.sub(r'\(func \(export "_start"\)(?! \(local)', lambda found: f"{found[0]} {noise}", text)
    unused = f"(func ${name} (param f32) (result f32) (f32.mul (local.get 0) (f32.const {rng.random():.3f})))"
    if "$call" in text or "call" in text:
        unused += f" (func (drop (call ${name} (f32.const 1))))"
    if rng.random() < 0.5 and "(data" in text:
        unused += f' (data (i32.const 60000) "cuda {name} edge_accel")'
    return _WAT_END.sub(f"  {unused})\n", text)


# -- graphs --------------------------------------------------------------------------------------------------


def _onnx(text: str, rng: random.Random) -> str:
    lines = [line.split() for line in text.splitlines()]
    kept = {"_", "->"}
    names = {
        name: f"{_word(rng)}_{place}"
        for place, name in enumerate(sorted({name for words in lines for name in _named(words)} - kept))
    }
    out = [
        " ".join(
            names.get(word, word) if place >= _FIRST_NAME.get(words[0], len(words)) else word
            for place, word in enumerate(words)
        )
        for words in lines
    ]
    blocks, rest = _blocks(out)
    heads = [line for line in rest if not line.startswith(("node", "output"))]
    rng.shuffle(heads)
    ends = [line for line in rest if line.startswith(("node", "output"))]
    first = next(line for line in heads if line.startswith("input")).split()[1]
    dead = f"init {_word(rng)}_w 4096x4096\nnode Relu {first} -> {_word(rng)}_dead"
    return "\n".join([*blocks, *heads, dead, *ends]) + "\n"


# At which word of a line the names begin; other lines have none.
_FIRST_NAME = {"input": 1, "init": 1, "ints": 1, "floats": 1, "output": 1, "node": 2, "function": 2}


def _named(words: list[str]) -> list[str]:
    first = _FIRST_NAME.get(words[0])
    if first is None:
        return []
    last = len(words) if words[0] in ("node", "function", "output") else first + 1
    return [word for word in words[first:last] if "=" not in word]


def _blocks(lines: list[str]) -> tuple[list[str], list[str]]:
    """Graphs and functions inside, and the rest."""
    inside: list[str] = []
    rest: list[str] = []
    within = False
    for line in lines:
        within = within or line.startswith(("graph ", "function "))
        (inside if within else rest).append(line)
        within = within and line != "end"
    return inside, rest
