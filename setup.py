"""Builds the C++ extension ``edgeagent.native._core`` and, beside it, ``libedgehose.so``, the C library that other
processes attach to a node with; all the rest is said in pyproject.toml.

Switches, all from the environment:

- ``EDGEAGENT_COMPILE``: ``auto`` (default: build it; where that fails say so in one line and install without it),
  ``always`` (a failure is an error), ``never`` (do not try).
- ``EDGEAGENT_SANITIZE``: for instance ``address,undefined``; unoptimised enough to read, with frame pointers.
- ``EDGEAGENT_COVERAGE=1``: gcov instrumentation.
- ``EDGEAGENT_WERROR=1``: the project's warnings, as errors.
- ``EDGEAGENT_JOBS``: compilers at once (default: one per CPU).
"""

import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

ROOT = Path(__file__).parent
NAME = "edgeagent.native._core"
LIBRARY = "edgeagent/native/libedgehose.so"
HEADER = "native/include/edgehose.h"
WARNINGS = ["-Wall", "-Wextra", "-Wpedantic", "-Wshadow", "-Wconversion"]


def choice() -> str:
    """The value of EDGEAGENT_COMPILE."""
    value = os.environ.get("EDGEAGENT_COMPILE", "") or "auto"
    if value not in {"auto", "always", "never"}:
        sys.exit(f"EDGEAGENT_COMPILE must be auto, always or never, not {value!r}")
    return value


def switched_on(name: str) -> bool:
    """Whether a yes/no switch is set."""
    return os.environ.get(name, "") not in {"", "0"}


def missing() -> str:
    """What keeps a compiler from starting at all, or an empty string."""
    compiler = os.environ.get("CXX") or (sysconfig.get_config_var("CXX") or "c++").split()[0]
    if not any(shutil.which(name.split()[0]) for name in (compiler, "c++", "g++")):
        return "no C++ compiler (package g++)"
    if not (Path(sysconfig.get_path("include")) / "Python.h").is_file():
        return "no Python headers (package python3-dev)"
    return ""


def variant() -> str:
    """Names the flags, so that objects of different builds never mix."""
    sanitize = os.environ.get("EDGEAGENT_SANITIZE", "").replace(",", "-")
    coverage = "coverage" if switched_on("EDGEAGENT_COVERAGE") else ""
    werror = "werror" if switched_on("EDGEAGENT_WERROR") else ""
    return "-".join(part for part in (sanitize, coverage, werror) if part) or "plain"


def flags(system_includes: list[str]) -> tuple[list[str], list[str]]:
    """Compiler and linker flags."""
    compile_args = ["-O2"]
    link_args: list[str] = []
    if sanitize := os.environ.get("EDGEAGENT_SANITIZE", ""):
        compile_args = ["-O1", "-g", "-UNDEBUG", "-fno-omit-frame-pointer", "-fno-sanitize-recover=all"]
        compile_args.append(f"-fsanitize={sanitize}")
        link_args.append(f"-fsanitize={sanitize}")
    if switched_on("EDGEAGENT_COVERAGE"):
        compile_args += ["-O0", "-g", "--coverage"]
        link_args.append("--coverage")
    if switched_on("EDGEAGENT_WERROR"):
        # Headers of others as system headers: their warnings are theirs.
        compile_args += [*WARNINGS, "-Werror", *(f"-isystem{path}" for path in system_includes)]
    return compile_args, link_args


def extensions() -> list[Extension]:
    """The extension, where it is wanted and can be tried."""
    sources = sorted(path.relative_to(ROOT).as_posix() for path in (ROOT / "native").rglob("*.cpp"))
    if choice() == "never" or not sources:
        return []
    if problem := missing():
        if choice() == "always":
            sys.exit(f"EDGEAGENT_COMPILE=always, but {problem}")
        print(f"edgeagent: {problem}; installing without the native engine (slower, same results)")
        return []
    # Only here: without a compiler none of it is needed.
    import pybind11
    from pybind11.setup_helpers import ParallelCompile, Pybind11Extension

    ParallelCompile("EDGEAGENT_JOBS", default=0, needs_recompile=needs_recompile).install()
    compile_args, link_args = flags([pybind11.get_include(), sysconfig.get_path("include")])
    extension = Pybind11Extension(
        NAME,
        sources,
        include_dirs=["native"],
        libraries=["dl", "pthread"],
        cxx_std=20,
        extra_compile_args=compile_args,
        extra_link_args=link_args,
        depends=[path.relative_to(ROOT).as_posix() for path in (ROOT / "native").rglob("*.hpp")],
    )
    extension.optional = choice() == "auto"  # setuptools then goes on after a failed build
    return [extension]


def needs_recompile(obj: str, source: str) -> bool:
    """An object is stale when its source or any header of ours is newer."""
    if not Path(obj).exists():
        return True
    built = Path(obj).stat().st_mtime
    inputs = [Path(source), *(ROOT / "native").rglob("*.hpp")]
    return any(path.stat().st_mtime >= built for path in inputs)


class BuildExt(build_ext):
    """build_ext that keeps the objects of each variant apart, and says so when it goes on without."""

    def finalize_options(self) -> None:
        super().finalize_options()
        self.build_temp = str(Path(self.build_temp) / variant())

    def run(self) -> None:
        super().run()
        if library_sources() and choice() != "never":
            build_library(ROOT / LIBRARY if self.inplace else Path(self.build_lib) / LIBRARY)

    def get_outputs(self) -> list[str]:
        library = Path(self.build_lib) / LIBRARY
        return [*super().get_outputs(), *([str(library)] if library.is_file() else [])]

    def build_extension(self, ext: Extension) -> None:
        try:
            super().build_extension(ext)
        except Exception:
            if ext.optional:
                print(
                    "edgeagent: the native engine did not build; installing without it (slower, same results)"
                )
            raise


def library_sources() -> list[str]:
    """The sources of libedgehose.so."""
    return sorted(str(path) for path in (ROOT / "native/client").glob("*.c"))


def build_library(target: Path) -> None:
    """Compiles libedgehose.so, which is plain C and knows nothing of Python."""
    wanted = [os.environ["CC"]] if os.environ.get("CC") else ["cc", "gcc", "clang"]
    compiler = next((name.split() for name in wanted if shutil.which(name.split()[0])), [])
    compile_args, link_args = flags([])
    command = [*compiler, "-std=c11", *compile_args, "-fPIC", "-fvisibility=hidden", "-shared", "-pthread"]
    command += [
        f"-I{ROOT / 'native/include'}",
        *library_sources(),
        *link_args,
        "-Wl,-soname,libedgehose.so",
    ]
    # Beside it first, then in its place: a process that has the old one loaded keeps it.
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_suffix(".tmp")
    problem = "no C compiler (package gcc)"
    if compiler:
        done = subprocess.run([*command, "-o", str(partial)], check=False)
        problem = f"{compiler[0]} failed" if done.returncode else ""
    if not problem:
        partial.replace(target)
        return
    target.unlink(missing_ok=True)  # one from other sources would be worse than none
    if choice() == "always":
        sys.exit(f"EDGEAGENT_COMPILE=always, but libedgehose.so: {problem}")
    print(f"edgeagent: {problem}; installing without libedgehose.so (other processes cannot feed hoses)")


def example_files() -> list[tuple[str, list[str]]]:
    """What goes to ``share/edgeagent``: compiled example functions, their manifests, configurations; the C header."""
    found: dict[str, list[str]] = {}
    if (ROOT / HEADER).is_file():
        found["share/edgeagent/include"] = [HEADER]
    for pattern in ("*.wasm", "*.wat", "*.c", "*.h", "*.toml", "*.md"):
        for path in sorted([*(ROOT / "examples").rglob(pattern), *(ROOT / "configs").rglob(pattern)]):
            place = Path("share/edgeagent") / path.parent.relative_to(ROOT)
            found.setdefault(place.as_posix(), []).append(path.relative_to(ROOT).as_posix())
    return sorted(found.items())


setup(ext_modules=extensions(), cmdclass={"build_ext": BuildExt}, data_files=example_files())
