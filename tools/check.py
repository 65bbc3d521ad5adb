"""Types, coverage and mutation testing: the figures of docs/checked.md.

    python dev.py check [types] [coverage] [mutation [PATTERN ...]]     all three without a word

Mutation testing takes hours on two cores (VSF_CHILDREN processes, 2). What it found of a function that has not changed is kept,
and it goes on where it was stopped; patterns ('*3': those whose name ends in 3) choose a sample.

Its tools (TOOLS) lie in an environment of their own in the cache folder, beside .venv's packages.
"""
from __future__ import annotations

import collections
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
# Every adapter has tests of its own in tests/families; these are those that make each of them run once.
GLUE_TESTS = ("tests/glue", "tests/nodes", "tests/families/test_families.py::test_equals_the_reference",
              "tests/families/test_contexts.py::test_equals_the_reference", "tests/families/test_texts.py")


def setup() -> None:
    """The tools in their environment, with .venv's packages and ComfyUI in sight."""
    stamp = HOME / "tools.json"
    if stamp.is_file() and json.loads(stamp.read_text(encoding="utf-8")) == list(TOOLS):
        return
    shutil.rmtree(HOME, ignore_errors=True)
    venv.create(HOME, with_pip=True)
    python = BIN / PYTHON.name
    run([str(python), "-m", "pip", "--disable-pip-version-check", "install", *TOOLS], "the tools of dev.py check",
        env=clean_env())
    code = "import sysconfig; print(sysconfig.get_path('purelib'))"
    own, packages = (subprocess.run([str(p), "-c", code], capture_output=True, text=True, check=True).stdout.strip()
                     for p in (python, PYTHON))
    Path(own, "vsf.pth").write_text(f"{packages}\n{os.environ['COMFYUI_PATH']}\n", encoding="utf-8")
    stamp.write_text(json.dumps(TOOLS), encoding="utf-8")


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
    """Lines and branches: of vsf_core by tests/core alone, of the nodes and the glue by GLUE_TESTS. torch.compile's tests
    are left out: what it runs is not Python that can be counted."""
    lines = []
    for name, source, tests in (("vsf_core", "vsf_core", ("tests/core",)), ("nodes", "nodes", GLUE_TESTS)):
        data = HOME / f"coverage.{name}"
        pytest = str(PYTHON.with_name(f"pytest{PYTHON.suffix}"))
        command = [tool("coverage"), "run", f"--data-file={data}", "--branch", f"--source={source}", pytest, "-q",
                   "-p", "no:cacheprovider", "-k", "not compile", *tests]
        code = subprocess.run(command, cwd=ROOT, check=False, env=os.environ | {"OMP_NUM_THREADS": "1"}).returncode
        report = [tool("coverage"), "report", f"--data-file={data}", "--skip-covered", "--show-missing"]
        found = subprocess.run(report, cwd=ROOT, check=False, capture_output=True, text=True).stdout
        say(found)
        total = found.rstrip().splitlines()[-1] if "TOTAL" not in found else re.search(r"TOTAL.*", found)[0]
        lines.append(f"{name} by {' '.join(tests)}: {total.split()[-1]} of lines and branches{'; TESTS FAIL' if code else ''}")
    return lines


def mutation(*patterns: str) -> list[str]:
    """mutmut over vsf_core, on a copy in the cache folder that is named as the tests import it. What was found of a function
    that has not changed since is kept."""
    work = HOME / "mutation"
    pack = work / "vsf_pack"
    shutil.rmtree(pack, ignore_errors=True)
    ignore = shutil.ignore_patterns("__pycache__")
    for part in ("vsf_core", "nodes", "tests/core", "tests/helpers"):
        shutil.copytree(ROOT / part, pack / part, ignore=ignore)
    for part in ("__init__.py", "tests/conftest.py"):
        shutil.copy(ROOT / part, pack / part)
    (work / "pyproject.toml").write_text(f"""
[tool.mutmut]
source_paths = ["vsf_pack"]
only_mutate = ["vsf_pack/vsf_core/*"]
pytest_add_cli_args_test_selection = ["vsf_pack/tests/core"]
pytest_add_cli_args = ["-p", "no:cacheprovider", "-p", "no:xdist", "-k", "not {' and not '.join(NO_MUTATION_TESTS)}"]
[tool.pytest.ini_options]
addopts = ["--import-mode=importlib"]
""", encoding="utf-8")
    environment = os.environ | {"OMP_NUM_THREADS": "1", "VSF_EXAMPLES": "40"}
    command = [tool("mutmut"), "run", "--max-children", os.environ.get("VSF_CHILDREN", "2"), *patterns]
    done = subprocess.run(command, cwd=work, check=False, env=environment)
    if done.returncode:
        say(f"mutmut ended early ({done.returncode}); the same command goes on from there")
    return survivors(work)


NO_MUTATION_TESTS = ("ranks", "cuda", "compile")  # they start processes, need a GPU, take a minute each


def survivors(work: Path) -> list[str]:
    """What the tests did not see, beside what is known to be equivalent (EQUIVALENT)."""
    known = set(re.findall(r"^- (.*)\n\+ (.*)$", EQUIVALENT.read_text(encoding="utf-8"), re.MULTILINE))
    counts: collections.Counter[str] = collections.Counter()
    for meta in sorted(work.glob("mutants/vsf_pack/vsf_core/*.meta")):
        for name, code in json.loads(meta.read_text(encoding="utf-8"))["exit_code_by_key"].items():
            if code not in (0, 33):  # mutmut's: 0 survived, 33 no test reaches it, None not run
                counts["not run" if code is None else "killed"] += 1
                continue
            shown = subprocess.run([tool("mutmut"), "show", name], cwd=work, check=False, capture_output=True, text=True).stdout
            change = tuple(" ".join(line[1:].strip() for line in shown.splitlines() if re.match(f"{sign}(?!{sign})", line))
                           for sign in (r"\-", r"\+"))
            kind = "equivalent" if change in known else "survived"
            counts[kind] += 1
            if kind == "survived":
                say(f"{kind}: {name}\n- {change[0]}\n+ {change[1]}")
    killed, judged = counts["killed"], counts["killed"] + counts["survived"]
    return [f"mutmut on vsf_core by tests/core: {killed} of {judged} killed ({killed / max(judged, 1):.1%}), "
            f"{counts['equivalent']} more are equivalent, {counts['not run']} not run"]


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
