"""A name becomes a folder: local, built in, from a hub on 127.0.0.1; and no name leads outside a model's folder."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import assets
import pytest
from hub_server import HubServer

from plainformers.hub import BUILTIN, COMMIT_FOLDER, fetch, file_in, names_in, upload

FILES = {"config.json": b'{"model_type": "bert"}', "model.safetensors": b"weights", "onnx/model.onnx": b"onnx"}
REPO = "owner/tiny-model"


def everything(names: list[str]) -> list[str]:
    return names


def only(*wanted: str):
    return lambda names: [name for name in names if name in wanted]


def write(folder: Path, files: dict[str, bytes]) -> Path:
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder


@pytest.fixture
def model(tmp_path):
    return write(tmp_path / "model", FILES)


@pytest.fixture
def server(monkeypatch, tmp_path):
    with HubServer() as hub:
        hub.use(monkeypatch, tmp_path / "cache")
        hub.commit = hub.add(REPO, FILES)
        yield hub


# ---- Local folders


@pytest.mark.parametrize("kind", [str, Path])
def test_a_local_folder_is_returned_as_it_is(model, kind):
    offered = []
    assert fetch(kind(model), lambda names: offered.extend(names) or names) == model
    assert offered == ["config.json", "model.safetensors", "onnx/model.onnx"]


def test_a_subfolder_of_a_local_folder(model):
    offered = []
    assert fetch(model, lambda names: offered.extend(names) or names, subfolder="onnx") == model / "onnx"
    assert offered == ["model.onnx"]
    with pytest.raises(FileNotFoundError, match="has no folder 'tf'. It has: onnx"):
        fetch(model, everything, subfolder="tf")


@pytest.mark.parametrize("subfolder", ["/etc", "..", "a/../..", "a\\b", "c:/x", "a\0"])
def test_a_subfolder_cannot_lead_out(model, subfolder):
    with pytest.raises(ValueError, match="The subfolder"):
        fetch(model, everything, subfolder=subfolder)


def test_a_linked_subfolder_cannot_lead_out(model, tmp_path):
    write(tmp_path / "secret", {"config.json": b"{}"})
    (model / "inner").symlink_to(tmp_path / "secret")
    with pytest.raises(ValueError, match="leads outside"):
        fetch(model, everything, subfolder="inner")


def test_a_missing_folder_names_the_nearest(model, monkeypatch):
    for name in (f"{model}s", Path(f"{model}s")):
        with pytest.raises(FileNotFoundError, match="did you mean 'model'"):
            fetch(name, everything)
    monkeypatch.chdir(model.parent)
    with pytest.raises(FileNotFoundError, match=r"'\./modle' does not exist.*did you mean 'model'"):
        fetch("./modle", everything)
    for name in ("a/b/c", "~/no such folder", "C:\\models\\bert", "owner/name/"):
        with pytest.raises(FileNotFoundError, match="does not exist"):
            fetch(name, everything)


def test_a_tilde_is_the_home_folder(model, monkeypatch):
    monkeypatch.setenv("HOME", str(model.parent))
    assert fetch("~/model", everything) == model


def test_a_file_is_no_model(model):
    with pytest.raises(NotADirectoryError, match="is a file. Give the model's folder"):
        fetch(model / "config.json", everything)


@pytest.mark.parametrize("name", ["", "  ", "a\0b", "two words", "owner/na--me", "owner/..name", "x" * 200, "\udcff"])
def test_what_cannot_be_a_name_is_refused(name):
    with pytest.raises(ValueError, match="repository"):
        fetch(name, everything)


@pytest.mark.parametrize("name", [None, 3, b"bytes", ["a"]])
def test_what_is_no_string_is_refused(name):
    with pytest.raises(TypeError, match="str or a Path"):
        fetch(name, everything)


def test_what_choose_raises_is_passed_on(model):
    def choose(names):
        raise FileNotFoundError("no tokenizer")

    with pytest.raises(FileNotFoundError, match="no tokenizer"):
        fetch(model, choose)


def test_builtin_names_are_folders_of_the_package(model, monkeypatch):
    monkeypatch.setitem(BUILTIN, "plainformers/test-model", str(model))  # an absolute path stands for the folder
    assert fetch("plainformers/test-model", everything) == model
    monkeypatch.setitem(BUILTIN, "plainformers/test-model", "not-shipped")
    with pytest.raises(FileNotFoundError, match="Install plainformers again"):
        fetch("plainformers/test-model", everything)


def test_importing_imports_no_client():
    code = "import sys, plainformers.hub; sys.exit(any(n in sys.modules for n in ('huggingface_hub', 'torch')))"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


@pytest.mark.real
def test_a_real_checkpoint():
    folder = fetch(assets.ensure("minilm"), everything)
    assert set(assets.ASSETS["minilm"].files) <= set(names_in(folder))
    assert json.loads((file_in(folder, "config.json") or folder).read_bytes())["model_type"] == "bert"


# ---- One file of a folder


def test_file_in_gives_files_only(model):
    assert file_in(model, "config.json") == model / "config.json"
    assert file_in(str(model), "onnx/model.onnx") == model / "onnx/model.onnx"
    assert file_in(model, "onnx") is None
    assert file_in(model, "absent.json") is None
    assert file_in(model / "absent", "config.json") is None


@pytest.mark.parametrize(
    "name", ["../config.json", "/etc/passwd", "a/../../b", "a\\b", "C:x", "c:/x", "a\0", "", ".", "./a", "a//b", "a/"]
)
def test_file_in_refuses_names_that_are_not_plain(model, name):
    with pytest.raises(ValueError, match="The file name .* is refused"):
        file_in(model, name)


def test_file_in_refuses_what_is_no_name(model):
    with pytest.raises(TypeError, match="must be a str"):
        file_in(model, 3)  # pyright: ignore[reportArgumentType]


def test_links_may_stay_inside_only(model, tmp_path):
    write(tmp_path, {"secret": b"secret"})
    (model / "same.json").symlink_to("config.json")
    assert file_in(model, "same.json") == model / "same.json"
    (model / "loop.json").symlink_to("loop.json")
    (model / "dangling.json").symlink_to("nowhere.json")
    assert file_in(model, "loop.json") is None
    assert file_in(model, "dangling.json") is None
    (model / "away.json").symlink_to("../secret")
    (model / "dangling-away.json").symlink_to("../nothing")
    (model / "folder").symlink_to(tmp_path)
    for name in ("away.json", "dangling-away.json", "folder/secret"):
        with pytest.raises(ValueError, match="leads outside the model folder"):
            file_in(model, name)


def test_the_folder_itself_may_be_a_link(model, tmp_path):
    (tmp_path / "link").symlink_to(model)
    assert file_in(tmp_path / "link", "config.json") == tmp_path / "link/config.json"


def test_links_of_the_cache_may_lead_to_its_blobs_only(tmp_path):
    store = tmp_path / "cache/models--owner--name"
    snapshot = store / "snapshots" / ("0" * 40)
    write(tmp_path / "cache", {"models--owner--name/blobs/1": b"a", "blobs/ab/2": b"b", "models--other--name/x": b"c"})
    (snapshot / "onnx").mkdir(parents=True)
    (snapshot / "config.json").symlink_to("../../blobs/1")
    (snapshot / "onnx/model.onnx").symlink_to("../../../blobs/1")
    (store / "blobs/3").symlink_to("../../blobs/ab/2")
    (snapshot / "shared.json").symlink_to("../../blobs/3")
    (snapshot / "other.json").symlink_to("../../../models--other--name/x")
    for folder, name in [(snapshot, "config.json"), (snapshot / "onnx", "model.onnx"), (snapshot, "shared.json")]:
        assert file_in(folder, name) == folder / name
    with pytest.raises(ValueError, match="leads outside"):
        file_in(snapshot, "other.json")


def test_no_pipe_is_opened(model):
    os.mkfifo(model / "pipe.json")
    assert file_in(model, "pipe.json") is None
    assert "pipe.json" not in names_in(model)


def test_names_in_leaves_hidden_folders_out(model):
    write(model, {".git/config": b"", ".plainformers-saving/x": b"", "a/b/deep.json": b"", ".gitattributes": b""})
    assert names_in(model) == [".gitattributes", "config.json", "model.safetensors", "onnx/model.onnx"]


# ---- An interrupted save


def interrupt(model: Path, new: dict[str, bytes], remove: list[str]) -> None:
    write(model / COMMIT_FOLDER, {**new, "manifest.json": json.dumps({"files": list(new), "remove": remove}).encode()})


def test_an_interrupted_save_counts(model):
    interrupt(model, {"config.json": b"new", "part-1.safetensors": b"1"}, ["model.safetensors", "config.json"])
    assert names_in(model) == ["config.json", "onnx/model.onnx", "part-1.safetensors"]
    assert file_in(model, "config.json") == model / COMMIT_FOLDER / "config.json"
    assert file_in(model, "model.safetensors") is None
    assert file_in(model, "onnx/model.onnx") == model / "onnx/model.onnx"
    assert file_in(model, "manifest.json") is None
    os.replace(model / COMMIT_FOLDER / "config.json", model / "config.json")  # the save had come one step further
    assert file_in(model, "config.json") == model / "config.json"
    assert names_in(model) == ["config.json", "onnx/model.onnx", "part-1.safetensors"]


def test_an_interrupted_first_save_counts(tmp_path):
    interrupt(tmp_path, {"config.json": b"{}"}, [])
    assert names_in(tmp_path) == ["config.json"]
    assert fetch(tmp_path, everything) == tmp_path


def test_the_last_moment_of_a_save(model):
    (model / COMMIT_FOLDER).mkdir()
    assert names_in(model) == sorted(FILES)
    assert file_in(model, "config.json") == model / "config.json"


@pytest.mark.parametrize(
    "damage", [b"", b"{", b"[]", b'{"files": []}', b'{"files": "ab", "remove": []}', b'{"files": [1], "remove": []}']
    + [b"\xff\xfe", b"[" * 100_000]
)  # fmt: skip
def test_a_damaged_manifest_is_said(model, damage):
    write(model, {f"{COMMIT_FOLDER}/manifest.json": damage})
    for read in (names_in, lambda folder: file_in(folder, "config.json")):
        with pytest.raises(ValueError, match="An interrupted save left .* damaged"):
            read(model)


def test_a_manifest_cannot_lead_out(model, tmp_path):
    write(tmp_path, {"secret": b"secret"})
    interrupt(model, {}, [])
    (model / COMMIT_FOLDER / "x.json").symlink_to("../../secret")
    (model / COMMIT_FOLDER / "manifest.json").write_text('{"files": ["x.json"], "remove": []}')
    with pytest.raises(ValueError, match="leads outside"):
        file_in(model, "x.json")
    (model / COMMIT_FOLDER / "manifest.json").write_text('{"files": ["../secret"], "remove": []}')
    with pytest.raises(ValueError, match="refused"):
        names_in(model)


# ---- Downloads


def content(folder: Path) -> dict[str, bytes]:
    return {name: (folder / name).read_bytes() for name in names_in(folder)}


def test_download_of_a_branch(server):
    folder = fetch(REPO, only("config.json", "model.safetensors"))
    assert content(folder) == {name: FILES[name] for name in ("config.json", "model.safetensors")}
    assert folder.name == server.commit
    assert file_in(folder, "config.json") == folder / "config.json"
    server.forget()
    assert fetch(REPO, only("config.json")) == folder
    assert server.count() == 1  # has the branch moved?
    newer = server.add(REPO, {"config.json": b"newer"})
    assert content(fetch(REPO, only("config.json"))) == {"config.json": b"newer"}
    assert fetch(REPO, only("config.json")).name == newer


def test_choose_is_offered_what_the_repository_holds(server):
    offered = []
    fetch(REPO, lambda names: offered.append(names) or [])
    fetch(REPO, lambda names: offered.append(names) or [], subfolder="onnx/")
    assert offered == [sorted(FILES), ["model.onnx"]]


def test_a_cached_commit_needs_no_request(server):
    folder = fetch(REPO, everything, revision=server.commit)
    server.forget()
    server.behaviour = "drop"
    assert fetch(REPO, everything, revision=server.commit) == folder
    assert fetch(REPO, only("config.json"), revision=server.commit) == folder
    assert fetch(REPO, everything, revision=server.commit, subfolder="onnx") == folder / "onnx"
    assert server.count() == 0


def test_a_cached_commit_that_lacks_a_file_fetches_that_one(server):
    fetch(REPO, only("config.json"), revision=server.commit)
    server.forget()
    folder = fetch(REPO, everything, revision=server.commit)
    assert content(folder) == FILES
    assert all("/resolve/" in path and "config.json" not in path for _, path, _ in server.requests)


def test_a_cache_that_another_program_filled(server):
    from huggingface_hub import hf_hub_download

    for name in FILES:
        hf_hub_download(REPO, name, revision="main", endpoint=server.url)
    server.forget()
    assert content(fetch(REPO, everything, revision=server.commit)) == FILES
    assert server.count() == 1  # once: what does this commit hold?
    assert content(fetch(REPO, everything, revision=server.commit)) == FILES
    assert server.count() == 1


def test_a_cache_that_another_program_filled_serves_offline(server):
    from huggingface_hub import hf_hub_download

    for name in FILES:
        hf_hub_download(REPO, name, revision="main", endpoint=server.url)
    server.forget()
    for revision in (None, "main", server.commit):
        assert content(fetch(REPO, everything, revision=revision, local_files_only=True)) == FILES
    assert server.count() == 0


def test_tags_and_other_branches(server):
    server.add(REPO, {"config.json": b"other"}, branch="feature/x")
    assert content(fetch(REPO, only("config.json"), revision="feature/x")) == {"config.json": b"other"}
    assert content(fetch(REPO, only("config.json"), revision="feature/x", local_files_only=True)) == {
        "config.json": b"other"
    }
    for revision in ("../main", "/main", "a\\b", "a\0"):
        with pytest.raises(ValueError, match="The revision"):
            fetch(REPO, everything, revision=revision)


def test_a_subfolder_of_a_repository(server):
    folder = fetch(REPO, everything, subfolder="onnx")
    assert (folder.name, content(folder)) == ("onnx", {"model.onnx": b"onnx"})
    with pytest.raises(FileNotFoundError, match="has no folder 'tf'"):
        fetch(REPO, everything, subfolder="tf")


def test_force_download_fetches_again(server):
    folder = fetch(REPO, everything, revision=server.commit)
    (folder / "config.json").resolve().write_bytes(b"damaged")
    assert content(fetch(REPO, everything, revision=server.commit, force_download=True)) == FILES
    with pytest.raises(ConnectionError, match="force_download=True"):
        fetch(REPO, everything, force_download=True, local_files_only=True)


@pytest.mark.parametrize("variable", ["HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", ""])
def test_offline_uses_the_cache(server, monkeypatch, variable):
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    folder = fetch(REPO, everything)
    server.forget()
    offline = {} if variable else {"local_files_only": True}
    if variable:
        monkeypatch.setenv(variable, "1")
    assert fetch(REPO, everything, **offline) == folder
    assert fetch(REPO, everything, revision=server.commit, **offline) == folder
    with pytest.raises(
        FileNotFoundError, match=r"'owner/other' \(revision 'main'\) is not in the cache .*Download it once"
    ):
        fetch("owner/other", everything, **offline)
    with pytest.raises(FileNotFoundError, match="revision 'other'"):
        fetch(REPO, everything, revision="other", **offline)
    assert server.count() == 0


def test_offline_names_the_files_that_are_missing(server):
    fetch(REPO, only("config.json"))
    with pytest.raises(
        FileNotFoundError, match=r"model.safetensors, onnx/model.onnx of 'owner/tiny-model'.*not in the cache"
    ):
        fetch(REPO, everything, local_files_only=True)


@pytest.mark.parametrize("behaviour", ["hang", "drop", "500", "html"])
def test_a_hub_that_gives_no_answer(server, behaviour):
    server.behaviour = behaviour
    with pytest.raises(ConnectionError, match="cannot be reached|no usable answer") as caught:
        fetch(REPO, everything)
    assert caught.value.__cause__ is not None
    server.behaviour = "normal"
    folder = fetch(REPO, everything)
    server.behaviour = behaviour
    assert fetch(REPO, everything) == folder


def test_no_server_at_all(server, monkeypatch):
    from huggingface_hub import constants

    folder = fetch(REPO, everything)
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    assert fetch(REPO, everything) == folder
    with pytest.raises(ConnectionError, match="http://127.0.0.1:9/owner/other cannot be reached"):
        fetch("owner/other", everything)


def test_a_hub_that_fails_in_the_middle(server, monkeypatch):
    monkeypatch.setattr("time.sleep", lambda seconds: None)  # the client retries, and waits in between

    def choose(names):
        server.behaviour = "drop"
        return names

    with pytest.raises(ConnectionError, match="config.json of .* cannot be reached") as caught:
        fetch(REPO, choose)
    assert caught.value.__cause__ is not None


def test_missing_repository_and_revision(server):
    with pytest.raises(FileNotFoundError, match="neither a folder here nor a repository at .*Check the spelling"):
        fetch("owner/nothing", everything)
    with pytest.raises(FileNotFoundError, match="no branch, tag or commit 'v9'"):
        fetch(REPO, everything, revision="v9")
    with pytest.raises(FileNotFoundError, match="no branch, tag or commit"):
        fetch(REPO, everything, revision="0" * 40)


def test_a_misspelt_local_folder_with_one_slash(server, model, monkeypatch):
    write(model.parent / "runs/checkpoint-10", FILES)
    monkeypatch.chdir(model.parent)
    with pytest.raises(FileNotFoundError, match="did you mean 'checkpoint-10'"):
        fetch("runs/checkpoint-1", everything)


def test_a_gated_repository(server):
    server.gated.add(REPO)
    with pytest.raises(PermissionError, match="is gated. Ask for access at") as caught:
        fetch(REPO, everything)
    assert caught.value.__cause__ is not None


def test_the_token_is_sent(server):
    server.tokens[REPO] = "hf_right"
    with pytest.raises(FileNotFoundError, match="log in with"):
        fetch(REPO, everything)
    with pytest.raises(FileNotFoundError, match="log in with") as caught:
        fetch(REPO, everything, token="hf_wrong")
    assert "hf_wrong" not in str(caught.value)
    server.forget()
    assert content(fetch(REPO, everything, token="hf_right")) == FILES
    assert {headers.get("authorization") for _, _, headers in server.requests} == {"Bearer hf_right"}


def test_names_that_a_hub_makes_up_are_refused(server, tmp_path):
    for name in ("../evil.json", "/etc/evil.json", "a\\..\\evil.json"):
        server.add("owner/evil", {name: b"evil"}, branch=(branch := f"b{len(name)}"))
        server.commits["owner/evil"][server.branches["owner/evil"][branch]] = {name: b"evil"}
        with pytest.raises(ValueError, match="refused"):
            fetch("owner/evil", everything, revision=branch)
    assert not list(tmp_path.rglob("evil.json"))


# ---- Uploads


def test_upload_and_back(server, model):
    address = upload(model, "me/new-model", token="hf_mine", commit_message="First")
    commit = server.branches["me/new-model"]["main"]
    assert address == f"{server.url}/me/new-model/commit/{commit}"
    assert {name: server.files("me/new-model")[name] for name in FILES} == FILES
    assert list(server.objects.values()) == [b"weights"]
    assert content(fetch("me/new-model", only(*FILES))) == FILES
    write(model, {"config.json": b"changed", "README.md": b"---\nlicense: mit\n---\n"})
    upload(model, "me/new-model", token="hf_mine")  # it exists: one commit more
    assert server.files("me/new-model")["config.json"] == b"changed"


def test_upload_to_a_branch_and_as_a_pull_request(server, model):
    upload(model, "me/new-model", token="hf_mine", revision="trial")
    assert "config.json" in server.files("me/new-model", "trial")
    assert "config.json" not in server.files("me/new-model", "main")
    assert upload(model, "me/new-model", token="hf_mine", create_pr=True).endswith("/discussions/1")
    assert "config.json" not in server.files("me/new-model", "main")


def test_upload_takes_what_a_reader_sees(server, model, tmp_path):
    interrupt(model, {"config.json": b"new"}, ["model.safetensors"])
    write(model, {".cache/secret": b"secret", ".env": b"secret", "onnx/.env": b"secret"})
    upload(model, "me/new-model", token="hf_mine")
    assert server.files("me/new-model") == {
        ".gitattributes": b"",
        "config.json": b"new",
        "onnx/model.onnx": b"onnx",
    }
    write(tmp_path, {"secret": b"secret"})
    (model / "away.json").symlink_to("../secret")
    with pytest.raises(ValueError, match="leads outside"):
        upload(model, "me/new-model", token="hf_mine")


def test_upload_errors(server, model, tmp_path, monkeypatch):
    with pytest.raises(PermissionError, match="log in") as caught:
        upload(model, "me/new-model")
    assert caught.value.__cause__ is not None
    shutil.rmtree(model)
    model.mkdir()
    with pytest.raises(FileNotFoundError, match="holds no files"):
        upload(model, "me/new-model", token="hf_mine")
    write(model, FILES)
    server.forget()
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(ConnectionError, match="HF_HUB_OFFLINE is set"):
        upload(model, "me/new-model", token="hf_mine")
    assert server.count() == 0
