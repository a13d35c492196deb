"""The `hotshoe` command: what each verb prints, and how it ends."""

from __future__ import annotations

import errno
import json
import re
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
import typer
from support.adapters import make_adapter, make_base
from support.serving import Shop, open_shop
from typer.testing import CliRunner, Result

from hotshoe.adapter.errors import Refused
from hotshoe.cli.main import VERBS, app
from hotshoe.cli.verb import require, verb
from hotshoe.serve.tenants_file import parse_tenants

Run = Callable[..., Result]

VERB_NAMES = [name for verbs in VERBS.values() for name in verbs]


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Shop]:
    with open_shop(tmp_path / "shop") as opened:
        yield opened


@pytest.fixture
def run(shop: Shop, tmp_path: Path) -> Run:
    """Run a verb on the shop's registry."""
    environment = {
        "HOTSHOE_REGISTRY": shop.registry.url,
        "HOTSHOE_CACHE": str(tmp_path / "cache"),
        "HOTSHOE_ACTOR": "ada",
        "COLUMNS": "200",
        "NO_COLOR": "1",
    }
    return lambda *arguments: CliRunner().invoke(app, [str(each) for each in arguments], env=environment)


def done(result: Result) -> str:
    assert result.exit_code == 0, result.output
    return result.stdout


def data(result: Result) -> Any:
    return json.loads(done(result))


# Help


def test_without_a_verb_it_shows_the_verbs(run: Run) -> None:
    shown = run().output
    assert all(re.search(rf"\b{name}\b", shown) for name in VERB_NAMES)


@pytest.mark.parametrize("verb", VERB_NAMES)
def test_each_verb_says_what_it_does_and_what_each_argument_means(run: Run, verb: str) -> None:
    shown = done(run(verb, "--help"))
    assert "Usage:" in shown
    options = re.findall(r"^\W*(--[a-z-]+)(.*)$", shown, re.MULTILINE)
    assert options
    assert not [name for name, rest in options if not re.search(r"[a-z]{3}", rest)]


def test_a_word_that_is_no_verb_is_wrong_use(run: Run) -> None:
    assert run("publsh").exit_code == 2


# Publishing and moving


def test_publish_prints_the_new_version(run: Run, tmp_path: Path) -> None:
    folder = make_adapter(tmp_path / "new", 11)
    base = make_base(tmp_path / "base")
    result = run("publish", folder, "--as", "acme/fresh", "--base", base.folder)
    assert done(result) == "acme/fresh@v1\n"
    again = run("publish", folder, "--as", "acme/fresh", "--base", base.folder, "--json")
    assert data(again)["version"] == "acme/fresh@v1"


def test_a_version_is_found_by_the_tags_it_was_published_with(run: Run, tmp_path: Path) -> None:
    folder = make_adapter(tmp_path / "new", 11)
    to_publish = ("publish", folder, "--as", "acme/fresh", "--base", make_base(tmp_path / "base").folder)
    done(run(*to_publish, "--tag", "mail", "--tag", "de"))
    assert done(run(*to_publish, "--tag", "de", "--tag", "mail")) == "acme/fresh@v1\n"
    (found,) = data(run("list", "--tag", "mail", "--json"))
    assert (found["adapter"], found["tags"]) == ("acme/fresh", ["de", "mail"])
    assert "de, mail" in done(run("list", "--tag", "de"))
    assert not data(run("list", "--tag", "ma", "--json"))
    assert done(run(*to_publish, "--tag", "other")) == "acme/fresh@v2\n"


@pytest.mark.parametrize("tag", ["", "two words", "-dash", "x" * 65, "a\nb", "<b>"])
def test_a_tag_that_nobody_could_search_for_is_wrong_use(run: Run, tmp_path: Path, tag: str) -> None:
    base = make_base(tmp_path / "base").folder
    folder = make_adapter(tmp_path / "new", 11)
    result = run("publish", folder, "--as", "acme/fresh", "--base", base, f"--tag={tag}")
    assert result.exit_code == 2
    assert "is no tag" in result.stderr


def test_publishing_a_folder_whose_base_nobody_named_says_what_to_pass(run: Run, tmp_path: Path) -> None:
    result = run("publish", make_adapter(tmp_path / "new", 11), "--as", "acme/fresh")
    assert result.exit_code != 0
    assert "--base" in result.stderr


def test_import_brings_in_an_adapter_that_was_made_elsewhere(run: Run, tmp_path: Path) -> None:
    folder, base = make_adapter(tmp_path / "new", 11), make_base(tmp_path / "base").folder
    unnamed = run("import", folder, "--as", "acme/legacy")
    assert unnamed.exit_code == 1
    assert "name it with --base" in unnamed.stderr
    assert done(run("import", folder, "--as", "acme/legacy", "--base", base)) == "acme/legacy@v1\n"
    (version,) = data(run("show", "acme/legacy", "--json"))["versions"]
    assert version["published"]["message"] == f"imported from {folder}"
    assert run("import", "org/name/more", "--as", "acme/legacy").exit_code == 1


def test_promote_moves_an_alias_and_history_says_who_when_and_why(run: Run) -> None:
    moved = data(run("promote", "acme/support@v2", "prod", "--reason", "better on mails", "--json"))
    assert (moved["from"], moved["to"], moved["actor"]) == ("v1", "v2", "ada")
    last = data(run("history", "acme/support", "--json"))[-1]
    assert (last["to"], last["reason"], last["etag"]) == ("v2", "better on mails", moved["etag"])
    shown = done(run("history", "acme/support"))
    assert "better on mails" in shown
    assert "ada" in shown


def test_history_at_a_time_says_what_an_alias_pointed_to_then(run: Run) -> None:
    moved = data(run("promote", "acme/support@v2", "prod", "--reason", "x", "--json"))
    then = datetime.fromisoformat(moved["at"])
    ago = (then - timedelta(microseconds=1)).isoformat()
    assert data(run("history", "acme/support", "--at", moved["at"], "--json"))["to"] == "v2"
    assert data(run("history", "acme/support", "--at", ago, "--json"))["to"] == "v1"
    elsewhere = f"{then.astimezone(timezone(timedelta(hours=5))) + timedelta(minutes=1):%Y-%m-%dT%H:%M%z}"
    assert data(run("history", "acme/support", "--at", elsewhere, "--json"))["to"] == "v2"
    assert run("history", "acme/support", "--at", "2020-01-01").exit_code == 1
    assert run("history", "acme/support", "--at", "yesterday").exit_code == 2


def test_promote_with_an_old_etag_is_a_conflict(run: Run) -> None:
    etag = data(run("show", "acme/support", "--json"))["aliases"]["prod"]["etag"]
    done(run("promote", "acme/support@v2", "prod", "--reason", "x", "--expected", etag))
    result = run("promote", "acme/support@v1", "prod", "--reason", "x", "--expected", etag, "--json")
    assert result.exit_code == 1
    assert json.loads(result.stdout)["error"]["reason"] == "CONFLICT"


def test_a_promotion_sent_twice_under_one_id_happens_once(run: Run) -> None:
    again = ("promote", "acme/support@v2", "prod", "--reason", "x", "--promotion-id", "deploy-7", "--json")
    assert data(run(*again))["etag"] == data(run(*again))["etag"]
    assert sum(move["to"] == "v2" for move in data(run("history", "acme/support", "--json"))) == 1


def test_rollback_goes_back(run: Run) -> None:
    done(run("promote", "acme/support@v2", "prod", "--reason", "x"))
    assert "v2 -> v1" in done(run("rollback", "acme/support@prod"))


# Looking


def test_list_shows_each_adapter_once(run: Run) -> None:
    assert [each["adapter"] for each in data(run("list", "--json"))] == ["acme/support", "globex/legal"]
    shown = done(run("list"))
    assert shown.count("acme/support") == 1
    assert "prod -> v1" in shown


def test_an_empty_registry_says_how_to_fill_it(run: Run, tmp_path: Path) -> None:
    assert "hotshoe publish" in done(run("list", "--registry", tmp_path / "empty"))


def test_show_tells_of_an_adapter_or_of_one_version(run: Run) -> None:
    adapter = data(run("show", "acme/support", "--json"))
    assert [each["version"] for each in adapter["versions"]] == ["acme/support@v1", "acme/support@v2"]
    version = data(run("show", "acme/support@prod", "--json"))
    assert version["version"] == "acme/support@v1"
    assert version["manifest"]["rank"] == 4
    assert "acme/support@v2" in done(run("show", "acme/support@v2"))


@pytest.mark.parametrize(
    "verb", [("promote", "acme/support@canary", "prod"), ("show", "acme/support@canary")]
)
def test_what_needs_one_version_throws_no_dice_between_those_of_a_split(
    run: Run, verb: tuple[str, ...]
) -> None:
    done(run("promote", "acme/support", "canary=v2:10,v1:90", "--reason", "try it"))
    reason = ["--reason", "better"] if verb[0] == "promote" else []
    refused = run(*verb, *reason)
    assert refused.exit_code == 1
    assert "name the one you mean" in refused.stderr


def test_what_a_stranger_wrote_cannot_drive_the_terminal(run: Run) -> None:
    done(run("promote", "acme/support@v2", "prod", "--reason", "\x1b[2Jgone\nstaging -> v1"))
    assert "\x1b" not in done(run("history", "acme/support"))
    shown = done(run("show", "acme/support"))
    assert "\x1b" not in shown
    assert not any(line.startswith("staging") for line in shown.splitlines())


# Tenants


def test_a_tenants_key_is_shown_once_with_the_line_for_the_file(run: Run) -> None:
    made = data(run("tenant-key", "--json"))
    tenants = parse_tenants(f'[tenants.acme]\nkeys = ["{made["hash"]}"]')
    assert tenants.of_key(made["key"]) is tenants.by_name["acme"]
    assert made["key"] != data(run("tenant-key", "--json"))["key"]
    shown = done(run("tenant-key"))
    assert re.search(r'hs_\S{40,}\n.*keys = \["sha256:', shown)


# Exit codes


@pytest.mark.parametrize(
    ("arguments", "code", "reason"),
    [
        (("show", "nonsense"), 2, "INVALID_REFERENCE"),
        (("show", "acme/nobody"), 1, "ADAPTER_NOT_FOUND"),
        (("show", "acme/support@v9"), 1, "VERSION_NOT_FOUND"),
        (("show", "acme/support@canary"), 1, "ALIAS_NOT_FOUND"),
        (("history", "acme/nobody"), 1, "ADAPTER_NOT_FOUND"),
        (("promote", "acme/support", "prod", "--reason", "x"), 2, "INVALID_REFERENCE"),
        (("promote", "acme/support@v1", "Prod", "--reason", "x"), 2, "INVALID_REFERENCE"),
        (("promote", "acme/support@v9", "prod", "--reason", "x"), 1, "VERSION_NOT_FOUND"),
        (("rollback", "acme/support@v1"), 2, "INVALID_REFERENCE"),
        (("rollback", "acme/support@canary"), 1, "ALIAS_NOT_FOUND"),
        (("rollback", "acme/support@prod"), 1, "REFUSED"),
        (("publish", "/no/such/folder", "--as", "acme/x"), None, None),
        (("publish", "/tmp", "--as", "acme"), 2, "INVALID_REFERENCE"),
        (("train", "/no/such/config.toml"), None, "INVALID_CONFIG"),
        (("serve", "--base", "x", "--listen", "nowhere"), 2, "INVALID_CONFIG"),
        (("serve", "--base", "x", "--listen", "0.0.0.0:0"), 2, "INVALID_CONFIG"),
        (("serve", "--base", "x", "--max-rank", "7"), 2, "INVALID_CONFIG"),
        (("serve", "--base", "x", "--listen", "127.0.0.1:0", "--tenants", "/no/file"), 2, "INVALID_CONFIG"),
        (("generate", "--api-key", "\u00fc", "hi"), 2, "INVALID_CONFIG"),
        (("generate", "--target", "127.0.0.1:1", "hi"), 1, "UNAVAILABLE"),
        (("generate", "--temperature", "9", "hi"), 2, "INVALID_REQUEST"),
        (("generate", "--adapter", "x", "hi"), 2, "INVALID_REFERENCE"),
        (("generate", ""), 2, "EMPTY_PROMPT"),
    ],
)
def test_a_refusal_has_an_exit_code_and_a_reason(
    run: Run, arguments: tuple[str, ...], code: int | None, reason: str | None
) -> None:
    result = run(*arguments, "--json")
    assert result.exit_code == code if code else result.exit_code in (1, 2)
    error = json.loads(result.stdout)["error"]
    assert set(error) == {"reason", "message", "details"}
    assert error["reason"] == reason or reason is None
    told = run(*arguments)
    assert told.exit_code == result.exit_code
    assert told.stdout == ""
    assert error["message"].split()[0] in told.stderr


def test_what_the_system_refuses_is_a_message_and_no_traceback(capsys: pytest.CaptureFixture[str]) -> None:
    @verb
    def fill(*, as_json: bool = False) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", "/var/big")

    with pytest.raises(typer.Exit) as ended:
        fill()
    assert ended.value.exit_code == 1
    assert "No space left on device: '/var/big'" in capsys.readouterr().err
    with pytest.raises(typer.Exit):
        fill(as_json=True)
    assert "No space left" in json.loads(capsys.readouterr().out)["error"]["message"]


def test_a_part_that_the_bare_install_lacks_is_named_with_what_to_install() -> None:
    require("json", "grpc", extra="serve-cpu")
    with pytest.raises(Refused, match=r"needs no_such_engine, .* pip install 'hotshoe\[serve-cpu\]'"):
        require("json", "no_such_engine", extra="serve-cpu")
