"""Check all models and print what each missing rule would allow: `make model`."""

import sys

from tests.model.spin import COUNTEREXAMPLES, MODELS, check, list_properties, list_witnesses


def main() -> int:
    """Return 1 when a promise fails, or when a removed rule goes unnoticed."""
    wrong = 0
    for model in MODELS:
        for claim, holds in check(model, list_properties(model) + list_witnesses(model)).items():
            work = claim.startswith("never_")
            wrong += holds is work
            verdict = "holds in every state" if holds else "has a counterexample"
            print(
                f"{model:10} {claim:22} {verdict}{', as it has to' if work and not holds else ''}", flush=True
            )
    for (model, switch), violated in COUNTEREXAMPLES.items():
        unnoticed = check(model, [violated], switch)[violated]
        wrong += unnoticed
        print(
            f"{model:10} {switch:22} {'GOES UNNOTICED' if unnoticed else f'violates {violated}'}", flush=True
        )
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
