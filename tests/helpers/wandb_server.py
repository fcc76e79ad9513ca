"""A W&B server of one's own, as far as the client asks for one: runs, their history, their files.

What is answered was found by watching the client (0.31) and in its source, ``core/api/graphql`` and
``core/internal/filestream`` of https://github.com/wandb/wandb. The rest is refused, which the client bears.
"""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

HISTORY, SUMMARY, EVENTS = "wandb-history.jsonl", "wandb-summary.json", "wandb-events.jsonl"


@dataclass
class ServedRun:
    """What the server has of one run.

    Attributes:
        lines: of each streamed file, by its name.
        config: as the client last sent it.
        uploaded: names of the files that were uploaded.
        exit_code: once the client has said that the run is complete.
    """

    lines: dict[str, list[str]] = field(default_factory=dict)
    config: str = "{}"
    uploaded: set[str] = field(default_factory=set)
    exit_code: int | None = None

    @property
    def rows(self) -> list[dict[str, Any]]:
        """The history."""
        return [json.loads(line) for line in self.lines.get(HISTORY, [])]

    @property
    def summary(self) -> dict[str, Any]:
        """The summary; only its last line counts."""
        summary: dict[str, Any] = json.loads(self.lines.get(SUMMARY, ["{}"])[-1])
        return summary

    def stream(self, sent: dict[str, Any]) -> None:
        """Take what the client streams: each file from the line on that it names, but never with a gap."""
        for name, chunk in sent.get("files", {}).items():
            lines, offset = self.lines.setdefault(name, []), chunk["offset"]
            if offset <= len(lines):
                lines[offset : offset + len(chunk["content"])] = chunk["content"]
        if sent.get("complete"):
            self.exit_code = sent["exitcode"]

    def bucket(self, name: str) -> dict[str, Any]:
        """The run as GraphQL tells of it."""
        return {
            "id": name,
            "name": name,
            "displayName": name,
            "config": self.config,
            "wandbConfig": json.dumps({"t": 1}),  # is there when the run has begun
            "summaryMetrics": json.dumps(self.summary),
            "tags": [],
            "project": {"id": "p", "name": "sslbench", "entity": {"id": "e", "name": "someone"}},
            "historyLineCount": len(self.lines.get(HISTORY, [])),
            "eventsLineCount": len(self.lines.get(EVENTS, [])),
            "logLineCount": 0,
            "historyTail": json.dumps(self.lines.get(HISTORY, [])[-1:]),
            "eventsTail": json.dumps(self.lines.get(EVENTS, [])[-1:]),
        }


class WandbServer(ThreadingHTTPServer):
    """Serves at `url` from a thread; `runs` holds what it was sent, by run id."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.runs: dict[str, ServedRun] = {}
        self.url = f"http://127.0.0.1:{self.server_port}"
        self.lock = threading.Lock()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that is killed leaves its connections open: no error here."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)

    def answer(self, operation: str, asked: dict[str, Any]) -> dict[str, Any] | None:
        """The data of one GraphQL operation, None for those that are not known."""
        name = asked.get("name") or asked.get("run", "")
        if operation == "RunResumeStatus":
            run = self.runs.get(name)
            return {"model": {"id": "p", "name": "sslbench", "bucket": run and run.bucket(name)}}
        if operation == "UpsertBucket":
            run = self.runs.setdefault(name, ServedRun())
            run.config = asked.get("config") or run.config
            return {"upsertBucket": {"bucket": run.bucket(name), "inserted": not run.lines}}
        if operation == "CreateRunFiles":
            files = [{"name": f, "uploadUrl": f"{self.url}/storage/{name}/{f}"} for f in asked["files"]]
            return {"createRunFiles": {"runID": name, "uploadHeaders": [], "files": files}}
        if operation in ("", "Viewer", "ServerFeaturesQuery"):  # older clients ask without a name
            known = {"features": [], "cliVersionInfo": {"max_cli_version": "1.0.0"}}
            viewer = {"id": "v", "entity": "someone", "username": "someone", "teams": {"edges": []}}
            return {"viewer": viewer, "serverInfo": known}
        return None


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: WandbServer

    def do_POST(self) -> None:
        body = self._body()
        with self.server.lock:
            if self.path == "/graphql":
                asked = json.loads(body)
                data = self.server.answer(asked.get("operationName", ""), asked.get("variables") or {})
                self._reply({"data": data} if data else {"errors": [{"message": "unknown here"}]})
            elif self.path.endswith("/file_stream"):
                self.server.runs[self.path.split("/")[-2]].stream(json.loads(body))
                self._reply({})
            else:
                self._reply({}, 404)

    def do_PUT(self) -> None:
        self._body()
        name, _, file = self.path.removeprefix("/storage/").partition("/")
        with self.server.lock:
            self.server.runs[name].uploaded.add(file)
        self._reply({})

    def do_GET(self) -> None:
        self._reply({}, 404)

    def log_message(self, *_: object) -> None:
        """Say nothing."""

    def _body(self) -> bytes:
        return self.rfile.read(int(self.headers.get("Content-Length") or 0))

    def _reply(self, answer: object, status: int = 200) -> None:
        content = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)


@contextmanager
def serving() -> Iterator[WandbServer]:
    """A server while the block lasts."""
    server = WandbServer()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
