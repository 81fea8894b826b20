"""The keys and tokens of an installation, as files only their owner can read.

On a laptop they are made at first start, under `home`. In a cluster the settings name mounted files.
"""

from __future__ import annotations

import os
import time
from pathlib import Path

from opswarm.errors import SettingsInvalid, Unauthenticated
from opswarm.guard.principal import Kind, Principal, Role
from opswarm.guard.tokens import AUDIENCE_EXCHANGE, AUDIENCE_PERSON, SigningKey, Verifier
from opswarm.settings import Settings

_PERSON_SECONDS = 30 * 86_400
_SERVICE_SECONDS = 7 * 86_400


def private_folder(path: Path) -> Path:
    """Makes a folder that only its owner can enter. Raises `SettingsInvalid` when it can't be made."""
    try:
        path.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        raise SettingsInvalid(
            f"The folder {path} can't be made: {error.strerror}.", hint="Set OPSWARM_HOME."
        ) from error
    return path


def write_private(path: Path, content: bytes) -> None:
    """Writes a file of mode 0600, whole or not at all."""
    private_folder(path.parent)
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
        draft.replace(path)
    except OSError as error:
        raise SettingsInvalid(f"The file {path} can't be written: {error.strerror}.") from error


def signing_key(settings: Settings) -> SigningKey:
    """The key that signs tokens: the named file, else the one under `home`, made when it is not there."""
    named = settings.identity.signing_key_file
    path = named or settings.home / "keys" / "signing.pem"
    if named is None and not path.exists():
        key = SigningKey.generate()
        write_private(path, key.private_pem())
        write_private(path.with_name("public.pem"), key.public_pem())
    return SigningKey.from_pem(_read(path))


def verifier(settings: Settings) -> Verifier:
    """What checks tokens: the public half of the installation's key."""
    if settings.identity.public_key_file is not None:
        return Verifier(_read(settings.identity.public_key_file))
    return Verifier(signing_key(settings).public_pem())


class ServiceToken:
    """The token by which one service proves itself: read from its file, or minted where the key is at hand.

    Asked for at each use, so a token that the platform rotates on disk is picked up.
    """

    def __init__(self, settings: Settings, name: str) -> None:
        self._settings = settings
        self._name = name
        self._minted = ""
        self._until = 0.0

    def __call__(self) -> str:
        file = self._settings.identity.service_token_file
        if file is not None:
            return _read(file).decode("ascii", errors="replace").strip()
        if time.time() > self._until:
            principal = Principal(kind=Kind.AGENT, subject=f"agent:{self._name}")
            key = signing_key(self._settings)
            self._minted = key.mint(principal, [AUDIENCE_EXCHANGE], seconds=_SERVICE_SECONDS)
            self._until = time.time() + _SERVICE_SECONDS / 2
        return self._minted


def token_path(settings: Settings) -> Path:
    """Where the token of this installation's person lies."""
    return settings.home / "tokens" / "person.jwt"


def make_person_token(settings: Settings) -> str:
    """Mints a person's token with every role and leaves it where the command line finds it."""
    person = Principal(kind=Kind.PERSON, subject="person:local", roles=frozenset(Role))
    token = signing_key(settings).mint(person, [AUDIENCE_PERSON], seconds=_PERSON_SECONDS)
    write_private(token_path(settings), token.encode())
    return token


def find_token(settings: Settings) -> str:
    """The caller's own token: `OPSWARM_TOKEN`, else the file. Raises `Unauthenticated` when there is none."""
    if token := os.environ.get("OPSWARM_TOKEN"):
        return token.strip()
    try:
        return token_path(settings).read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise Unauthenticated(
            f"There is no token at {token_path(settings)}.", hint="Run `opswarm up`, or set OPSWARM_TOKEN."
        ) from error


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise SettingsInvalid(f"The key or token file {path} can't be read.") from error
