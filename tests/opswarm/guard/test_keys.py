from __future__ import annotations

import stat
import subprocess
import sys
from pathlib import Path

import pytest

from opswarm.errors import SettingsInvalid, Unauthenticated
from opswarm.guard import keys
from opswarm.guard.principal import Role
from opswarm.guard.tokens import AUDIENCE_EXCHANGE, AUDIENCE_PERSON, SigningKey
from opswarm.settings import Identity, Settings
from tests.support.hosting import settings_at

# Waits at the gate until every process is there, so that they look for the key at the same moment.
RACER = """
import sys, time
from pathlib import Path
from opswarm.guard import keys
from opswarm.settings import load
home, gate, me = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]
settings = load(home=home)
(gate / me).touch()
until = time.monotonic() + 30
while len(list(gate.iterdir())) < int(sys.argv[4]) and time.monotonic() < until:
    pass
print(keys.mint_person(settings) if int(me) % 2 else keys.ServiceToken(settings, "devops")())
print(keys.verifier(settings)._key.public_bytes_raw().hex())
"""


def named(settings: Settings, **files: Path) -> Settings:
    return settings.updated({"identity": Identity(**files)})


def pair(folder: Path) -> tuple[Path, Path]:
    key = SigningKey.generate()
    signing, public = folder / "s.pem", folder / "p.pem"
    signing.write_bytes(key.private_pem())
    public.write_bytes(key.public_pem())
    return signing, public


def test_processes_that_start_together_on_an_empty_home_agree_on_one_key(tmp_path: Path) -> None:
    for round_ in range(3):
        home, gate = tmp_path / f"home{round_}", tmp_path / f"gate{round_}"
        gate.mkdir()
        racers = [
            subprocess.Popen(
                [sys.executable, "-c", RACER, str(home), str(gate), str(me), "6"], stdout=subprocess.PIPE, text=True
            )
            for me in range(6)
        ]
        told = [racer.communicate(timeout=60)[0].split() for racer in racers]
        assert [racer.returncode for racer in racers] == [0] * 6
        assert len({public for _, public in told}) == 1
        check = keys.verifier(settings_at(home))
        for token, _ in told:
            assert check.verify(token, [AUDIENCE_PERSON, AUDIENCE_EXCHANGE])
        found = sorted(p.name for p in (home / "keys").iterdir())
        assert found == ["public.pem", "signing.pem"]
        assert stat.S_IMODE((home / "keys" / "signing.pem").stat().st_mode) == 0o600


def test_the_public_half_always_belongs_to_the_signing_key(tmp_path: Path) -> None:
    settings = settings_at(tmp_path)
    key = keys.signing_key(settings)
    (tmp_path / "keys" / "public.pem").write_bytes(SigningKey.generate().public_pem())
    keys.signing_key(settings)
    assert (tmp_path / "keys" / "public.pem").read_bytes() == key.public_pem()


def test_who_only_checks_tokens_never_opens_the_private_key(tmp_path: Path) -> None:
    settings = settings_at(tmp_path)
    token = keys.mint_person(settings)
    (tmp_path / "keys" / "signing.pem").write_text("not to be read")
    assert keys.verifier(settings).verify(token, [AUDIENCE_PERSON])


def test_a_named_signing_key_wins_over_an_older_pair_under_home(tmp_path: Path) -> None:
    keys.signing_key(settings_at(tmp_path))
    signing, _ = pair(tmp_path)
    settings = named(settings_at(tmp_path), signing_key_file=signing)
    assert keys.verifier(settings).verify(keys.mint_person(settings), [AUDIENCE_PERSON])


def test_no_unrelated_key_is_made_beside_a_public_key_that_is_mounted(tmp_path: Path) -> None:
    _, public = pair(tmp_path)
    settings = named(settings_at(tmp_path / "home"), public_key_file=public)
    with pytest.raises(SettingsInvalid, match=r"Set identity\.signing_key_file"):
        keys.signing_key(settings)
    with pytest.raises(SettingsInvalid, match=r"identity\.service_token_file"):
        keys.ServiceToken(settings, "devops")
    keys.verifier(settings)
    assert not (tmp_path / "home").exists()


def test_no_unrelated_key_is_made_beside_a_public_key_under_home(tmp_path: Path) -> None:
    _, public = pair(tmp_path)
    (tmp_path / "keys").mkdir()
    public.rename(tmp_path / "keys" / "public.pem")
    with pytest.raises(SettingsInvalid, match=r"Put signing\.pem beside it"):
        keys.signing_key(settings_at(tmp_path))
    with pytest.raises(SettingsInvalid, match=r"identity\.service_token_file"):
        keys.ServiceToken(settings_at(tmp_path), "devops")


def test_an_agent_with_a_token_file_needs_no_key(tmp_path: Path) -> None:
    _, public = pair(tmp_path)
    file = tmp_path / "service.jwt"
    file.write_text("one\n")
    token = keys.ServiceToken(named(settings_at(tmp_path), public_key_file=public, service_token_file=file), "devops")
    assert token() == "one"
    file.write_text("two\n")
    assert token() == "two"


def test_the_person_gets_a_token_where_none_is_good(tmp_path: Path) -> None:
    settings = settings_at(tmp_path)
    assert keys.keep_person_token(settings)
    kept = keys.find_token(settings)
    assert not keys.keep_person_token(settings)
    assert keys.find_token(settings) == kept
    keys.save_token(settings, keys.mint_person(settings, seconds=-60))
    assert keys.keep_person_token(settings)
    keys.verifier(settings).verify(keys.find_token(settings), [AUDIENCE_PERSON])


def test_a_mounted_key_leaves_no_persons_token_behind(tmp_path: Path) -> None:
    signing, _ = pair(tmp_path)
    assert not keys.keep_person_token(named(settings_at(tmp_path), signing_key_file=signing))
    assert not keys.token_path(settings_at(tmp_path)).exists()


def test_a_person_has_the_roles_that_were_asked_for_and_is_no_agent(tmp_path: Path) -> None:
    settings = settings_at(tmp_path)
    token = keys.mint_person(settings, subject="agent:devops", roles=(Role.VIEWER,))
    principal = keys.verifier(settings).verify(token, [AUDIENCE_PERSON]).principal
    assert (principal.kind, principal.subject) == ("person", "person:agent:devops")
    assert principal.roles == {Role.VIEWER}


@pytest.mark.parametrize("token", ["", "two words", "tök", "line\nbreak", "\udcff"])
def test_what_can_not_be_sent_as_a_token_is_said_to_be_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, token: str
) -> None:
    monkeypatch.setenv("OPSWARM_TOKEN", token)
    with pytest.raises(Unauthenticated, match="opswarm token --save"):
        keys.find_token(settings_at(tmp_path))
