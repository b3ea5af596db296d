"""Which upgrade is to be tried, and on which component's snapshot. Asks nobody: a gate says at once what it cannot do."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from dr_toolkit import errors
from dr_toolkit.config import ApplicationConfig, Config, PostgresDumpConfig, RehearsalConfig

_DEFAULT = "console-db"


@dataclass(frozen=True, slots=True)
class Chart:
    """A chart that is at hand.

    Attributes:
        place: its directory or archive.
        values: files that are laid over the values of the release.
    """

    place: Path
    values: tuple[Path, ...] = ()


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is to be tried.

    Attributes:
        release: or application; None for the only Console that is configured.
        to_version: that it is upgraded to; None where image or chart say it.
        image: of the new version; None for what configuration, chart or version say.
        chart: to render; None for the release as it is stored.
    """

    release: str | None = None
    to_version: str | None = None
    image: str | None = None
    chart: Chart | None = None


@dataclass(frozen=True, slots=True)
class Target:
    """What a rehearsal is about.

    Attributes:
        name: of the application.
        application: its part of the configuration.
        component: its main database.
    """

    name: str
    application: ApplicationConfig
    component: str

    @property
    def settings(self) -> RehearsalConfig:
        """How it is tried."""
        return self.application.rehearsal


def target_of(config: Config, wanted: Wanted) -> Target:
    """Find out what is tried on what. Asks nobody.

    Raises:
        ConfigError: it is not configured, or cannot be tried.
    """
    consoles = {name: one for name, one in config.platform.items() if one.kind == "console"}
    named = {
        name: one
        for name, one in consoles.items()
        if wanted.release in {None, name, one.release} or len(consoles) == 1
    }
    if len(named) != 1:
        raise _not_possible(
            f'{len(named)} applications of kind console are configured under "platform", and one is rehearsed',
            "platform: {console: {kind: console, namespace: conduktor}}; see: drctl config example",
        )
    [(name, application)] = named.items()
    component = _component(config, application.rehearsal)
    if config.verify.namespace is None:
        raise _not_possible(
            "it happens in a scratch namespace, and verify.namespace does not say what runs there",
            "drctl config example shows it; without a cluster an upgrade cannot be tried",
        )
    if config.repository.url.startswith("file:"):
        raise _not_possible(
            f'the repository "{config.repository.url}" is a directory, which no Pod can reach',
            "keep the repository in a bucket",
        )
    if not (wanted.image or application.rehearsal.image or wanted.chart or wanted.to_version):
        raise _not_possible(
            "nobody says which version is tried",
            "give --to-version, --image or --chart",
        )
    return Target(name, application, component)


def _component(config: Config, settings: RehearsalConfig) -> str:
    dumps = [name for name, one in config.components.items() if isinstance(one, PostgresDumpConfig)]
    if settings.component is not None:
        if settings.component in dumps:
            return settings.component
        raise _not_possible(
            f'"{settings.component}" is no component of kind postgres-dump, and a rehearsal restores one database',
            "correct rehearsal.component",
        )
    if len(dumps) == 1:
        return dumps[0]
    if _DEFAULT in dumps:
        return _DEFAULT
    raise _not_possible(
        f"which of {len(dumps)} components of kind postgres-dump is Console's main database is not known",
        "name it: rehearsal.component",
    )


def _not_possible(text: str, hint: str) -> errors.ConfigError:
    return errors.ConfigError(f"no rehearsal: {text}", hint=hint)
