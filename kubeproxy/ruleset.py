"""The rules of all Services together: who owns a contested frontend, in which order targets stand, what a change
touches.

Pure and synchronous. `Ruleset` has one owner, the proxy's sync; a backend is handed `Changes` and nothing else, so it
never has to ask the kernel what is there.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from ipaddress import IPv4Address

from kubarium.machinery.objects import ObjectKey
from kubeproxy.plan import NOTHING, Action, Frontend, Rule, ServicePlan, Target


@dataclass(frozen=True, slots=True)
class RuleChange:
    """One frontend: `old` is None for a new one, `new` is None for one that goes."""

    old: Rule | None
    new: Rule | None


@dataclass(frozen=True, slots=True)
class Changes:
    """What a backend has to do, all of it or none of it; an address both removed and added has changed its owner."""

    rules: tuple[RuleChange, ...] = ()
    cluster_ips_added: Mapping[IPv4Address, str] = field(default_factory=dict)
    cluster_ips_removed: tuple[IPv4Address, ...] = ()
    hairpin_added: tuple[IPv4Address, ...] = ()
    hairpin_removed: tuple[IPv4Address, ...] = ()

    def __bool__(self) -> bool:
        return bool(
            self.rules
            or self.cluster_ips_added
            or self.cluster_ips_removed
            or self.hairpin_added
            or self.hairpin_removed
        )


class Ruleset:
    """The desired rules (`update`) and those that a backend has confirmed (`confirm`); `changes` is the difference.

    A frontend claimed by two Services (the same external address and port, or a ClusterIP handed on while both
    objects are in the cache) belongs to the one whose namespace/name comes first; the other takes over when that one
    goes.
    """

    def __init__(self) -> None:
        self._plans: dict[ObjectKey, ServicePlan] = {}
        self._claims: dict[Frontend, tuple[Rule, ...]] = {}
        self._owners: dict[IPv4Address, tuple[ObjectKey, ...]] = {}
        self._hairpin: Counter[IPv4Address] = Counter()
        self._touched: set[Frontend] = set()
        self._touched_ips: set[IPv4Address] = set()
        self._touched_hairpin: set[IPv4Address] = set()
        self.programmed: dict[Frontend, Rule] = {}
        self.cluster_ips: dict[IPv4Address, str] = {}
        self.hairpin: set[IPv4Address] = set()

    def update(self, key: ObjectKey, plan: ServicePlan) -> None:
        """Replace what one Service wants; an empty plan (`plan.NOTHING`) withdraws it."""
        old = self._plans.get(key, NOTHING)
        if old == plan:
            return
        if plan == NOTHING:
            self._plans.pop(key, None)
        else:
            self._plans[key] = plan
        self._claim(key, old.rules, plan.rules)
        self._own(key, old.cluster_ips, plan.cluster_ips)
        for address in old.local_targets ^ plan.local_targets:
            self._hairpin[address] += 1 if address in plan.local_targets else -1
            self._touched_hairpin.add(address)

    def services(self) -> Iterable[ObjectKey]:
        return self._plans.keys()

    def contested(self, key: ObjectKey) -> tuple[Rule, ...]:
        """The rules that a Service wants and another one holds."""
        return tuple(r for r in self._plans.get(key, NOTHING).rules if self._claims[r.frontend][0].service != key)

    def changes(self) -> Changes:
        """From what is programmed to what is desired, with as few elements moved as possible."""
        rules = []
        for frontend in sorted(self._touched):
            old = self.programmed.get(frontend)
            new = self._desired(frontend, old)
            if old != new:
                rules.append(RuleChange(old, new))
        ips = {ip: str(owners[0]) for ip in self._touched_ips if (owners := self._owners.get(ip))}
        return Changes(
            tuple(rules),
            {ip: owner for ip, owner in sorted(ips.items()) if self.cluster_ips.get(ip) != owner},
            tuple(
                sorted(ip for ip in self._touched_ips & self.cluster_ips.keys() if self.cluster_ips[ip] != ips.get(ip))
            ),
            tuple(sorted(ip for ip in self._touched_hairpin if self._hairpin[ip] > 0 and ip not in self.hairpin)),
            tuple(sorted(ip for ip in self._touched_hairpin if self._hairpin[ip] <= 0 and ip in self.hairpin)),
        )

    def confirm(self, changes: Changes) -> None:
        """The backend has committed `changes`, which are those of the last call of `changes()`."""
        for change in changes.rules:
            if change.new:
                self.programmed[change.new.frontend] = change.new
            elif change.old:
                self.programmed.pop(change.old.frontend, None)
        for ip in changes.cluster_ips_removed:
            del self.cluster_ips[ip]
        self.cluster_ips.update(changes.cluster_ips_added)
        self.hairpin.update(changes.hairpin_added)
        self.hairpin.difference_update(changes.hairpin_removed)
        for ip in self._touched_hairpin:
            if self._hairpin[ip] <= 0:
                del self._hairpin[ip]
        self._touched.clear()
        self._touched_ips.clear()
        self._touched_hairpin.clear()

    def forget_programmed(self) -> None:
        """The backend is about to be replaced as a whole: everything counts as new."""
        self.programmed.clear()
        self.cluster_ips.clear()
        self.hairpin.clear()
        self._touched.update(self._claims)
        self._touched_ips.update(self._owners)
        self._touched_hairpin.update(self._hairpin)

    def _desired(self, frontend: Frontend, old: Rule | None) -> Rule | None:
        claims = self._claims.get(frontend)
        if not claims:
            return None
        winner = claims[0]
        if old is None or winner.action is not Action.PICK or old.targets == winner.targets:
            return winner
        return replace(winner, targets=arrange(old.targets, winner.targets))

    def _claim(self, key: ObjectKey, old: Sequence[Rule], new: Sequence[Rule]) -> None:
        wanted = {rule.frontend: rule for rule in new}
        for frontend in {rule.frontend for rule in old} | wanted.keys():
            others = tuple(r for r in self._claims.get(frontend, ()) if r.service != key)
            mine = (wanted[frontend],) if frontend in wanted else ()
            claims = tuple(sorted(others + mine, key=lambda r: r.service)) if others else mine
            if claims:
                self._claims[frontend] = claims
            else:
                self._claims.pop(frontend, None)
            self._touched.add(frontend)

    def _own(self, key: ObjectKey, old: Sequence[IPv4Address], new: Sequence[IPv4Address]) -> None:
        for ip in {*old, *new}:
            owners = tuple(sorted({k for k in self._owners.get(ip, ()) if k != key} | ({key} if ip in new else set())))
            if owners:
                self._owners[ip] = owners
            else:
                self._owners.pop(ip, None)
            self._touched_ips.add(ip)


def arrange(old: Sequence[Target], wanted: Sequence[Target]) -> tuple[Target, ...]:
    """The wanted targets in the order that moves the fewest: who stays keeps the place, a hole is filled by a
    newcomer or, where none is left, by the last; further newcomers stand at the end.
    """
    keep, stood = set(wanted), set(old)
    newcomers = [t for t in wanted if t not in stood]
    places: list[Target | None] = [t if t in keep else None for t in old]
    for index, target in enumerate(places):
        if target is None and newcomers:
            places[index] = newcomers.pop(0)
    while None in places:
        last = places.pop()
        if last is not None:
            places[places.index(None)] = last
    return (*(t for t in places if t is not None), *newcomers)
