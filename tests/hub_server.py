"""A small hub on 127.0.0.1 for tests: it serves models and takes uploads as huggingface_hub asks for them.

with HubServer() as hub:
    commit = hub.add("owner/name", {"config.json": b"{}"})
    hub.use(monkeypatch, tmp_path / "cache")       # this process's huggingface_hub now talks to it
    ...
    assert hub.count() == 0                        # requests since the last `forget`
"""

import base64
import hashlib
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from urllib.parse import unquote, urlsplit

LARGE = (".safetensors", ".bin", ".gguf", ".model")  # these are uploaded apart from the commit, as LFS objects


class HubServer:
    def __init__(self) -> None:
        self.commits: dict[str, dict[str, dict[str, bytes]]] = {}  # repository -> commit -> name -> content
        self.branches: dict[str, dict[str, str]] = {}
        self.gated: set[str] = set()
        self.tokens: dict[str, str] = {}  # private repository -> the token that opens it
        self.objects: dict[str, bytes] = {}  # what was uploaded as LFS, by SHA-256
        self.requests: list[tuple[str, str, dict[str, str]]] = []  # method, path, headers in lower case
        self.behaviour = "normal"  # or "hang" (until `close`), "drop" (closes without an answer), "500", "html"
        self.closing = threading.Event()
        self.lock = threading.Lock()
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"hub": self}))
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"

    def __enter__(self) -> "HubServer":
        self.thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        self.thread.start()
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        from huggingface_hub.utils import close_session

        self.closing.set()
        self.server.shutdown()
        self.server.server_close()
        self.thread.join(10)
        close_session()

    def add(self, repo: str, files: dict[str, bytes], branch: str = "main") -> str:
        """Commits files on top of a branch and returns the new commit."""
        with self.lock:
            commits, branches = self.commits.setdefault(repo, {}), self.branches.setdefault(repo, {})
            tree = {**commits.get(branches.get(branch, ""), {}), **files}
            commit = hashlib.sha1(repr((repo, branch, len(commits), sorted(tree.items()))).encode()).hexdigest()
            commits[commit], branches[branch] = tree, commit
            return commit

    def files(self, repo: str, revision: str = "main") -> dict[str, bytes]:
        return self.commits[repo][self.branches[repo].get(revision, revision)]

    def count(self) -> int:
        return len(self.requests)

    def forget(self) -> None:
        self.requests.clear()

    def use(self, monkeypatch, cache) -> None:
        """Points the huggingface_hub of this process here, with an empty cache, no token and short timeouts."""
        from huggingface_hub import constants

        for variable in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"):
            monkeypatch.delenv(variable, raising=False)
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        settings = {
            "ENDPOINT": self.url,
            "HUGGINGFACE_CO_URL_TEMPLATE": self.url + "/{repo_id}/resolve/{revision}/{filename}",
            "HF_HUB_CACHE": str(cache),
            "HF_TOKEN_PATH": f"{cache}/no-token",
            "HF_HUB_OFFLINE": False,
            "HF_HUB_DISABLE_XET": True,
            "HF_HUB_DISABLE_TELEMETRY": True,
            "HF_HUB_ETAG_TIMEOUT": 0.3,
            "HF_HUB_DOWNLOAD_TIMEOUT": 0.3,
        }
        for name, value in settings.items():
            monkeypatch.setattr(constants, name, value)


class _Handler(BaseHTTPRequestHandler):
    hub: HubServer
    timeout = 10

    def log_message(self, format: str, *args: object) -> None:
        pass

    def do_HEAD(self) -> None:
        self.answer()

    do_GET = do_POST = do_PUT = do_HEAD

    def answer(self) -> None:
        body, hub = self.read_body(), self.hub
        hub.requests.append((self.command, self.path, {name.lower(): value for name, value in self.headers.items()}))
        if hub.behaviour == "hang":
            hub.closing.wait(10)
        elif hub.behaviour == "500":
            self.send(500, b"out of order")
        elif hub.behaviour == "html":
            self.send(200, b"<html>Please accept the terms of this network</html>")
        elif hub.behaviour == "normal":
            self.route([unquote(part) for part in urlsplit(self.path).path.strip("/").split("/")], body)

    def read_body(self) -> bytes:
        if "chunked" not in self.headers.get("Transfer-Encoding", ""):
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        body = b""
        while size := int(self.rfile.readline(), 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return body

    def route(self, parts: list[str], body: bytes) -> None:
        match parts:
            case ["api", "models", owner, name]:
                self.show(f"{owner}/{name}", "main")
            case ["api", "models", owner, name, "revision", revision]:
                self.show(f"{owner}/{name}", revision)
            case [owner, name, "resolve", revision, *path]:
                self.give(f"{owner}/{name}", revision, "/".join(path))
            case ["api", "repos", "create"]:
                self.create(json.loads(body))
            case ["api", "models", owner, name, "branch", branch]:
                branches = self.hub.branches[f"{owner}/{name}"]
                self.send(409 if branch in branches else 200, b"{}")
                branches.setdefault(branch, branches["main"])
            case ["api", "models", owner, name, "preupload", _]:
                modes = [
                    {
                        "path": file["path"],
                        "uploadMode": "lfs" if file["path"].endswith(LARGE) else "regular",
                        "shouldIgnore": False,
                    }
                    for file in json.loads(body)["files"]
                ]
                self.send_json({"files": modes})
            case [_, _, "info", "lfs", "objects", "batch"]:
                uploads = [
                    {**item, "actions": {"upload": {"href": f"{self.hub.url}/lfs/{item['oid']}", "header": {}}}}
                    for item in json.loads(body)["objects"]
                ]
                self.send_json({"transfer": "basic", "objects": uploads})
            case ["api", "validate-yaml"]:
                self.send_json({"errors": [], "warnings": []})
            case ["lfs", oid]:
                right = hashlib.sha256(body).hexdigest() == oid
                if right:
                    self.hub.objects[oid] = body
                self.send(200 if right else 422)
            case ["api", "models", owner, name, "commit", revision]:
                self.commit(f"{owner}/{name}", revision, body)
            case _:
                self.send(404, b"no such endpoint")

    def refused(self, repo: str, revision: str) -> bool:
        """Answers itself when the repository or the revision may not be seen."""
        hub, given = self.hub, self.headers.get("Authorization")
        if repo not in hub.commits or (repo in hub.tokens and given != f"Bearer {hub.tokens[repo]}"):
            self.send(404 if given else 401, headers={"X-Error-Code": "RepoNotFound"})
        elif revision not in hub.branches[repo] and revision not in hub.commits[repo]:
            self.send(404, headers={"X-Error-Code": "RevisionNotFound"})
        else:
            return False
        return True

    def show(self, repo: str, revision: str) -> None:
        if self.refused(repo, revision):
            return
        commit = self.hub.branches[repo].get(revision, revision)
        names = [{"rfilename": name} for name in sorted(self.hub.commits[repo][commit])]
        self.send_json({"id": repo, "sha": commit, "siblings": names, "private": False, "tags": []})

    def give(self, repo: str, revision: str, path: str) -> None:
        if self.refused(repo, revision):
            return
        commit = self.hub.branches[repo].get(revision, revision)
        content = self.hub.commits[repo][commit].get(path)
        if repo in self.hub.gated:
            self.send(403, headers={"X-Error-Code": "GatedRepo"})
        elif content is None:
            self.send(404, headers={"X-Error-Code": "EntryNotFound", "X-Repo-Commit": commit})
        else:
            etag = hashlib.sha256(content).hexdigest()
            self.send(200, content, {"ETag": f'"{etag}"', "X-Repo-Commit": commit})

    def create(self, wanted: dict[str, str]) -> None:
        repo = f"{wanted.get('organization') or 'somebody'}/{wanted['name']}"
        if not self.headers.get("Authorization"):
            return self.send(401, headers={"X-Error-Message": "Invalid credentials in Authorization header"})
        exists = repo in self.hub.commits
        if not exists:
            self.hub.add(repo, {".gitattributes": b""})
        return self.send_json({"url": f"{self.hub.url}/{repo}"}, 409 if exists else 200)

    def commit(self, repo: str, revision: str, body: bytes) -> None:
        if self.refused(repo, revision):
            return
        files = {}
        for line in body.splitlines():
            item = json.loads(line)
            value = item["value"]
            if item["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif item["key"] == "lfsFile":
                files[value["path"]] = self.hub.objects[value["oid"]]
        request = "create_pr=1" in self.path
        commit = self.hub.add(repo, files, "refs/pr/1" if request else revision)
        answer = {"success": True, "commitOid": commit, "commitUrl": f"{self.hub.url}/{repo}/commit/{commit}"}
        if request:
            answer["pullRequestUrl"] = f"{self.hub.url}/{repo}/discussions/1"
        self.send_json(answer)

    def send_json(self, value: object, status: int = 200) -> None:
        self.send(status, json.dumps(value).encode(), {"Content-Type": "application/json"})

    def send(self, status: int, content: bytes = b"", headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(content)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)
