"""Compile a policy to the nftables text of `table inet quotegate`.

The chains are the same for every policy; what the policy says stands in static sets, and what is true at
the moment (trust, leases, authority) in dynamic sets that only netd writes. So a policy change is a change
of static sets in one transaction and touches no trust and no lease.
"""

from filters.policy.compiled import CompiledPolicy
from filters.ruleset.chains import chains
from filters.ruleset.features import Features
from filters.ruleset.names import FAMILY, RULESET_REASONS, STATIC_SETS, TABLE, counter_name
from filters.ruleset.sets import declarations, fill


def compile_ruleset(policy: CompiledPolicy, features: Features) -> str:
    """Return nft text that replaces the whole table in one transaction, dynamic sets empty.

    Nothing is trusted and no lease exists afterwards. With `features.native_queue` false the chain
    `hold_queue` drops, and the caller inserts its queue rule before that drop.
    Raises PolicyError for names that nft could misread. Source: DESIGN section 4, "Kernel objects".
    """
    lines = [
        # declared first so that the deletion cannot fail when there is none yet
        f"table {FAMILY} {TABLE} {{ }}",
        f"delete table {FAMILY} {TABLE}",
        f"table {FAMILY} {TABLE} {{",
        *(f"\tcounter {counter_name(reason)} {{ }}" for reason in RULESET_REASONS),
        *declarations(),
    ]
    for name, body in chains(features):
        lines += [f"\tchain {name} {{", *(f"\t\t{line}" for line in body), "\t}"]
    lines += ["}", *fill(policy)]
    return "\n".join(lines) + "\n"


def compile_policy_update(policy: CompiledPolicy) -> str:
    """Return nft text that replaces only the static sets, in one transaction; trust and leases stay.

    Removing the leases that `policy` no longer permits is the caller's part of the same transaction.
    Raises PolicyError for names that nft could misread.
    """
    flushes = [f"flush set {FAMILY} {TABLE} {name}" for name in STATIC_SETS]
    return "\n".join([*flushes, *fill(policy)]) + "\n"
