"""``ke-gen search --operator llm`` against a server on this machine that plays a model."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from ke_gen.cli import main
from tests.llm.conftest import EXAMPLES, REPLIES
from tests.llm.server import Handler, LocalServer, refuses, says, serving

KEY = "sk-this-is-a-secret-key"
SETTINGS = ("--targets", "kea.kea2", "--operator", "llm", "--policy", "greedy", "--drafts", "0",
            "--jobs", "1", "--dim", "B=8", "--key-env", "PLAYED_KEY", "--model",
            "played")  # fmt: skip


def plays(name: str) -> Callable[[Handler], None]:
    """Gives a hand-written reply; rewrites named in it get their numbers from the prompt."""

    def answer(handler: Handler) -> None:
        shown = "\n".join(m["content"] for m in handler.body["messages"])
        listed = {t: n for n, t in re.findall(r"^ +(\d+) (\w+\(.*\))$", shown, re.M)}
        text = (REPLIES / name).read_text()
        text = re.sub(r"\$\{(.*?)\}", lambda m: listed.get(m[1], "999"), text)
        says(text, tokens=(100, 20))(handler)

    return answer


@pytest.fixture(autouse=True)
def key(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    monkeypatch.setenv("PLAYED_KEY", KEY)
    monkeypatch.chdir(tmp_path)
    yield


def run(server: LocalServer, *more: str, store: str = "store") -> int:
    arguments = ["search", str(EXAMPLES / "rms_norm.ir"), "--store", store, *SETTINGS,
                 "--base-url", server.url, *more]  # fmt: skip
    with pytest.raises(SystemExit) as end:
        main(arguments)
    return int(end.value.code or 0)


def log(store: str = "store") -> dict[str, Any]:
    """The last run as ``ke-gen log --json`` gives it."""
    from search.store import open_store

    with open_store(store) as found:
        record = found.runs()[-1]
        return found.graph(record.id).to_json() | {"message": record.message}


def test_a_search_and_what_it_leaves(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    with serving(plays("hostile.json"), plays("whole_wrong_type.md"), plays("whole.md")) as server:
        assert run(server, "--candidates", "4", "--no-learn") == 0
        asked = len(server.requests)
        first = log()
        again = run(server, "--candidates", "4", "--store", "store")
        assert again == 0 and len(server.requests) == asked  # all of it from the cache
    assert {e["kind"] for e in first["edges"]} >= {"rewrite", "kernel"}
    kept = b"".join(p.read_bytes() for p in tmp_path.rglob("*") if p.is_file())
    captured = capsys.readouterr()
    assert KEY.encode() not in kept and KEY not in captured.out + captured.err
    with pytest.raises(SystemExit):
        main(["report", "last", "--store", "store", "-o", "run.html"])
    assert "<script>alert(1)</script>" not in Path("run.html").read_text()
    with pytest.raises(SystemExit):
        main(["show", "last", "best", "--store", "store"])
    shown = capsys.readouterr().out
    assert "said: " in shown and "\x1b[2J" not in shown


def test_a_resumed_run_repeats_no_call() -> None:
    with serving(plays("pick.json"), plays("whole.md")) as server:
        assert run(server, "--candidates", "2") == 0
        asked = len(server.requests)
        with pytest.raises(SystemExit) as end:
            main(["resume", "last", "--store", "store", "--candidates", "3", "--jobs", "1"])
        assert end.value.code == 0
        bodies = [json.dumps(r, sort_keys=True) for r in server.requests]
        assert len(bodies) > asked and len(set(bodies)) == len(bodies)


def shown_notes(server: LocalServer, first: int = 0) -> list[bool]:
    """Whether each prompt since then holds what a search of rms_norm has learned."""
    return [
        "[learned-rms-norm-kea-kea2-" in body["messages"][1]["content"]
        for body in server.requests[first:]
    ]


def test_what_is_learned_reaches_later_searches_and_no_earlier_one() -> None:
    """A run works with the notes of its start, also where it is resumed after others have ended."""
    replies = [plays("pick.json"), plays("whole.md")]
    with serving(*replies, *replies, refuses(400)) as server:
        assert run(server, "--candidates", "3") == 0
        (note,) = Path("store/knowledge").glob("learned-*.md")
        assert "x faster (simulated)" in note.read_text()
        assert run(server, "--candidates", "3", "--seed", "1") == 0
        asked = len(server.requests)
        earlier = len(shown_notes(server)) - sum(shown_notes(server))
        assert 0 < earlier < asked and shown_notes(server) == sorted(shown_notes(server))
        resumed = ["resume", log_ids()[0], "--store", "store", "--candidates", "4", "--jobs", "1"]
        with pytest.raises(SystemExit) as end:
            main(resumed)
        assert end.value.code == 0
        assert len(server.requests) > asked and not any(shown_notes(server, asked))


def log_ids() -> list[str]:
    """Runs, the earliest first."""
    from search.store import open_store

    with open_store("store") as found:
        return [r.id for r in found.runs()]


def test_a_server_that_fails_leaves_it_to_rules(capsys: pytest.CaptureFixture[str]) -> None:
    with serving(refuses(400)) as server:
        assert run(server, "--candidates", "4") == 0
    found = log()
    assert "4 candidates evaluated" in found["message"]
    assert any("drawn by rules" in e["rationale"] for e in found["edges"])
    assert any(e["outcome"] == "rejected" and "400" in e["reason"] for e in found["edges"])
    assert "refuses: 400" in capsys.readouterr().err


def test_the_budget_ends_it_and_is_kept() -> None:
    with serving(plays("whole.md"), plays("prose.md")) as server:
        assert run(server, "--tokens", "60000", "--prompt-tokens", "2000", "--mends", "0") == 0
    found = log()
    assert sum(e["tokens"] for e in found["edges"]) <= 60_000
    assert "token" in found["message"] or "nothing new" in found["message"]


def test_dry_run_asks_nobody(capsys: pytest.CaptureFixture[str]) -> None:
    with serving(says("x")) as server:
        assert run(server, "--dry-run") == 0
        assert not server.requests
    out = capsys.readouterr().out
    assert "# The op, which is fixed" in out and re.search(r"about \d+ tokens", out)
    assert not Path("store").exists()


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (("--operator", "rules"), "--model is for the operator that asks one"),
        (("--model", ""), "--operator llm needs a model"),
        (("--model", "a:-1"), "not a name and its weight"),
        (("--prompt-tokens", "200", "--dry-run"), "does not fit into 200 tokens"),
        (("--base-url", "http://user:secret@127.0.0.1/v1"), "plain http(s) URL"),
    ],
)
def test_faults_of_use(
    more: tuple[str, ...], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with serving(says("x")) as server:
        assert run(server, *more) == 2
    assert said in capsys.readouterr().err
