"""SR3's exact rewrites: the same picture to float rounding, with less work per step."""

from typing import Any

from deploy.families.pixel_unet.graphs import UnetParts
from deploy.families.pixel_unet.layout import Layer
from deploy.families.rewriting.ops import SAME, Feeds, Ops, Part
from engines.contract import TensorSpec


class Sr3Parts(UnetParts):
    """Describes the graphs of one SR3 network under a choice of rewrites: `tabulate`, `condition` and `denoise`."""

    def parts(self) -> list[Part]:
        """The graphs in the order in which they are used."""
        first = [self.tabulate_part()] if self.tabulate else []
        if self.hoist:
            first.append(self.part("condition", [self.picture_spec("cond")], [self.first_spec()], self._run_condition))
        return [*first, self._denoise_part()]

    def doubled(self, ops: Ops[Any], layer: Layer, h: Any, condition: Feeds) -> Any:
        """From level k to level k - 1: every pixel twice in both directions, looked up, then a convolution."""
        name, k = f"denoise_fn.{layer.name}", layer.level + 1
        # Columns are looked up number by number, rows are copied whole: first those, while the map has few rows.
        h = ops.take(h, condition[f"column_index_{k}"], f"{name}.columns", axis=3)
        h = ops.take(h, condition[f"row_index_{k}"], f"{name}.rows", axis=2)
        return ops.conv(h, f"{name}.conv", padding=SAME)

    def _run_condition(self, ops: Ops[Any], feeds: Feeds) -> dict[str, Any]:
        """`hoist-condition`: W [cond; x] + b = (Wa cond + b) + Wb x, of which the first term is made once."""
        return {"first": ops.conv(feeds["cond"], "denoise_fn.downs.0.a", padding=SAME)}

    def _denoise_part(self) -> Part:
        inputs = [self.picture_spec("x"), self.level_spec()]
        inputs.append(self.first_spec() if self.hoist else self.picture_spec("cond"))
        for k in range(1, self.unet.levels):
            finer = f"_{k - 1}" if k > 1 else ""
            inputs += [TensorSpec(f"{axis}_index_{k}", "int64", (f"{side}{finer}",)) for axis, side in AXES]
        return self.part("denoise", inputs, [self.picture_spec("noise")], self._run_denoise)

    def _run_denoise(self, ops: Ops[Any], feeds: Feeds) -> dict[str, Any]:
        return {"noise": self.predicted_noise(ops, feeds, feeds)}


AXES = (("row", "height"), ("column", "width"))
