"""What the shipped code may do, read off its source: no network, no processes, no code from text or files, no files at all, and
nothing at import but definitions and constants.

Modules are allowed by name, so that what nobody has thought of is not.
"""
from __future__ import annotations

import ast
from collections.abc import Iterator

import pytest
import shipped

MODULES = frozenset({
    "__future__", "bisect", "collections", "contextlib", "contextvars", "copy", "dataclasses", "difflib", "functools",
    "importlib", "inspect", "itertools", "logging", "math", "numbers", "operator", "re", "sys", "types", "typing",
    "unicodedata", "weakref",
    "comfy", "comfy_api", "comfy_execution", "einops", "safetensors", "torch", "typing_extensions",
})  # fmt: skip
NAMES = frozenset({"__builtins__", "__import__", "__loader__", "breakpoint", "compile", "delattr", "eval", "exec", "globals",
                   "input", "locals", "open", "print", "vars"})
"""Builtins that run text as code, reach files or the terminal, or reach the others."""

ATTRIBUTES = frozenset({"__builtins__", "__loader__", "__subclasses__", "addHandler", "basicConfig", "connect", "cpp_extension",
                        "distributed", "from_file", "hub", "load", "load_file", "load_library", "load_torch_file", "loads",
                        "mkdir", "open", "package", "popen", "read_bytes", "read_text", "save", "save_file", "save_torch_file",
                        "serialization", "setLevel", "spawn", "system", "unlink", "urlopen", "write", "write_bytes",
                        "write_text"})  # fmt: skip
"""Of torch, comfy and what else can be imported: files, other processes, downloads, the settings of logging."""

AT_IMPORT = (ast.Import, ast.ImportFrom, ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Assign, ast.AnnAssign)
CALLS_AT_IMPORT = frozenset({
    "ContextVar", "OrderedDict", "SimpleNamespace", "TypeVar", "dataclass", "field", "frozenset", "getattr",
    "logging.getLogger", "re.compile", "torch.compiler.disable", "tuple",
    # as decorators without a call
    "cache", "classmethod", "contextmanager", "override", "property", "torch.compiler.assume_constant_result",
})  # fmt: skip
"""Beside functions and classes of the pack itself, whose code is read here too."""

PERMITTED = {
    ("nodes/glue/attention/notes.py", "re.sub"): "the pack's name, in the operator's",
    ("nodes/glue/attention/notes.py", "torch.library.custom_op"): "a note that torch.compile takes into its graph as it is",
    ("nodes/glue/attention/notes.py", "_in_graph.register_fake"): "the same: it gives nothing",
    ("nodes/glue/families/__init__.py", "import_module"): "an adapter, by a name in FAMILIES and within its own package",
    ("nodes/glue/families/unseen.py", "FunctionType"): "an attention's own code, with one name bound anew",
    ("nodes/glue/families/unknown.py", "vars"): "the methods of a model's layers, to read what they call",
}
"""(file, name) -> what it is for. Nowhere else."""

DYNAMIC = frozenset({"import_module", "FunctionType", "CodeType"})


def audit(source: str, path: str = "nodes/new.py") -> list[str]:
    """What a source may not do, as lines for who reads the failure."""
    tree = ast.parse(source)
    found = [*_everywhere(tree), *_at_import(tree)]
    return [f"{path}:{line}: {what}" for line, what, name in found if (path, name) not in PERMITTED]


def _everywhere(tree: ast.Module) -> Iterator[tuple[int, str, str]]:
    for node in ast.walk(tree):
        line = getattr(node, "lineno", 0)
        if isinstance(node, ast.Import | ast.ImportFrom):
            for name in _modules(node):
                if name.split(".")[0] not in MODULES:
                    yield line, f"imports {name}", name
            for alias in node.names:
                last = alias.name.split(".")[-1]
                if last in ATTRIBUTES | {"import_module"}:
                    yield line, f"imports {alias.name}", last
        elif isinstance(node, ast.Name) and node.id in NAMES and isinstance(node.ctx, ast.Load):
            yield line, f"uses {node.id}", node.id
        elif isinstance(node, ast.Attribute):
            if node.attr in ATTRIBUTES or (ast.unparse(node.value) == "sys" and node.attr != "modules"):
                yield line, f"uses {ast.unparse(node)}", node.attr
        elif isinstance(node, ast.Call):
            name = ast.unparse(node.func).split(".")[-1]
            if name in DYNAMIC:
                yield line, f"calls {name}", name


def _modules(node: ast.Import | ast.ImportFrom) -> list[str]:
    """Absolute names of what is imported; within the pack, none."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    return [] if node.level else [node.module]


def _at_import(tree: ast.Module) -> Iterator[tuple[int, str, str]]:
    own = {node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.ClassDef)}
    own |= {node.name for cls in tree.body if isinstance(cls, ast.ClassDef) for node in cls.body
            if isinstance(node, ast.FunctionDef)}  # a property's setter
    own |= {alias.asname or alias.name for node in tree.body if isinstance(node, ast.ImportFrom) and node.level
            for alias in node.names}
    for node in _run(tree.body):
        if isinstance(node, ast.stmt) and not isinstance(node, AT_IMPORT) and not _is_text(node):
            yield node.lineno, f"at import: {ast.unparse(node)[:60]}", ""
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            names = [n for t in targets for n in (t.elts if isinstance(t, ast.Tuple) else [t])]
            if not all(isinstance(n, ast.Name) for n in names):
                yield node.lineno, f"at import, changes what is not its own: {ast.unparse(node)[:60]}", ""
        called = [node.func] if isinstance(node, ast.Call) else [
            d for d in getattr(node, "decorator_list", ()) if not isinstance(d, ast.Call)]
        for name in map(ast.unparse, called):
            if name not in CALLS_AT_IMPORT and name.split(".")[0] not in own:
                yield node.lineno, f"at import, calls {name}", name
        if isinstance(node, ast.Await | ast.Yield | ast.YieldFrom | ast.NamedExpr):
            yield node.lineno, f"at import: {ast.unparse(node)[:60]}", ""


def _is_text(node: ast.stmt) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)


def _run(nodes: list[ast.AST]) -> Iterator[ast.AST]:
    """All that Python evaluates when it imports these: not the bodies of functions, nor annotations (they stay text)."""
    for node in nodes:
        yield node
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            defaults = [d for d in (*node.args.defaults, *node.args.kw_defaults) if d is not None]
            yield from _run([*node.decorator_list, *defaults])
        elif isinstance(node, ast.Lambda):
            yield from _run([d for d in (*node.args.defaults, *node.args.kw_defaults) if d is not None])
        elif isinstance(node, ast.AnnAssign):
            yield from _run([node.target, *([node.value] if node.value else [])])
        else:
            yield from _run(list(ast.iter_child_nodes(node)))


def test_shipped_code_does_nothing_that_it_may_not():
    paths = shipped.sources()
    assert len(paths) > 50
    found = [line for path in paths for line in audit((shipped.ROOT / path).read_text(encoding="utf-8"), str(path))]
    assert not found, "\n".join(found)


def test_what_is_permitted_is_there():
    """An exception that nobody needs any more is a door left open."""
    for path, name in PERMITTED:
        assert name in (shipped.ROOT / path).read_text(encoding="utf-8")


def test_adapters_are_imported_from_their_own_package_alone():
    source = (shipped.ROOT / "nodes/glue/families/__init__.py").read_text(encoding="utf-8")
    calls = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call)
             and ast.unparse(node.func) == "importlib.import_module"]
    assert [ast.unparse(call) for call in calls] == ["importlib.import_module(f'.{FAMILIES[name][0]}', __package__)"]


@pytest.mark.parametrize("code", [
    "import socket",
    "import urllib.request",
    "from os import system",
    "import subprocess as s",
    "from torch.utils.cpp_extension import load",
    "from torch import save",
    "def f(x):\n    return eval(x)",
    "def f(x):\n    run = exec\n    run(x)",
    "def f(x):\n    return __import__(x)",
    "import importlib\ndef f(x):\n    return importlib.import_module(x)",
    "from types import FunctionType\ndef f(x):\n    return FunctionType(x, {})",
    "import torch\ndef f(x):\n    return torch.load(x)",
    "import comfy.utils\ndef f(x):\n    return comfy.utils.load_torch_file(x)",
    "def f(path):\n    with open(path, 'w') as file:\n        file.write('')",
    "def f(path, text):\n    path.write_text(text)",
    "import sys\ndef f(x):\n    sys.path.append(x)",
    "import logging\ndef f():\n    logging.basicConfig()",
    "print('loaded')",
    "import torch\nDEVICE = torch.zeros(1, device='cuda')",
    "import torch\ndef f(device=torch.device('cuda')):\n    pass",
    "import torch\n@torch.library.custom_op\ndef f(x):\n    pass",
    "import torch\nclass A(torch.nn.Linear(1, 1).__class__):\n    pass",
    "import comfy.samplers\ncomfy.samplers.KSampler.sample = None",
    "import comfy\nclass A:\n    comfy.x = 1",
    "for x in (1, 2):\n    y = x",
    "try:\n    import numbers\nexcept ImportError:\n    numbers = None",
    "if True:\n    X = 1",
    "X = (Y := 1)",
])
def test_it_would_be_seen(code):
    """The audit's power: one line of each kind."""
    assert audit(code)
