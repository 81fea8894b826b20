"""The keys and tokens of an installation, as files only their owner can read.

On a laptop they are made at first start, under `home`. In a cluster the settings name mounted files.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from opswarm.errors import SettingsInvalid, Unauthenticated
from opswarm.guard.fronts import front
from opswarm.guard.principal import Kind, Principal, Role
from opswarm.guard.tokens import AUDIENCE_EXCHANGE, AUDIENCE_PERSON, SigningKey, Verifier
from opswarm.settings import Settings

_PERSON_SECONDS = 30 * 86_400
_SERVICE_SECONDS = 7 * 86_400

NEW_TOKEN = "Run `opswarm up` or `opswarm token --save`, or set OPSWARM_TOKEN."
"""How a person comes by a token."""


def private_folder(path: Path) -> Path:
    """Makes a folder that only its owner can enter. Raises `SettingsInvalid` when it can't be made."""
    try:
        path.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        raise SettingsInvalid(
            f"The folder {path} can't be made: {error.strerror}.", hint="Set OPSWARM_HOME."
        ) from error
    return path


def write_private(path: Path, content: bytes, *, keep: bool = False) -> None:
    """Writes a file of mode 0600, whole or not at all. With `keep`, a file that is there already stays as it is."""
    private_folder(path.parent)
    try:
        descriptor, draft = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())  # Before it takes its name: a power cut leaves the old one or this.
            if keep:
                os.link(draft, path)
            else:
                os.replace(draft, path)
        finally:
            Path(draft).unlink(missing_ok=True)
    except FileExistsError:
        return
    except OSError as error:
        raise SettingsInvalid(f"The file {path} can't be written: {error.strerror}.") from error


def signing_key(settings: Settings) -> SigningKey:
    """The key that signs tokens: the named file, else the one under `home`, made when there is none at all.

    Raises `SettingsInvalid` where only a public key is known: a new pair would sign what nobody accepts.
    """
    identity, home = settings.identity, _home_pair(settings)
    if identity.signing_key_file is not None:
        return SigningKey.from_pem(_read(identity.signing_key_file))
    if identity.public_key_file is not None:
        raise SettingsInvalid(
            "identity.public_key_file is set, but not the key that signs for it.",
            hint="Set identity.signing_key_file to the private key of the same pair; only the orchestrator needs it.",
        )
    if not can_sign(settings):
        raise SettingsInvalid(
            f"{home.public} is there, but not the key that signs for it.",
            hint=f"Put {home.signing.name} beside it, or remove it to have a new pair made.",
        )
    if not os.path.exists(home.signing):
        write_private(home.signing, SigningKey.generate().private_pem(), keep=True)
    # Read again, whoever made it: of several processes that start together, one wins.
    key = SigningKey.from_pem(_read(home.signing))
    if not os.path.exists(home.public) or _read(home.public) != key.public_pem():
        write_private(home.public, key.public_pem())
    return key


def audit_key(settings: Settings, server: str) -> Ed25519PrivateKey:
    """The key that signs the audit of one tool server, made when it is missing. It opens nothing.

    Raises `SettingsInvalid` for a named file that is not there or is no such key.
    """
    path = settings.actions.audit_key_file or settings.home / "keys" / f"audit-{server}.pem"
    if settings.actions.audit_key_file is None and not os.path.exists(path):
        write_private(path, SigningKey.generate().private_pem(), keep=True)
    return SigningKey.from_pem(_read(path)).private


def can_sign(settings: Settings) -> bool:
    """Whether this process has the signing key, or may make it since there is no key at all."""
    identity, home = settings.identity, _home_pair(settings)
    if identity.signing_key_file is not None or identity.public_key_file is not None:
        return identity.signing_key_file is not None
    # In this order: whoever makes the pair writes the public half last.
    return not os.path.exists(home.public) or os.path.exists(home.signing)


def known_verifier(settings: Settings) -> Verifier | None:
    """What checks tokens, as far as a key is known here; no key is made."""
    identity, home = settings.identity, _home_pair(settings)
    if identity.public_key_file is not None:
        return Verifier(_read(identity.public_key_file))
    if identity.signing_key_file is None and os.path.exists(home.public):
        return Verifier(_read(home.public))
    if identity.signing_key_file is not None or os.path.exists(home.signing):
        return Verifier(signing_key(settings).public_pem())
    return None


def verifier(settings: Settings) -> Verifier:
    """What checks tokens: the public half of the installation's key. The private half is read only to make it."""
    return known_verifier(settings) or Verifier(signing_key(settings).public_pem())


class ServiceToken:
    """The token by which one service proves itself: read from its file, or minted where the key is at hand.

    Asked for at each use, so a token that the platform rotates on disk is picked up. Raises `SettingsInvalid`
    when there is neither.
    """

    def __init__(self, settings: Settings, name: str, kind: Kind = Kind.AGENT) -> None:
        if settings.identity.service_token_file is None and not can_sign(settings):
            raise SettingsInvalid(
                f"The {kind} {name} has no token to prove itself with, and no key to sign one.",
                hint="Set identity.service_token_file.",
            )
        self._settings = settings
        self._principal = Principal(kind=kind, subject=f"{kind}:{name}")
        self._minted = ""
        self._until = 0.0

    def __call__(self) -> str:
        file = self._settings.identity.service_token_file
        if file is not None:
            return _read(file).decode("ascii", errors="replace").strip()
        if time.time() > self._until:
            key = signing_key(self._settings)
            self._minted = key.mint(self._principal, [AUDIENCE_EXCHANGE], seconds=_SERVICE_SECONDS)
            self._until = time.time() + _SERVICE_SECONDS / 2
        return self._minted


def token_path(settings: Settings) -> Path:
    """Where the token of this installation's person lies."""
    return settings.home / "tokens" / "person.jwt"


def mint_person(
    settings: Settings,
    *,
    subject: str = "local",
    roles: Collection[Role] = tuple(Role),
    audience: str = AUDIENCE_PERSON,
    seconds: float = _PERSON_SECONDS,
) -> str:
    """A person's token. Raises `SettingsInvalid` where the key that signs is not at hand."""
    person = Principal(kind=Kind.PERSON, subject=f"person:{subject}", roles=frozenset(roles))
    return signing_key(settings).mint(person, [audience], seconds=seconds)


def mint_front(settings: Settings, name: str, *, roles: Collection[Role], seconds: float = _PERSON_SECONDS) -> str:
    """A front's token. Raises `InvalidInput` for what no front can be, `SettingsInvalid` where no key is at hand."""
    itself = front(name, frozenset(roles))
    return signing_key(settings).mint(itself, [AUDIENCE_PERSON], seconds=seconds, front=name)


def save_token(settings: Settings, token: str) -> None:
    """Leaves a person's token where the command line finds it."""
    write_private(token_path(settings), token.encode())


def make_person_token(settings: Settings) -> str:
    """Mints a person's token with every role and leaves it where the command line finds it."""
    token = mint_person(settings)
    save_token(settings, token)
    return token


def keep_person_token(settings: Settings) -> bool:
    """Makes the person's token when the one on disk is no good; says whether it did.

    Only where the key was made here: a key that is mounted belongs to an installation with people of its own.
    """
    if settings.identity.signing_key_file is not None or not can_sign(settings):
        return False
    try:
        verifier(settings).verify(_saved(settings), [AUDIENCE_PERSON])
    except Unauthenticated:
        make_person_token(settings)
        return True
    return False


def find_token(settings: Settings) -> str:
    """The caller's own token: `OPSWARM_TOKEN`, else the file. Raises `Unauthenticated` when there is none."""
    if token := os.environ.get("OPSWARM_TOKEN", "").strip():
        return _plain(token, "OPSWARM_TOKEN")
    return _saved(settings)


def _saved(settings: Settings) -> str:
    path = token_path(settings)
    try:
        return _plain(path.read_text(encoding="ascii").strip(), str(path))
    except (OSError, UnicodeDecodeError) as error:
        raise Unauthenticated(f"There is no token at {path}.", hint=NEW_TOKEN) from error


def _plain(token: str, where: str) -> str:
    """What can be sent in a header."""
    if not token or not token.isascii() or not token.isprintable() or " " in token:
        raise Unauthenticated(f"What {where} holds is not a token.", hint=NEW_TOKEN)
    return token


@dataclass(frozen=True, slots=True)
class _Pair:
    """Where the two halves of a laptop's key lie."""

    signing: Path
    public: Path


def _home_pair(settings: Settings) -> _Pair:
    folder = settings.home / "keys"
    return _Pair(folder / "signing.pem", folder / "public.pem")


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise SettingsInvalid(f"The key or token file {path} can't be read.") from error
