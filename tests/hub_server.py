"""A server on this machine that speaks as the Hugging Face Hub does, and fails when told to."""

from __future__ import annotations

import base64
import hashlib
import json
import threading
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlsplit

TOKEN = "hf_letmein"
LARGE = (".safetensors", ".pt")  # what the hub keeps in its large file storage


@dataclass
class Repository:
    """A model on the hub: its files by commit, and which commit a revision is."""

    private: bool = False
    commits: dict[str, dict[str, bytes]] = field(default_factory=dict)
    revisions: dict[str, str] = field(default_factory=dict)

    def commit(self, files: dict[str, bytes], revision: str = "main") -> str:
        """Put files where a revision is; its new commit."""
        before = self.commits.get(self.revisions.get(revision, ""), {})
        together = before | files
        told = json.dumps({name: hashlib.sha256(content).hexdigest() for name, content in together.items()})
        name = hashlib.sha1(told.encode()).hexdigest()
        self.commits[name], self.revisions[revision] = together, name
        return name


class Hub:
    """What the server holds, and what is to go wrong: ``faults`` of a file befall its next requests.

    A fault is a status (503), ``cut`` (half of the content), or ``garbled`` (another content of this length).
    """

    def __init__(self, address: str) -> None:
        self.address = address
        self.repositories: defaultdict[str, Repository] = defaultdict(Repository)
        self.faults: defaultdict[str, list[int | str]] = defaultdict(list)
        self.requests: list[str] = []
        self.stored: dict[str, bytes] = {}
        self.down = False


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    hub: Hub

    def log_message(self, *_: Any) -> None:
        """Say nothing."""

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def do_POST(self) -> None:
        self._answer(self.rfile.read(int(self.headers.get("Content-Length", 0))))

    def do_PUT(self) -> None:
        self._answer(self.rfile.read(int(self.headers.get("Content-Length", 0))))

    def _answer(self, body: bytes = b"") -> None:
        path = unquote(urlsplit(self.path).path)
        self.hub.requests.append(f"{self.command} {path}")
        parts = path.strip("/").split("/")
        if self.hub.down:
            self._send(503, b"out of order")
        elif path == "/api/repos/create":
            self._create(json.loads(body))
        elif path == "/api/validate-yaml":
            self._json({"warnings": [], "errors": []})
        elif parts[0] == "stored":
            self.hub.stored[parts[1]] = body
            self._send(200, b"")
        elif parts[:2] == ["api", "models"]:
            self._model("/".join(parts[2:4]), parts[4:], body)
        elif path.endswith(".git/info/lfs/objects/batch"):
            self._batch(json.loads(body))
        elif len(parts) > 4 and parts[2] == "resolve":
            self._file("/".join(parts[:2]), parts[3], "/".join(parts[4:]))
        else:
            self._send(404, b"")

    def _repository(self, name: str) -> Repository | None:
        """Find one that whoever asks may see; else say that there is none, as the hub does."""
        found = self.hub.repositories.get(name)
        known = self.headers.get("Authorization") == f"Bearer {TOKEN}"
        if found is None or (found.private and not known):
            # Of what cannot be seen it does not say whether it is there.
            self._send(404 if known else 401, b"", {"X-Error-Code": "RepoNotFound"})
            return None
        return found

    def _commit(self, repository: Repository, revision: str) -> str | None:
        name = repository.revisions.get(revision, revision)
        if name in repository.commits:
            return name
        self._send(404, b"", {"X-Error-Code": "RevisionNotFound"})
        return None

    def _model(self, name: str, rest: list[str], body: bytes) -> None:
        if (repository := self._repository(name)) is None:
            return
        if rest[:1] == ["preupload"]:
            files = json.loads(body)["files"]
            modes = [
                {"path": f["path"], "uploadMode": _mode(f["path"]), "shouldIgnore": False} for f in files
            ]
            self._json({"files": modes})
        elif rest[:1] == ["commit"]:
            commit = repository.commit(self._uploaded(body), rest[1])
            self._json({"commitUrl": f"{self.hub.address}/{name}/commit/{commit}", "commitOid": commit})
        elif rest[:1] in ([], ["revision"]):
            revision = rest[1] if rest else "main"
            if (commit := self._commit(repository, revision)) is None:
                return
            siblings = [_described(*file) for file in repository.commits[commit].items()]
            about = {"id": name, "modelId": name, "sha": commit, "private": repository.private, "tags": []}
            self._json({**about, "siblings": siblings, "downloads": 0, "likes": 0})
        else:
            self._send(404, b"")

    def _uploaded(self, body: bytes) -> dict[str, bytes]:
        files = {}
        for line in map(json.loads, body.splitlines()):
            value = line["value"]
            if line["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif line["key"] == "lfsFile":
                files[value["path"]] = self.hub.stored[value["oid"]]
        return files

    def _create(self, wanted: dict[str, Any]) -> None:
        if self.headers.get("Authorization") != f"Bearer {TOKEN}":
            self._send(401, b'{"error": "Invalid username or password."}')
            return
        name = f"{wanted['organization']}/{wanted['name']}" if wanted.get("organization") else wanted["name"]
        if name in self.hub.repositories:
            self._send(409, json.dumps({"url": f"{self.hub.address}/{name}"}).encode())
            return
        private = bool(wanted.get("private") or wanted.get("visibility") == "private")
        self.hub.repositories[name] = Repository(private=private)
        self.hub.repositories[name].commit({".gitattributes": b""})
        self._json({"url": f"{self.hub.address}/{name}", "name": name})

    def _batch(self, wanted: dict[str, Any]) -> None:
        objects = [
            {**one, "actions": {"upload": {"href": f"{self.hub.address}/stored/{one['oid']}"}}}
            for one in wanted["objects"]
        ]
        self._json({"transfer": "basic", "objects": objects})

    def _file(self, name: str, revision: str, path: str) -> None:
        repository = self._repository(name)
        if repository is None or (commit := self._commit(repository, revision)) is None:
            return
        content = repository.commits[commit].get(path)
        if content is None:
            self._send(404, b"", {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": commit})
            return
        faults = self.hub.faults[path]
        fault = faults.pop(0) if faults and self.command == "GET" else None
        if isinstance(fault, int):
            self._send(fault, b"out of order")
            return
        tag = f'"{_described(path, content)["lfs" if _mode(path) == "lfs" else "blobId"]}"'
        if _mode(path) == "lfs":
            tag = f'"{hashlib.sha256(content).hexdigest()}"'
        headers = {"ETag": tag, "X-Repo-Commit": commit, "Accept-Ranges": "bytes"}
        if fault == "garbled":
            content = bytes(255 - byte for byte in content)
        status, first = 200, 0
        if wanted := self.headers.get("Range"):
            first, status = int(wanted.removeprefix("bytes=").partition("-")[0]), 206
            headers["Content-Range"] = f"bytes {first}-{len(content) - 1}/{len(content)}"
        self._send(status, content[first:], headers, half=fault == "cut")

    def _json(self, content: Any) -> None:
        self._send(200, json.dumps(content).encode(), {"Content-Type": "application/json"})

    def _send(
        self, status: int, content: bytes, headers: dict[str, str] | None = None, *, half: bool = False
    ) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(content)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content[: len(content) // 2] if half else content)
        if half:
            self.wfile.flush()
            self.close_connection = True


def _mode(path: str) -> str:
    return "lfs" if path.endswith(LARGE) else "regular"


def _described(path: str, content: bytes) -> dict[str, Any]:
    blob = hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
    about: dict[str, Any] = {"rfilename": path, "size": len(content), "blobId": blob}
    if _mode(path) == "lfs":
        about["lfs"] = {
            "sha256": hashlib.sha256(content).hexdigest(),
            "size": len(content),
            "pointerSize": 134,
        }
    return about


@contextmanager
def serving_hub() -> Iterator[Hub]:
    """Run a hub while the block lasts."""
    handler = type("Handler", (_Handler,), {})
    running = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    handler.hub = hub = Hub(f"http://127.0.0.1:{running.server_port}")
    thread = threading.Thread(target=running.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        running.shutdown()
        thread.join()
        running.server_close()
