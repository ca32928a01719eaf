#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A Hugging Face hub on the loopback for tests, from folders, with faults.  usage: hub_server.py ROOT LOG

ROOT/ORG/NAME/... are the repositories, ROOT/commit their commit where it is not COMMIT; ORG tells what is wrong with one (FAULTS below). Prints the two ports that it listens on, the hub's and that of the other host to which
large files are redirected, then serves until its stdin ends. Every request is one line of LOG: "PORT METHOD PATH RANGE AUTHORIZATION STATUS"."""
import hashlib
import json
import re
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

LARGE = 100000  # bytes from which a file is "LFS": called by its SHA-256, and on the other host
FAULTS = {
    "ok": "none", "gated": "401, and 403 with a token of no account that has accepted", "private": "401 as for a repository that is not there", "busy": "429 once, then fine",
    "closed": "429 for an hour", "broken": "500 once, then fine", "cut": "bodies end in the middle, every range goes on", "stuck": "bodies end at the same byte each time",
    "wrong": "contents have one wrong byte", "noranges": "the whole file whatever is asked", "shifted": "another range than asked for", "expired": "the other host forgets addresses",
    "evil": "names that lead out of the folder", "nonsense": "no JSON", "slow": "bodies come slowly", "here": "large files are redirected within the host", "silent": "no etag", "plain": "no redirect",
    "moved": "another commit than asked for",
}
COMMIT = "0123456789abcdef0123456789abcdef01234567"


class Hub(ThreadingHTTPServer):
    daemon_threads = True
    allow_reuse_address = True

    def handle_error(self, *_):
        pass  # a client that is gone


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def reply(self, status, headers=(), body=b"", length=None):
        self.status = status
        self.send_response(status)
        self.send_header("Content-Length", str(len(body) if length is None else length))
        for name, value in headers:
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.send_body(body)

    def send_body(self, body):
        cut = {"cut": len(body) // 2 + 1, "stuck": 1000}.get(self.fault) if len(body) > LARGE // 2 and self.status in (200, 206) else None
        step = 20000 if self.fault == "slow" else 1 << 20
        for at in range(0, len(body[:cut]), step):
            self.wfile.write(body[:cut][at:at + step])
            if self.fault == "slow":
                time.sleep(0.01)
        if cut is not None:
            self.close_connection = True

    def do_GET(self):
        self.status, self.fault = 0, "ok"
        try:
            self.answer(unquote(urlsplit(self.path).path))
        except (BrokenPipeError, ConnectionResetError):
            pass
        with self.server.lock, open(self.server.log, "a") as f:
            f.write("%d %s %s %s %s %d\n" % (self.server.server_port, self.command, self.path, self.headers.get("Range", "-"), (self.headers.get("Authorization") or "-").replace(" ", "_"), self.status))

    do_HEAD = do_GET

    def commit(self):
        newer = self.server.root / "commit"
        return newer.read_text() if newer.exists() else COMMIT

    def first_times(self, n):
        with self.server.lock:
            key = (self.command, self.path, self.server.server_port)
            self.server.seen[key] = self.server.seen.get(key, 0) + 1
            return self.server.seen[key] <= n

    def answer(self, path):
        api = re.fullmatch(r"/api/models/([^/]+)/([^/]+)(?:/(revision|tree)/(.+))?", path)
        file = re.fullmatch(r"/(cdn/)?([^/]+)/([^/]+)/resolve/([^/]+)/(.+)", path)
        org, name = (api or file).group(*((1, 2) if api else (2, 3))) if api or file else ("", "")
        folder = self.server.root / org / name
        self.fault = org
        if self.refuse(org, folder):
            return
        if api:
            self.list(folder, api.group(4) or "main", api.group(3) == "tree")
        elif file.group(4) not in (self.commit(), "main"):
            self.reply(404, [("X-Error-Code", "RevisionNotFound")])
        else:
            self.send_file(folder / file.group(5), bool(file.group(1)))

    def refuse(self, org, folder):
        token = self.headers.get("Authorization")
        other_host = self.server.server_port != self.server.hub_port
        if org == "gated" and token != "Bearer hf_good" and not other_host:
            self.reply(403 if token else 401, [("X-Error-Code", "GatedRepo")])
        elif org == "private":
            self.reply(401, [("X-Error-Code", "RepoNotFound")])
        elif token == "Bearer hf_expired":
            self.reply(401, [])
        elif not folder.is_dir() or not org:
            self.reply(404, [("X-Error-Code", "RepoNotFound")])
        elif org == "busy" and self.path.startswith("/api/") and self.first_times(1):
            self.reply(429, [("Retry-After", "1")])
        elif org == "closed":
            self.reply(429, [("Retry-After", "3600")])
        elif org == "broken" and self.path.startswith("/cdn/") and self.first_times(1):
            self.reply(500, [], b"<html>a long explanation</html>")
        else:
            return False
        return True

    def list(self, folder, revision, tree):
        names = sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file())
        if self.fault == "evil":
            names += ["../../../escaped.gguf", "/tmp/escaped.gguf", "a/../../escaped.gguf", "bell\a.gguf"]
        if self.fault == "nonsense":
            return self.reply(200, [], b'{"sha": "' + COMMIT.encode() + b'", "siblings": [')
        if revision not in ("main", self.commit(), "refs/pr/1") and self.fault != "moved":
            return self.reply(404, [("X-Error-Code", "RevisionNotFound")])
        if tree:  # only huggingface-hub asks so
            rows = [{"type": "file", "path": n, "size": (folder / n).stat().st_size, "oid": "0" * 40} for n in names]
            return self.reply(200, [("Content-Type", "application/json")], json.dumps(rows).encode())
        self.reply(200, [("Content-Type", "application/json")], json.dumps({"id": "/".join(folder.parts[-2:]), "sha": self.commit(), "siblings": [{"rfilename": n} for n in names]}).encode())

    def send_file(self, path, is_cdn):
        if not path.is_file():
            return self.reply(404, [("X-Error-Code", "EntryNotFound")])
        body = path.read_bytes()
        large = len(body) >= LARGE
        etag = hashlib.sha256(body).hexdigest() if large else hashlib.sha1(b"blob %d\0" % len(body) + body).hexdigest()
        about = [("X-Repo-Commit", self.commit()), ("Accept-Ranges", "bytes")]
        if self.fault != "silent":
            about.append(("ETag", '"%s"' % etag))
        if large and not is_cdn and self.fault != "plain":
            port = self.server.hub_port if self.fault == "here" else self.server.other_port
            about += [("X-Linked-Etag", '"%s"' % etag)] * (self.fault != "silent")
            about += [("X-Linked-Size", str(len(body))), ("Location", "http://127.0.0.1:%d/cdn%s" % (port, self.path))]
            return self.reply(302, about, b"redirected")
        if is_cdn and self.fault == "expired" and self.first_times(1):
            return self.reply(403, [], b"Request has expired")
        if self.fault == "wrong" and large:
            body = body[:70000] + bytes([body[70000] ^ 1]) + body[70001:]
        self.send_content(body, about)

    def send_content(self, body, about):
        m = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        if not m or self.fault == "noranges":
            return self.reply(200, about, body)
        first, last = int(m.group(1)), min(int(m.group(2) or len(body)), len(body) - 1)
        shift = 3 if self.fault == "shifted" else 0
        self.reply(206, about + [("Content-Range", "bytes %d-%d/%d" % (first + shift, last, len(body)))], body[first + shift:last + 1])


def start(root, log):
    """The hub and the other host, each in a thread: (hub, other)."""
    servers = [Hub(("127.0.0.1", 0), Handler) for _ in range(2)]
    lock = threading.Lock()
    for s in servers:
        s.root, s.log, s.lock, s.seen = Path(root), log, lock, {}
        s.hub_port, s.other_port = servers[0].server_port, servers[1].server_port
        threading.Thread(target=s.serve_forever, daemon=True).start()
    return servers


if __name__ == "__main__":
    hub, other = start(sys.argv[1], sys.argv[2])
    print(hub.server_port, other.server_port, flush=True)
    sys.stdin.read()
