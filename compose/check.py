#!/usr/bin/env python3
"""Checks this folder without a container engine, and that its panels and rules name only what the code exports.

`python3 compose/check.py` checks everything, its own checks included; `cargo xtask lint` calls it. It needs Python 3.11
or newer and PyYAML: when PyYAML is missing, the pinned version is installed by pip into `.tools`, hashes checked.
"""

import importlib
import shutil
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

FOLDER = Path(__file__).resolve().parent
ROOT = FOLDER.parent
INSTALL_IT = "install PyYAML (Debian: apt-get install python3-yaml) and run this again"


def provide_yaml():
    """Makes `import yaml` work, or ends with one sentence on what to do."""
    try:
        return importlib.import_module("yaml")
    except ImportError:
        pass
    place = ROOT / ".tools" / f"pyyaml-6.0.3-cp{sys.version_info[0]}{sys.version_info[1]}"
    if not place.is_dir():
        install(place)
    sys.path.insert(0, str(place))
    try:
        return importlib.import_module("yaml")
    except ImportError as error:
        sys.exit(f"compose/check.py needs PyYAML, and the one in {place} does not work ({error}): {INSTALL_IT}")


def install(place):
    """Installs into a folder beside and renames it, so that nobody finds half an installation."""
    place.parent.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=place.parent) as beside:
        python = python_with_pip(Path(beside))
        target = Path(beside) / "packages"
        options = ["--quiet", "--disable-pip-version-check", "--no-deps", "--require-hashes", "--only-binary", ":all:"]
        command = [python, "-m", "pip", "install", *options, "--target", str(target)]
        installed = subprocess.run([*command, "--requirement", str(FOLDER / "requirements.txt")], check=False)
        if installed.returncode != 0:
            sys.exit(f"compose/check.py needs PyYAML, and pip could not install it: {INSTALL_IT}")
        if not place.is_dir():
            target.rename(place)


def python_with_pip(folder):
    """This Python when it has pip, else a virtual environment's."""
    if subprocess.run([sys.executable, "-m", "pip", "--version"], check=False, capture_output=True).returncode == 0:
        return sys.executable
    made = subprocess.run([sys.executable, "-m", "venv", str(folder / "venv")], check=False, capture_output=True)
    if made.returncode != 0:
        sys.exit(f"compose/check.py needs PyYAML, and this Python has neither pip nor venv: {INSTALL_IT}")
    return str(folder / "venv" / "bin" / "python")


def with_real_tools(problems):
    """What real programs say, where they are installed; never needed."""
    if shutil.which("promtool"):
        for arguments in (["check", "config", "prometheus.yml"], ["test", "rules", "rules_test.yml"]):
            run_tool(["promtool", *arguments], FOLDER / "prometheus", problems)
    if shutil.which("docker") and subprocess.run(
        ["docker", "compose", "version"], check=False, capture_output=True
    ).returncode == 0:
        from checks import containers

        names = containers.example_variables(FOLDER)
        with tempfile.NamedTemporaryFile("w", suffix=".env") as filled:
            filled.writelines(f"{name}=x\n" for name in names)
            filled.flush()
            run_tool(["docker", "compose", "--env-file", filled.name, "config", "--quiet"], FOLDER, problems)


def run_tool(command, folder, problems):
    done = subprocess.run(command, cwd=folder, check=False, capture_output=True, text=True)
    if done.returncode != 0:
        problems.append(f"{' '.join(command)}: {(done.stdout + done.stderr).strip()}")


def main():
    if sys.version_info < (3, 11):
        sys.exit(f"compose/check.py needs Python 3.11 or newer, this is {sys.version.split()[0]}")
    provide_yaml()
    sys.dont_write_bytecode = True
    sys.path.insert(0, str(FOLDER))
    from checks import containers, observability, selftest

    problems = containers.problems(FOLDER) + observability.problems(FOLDER)
    with_real_tools(problems)
    # A checker that finds nothing wrong anywhere would be green, too.
    suite = unittest.defaultTestLoader.loadTestsFromModule(selftest)
    with open("/dev/null", "w", encoding="utf-8") as quiet:
        result = unittest.TextTestRunner(stream=quiet).run(suite)
    problems += [f"the check itself: {test.id()}\n{trace}" for test, trace in result.failures + result.errors]
    for problem in problems:
        print(f"compose: {problem}", file=sys.stderr)
    if problems:
        sys.exit(1)
    print(f"compose: {containers.summary(FOLDER)}; {observability.summary(FOLDER)}; {result.testsRun} checks of the check")


if __name__ == "__main__":
    main()
