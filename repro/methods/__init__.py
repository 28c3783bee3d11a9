"""One file for each method: `init(...) -> State` and `step(state, batch, config) -> metrics`.

`views(config)` names the views of unlabelled examples that a step needs; `COUNTED` is the network whose accuracy is
the method's. Metrics are tensors [*lead] on the device.
"""

from repro.methods import fixmatch, mpl, pseudo_label, supervised, uda

METHODS = {"supervised": supervised, "pseudo_label": pseudo_label, "uda": uda, "fixmatch": fixmatch, "mpl": mpl}
