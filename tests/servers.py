"""Servers on this machine that speak as the data sets' servers do, and fail when told to."""

from __future__ import annotations

import fnmatch
import hashlib
import json
import socket
import struct
import threading
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, quote, urlsplit

Answer = bytes | dict[str, Any] | list[Any] | Callable[[dict[str, str]], Any]


class Server:
    """Serves what lies in ``files`` by path; ``faults`` of a path befall its next requests, one each.

    A fault is a status (503), or ``cut`` (half of the content, then the connection is closed), ``reset``
    (the same, and the connection is reset), ``garbled`` (the right length, another content), ``whole``
    (a range is asked for, all is sent).
    """

    def __init__(self, address: str) -> None:
        self.address = address
        self.files: dict[str, Answer] = {}
        self.faults: defaultdict[str, list[int | str]] = defaultdict(list)
        self.requests: list[tuple[str, str]] = []  # path, and the range asked for
        self.redirects: dict[str, str] = {}
        self.headers: dict[str, dict[str, str]] = {}  # more of them, by path
        self.ranges = True  # whether it knows them
        self.sent = 0  # bytes of content

    def url(self, path: str) -> str:
        """Address of a file."""
        return self.address + path


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # else an answer on a kept connection waits 40 ms
    standin: Server

    def log_message(self, *_: Any) -> None:
        """Say nothing."""

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.do_GET()

    def do_GET(self) -> None:
        parts = urlsplit(self.path)
        path = parts.path
        self.standin.requests.append((path, self.headers.get("Range", "")))
        faults = self.standin.faults[path]
        fault = faults.pop(0) if faults else None
        if isinstance(fault, int):
            self._send(fault, b"the server is out of order", {"Retry-After": "0"} if fault >= 500 else {})
            return
        if path in self.standin.redirects:
            self._send(302, b"", {"Location": self.standin.redirects[path]})
            return
        found = self.standin.files.get(path)
        if callable(found):
            found = found({name: values[0] for name, values in parse_qs(parts.query).items()})
        if found is None:
            self._send(404, b"nothing here", {})
            return
        if not isinstance(found, bytes):
            self._send(200, json.dumps(found).encode(), {"Content-Type": "application/json"})
            return
        tag = f'"{hashlib.md5(found).hexdigest()}"'
        headers, status, first, stop = {"ETag": tag, "Accept-Ranges": "bytes"}, 200, 0, len(found)
        headers |= self.standin.headers.get(path, {})
        same = self.headers.get("If-Range") in (None, tag)
        if (wanted := self.headers.get("Range")) and same and fault != "whole" and self.standin.ranges:
            low, _, high = wanted.removeprefix("bytes=").partition("-")
            first, status = int(low), 206
            stop = min(int(high) + 1, stop) if high else stop
            if first >= len(found):
                self._send(416, b"", {"Content-Range": f"bytes */{len(found)}"})
                return
            headers["Content-Range"] = f"bytes {first}-{stop - 1}/{len(found)}"
        content = found[first:stop]
        if fault == "garbled":
            content = bytes(255 - byte for byte in content)
        self._send(status, content, headers, half=fault in ("cut", "reset"), reset=fault == "reset")

    def _send(
        self, status: int, content: bytes, headers: dict[str, str], *, half: bool = False, reset: bool = False
    ) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(content)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.standin.sent += len(content)
        self.wfile.write(content[: len(content) // 2] if half else content)
        if half:
            self.wfile.flush()
            self.close_connection = True
        if reset:
            linger = struct.pack("ii", 1, 0)
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            self.connection.close()


@contextmanager
def serving() -> Iterator[Server]:
    """Run a server while the block lasts."""
    handler = type("Handler", (_Handler,), {})
    running = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    handler.standin = server = Server(f"http://127.0.0.1:{running.server_port}")
    thread = threading.Thread(target=running.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield server
    finally:
        running.shutdown()
        running.server_close()


def figshare(server: Server, article: int, archives: dict[str, bytes]) -> None:
    """Serve the files of an article as figshare does."""
    listed = [
        {
            "id": number,
            "name": name,
            "size": len(content),
            "is_link_only": False,
            "download_url": server.url(f"/files/{article}/{number}"),
            "supplied_md5": "",
            "computed_md5": hashlib.md5(content).hexdigest(),
            "mimetype": "application/octet-stream",
        }
        for number, (name, content) in enumerate(archives.items())
    ]

    def page(asked: dict[str, str]) -> list[Any]:
        size = int(asked.get("page_size", 10))  # figshare's own default
        first = (int(asked.get("page", 1)) - 1) * size
        return listed[first : first + size]

    server.files[f"/articles/{article}/files"] = page
    server.files[f"/articles/{article}"] = {
        "id": article,
        "license": {"value": 1, "name": "CC BY 4.0", "url": "https://creativecommons.org/licenses/by/4.0/"},
    }
    for number, content in enumerate(archives.values()):
        server.files[f"/files/{article}/{number}"] = content


def alyx(
    server: Server, eid: str, probes: dict[str, dict[str, bytes | None]], collection: str = "pykilosort"
) -> None:
    """Serve a session as Alyx does, and its files as IBL's file server; each has an older revision too."""
    datasets = []
    for probe, files in probes.items():
        for name, content in files.items():
            if content is None:
                continue
            for revision, own in (("", b"older"), ("2024-05-06", content)):
                where = f"alf/{probe}/{collection}" + (f"/#{revision}#" if revision else "")
                path = f"/data/lab/Subjects/mouse/2020-01-01/001/{where}/{name}"
                server.files[path.replace("#", "%23")] = own
                datasets.append(
                    {
                        "id": f"{len(datasets):08d}-0000-4000-8000-000000000000",
                        "name": name,
                        "dataset_type": name.rpartition(".")[0],
                        "data_url": server.url(path.replace("#", "%23")),
                        "file_size": len(own),
                        "hash": hashlib.md5(own).hexdigest(),
                        "collection": f"alf/{probe}/{collection}",
                        "revision": revision or None,
                        "default_revision": str(bool(revision)),
                        "qc": "NOT_SET",
                    }
                )
    server.files["/auth-token"] = {"token": "0123456789abcdef"}
    server.files[f"/sessions/{eid}"] = {
        "id": eid,
        "subject": "mouse",
        "start_time": "2020-01-01T00:00:00",
        "number": 1,
        "data_dataset_session_related": datasets,
    }


def folder_files(folder: Path) -> dict[str, bytes]:
    """Read all files below a folder, by their paths in it."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()
    }


def zarr_asset(server: Server, identifier: str, files: dict[str, bytes]) -> None:
    """Serve the files of a Zarr asset as DANDI's bucket does; its interface lists two at a time."""
    entries = [
        {
            "Key": key,
            "LastModified": "2024-01-01T00:00:00Z",
            "ETag": hashlib.md5(content).hexdigest(),
            "Size": len(content),
        }
        for key, content in sorted(files.items())
    ]

    def listed(asked: dict[str, str]) -> dict[str, Any]:
        left = [entry for entry in entries if str(entry["Key"]) > asked.get("after", "")]
        here = f"/zarr/{identifier}/files"
        more = server.url(f"{here}?after={quote(str(left[1]['Key']))}") if left[2:] else None
        return {"next": more, "previous": None, "results": left[:2]}

    server.files[f"/zarr/{identifier}/files"] = listed
    for key, content in files.items():
        server.files[f"/bucket/zarr/{identifier}/{key}"] = content


def dandi(server: Server, dandiset: str, files: Mapping[str, bytes | dict[str, bytes]]) -> None:
    """Serve the published version of a dandiset as DANDI's interface does, files behind a redirect.

    What has several files is a Zarr folder.
    """
    when = "2024-01-01T00:00:00Z"
    version = {
        "version": "0.240101.0000",
        "name": "made for a test",
        "asset_count": len(files),
        "size": 1,
        "created": when,
        "modified": when,
        "status": "Valid",
    }
    server.files["/api/info/"] = {
        "schema_version": "0.6.4",
        "schema_url": "",
        "version": "0.3.0",
        "cli-minimal-version": "0.14.2",
        "cli-bad-versions": [],
        "services": {
            "api": {"url": server.address},
            "webui": {"url": server.address},
            "jupyterhub": {"url": server.address},
        },
    }
    server.files[f"/dandisets/{dandiset}/"] = {
        "identifier": dandiset,
        "created": when,
        "modified": when,
        "contact_person": "A",
        "embargo_status": "OPEN",
        "draft_version": {**version, "version": "draft"},
        "most_recent_published_version": version,
    }
    server.files[f"/dandisets/{dandiset}/versions/0.240101.0000/"] = {
        "id": f"DANDI:{dandiset}/0.240101.0000",
        "license": ["spdx:CC-BY-4.0"],
    }
    assets: list[dict[str, Any]] = []
    for number, (path, content) in enumerate(sorted(files.items())):
        identifier = f"{int(dandiset):08d}-0000-4000-8000-{number:012d}"
        assets.append(
            {
                "asset_id": identifier,
                "path": path,
                "size": len(content),
                "created": when,
                "modified": when,
                "blob": identifier if isinstance(content, bytes) else None,
                "zarr": None if isinstance(content, bytes) else identifier.replace("-4000-", "-5000-"),
            }
        )
        if not isinstance(content, bytes):
            zarr_asset(server, assets[-1]["zarr"], content)
            server.files[f"/dandisets/{dandiset}/versions/0.240101.0000/assets/{identifier}/"] = {
                "path": path,
                "contentUrl": [
                    server.url(f"/assets/{identifier}/download/"),
                    server.url(f"/bucket/zarr/{assets[-1]['zarr']}/"),
                ],
            }
            continue
        server.files[f"/dandisets/{dandiset}/versions/0.240101.0000/assets/{identifier}/"] = {
            "path": path,
            "digest": {"dandi:sha2-256": hashlib.sha256(content).hexdigest(), "dandi:dandi-etag": "x-1"},
        }
        server.redirects[f"/assets/{identifier}/download/"] = f"/blobs/{identifier}"
        server.files[f"/blobs/{identifier}"] = content

    def listed(asked: dict[str, str]) -> dict[str, Any]:
        chosen = [asset for asset in assets if asset["path"].startswith(asked.get("path", ""))]
        chosen = [asset for asset in chosen if fnmatch.fnmatchcase(asset["path"], asked.get("glob", "*"))]
        return {"count": len(chosen), "next": None, "previous": None, "results": chosen}

    server.files[f"/dandisets/{dandiset}/versions/0.240101.0000/assets/"] = listed


def warehouse(server: Server, links: dict[int, str]) -> None:
    """Answer the Allen Institute's warehouse's question for the file of a session (RMA, as JSON)."""

    def answer(asked: dict[str, str]) -> dict[str, Any]:
        query = asked["criteria"]
        found = [
            {"attachable_id": session, "download_link": link, "id": session}
            for session, link in links.items()
            if f"[attachable_id$eq{session}]" in query
        ]
        return {
            "success": True,
            "id": 0,
            "start_row": 0,
            "num_rows": len(found),
            "total_rows": len(found),
            "msg": found,
        }

    server.files["/api/v2/data/query.json"] = answer
