"""Maven's settings on this machine: they name the repository that this product fetches from, too.

The settings are `~/.m2/settings.xml` and `conf/settings.xml` of the Maven on PATH. Their mirrors, servers, active proxy
and local repository are used; see https://maven.apache.org/settings.html.
"""

import os
import re
import shutil
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote, urlsplit

import requests
from requests.adapters import HTTPAdapter

from orion_beam.errors import PrerequisiteError

CENTRAL = "https://repo.maven.apache.org/maven2"
"""Address of Maven's repository `central`."""

REPOSITORY_VARIABLE = "ORION_MAVEN_REPOSITORY"
"""Environment variable with the address of a repository; it overrides Maven's settings."""

_LOCAL = re.compile(r"-Dmaven\.repo\.local=(\S+)")
_VARIABLE = re.compile(r"\$\{([^}]+)\}")


@dataclass(frozen=True)
class Repository:
    """A Maven repository, and how to reach it.

    Attributes:
        url: Address without a slash at its end.
        login: User and password; None for a repository without a login.
        proxies: Proxy by scheme, as requests takes them; the environment's proxies apply to a missing scheme.
        local: Directory of Maven's local repository.
    """

    url: str
    login: tuple[str, str] | None
    proxies: Mapping[str, str] = field(repr=False)
    local: Path

    @property
    def name(self) -> str:
        """Address without user and password."""
        parts = urlsplit(self.url)
        return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()

    def session(self, connections: int) -> requests.Session:
        """Return a session with the login and a number of open connections. Each request must name the proxies."""
        session = requests.Session()
        session.mount("https://", HTTPAdapter(pool_maxsize=connections))
        session.mount("http://", HTTPAdapter(pool_maxsize=connections))
        session.auth = self.login
        return session


def find_repository() -> Repository:
    """Return the repository that Maven uses on this machine for the artifacts of Maven Central.

    Raises:
        PrerequisiteError: The settings are not XML, a password is encrypted so that only Maven can read it, or the
            address is not http or https.
    """
    settings = [_Settings(path) for path in _settings_files() if path.exists()]
    local = next((each.local for each in settings if each.local), Path("~/.m2/repository").expanduser())
    options = " ".join(os.environ.get(name, "") for name in ("MAVEN_OPTS", "MAVEN_ARGS"))
    if named := _LOCAL.findall(options):
        local = Path(named[-1])
    login = None
    if (url := os.environ.get(REPOSITORY_VARIABLE)) is None:
        mirrors = (mirror for each in settings if (mirror := each.mirror()) is not None)
        name, url = next(mirrors, ("central", CENTRAL))
        login = next((found for each in settings if (found := each.login(name))), None)
    if urlsplit(url).scheme not in ("http", "https"):
        raise PrerequisiteError(f"{url} is no address of a Maven repository: expected https://…")
    host = urlsplit(url).hostname or ""
    proxies = next((said for each in settings if (said := each.proxies(host))), {})
    return Repository(url.rstrip("/"), login, proxies, local)


def _settings_files() -> Iterator[Path]:
    """Yield the user's settings file, which has precedence, and then that of the installation."""
    yield Path("~/.m2/settings.xml").expanduser()
    if (maven := shutil.which("mvn")) is not None:
        yield Path(maven).resolve().parents[1] / "conf" / "settings.xml"


class _Settings:
    """One settings file."""

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            root = ElementTree.parse(path).getroot()
        except (OSError, ElementTree.ParseError) as error:
            raise PrerequisiteError(f"Maven's settings {path} cannot be read: {error}") from None
        for element in root.iter():
            element.tag = element.tag.rpartition("}")[2]
        self._root = root

    @property
    def local(self) -> Path | None:
        text = _text(self._root, "localRepository")
        return Path(text).expanduser() if text else None

    def mirror(self) -> tuple[str, str] | None:
        """Return the id and address of the first mirror of `central`; None without a mirror."""
        for mirror in self._root.iterfind("mirrors/mirror"):
            if _is_of_central(_text(mirror, "mirrorOf")):
                return _text(mirror, "id"), _text(mirror, "url")
        return None

    def login(self, server_id: str) -> tuple[str, str] | None:
        """Return user and password for the server of an id; None without a login."""
        for server in self._root.iterfind("servers/server"):
            if _text(server, "id") == server_id and (user := _text(server, "username")):
                return user, self._password(server)
        return None

    def proxies(self, host: str) -> dict[str, str]:
        """Return the active proxy by scheme; for a host among its `nonProxyHosts`, an exception from all proxies."""
        for proxy in self._root.iterfind("proxies/proxy"):
            if (_text(proxy, "active") or "true") != "true":
                continue
            if any(_is_host(host, pattern) for pattern in re.split(r"[|,]", _text(proxy, "nonProxyHosts"))):
                return {"no_proxy": host}
            user = _text(proxy, "username")
            login = f"{quote(user, safe='')}:{quote(self._password(proxy), safe='')}@" if user else ""
            address = f"http://{login}{_text(proxy, 'host')}:{_text(proxy, 'port') or '8080'}"
            return {"http": address, "https": address}
        return {}

    def _password(self, element: ElementTree.Element) -> str:
        password = _text(element, "password")
        if re.search(r"(?<!\\)\{.*\}", password):
            raise PrerequisiteError(
                f"{self._path}: the password of {_text(element, 'id')} is encrypted, which only Maven can read: write"
                f" ${{env.NAME}} there, or name a repository in {REPOSITORY_VARIABLE}"
            )
        return password


def _text(element: ElementTree.Element, name: str) -> str:
    """Return a child's text, with `${env.NAME}` and `${user.home}` replaced by their values."""

    def value(found: re.Match[str]) -> str:
        if found[1] == "user.home":
            return str(Path.home())
        return os.environ.get(found[1].removeprefix("env."), "") if found[1].startswith("env.") else found[0]

    return _VARIABLE.sub(value, (element.findtext(name) or "").strip())


def _is_of_central(patterns: str) -> bool:
    """Return whether `mirrorOf` includes `central`: `external:*` does, `external:http:*` does not, as it uses HTTPS."""
    names = [pattern.strip() for pattern in patterns.split(",")]
    return "!central" not in names and bool({"*", "external:*", "central"} & set(names))


def _is_host(host: str, pattern: str) -> bool:
    return re.fullmatch(re.escape(pattern.strip()).replace(r"\*", ".*"), host) is not None
