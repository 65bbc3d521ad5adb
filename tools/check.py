"""Types, coverage and mutation testing: the figures of docs/checked.md.

    python dev.py check [types] [coverage] [mutation [NUMBER] [PATTERN ...]]     all three without a word

Mutation testing (tools/mutants.py) takes an hour or two on two cores (VSF_CHILDREN processes, 2). What it found of a function
that has not changed is kept, and it goes on where it was stopped. NUMBER: so many mutants by chance; patterns ('*.forms.*')
choose some by name. VSF_SECONDS: of tests for each of them, 20.

Its tools (TOOLS) lie in an environment of their own in the cache folder, beside .venv's packages.
"""
from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import venv
from pathlib import Path

from dev_setup import PYTHON, ROOT, cache_folder, clean_env, run, say

TOOLS = ("pyright[nodejs]>=1.1.414,<2", "coverage>=7.10,<8", "mutmut>=3.8,<4")
HOME = cache_folder() / f"check-{sys.version_info[0]}.{sys.version_info[1]}"
BIN = HOME / ("Scripts" if os.name == "nt" else "bin")
EQUIVALENT = ROOT / "tests" / "core" / "equivalent_mutants.txt"
# test_regions.py samples each model once; test_families.py and test_contexts.py take longest and reach no other line
FAMILIES = ("test_texts.py", "test_flux.py", "test_hidream.py", "test_hunyuan_video.py", "test_lanes.py", "test_ltx.py",
            "test_lumina.py", "test_minimax.py", "test_omnigen2.py", "test_picture.py", "test_places.py", "test_regions.py",
            "test_unet.py", "test_unseen.py", "test_wan.py")
GLUE_TESTS = ("tests/glue", "tests/nodes", *(f"tests/families/{test}" for test in FAMILIES))


def setup() -> None:
    """The tools in their environment, with .venv's packages and ComfyUI in sight."""
    stamp = HOME / "tools.json"
    python = BIN / PYTHON.name
    if not stamp.is_file() or json.loads(stamp.read_text(encoding="utf-8")) != list(TOOLS):
        shutil.rmtree(HOME, ignore_errors=True)
        venv.create(HOME, with_pip=True)
        run([str(python), "-m", "pip", "--disable-pip-version-check", "install", *TOOLS], "the tools of dev.py check",
            env=clean_env())
        stamp.write_text(json.dumps(TOOLS), encoding="utf-8")
    code = "import sysconfig; print(sysconfig.get_path('purelib'))"
    own, packages = (subprocess.run([str(p), "-c", code], capture_output=True, text=True, check=True).stdout.strip()
                     for p in (python, PYTHON))
    Path(own, "vsf.pth").write_text(f"{packages}\n{os.environ['COMFYUI_PATH']}\n", encoding="utf-8")  # this clone's


def tool(name: str) -> str:
    return str((BIN / name).with_suffix(PYTHON.suffix))


def types() -> str:
    """pyright, as pyproject.toml asks it: strict on vsf_core, standard on nodes."""
    done = subprocess.run([tool("pyright"), "--pythonpath", str(BIN / PYTHON.name), "--outputjson"], cwd=ROOT, check=False,
                          capture_output=True, text=True)
    found = json.loads(done.stdout)
    for fault in found["generalDiagnostics"]:
        place = Path(fault["file"]).relative_to(ROOT)
        say(f"{place}:{fault['range']['start']['line'] + 1}: {fault['message'].splitlines()[0]}")
    return f"pyright {found['version']}: {found['summary']['errorCount']} errors in {found['summary']['filesAnalyzed']} files"


def coverage() -> list[str]:
    """Lines and branches: of vsf_core by tests/core alone, of the nodes and the glue by GLUE_TESTS, one setting a model
    (tools/one_of_each.py). torch.compile's tests are left out: what it runs is not Python that can be counted."""
    lines = []
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT / "tools"), "VSF_EXAMPLES": "40"}
    for name, tests in (("vsf_core", ("tests/core",)), ("nodes", GLUE_TESTS)):
        data = HOME / f"coverage.{name}"
        pytest = str(PYTHON.with_name(f"pytest{PYTHON.suffix}"))
        plugin = ["-p", "one_of_each"] if name == "nodes" else []
        command = [tool("coverage"), "run", f"--data-file={data}", "--branch", f"--source={name}", pytest, "-q",
                   "-p", "no:cacheprovider", *plugin, "-k", f"not {' and not '.join(NOT_COUNTED)}", *tests]
        code = subprocess.run(command, cwd=ROOT, check=False, env=environment).returncode
        report = [tool("coverage"), "report", f"--data-file={data}", "--skip-covered", "--show-missing", "--precision=1"]
        found = subprocess.run(report, cwd=ROOT, check=False, capture_output=True, text=True).stdout
        say(found)
        total = re.search(r"TOTAL.*", found)
        share = total[0].split()[-1] if total else "none"
        lines.append(f"{name} by {tests[0]}{' and others' if len(tests) > 1 else ''}: {share} of lines and branches"
                     f"{'; TESTS FAIL' if code else ''}")
    return lines


NOT_COUNTED = ("compile", "soak", "all_families_with_object_patches")  # that last asks for a list and takes long


def mutation(*words: str) -> list[str]:
    """tools/mutants.py over vsf_core, on a copy in the cache folder that is named as the tests import it."""
    work = HOME / "mutation"
    parts = [ROOT / "__init__.py", ROOT / "tests" / "conftest.py", *(
        path for part in ("vsf_core", "nodes", "tests/core", "tests/helpers") for path in (ROOT / part).rglob("*.py"))]
    copies = {work / "vsf_pack" / path.relative_to(ROOT): path for path in parts}
    for copy in {*(work / "vsf_pack").rglob("*.py"), *copies}:  # what has not changed stays, and what mutmut has made of it
        if copy in copies and copy.is_file() and copy.read_bytes() == copies[copy].read_bytes():
            continue
        copy.unlink(missing_ok=True)
        (work / "mutants" / copy.relative_to(work)).unlink(missing_ok=True)
        if copy in copies:
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_bytes(copies[copy].read_bytes())
    (work / "pyproject.toml").write_text("""
[tool.mutmut]
source_paths = ["vsf_pack"]
only_mutate = ["vsf_pack/vsf_core/*"]
do_not_mutate_patterns = ["log\\\\.debug"]
[tool.pytest.ini_options]
addopts = ["--import-mode=importlib"]
""", encoding="utf-8")
    (work / "tests.json").write_text(json.dumps(["vsf_pack/tests/core", "-p", "no:cacheprovider", "-p", "no:xdist", "-p",
                                                 "no:timeout", "-k", f"not {' and not '.join(NO_MUTATION_TESTS)}"]))
    environment = os.environ | {"OMP_NUM_THREADS": "1", "VSF_EXAMPLES": "40"}
    found = work / "found.txt"
    found.unlink(missing_ok=True)
    subprocess.run([tool(PYTHON.stem), str(ROOT / "tools" / "mutants.py"), str(work), str(EQUIVALENT), *words], cwd=work,
                   check=False, env=environment)
    return [found.read_text(encoding="utf-8") if found.is_file() else
            "mutation testing ended early; the same command goes on from there"]


NO_MUTATION_TESTS = ("test_ranks", "test_cuda", "compile")  # they start processes, need a GPU, take a minute each


def main(arguments: list[str]) -> int:
    checks = {"types": types, "coverage": coverage, "mutation": mutation}
    setup()
    asked = [name for name in checks if name in arguments] or list(checks)
    patterns = [word for word in arguments if word not in checks]
    found = [mutation(*patterns) if name == "mutation" else checks[name]() for name in asked]
    for lines in found:
        say("\n".join([lines] if isinstance(lines, str) else lines))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
