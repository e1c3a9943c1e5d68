"""Enlarge a folder, and see what came of each picture.

    python examples/08_enlarge_a_folder.py ckpt.bundle photos

Writes into ./larger. Stop it or kill it whenever you like, and run it again: what is there is not made again.
"""

import sys

from deploy import Bundle, Upscaler, enlarge

counts = {"made": 0, "skipped": 0, "failed": 0}
with Upscaler(Bundle.open(sys.argv[1])) as upscaler:
    for outcome in enlarge(sys.argv[2], "larger", scale=2, exclude=["raw*"], upscaler=upscaler):
        counts[outcome.state] += 1
        if outcome.state == "made":
            print(f"{outcome.output}: {outcome.size[0]}x{outcome.size[1]} in {outcome.seconds:.1f} s")
        elif outcome.state == "failed":
            print(f"{outcome.input}: {outcome.error}")
print(", ".join(f"{count} {state}" for state, count in counts.items()))
