from __future__ import annotations

import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from opswarm.guard import keys
from opswarm.guard.principal import Kind, Role
from opswarm.guard.tokens import AUDIENCE_PERSON, AUDIENCE_TOOLS, SigningKey
from tests.opswarm.cli.conftest import Ran
from tests.support.hosting import settings_at


def test_a_token_is_printed_alone(opswarm: Callable[..., Ran], home: Path) -> None:
    ran = opswarm("token", "--role", "viewer", "--role", "operator", "--subject", "ann", "--days", "1")
    signed = keys.verifier(settings_at(home)).verify(ran.out.strip(), [AUDIENCE_PERSON])
    assert (ran.code, ran.err, ran.out.count("\n")) == (0, "", 1)
    assert signed.principal.subject == "person:ann"
    assert signed.principal.roles == {Role.VIEWER, Role.OPERATOR}
    assert signed.expires - signed.claims["iat"] == 86_400
    assert not keys.token_path(settings_at(home)).exists()


def test_a_saved_token_is_the_one_that_the_command_line_sends(opswarm: Callable[..., Ran], home: Path) -> None:
    ran = opswarm("token", "--save")
    settings = settings_at(home)
    assert (ran.code, ran.out) == (0, "")
    assert stat.S_IMODE(keys.token_path(settings).stat().st_mode) == 0o600
    principal = keys.verifier(settings).verify(keys.find_token(settings), [AUDIENCE_PERSON]).principal
    assert principal.roles == frozenset(Role) and principal.is_direct_person


def test_a_token_may_be_for_the_tool_servers_only(opswarm: Callable[..., Ran], home: Path) -> None:
    ran = opswarm("token", "--audience", "tools")
    keys.verifier(settings_at(home)).verify(ran.out.strip(), [AUDIENCE_TOOLS])
    refused = opswarm("token", "--audience", "tools", "--save")
    assert refused.code == 2 and "audience 'opswarm'" in refused.err


def test_a_token_for_a_front_is_a_viewers_unless_more_is_asked_for(opswarm: Callable[..., Ran], home: Path) -> None:
    check = keys.verifier(settings_at(home))
    for words, roles in (((), {Role.VIEWER}), (("--role", "operator"), {Role.OPERATOR})):
        ran = opswarm("token", "--front", "openwebui", "--days", "2", *words)
        signed = check.verify(ran.out.strip(), [AUDIENCE_PERSON])
        assert (signed.principal.kind, signed.principal.subject) == (Kind.SERVICE, "service:openwebui")
        assert signed.principal.roles == roles and signed.claims["front"] == "openwebui"
        assert signed.expires - signed.claims["iat"] == 2 * 86_400


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--front", "agent"), "front's name"),
        (("--front", "openwebui", "--role", "admin"), "admin"),
        (("--front", "openwebui", "--save"), "--role and --days only"),
        (("--front", "openwebui", "--subject", "ann"), "--role and --days only"),
        (("--audience", "exchange"), "exchange"),
        (("--subject", " "), "subject"),
        (("--subject", "a\x1b[2J"), "subject"),
        (("--role", "king"), "king"),
        (("--days", "0"), "days"),
    ],
)
def test_a_token_that_makes_no_sense_is_refused(opswarm: Callable[..., Ran], words: tuple[str, ...], told: str) -> None:
    ran = opswarm("token", *words)
    assert (ran.code, ran.out) == (2, "")
    assert told in ran.err


def test_where_the_key_is_not_no_token_is_made(
    opswarm: Callable[..., Ran], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "p.pem").write_bytes(SigningKey.generate().public_pem())
    monkeypatch.setenv("OPSWARM_IDENTITY__PUBLIC_KEY_FILE", str(tmp_path / "p.pem"))
    ran = opswarm("token")
    assert ran.code == 2 and "identity.signing_key_file" in ran.err
