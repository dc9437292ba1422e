"""The store on a real PostgreSQL server, started here."""

from __future__ import annotations

import os
import pwd
import shutil
import socket
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from search.run import Search
from search.store import StoreError, open_store
from search.store.store import Round
from tests.search.test_store import fill


def _programs() -> tuple[Path, Path] | None:
    """initdb and pg_ctl: on the path, or where Debian puts them."""
    places = sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    if found := shutil.which("initdb"):
        places.insert(0, Path(found).parent)
    for place in places:
        if (place / "initdb").exists() and (place / "pg_ctl").exists():
            return place / "initdb", place / "pg_ctl"
    return None


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """The URL of an empty database."""
    pytest.importorskip("psycopg", reason="pip install ke-gen[postgresql]")
    programs = _programs()
    if programs is None:
        pytest.skip("PostgreSQL is not installed: apt-get install postgresql")
    folder = Path(os.environ.get("TMPDIR", "/tmp")) / f"ke-gen-pg-{os.getpid()}"
    folder.mkdir(mode=0o700)
    user: str | None = None
    if os.getuid() == 0:  # the server refuses to run as root
        try:
            user = pwd.getpwnam("postgres").pw_name
        except KeyError:
            shutil.rmtree(folder)
            pytest.skip("PostgreSQL does not run as root, and there is no user postgres")
        shutil.chown(folder, user)
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    initdb, ctl = map(str, programs)
    data = str(folder / "data")
    options = f"-p {port} -k {folder} -c listen_addresses=127.0.0.1 -c fsync=off"
    made = [initdb, "-D", data, "-U", "tester", "-A", "trust"]
    began = [ctl, "-D", data, "-w", "-o", options, "-l", str(folder / "log"), "start"]
    try:
        for arguments in (made, began):
            subprocess.run(
                arguments, check=True, user=user, cwd=folder, stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            )  # fmt: skip
        yield f"postgresql+psycopg://tester@127.0.0.1:{port}/postgres"
    finally:
        stop = [ctl, "-D", data, "-m", "immediate", "stop"]
        subprocess.run(stop, user=user, cwd=folder, capture_output=True)
        shutil.rmtree(folder, ignore_errors=True)


def test_the_same_store_on_a_server(server: str, tmp_path: Path) -> None:
    with open_store(server, str(tmp_path / "artifacts")) as store:
        run = store.create_run({"policy": "x"}, "op")
        fill(store, run)
        fill(store, run)
        store.add_evaluation("k", "p", "toy.good", {}, {"n": 1})
        store.add_evaluation("k", "p", "toy.good", {}, {"n": 2})
    with open_store(server) as store:
        assert store.artifacts.url == str(tmp_path / "artifacts")
        assert [n.key[0] for n in store.graph(run).nodes()] == ["a", "b"]
        assert store.rounds(run) == [Round(0, (), (), {})]
        assert store.evaluation("k") == {"n": 1}
        with pytest.raises(StoreError):
            store.run("none")


def test_a_search_on_a_server(server: str, tmp_path: Path, searched: Callable[..., Search]) -> None:
    with open_store(server, str(tmp_path / "artifacts")) as store:
        search = searched(store)
        assert search.evaluated == 20
        assert store.graph(search.id).to_json() == search.graph.to_json()
