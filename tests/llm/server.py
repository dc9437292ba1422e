"""A server of language models on this machine that does what a test tells it, right or wrong."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Answer = Callable[["Handler"], None]


class Handler(BaseHTTPRequestHandler):
    """Takes the server's answers in turn, and the last one again and again."""

    protocol_version = "HTTP/1.1"
    server: LocalServer
    body: dict[str, Any]

    def do_GET(self) -> None:
        """Only the list of models."""
        self.whole(200, {"object": "list", "data": [{"id": m} for m in self.server.models]})

    def do_POST(self) -> None:
        """A completion."""
        self.body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        server = self.server
        with server.lock:
            answer = server.answers[min(len(server.requests), len(server.answers) - 1)]
            server.requests.append(self.body)
            server.headers.append({k.lower(): v for k, v in self.headers.items()})
            server.busy += 1
            server.busiest = max(server.busiest, server.busy)
        try:
            answer(self)
        except OSError:
            self.close_connection = True
        finally:
            with server.lock:
                server.busy -= 1

    def whole(self, status: int, body: object, headers: Mapping[str, str] | None = None) -> None:
        """A response that comes at once; ``body`` is JSON, or text as it stands."""
        data = (body if isinstance(body, str) else json.dumps(body)).encode()
        self.send_response(status)
        for name, value in {"Content-Type": "application/json", **(headers or {})}.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def begin(self) -> None:
        """The head of a stream."""
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()

    def piece(self, data: str) -> None:
        """Some of a stream."""
        encoded = data.encode()
        self.wfile.write(f"{len(encoded):x}\r\n".encode() + encoded + b"\r\n")
        self.wfile.flush()

    def event(self, event: object) -> None:
        """One event of a stream."""
        self.piece(f"data: {event if isinstance(event, str) else json.dumps(event)}\n\n")

    def end(self) -> None:
        """The end of a stream."""
        self.wfile.write(b"0\r\n\r\n")

    def log_message(self, format: str, *args: Any) -> None:
        """Silent."""


class LocalServer(ThreadingHTTPServer):
    """``requests`` are the bodies that came, ``busiest`` the most that were answered at once."""

    daemon_threads = True

    def __init__(self, answers: Sequence[Answer]) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.answers = answers
        self.models: Sequence[str] = ("small", "large")
        self.requests: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.busy = self.busiest = self.sent = 0
        self.lock = threading.Lock()
        self.released = threading.Event()
        self.reached = threading.Event()

    @property
    def url(self) -> str:
        """What a client takes as its base URL."""
        return f"http://127.0.0.1:{self.server_address[1]}/v1"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients may go away."""


@contextmanager
def serving(*answers: Answer) -> Iterator[LocalServer]:
    """A server that gives ``answers``."""
    with LocalServer(answers) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        try:
            yield server
        finally:
            server.released.set()
            server.shutdown()


def chunk(text: object = None, finish: object = None) -> dict[str, Any]:
    """An event with some of a reply."""
    delta = {} if text is None else {"content": text}
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    return {"object": "chat.completion.chunk", "choices": [choice]}


def usage(tokens_in: object, tokens_out: object) -> dict[str, Any]:
    """The event that tells what a reply cost."""
    used = {"prompt_tokens": tokens_in, "completion_tokens": tokens_out}
    return {"object": "chat.completion.chunk", "choices": [], "usage": used}


def says(
    text: str, *, tokens: tuple[object, object] | None = (5, 2), finish: str = "stop"
) -> Answer:
    """A good reply, a word an event; without ``tokens`` it does not tell what it cost."""

    def answer(handler: Handler) -> None:
        handler.begin()
        for word in text.split(" "):
            handler.event(chunk(word if word == text.split(" ")[0] else f" {word}"))
        handler.event(chunk(None, finish))
        if tokens is not None:
            handler.event(usage(*tokens))
        handler.event("[DONE]")
        handler.end()

    return answer


def refuses(status: int, body: object = None, **headers: str) -> Answer:
    """An error of HTTP's."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    told = {"error": {"message": "not now"}} if body is None else body
    return lambda handler: handler.whole(status, told, named)


def events(*data: object) -> Answer:
    """A stream of these events, whatever they are."""

    def answer(handler: Handler) -> None:
        handler.begin()
        for event in data:
            handler.event(event)
        handler.end()

    return answer


def page(text: str) -> Answer:
    """A web page in place of a completion."""
    return lambda handler: handler.whole(200, text, {"Content-Type": "text/html"})


def drops(text: str) -> Answer:
    """Some of a reply; then the connection is cut."""

    def answer(handler: Handler) -> None:
        handler.begin()
        handler.event(chunk(text))
        handler.close_connection = True
        handler.connection.close()

    return answer


def hangs(handler: Handler) -> None:
    """Begins, and says no more until the server ends."""
    handler.begin()
    handler.event(chunk("slow"))
    handler.server.reached.set()
    handler.server.released.wait(60)
    handler.close_connection = True


def endless(piece: str) -> Answer:
    """A stream of ``piece`` without an end."""

    def answer(handler: Handler) -> None:
        handler.begin()
        while not handler.server.released.is_set():
            handler.piece(piece)
            handler.server.sent += len(piece)

    return answer
