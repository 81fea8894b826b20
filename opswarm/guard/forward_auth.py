"""People whom a proxy in front of the orchestrator has signed in: Authentik, oauth2-proxy, nginx's auth_request.

The proxy says so in headers that anybody else could send as well. They count only on a connection that comes straight
from a listed address, and only where no bearer token is sent; from anywhere else they are not looked at.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import IPv6Address, ip_address, ip_network

from starlette.datastructures import Headers

from opswarm.errors import PermissionDenied, Unauthenticated
from opswarm.guard.principal import Kind, Principal, Role
from opswarm.settings import ForwardAuth as Settings


@dataclass(frozen=True, slots=True)
class _Names:
    user: str
    groups: str
    separator: str


_KINDS: Mapping[str, _Names] = {
    "authentik": _Names("x-authentik-username", "x-authentik-groups", "|"),
    "oauth2-proxy": _Names("x-forwarded-user", "x-forwarded-groups", ","),
    "auth-request": _Names("x-auth-request-user", "x-auth-request-groups", ","),
}
# Two headers that a proxy on the way made into one have a comma between them; in a name there is none.
_USER = re.compile(r"[!-+\--:<-{}~]{1,128}")
_GROUP = re.compile(r"[ -~]{1,128}")
_MOST_GROUPS_LENGTH = 4_096
_SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})


class ForwardAuth:
    """Reads who a proxy says is there."""

    def __init__(self, settings: Settings) -> None:
        usual = _KINDS[settings.kind]
        self._proxies = tuple(ip_network(text) for text in settings.proxies)
        self._user = settings.user_header.lower() or usual.user
        self._groups = settings.groups_header.lower() or usual.groups
        self._separator = settings.separator or usual.separator
        self._roles = {group: Role(role) for group, role in settings.roles.items()}

    def person(self, peer: str, method: str, headers: Headers) -> Principal | None:
        """The person whom the proxy at `peer`, the address that the connection comes from, has signed in.

        None where the headers do not count, or name nobody. Raises `Unauthenticated` for headers that can't be relied
        on, and `PermissionDenied` for a person who is in no group that has a role here, or whom a page of another site
        has made send this.
        """
        if not self._is_proxy(peer) or _sends_a_bearer(headers):
            return None
        names = headers.getlist(self._user)
        if not names:
            return None
        if len(names) != 1 or not _USER.fullmatch(names[0]):
            raise Unauthenticated("What the proxy sends as the user is not one plain name.")
        roles = self._roles_of(headers.getlist(self._groups))
        if not roles:
            raise PermissionDenied(
                f"{names[0]} is in no group that has a role here.",
                hint="identity.forward_auth.roles says which have.",
            )
        _refuse_another_site(method, headers)
        return Principal(kind=Kind.PERSON, subject=f"proxy:{names[0]}", roles=roles)

    def _is_proxy(self, peer: str) -> bool:
        try:
            address = ip_address(peer)
        except ValueError:
            return False
        if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
            address = address.ipv4_mapped
        return any(address in network for network in self._proxies)

    def _roles_of(self, values: list[str]) -> frozenset[Role]:
        if not values:
            return frozenset()
        groups = [g.strip(" ") for g in values[0].split(self._separator)]
        if len(values) != 1 or len(values[0]) > _MOST_GROUPS_LENGTH or not all(map(_GROUP.fullmatch, groups)):
            raise Unauthenticated("What the proxy sends as the groups can't be relied on.")
        return frozenset(self._roles[group] for group in groups if group in self._roles)


def _sends_a_bearer(headers: Headers) -> bool:
    """oauth2-proxy may send Basic credentials along, which mean nothing here."""
    return any(value.strip().lower().partition(" ")[0] == "bearer" for value in headers.getlist("authorization"))


def _refuse_another_site(method: str, headers: Headers) -> None:
    """A browser sends the proxy's cookie whoever has it send a request; it says for whom it does."""
    sites = headers.getlist("sec-fetch-site")
    if method not in _SAFE_METHODS and not set(sites) <= {"same-origin", "none"}:
        raise PermissionDenied("A page of another site can't do this in a person's name.")


def forward_auth(settings: Settings) -> ForwardAuth | None:
    """What reads a proxy's headers; None where no proxy is listed."""
    return ForwardAuth(settings) if settings.proxies else None
