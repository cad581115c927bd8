"""From a name to a local folder: a folder, a model that ships with the package, or a repository of the hub.

Every file of a model is opened through `file_in`, so that no name from a repository leads outside its folder.
"""

import json
import logging
import os
import re
from collections.abc import Callable, Iterable
from difflib import get_close_matches
from pathlib import Path
from typing import Any

BUILTIN = {"plainformers/sentiment-english": "sentiment"}  # name -> folder under builtin/
COMMIT_FOLDER = ".plainformers-commit"  # an interrupted save: its files count, those beside it that it replaces do not

_COMMIT = re.compile(r"[0-9a-f]{40}")
_REPOSITORY = re.compile(r"(?!.*(--|\.\.|\.git$))[\w][\w.-]*(/[\w][\w.-]*)?", re.ASCII)
_OFFLINE_VARIABLES = ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE")
_log = logging.getLogger("plainformers.hub")


def fetch(
    name: str | Path,
    choose: Callable[[list[str]], list[str]],
    *,
    revision: str | None = None,
    subfolder: str = "",
    cache_dir: str | Path | None = None,
    force_download: bool = False,
    local_files_only: bool = False,
    token: str | bool | None = None,
) -> Path:
    """The local folder that holds the files of a model, downloaded first where they are missing.

    choose: from the file names that exist, relative to subfolder, those that are wanted. An empty choice is no error.
    A commit hash whose files are cached needs no request; a branch needs one, and what is cached serves when the hub
    cannot be reached. Raises OSError (FileNotFoundError, PermissionError, ConnectionError) saying what to do.
    """
    text = _checked_name(name)
    if subfolder:
        plain_name(subfolder := subfolder.rstrip("/"), "subfolder")
    path = Path(os.path.expanduser(text))
    if os.path.isdir(path):
        return _local(path, choose, subfolder)
    if os.path.exists(path):
        raise NotADirectoryError(f"{text!r} is a file. Give the model's folder: {str(path.parent)!r}.")
    if text in BUILTIN:
        shipped = Path(__file__).parent / "builtin" / BUILTIN[text]
        if not shipped.is_dir():
            raise FileNotFoundError(f"{text!r} should be in {shipped}, which is missing. Install plainformers again.")
        return _local(shipped, choose, subfolder)
    if isinstance(name, Path) or text[0] in "./~" or text.count("/") > 1 or "\\" in text or text.endswith("/"):
        raise FileNotFoundError(f"The model folder {text!r} does not exist.{_near(text)}")
    if not _REPOSITORY.fullmatch(text) or len(text) > 96:
        raise ValueError(
            f"{text!r} is neither a folder here nor the name of a repository, which is 'name' or 'owner/name' "
            "of letters, digits, '-', '_' and '.'."
        )
    return _from_hub(text, choose, revision, subfolder, cache_dir, force_download, local_files_only, token)


def file_in(folder: str | Path, name: str) -> Path | None:
    """The path of one file of a model folder, None when it is absent.

    Raises ValueError for a name that is no plain relative one, and for a link that leads outside the folder (or, in
    the hub's cache, outside what belongs to that repository).
    """
    plain_name(name)
    folder = Path(folder)
    path = folder / name
    if (folder / COMMIT_FOLDER).is_dir():
        new, removed = interrupted_save(folder)
        if name in new and os.path.lexists(folder / COMMIT_FOLDER / name):
            path = folder / COMMIT_FOLDER / name
        elif name in removed - new:
            return None
    if not os.path.lexists(path):
        return None
    _check_inside(folder, path)
    return path if path.is_file() else None


def names_in(folder: str | Path) -> list[str]:
    """The sorted names of the files that a reader sees, those of direct subfolders too, hidden folders left out."""
    folder = Path(folder)
    names = set(_walk(folder))
    if (folder / COMMIT_FOLDER).is_dir():
        new, removed = interrupted_save(folder)
        names = names - (removed - new) | {name for name in new if file_in(folder, name)}
    return sorted(names)


def find_gguf(name: str | Path, gguf_file: str | None = None, **where: Any) -> Path | None:
    """The GGUF file that is asked for: by its own path, or as gguf_file of a folder or repository; else None."""
    if gguf_file is None:
        path = Path(os.path.expanduser(_checked_name(name)))
        return path if path.suffix == ".gguf" and path.is_file() else None
    folder = fetch(name, lambda names: [name for name in names if name == gguf_file], **where)
    if (path := file_in(folder, gguf_file)) is None:
        there = ", ".join(name for name in names_in(folder) if name.endswith(".gguf"))
        raise FileNotFoundError(f"{folder} has no {gguf_file!r}; of GGUF files there is {there or 'none'}.")
    return path


def only_gguf(names: list[str], others: Iterable[str]) -> list[str]:
    """The GGUF file among names, where there is one and no more, and none of the others."""
    found = [name for name in names if name.endswith(".gguf")]
    return found if len(found) == 1 and not set(others).intersection(names) else []


def plain_name(name: str, what: str = "file name") -> None:
    """Raises ValueError unless the name is relative, goes only downwards and means the same on every system."""
    if not isinstance(name, str):
        raise TypeError(f"A {what} must be a str, not {type(name).__name__}: {name!r}.")
    if {"", ".", ".."} & set(name.split("/")) or re.search(r"[\0\\]|^[A-Za-z]:", name):
        raise ValueError(f"The {what} {name!r} is refused: it must be relative, without '..', '\\', ':' or NUL.")


def read_json(path: Path) -> dict[str, Any]:
    """The object that a JSON file holds; ValueError, naming the file, when it holds none."""
    try:
        values = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is not readable as JSON: {error}. Fetch the file again.") from error
    if not isinstance(values, dict):
        raise ValueError(f"{path} must hold a JSON object, not a {type(values).__name__}.")
    return values


def write_file(path: Path, data: str | bytes) -> None:
    """Under another name first: a reader finds the old file or the new one, never half of one."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with open(temporary, "wb") as file:
            file.write(data.encode() if isinstance(data, str) else data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def upload(
    folder: str | Path,
    repo_id: str,
    *,
    token: str | bool | None = None,
    private: bool | None = None,
    revision: str | None = None,
    commit_message: str | None = None,
    create_pr: bool = False,
    keep: Iterable[str] = (),
) -> str:
    """The address of the commit (or pull request) that puts the files of a folder into a repository, made if new.

    Files whose names begin with a dot stay at home, and those that keep names do where the repository has its own.
    Raises OSError saying what to do.
    """
    files = {name: file_in(folder, name) for name in names_in(folder) if not re.search(r"(^|/)\.", name)}
    if not files:
        raise FileNotFoundError(f"Nothing to upload: {str(folder)!r} holds no files.")
    repo_id = make_repository(repo_id, token=token, private=private)
    from huggingface_hub import CommitOperationAdd, HfApi

    api = HfApi(token=token)
    try:
        if revision and not create_pr:
            api.create_branch(repo_id, branch=revision, exist_ok=True)
        kept = {name for name in keep if api.file_exists(repo_id, name, revision=revision)}
        operations = [CommitOperationAdd(name, str(path)) for name, path in files.items() if name not in kept]
        message = commit_message or "Upload model"
        commit = api.create_commit(repo_id, operations, commit_message=message, revision=revision, create_pr=create_pr)
    except Exception as error:
        raise _explained(error, repo_id, revision) from error
    return (commit.pr_url or commit.commit_url) if create_pr else commit.commit_url


def make_repository(repo_id: str, *, token: str | bool | None = None, private: bool | None = None) -> str:
    """The full name, owner/name, of a repository that is made unless it is there. Raises OSError saying what to do."""
    if why := _offline(False):
        raise ConnectionError(f"{repo_id!r} cannot be uploaded: {why}.")
    from huggingface_hub import HfApi

    try:
        return HfApi(token=token).create_repo(repo_id, private=private, exist_ok=True).repo_id
    except Exception as error:
        raise _explained(error, repo_id, None) from error


def _checked_name(name: str | Path) -> str:
    if not isinstance(name, str | os.PathLike):
        raise TypeError(f"A model is named by a str or a Path, not by {type(name).__name__}: {name!r}.")
    text = os.fspath(name)
    if not isinstance(text, str) or not text.strip() or "\0" in text:
        raise ValueError(f"{text!r} names no model. Give a folder or a repository such as 'owner/name'.")
    return text


def _near(text: str) -> str:
    """A sentence that starts with a blank and names local folders that are called nearly so, or an empty string."""
    parent, last = os.path.split(os.path.abspath(os.path.expanduser(text)))
    try:
        folders = [entry.name for entry in os.scandir(parent) if entry.is_dir()]
    except (OSError, ValueError):
        return ""
    near = get_close_matches(last, folders, n=3, cutoff=0.6)
    return f" In {parent!r}, did you mean {' or '.join(map(repr, near))}?" if near else ""


def _walk(folder: Path, prefix: str = "") -> list[str]:
    names = []
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_file():
                names.append(prefix + entry.name)
            elif not prefix and not entry.name.startswith(".") and entry.is_dir(follow_symlinks=False):
                names += _walk(folder / entry.name, entry.name + "/")
    return names


def _local(folder: Path, choose: Callable[[list[str]], list[str]], subfolder: str) -> Path:
    inner = folder / subfolder
    if not inner.is_dir():
        there = sorted({name.split("/")[0] for name in names_in(folder) if "/" in name})
        raise FileNotFoundError(f"{str(folder)!r} has no folder {subfolder!r}. It has: {', '.join(there) or 'none'}.")
    _check_inside(folder, inner)
    choose(names_in(inner))  # what it raises says what is missing
    return inner


def _check_inside(folder: Path, path: Path) -> None:
    root, target = Path(os.path.realpath(folder)), Path(os.path.realpath(path))
    allowed = [root]
    for parent in root.parents:  # <cache>/models--owner--name/snapshots/<commit>/file -> ../../blobs/<hash>
        if parent.name == "snapshots" and parent.parent.name.startswith("models--"):
            allowed += [parent.parent, parent.parent.parent / "blobs"]  # the second: what repositories share
    if not any(target.is_relative_to(place) for place in allowed):
        raise ValueError(f"{path.relative_to(folder).as_posix()!r} in {str(folder)!r} leads outside the model folder.")


def interrupted_save(folder: Path) -> tuple[set[str], set[str]]:
    """The names that an interrupted save wrote, and those that it wanted gone."""
    path = folder / COMMIT_FOLDER / "manifest.json"
    _check_inside(folder, path)
    try:
        manifest = json.loads(path.read_bytes())
        new, removed = manifest["files"], manifest["remove"]
        if not (isinstance(new, list) and isinstance(removed, list) and all(isinstance(n, str) for n in new + removed)):
            raise TypeError("'files' and 'remove' must be lists of names")
    except FileNotFoundError:
        return set(), set()  # its last step removes the manifest and then the folder
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise ValueError(
            f"An interrupted save left {str(path)!r}, which is damaged ({error}): the newest files are not known."
            f" Delete the folder {COMMIT_FOLDER!r} to read the files beside it."
        ) from error
    return set(new), set(removed)


# ---- The hub and its cache: <cache>/models--owner--name/{refs/<revision>, snapshots/<commit>/<file>}


def _from_hub(
    repo: str,
    choose: Callable[[list[str]], list[str]],
    revision: str | None,
    subfolder: str,
    cache_dir: str | Path | None,
    force: bool,
    local_files_only: bool,
    token: str | bool | None,
) -> Path:
    from huggingface_hub import constants

    branch = revision or "main"
    plain_name(branch, "revision")
    store = Path(os.path.expanduser(cache_dir or constants.HF_HUB_CACHE)) / ("models--" + repo.replace("/", "--"))
    what, what_to_do = f"{repo!r} (revision {branch!r})", "Download it once with a connection, or give a folder's path."
    commit = _cached_commit(store, branch)
    names = _read_list(store, commit) if commit else None
    if (why := _offline(local_files_only)) and force:
        raise ConnectionError(f"force_download=True asks to download {what} again, but {why}.")
    if not why and (force or names is None or commit != branch):  # a commit never changes, a branch may
        try:
            commit, names = _ask(repo, revision, token)
            _note(store / ".plainformers" / f"{commit}.json", json.dumps(names))
        except Exception as error:  # whatever the client or the network raises
            explained = _explained(error, repo, branch)
            if commit is None or force or not isinstance(explained, ConnectionError):
                raise explained from error
            _log.info("%s The cached files are used.", explained)
            why = str(explained).rstrip(".")
    if commit is None:
        cache = str(store.parent)
        raise FileNotFoundError(f"{what} is not in the cache {cache!r}, and {why}. {what_to_do}{_near(repo)}")
    folder, prefix = store / "snapshots" / commit / subfolder, f"{subfolder}/" if subfolder else ""
    if names is None:  # fetched by another program, and the hub cannot be asked what else there is
        names = [prefix + name for name in names_in(folder)] if folder.is_dir() else []
    offered = [name.removeprefix(prefix) for name in names if name.startswith(prefix)]
    if prefix and not offered:
        raise FileNotFoundError(f"{what} has no folder {subfolder!r}{', and ' * bool(why)}{why}.")
    missing = [name for name in choose(offered) if force or file_in(folder, name) is None]
    if missing and why:
        cache = str(store.parent)
        raise FileNotFoundError(f"{', '.join(missing)} of {what}: not in the cache {cache!r}, and {why}. {what_to_do}")
    _download(repo, commit, [prefix + name for name in missing], store, force, token)
    if branch != commit and not why:
        _note(store / "refs" / branch, commit)
    if not folder.is_dir():
        folder.mkdir(parents=True)  # nothing was wanted
    return folder


def _offline(local_files_only: bool) -> str:
    """Why no request may be made, or an empty string."""
    if local_files_only:
        return "local_files_only=True forbids to download"
    for variable in _OFFLINE_VARIABLES:  # also when set after the client was imported
        if os.environ.get(variable, "").upper() in {"1", "ON", "YES", "TRUE"}:
            return f"{variable} is set"
    from huggingface_hub import constants

    return "HF_HUB_OFFLINE is set" if constants.HF_HUB_OFFLINE else ""


def _cached_commit(store: Path, revision: str) -> str | None:
    commit = revision
    if not _COMMIT.fullmatch(revision):
        ref = store / "refs" / revision
        commit = ref.read_text(encoding="utf-8").strip() if ref.is_file() else ""
    return commit if _COMMIT.fullmatch(commit) and (store / "snapshots" / commit).is_dir() else None


def _read_list(store: Path, commit: str) -> list[str] | None:
    """All file names of a commit, as the hub once gave them; the cache itself does not tell what was left out."""
    try:
        return json.loads((store / ".plainformers" / f"{commit}.json").read_bytes())
    except (OSError, ValueError):
        return None


def _note(path: Path, text: str) -> None:
    """Notes for later; a cache that cannot be written serves all the same."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_file(path, text)
    except OSError as error:
        _log.debug("%s cannot be written: %s", path, error)


def _ask(repo: str, revision: str | None, token: str | bool | None) -> tuple[str, list[str]]:
    from huggingface_hub import HfApi, constants

    info = HfApi(token=token).model_info(repo, revision=revision, timeout=constants.HF_HUB_ETAG_TIMEOUT)
    if not _COMMIT.fullmatch(info.sha or ""):
        raise ValueError(f"the answer names no commit but {info.sha!r}")
    return str(info.sha), [str(file.rfilename) for file in info.siblings or []]


def _download(repo: str, commit: str, names: list[str], store: Path, force: bool, token: str | bool | None) -> None:
    if not names:
        return
    from huggingface_hub import constants, hf_hub_download

    for name in names:
        plain_name(name)
        try:
            hf_hub_download(
                repo,
                name,
                revision=commit,
                cache_dir=store.parent,
                force_download=force,
                token=token,
                endpoint=constants.ENDPOINT,
            )
        except Exception as error:
            raise _explained(error, repo, commit, f"{name} of ") from error


def _explained(error: Exception, repo: str, revision: str | None, what: str = "") -> OSError:
    """What went wrong between us and the hub, in words; a ConnectionError where trying later may help."""
    from huggingface_hub import constants, errors

    while isinstance(error, errors.LocalEntryNotFoundError | RuntimeError) and isinstance(error.__cause__, Exception):
        error = error.__cause__  # the client wraps what happened
    place, status = f"{constants.ENDPOINT}/{repo}", getattr(getattr(error, "response", None), "status_code", 0)
    log_in = "log in with `hf auth login` or give `token`"
    if isinstance(error, errors.GatedRepoError):
        return PermissionError(f"{what}{repo!r} is gated. Ask for access at {place}, then {log_in}.")
    if isinstance(error, errors.RevisionNotFoundError):
        return FileNotFoundError(f"{repo!r} has no branch, tag or commit {revision!r}. See {place}/commits/main.")
    if isinstance(error, errors.RepositoryNotFoundError):
        return FileNotFoundError(
            f"{repo!r} is neither a folder here nor a repository at {constants.ENDPOINT} that you may read. "
            f"Check the spelling; for a private one {log_in}.{_near(repo)}"
        )
    if status in (401, 403):
        return PermissionError(f"{what}{place} may not be accessed ({status}). To use another account, {log_in}.")
    if status == 404:
        return FileNotFoundError(f"{what}{place} (revision {revision!r}) does not exist.")
    detail = f"{type(error).__name__}: {' '.join(str(error).split())[:300]}".rstrip(". ")
    if status and status < 500 and status not in (408, 429):
        return OSError(f"{what}{place}: the request was refused ({status}): {detail}.")
    if isinstance(error, OSError) and error.errno is not None and error.filename is not None:
        return OSError(f"{what}{repo!r} cannot be stored: {detail}.")  # a full disk, a cache that is read-only
    problem = "gives no usable answer" if status or isinstance(error, ValueError | TypeError) else "cannot be reached"
    return ConnectionError(f"{what}{place} {problem}: {detail}.")
