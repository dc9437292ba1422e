"""One request to an OpenAI-compatible server, and whatever comes back.

The reply is streamed, so that one that does not end can be cut off. Nothing that a server does is
raised: it becomes an Outcome.
"""

from __future__ import annotations

import asyncio
import math
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from time import time
from typing import TYPE_CHECKING, Any

from search.llm.types import Prompt

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Collection, Mapping

    from openai import APIStatusError, AsyncOpenAI

MOST_BYTES = 32 << 20
"""Of one response; more is not read."""

_BYTES_PER_TOKEN = 64
_CHARS_OF_ERROR = 300
_MOST_USAGE = 1 << 40
"""No reply takes more tokens."""
_AGAIN = frozenset({408, 409, 425, 429})
"""Statuses that may be another time, beside those from 500 on."""

DROPPABLE = ("temperature", "seed", "stream_options", "max_tokens")
"""What some models of some servers refuse; it is left out then. ``max_tokens`` is renamed."""


@dataclass
class Outcome:
    """What came of a reply, with ``hidden`` bytes of reasoning. ``error``: why it is of no use.

    ``again``: trying again may help, after ``wait`` seconds where the server says so. ``worked``:
    the model may have been at work, so that the call may cost. ``tokens_in`` and ``tokens_out`` are
    the server's, ``None`` where it does not tell. ``refused`` is a parameter it does not know.
    """

    parts: list[str] = field(default_factory=list)
    finish: str = ""
    hidden: int = 0
    tokens_in: int | None = None
    tokens_out: int | None = None
    error: str = ""
    again: bool = False
    wait: float | None = None
    worked: bool = True
    refused: str = ""

    @property
    def text(self) -> str:
        """As far as it came."""
        return "".join(self.parts)


async def exchange(
    client: AsyncOpenAI, request: Mapping[str, Any], seconds: float, most_tokens: int, out: Outcome
) -> None:
    """Send ``request`` and fill ``out`` while the reply comes, which may be cancelled."""
    import httpx2
    import openai

    try:
        async with asyncio.timeout(seconds):
            stream = await client.chat.completions.create(stream=True, **request)
            try:
                await _read(aiter(stream), most_tokens, out)
            finally:
                await stream.close()
    except (TimeoutError, openai.APITimeoutError):
        out.error, out.again = f"no complete reply within {seconds:g} s", True
    except openai.APIStatusError as error:
        _status(error, out)
    except openai.APIConnectionError as error:
        out.worked = not isinstance(error.__cause__, httpx2.ConnectError)
        what = "the connection broke" if out.worked else "no connection"
        out.error, out.again = f"{what}: {error.__cause__ or error}", True
    except httpx2.HTTPError as error:
        out.error, out.again = f"the connection broke: {error or type(error).__name__}", True
    except openai.APIError as error:
        out.error, out.again = f"the server reports: {_short(error.message)}", True
    except Exception as error:  # whatever libraries make of garbage
        out.error = f"the reply is garbage: {type(error).__name__}: {_short(str(error))}"


async def _read(chunks: AsyncIterator[Any], most_tokens: int, out: Outcome) -> None:
    size = seen = count = 0
    async for chunk in chunks:
        seen += 1
        _usage(getattr(chunk, "usage", None), out)
        for choice in (getattr(chunk, "choices", None) or ())[:1]:
            delta = choice.delta
            text = _str(getattr(delta, "content", None))
            thought = _str(getattr(delta, "reasoning_content", None))
            out.finish = _str(choice.finish_reason) or out.finish
            count += bool(text or thought)
            out.hidden += len(thought.encode())
            size += len((text + thought).encode())
            if text:
                out.parts.append(text)
        if count > most_tokens or size > most_tokens * _BYTES_PER_TOKEN:
            out.error = f"the reply goes on after the {most_tokens} tokens it may have: cut off"
            out.tokens_in = out.tokens_out = None
            return
    if not out.parts and not out.finish:
        what = "events that are no completion" if seen else "no completion"
        out.error = f"the server answers with {what}: is the base URL right?"
    elif not out.finish:
        out.error, out.again = "the connection broke before the reply ended", True
    elif not out.text.strip():
        out.error = "the reply is empty"


def _usage(usage: Any, out: Outcome) -> None:
    """Believed only where it can be true: a server that tells nonsense tells nothing."""
    found = [getattr(usage, f"{kind}_tokens", None) for kind in ("prompt", "completion")]
    if all(type(n) is int and 0 <= n <= _MOST_USAGE for n in found):
        out.tokens_in, out.tokens_out = found


def _status(error: APIStatusError, out: Outcome) -> None:
    body = error.body if isinstance(error.body, dict) else {}
    message = _str(body.get("message")) or _str(body.get("error")) or error.response.reason_phrase
    out.error = f"the server refuses: {error.status_code} {_short(message)}"
    out.worked = False
    out.again = error.status_code in _AGAIN or error.status_code >= 500
    out.wait = retry_after(error.response.headers.get("retry-after", ""))
    if out.wait:
        out.error += f", and asks to wait {out.wait:g} s"
    if error.status_code == 400 and body.get("param") in DROPPABLE:
        out.refused = body["param"]


def retry_after(text: str) -> float | None:
    """Seconds of a ``Retry-After``, which may be a date."""
    try:
        seconds = float(text)
    except ValueError:
        try:
            seconds = parsedate_to_datetime(text).timestamp() - time()
        except ValueError:
            return None
    return max(seconds, 0.0) if math.isfinite(seconds) else None


def request_of(model: str, prompt: Prompt, dropped: Collection[str]) -> dict[str, Any]:
    """The parameters of the call, without those that the model's server has refused."""
    request: dict[str, Any] = {
        "model": model,
        "messages": [{"role": m.role, "content": m.content} for m in prompt.messages],
        "max_tokens": prompt.max_tokens,
        "temperature": prompt.temperature,
        "seed": prompt.seed,
        "stream_options": {"include_usage": True},
        **_constraint(prompt),
    }
    if "max_tokens" in dropped:
        request["max_completion_tokens"] = prompt.max_tokens
    return {k: v for k, v in request.items() if k not in dropped}


def _constraint(prompt: Prompt) -> dict[str, Any]:
    c = prompt.constraint
    match c.mode:
        case "json_schema":
            schema = {"name": "reply", "schema": c.schema, "strict": True}
            return {"response_format": {"type": "json_schema", "json_schema": schema}}
        case "gbnf":
            return {"extra_body": {"grammar": c.grammar}}
        case "vllm":
            return {"extra_body": {"structured_outputs": {"json": c.schema}}}
        case _:
            return {}


def connect(base_url: str, key: str, seconds: float) -> AsyncOpenAI:
    """A connection to the server. It tries once a request, and reads no more than MOST_BYTES."""
    import httpx2
    import openai

    class Limited(httpx2.AsyncByteStream):
        def __init__(self, stream: Any) -> None:
            self._stream = stream

        async def __aiter__(self) -> AsyncIterator[bytes]:
            left = MOST_BYTES
            async for part in self._stream:
                left -= len(part)
                if left < 0:
                    raise httpx2.DecodingError(f"more than {MOST_BYTES >> 20} MiB came")
                yield part

        async def aclose(self) -> None:
            await self._stream.aclose()

    async def limit(response: httpx2.Response) -> None:
        response.stream = Limited(response.stream)

    http = openai.DefaultAsyncHttpxClient(event_hooks={"response": [limit]}, timeout=seconds)
    return openai.AsyncOpenAI(
        api_key=key, base_url=base_url or None, max_retries=0, timeout=seconds, http_client=http
    )


def _str(value: Any) -> str:
    return value if isinstance(value, str) else ""


def _short(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= _CHARS_OF_ERROR else line[:_CHARS_OF_ERROR] + " ..."
