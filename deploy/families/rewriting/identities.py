"""The rewrites that families share, for readers."""

from deploy.families.contract import Rewrite

DROP_UNUSED = Rewrite(
    title="Drop what is never used",
    what="Parameters that no output depends on are accepted on loading and not carried.",
    saves="space and loading time; 14 % of the published IDM's parameters",
)

SPLIT_SHORTCUT = Rewrite(
    title="Split the shortcut",
    what="W·[a; b] = Wa·a + Wb·b: the convolution over two joined feature maps becomes two.",
    saves="the joining; and each half has an int8 scale of its own, where one would serve both badly",
)
