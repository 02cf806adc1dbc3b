"""hwsim: one network, trained and costed on every simulated substrate."""

from hwsim import data, losses, nn, ops, testing
from hwsim.arrays import Shape
from hwsim.compare import compare
from hwsim.contract import Contract
from hwsim.cost import Component, Elementwise, Kind, Phase, Product, Quantity, Role, Use
from hwsim.deploy import ageing, deploy
from hwsim.device import Device
from hwsim.errors import HwsimError
from hwsim.ledger import Ledger
from hwsim.meter import measure
from hwsim.nn import Network
from hwsim.parameters import parameter
from hwsim.registry import device, model
from hwsim.tile import Activation, Tile
from hwsim.train import fit

__version__ = "0.1.0"

__all__ = [
    "Activation",
    "Component",
    "Contract",
    "Device",
    "Elementwise",
    "HwsimError",
    "Kind",
    "Ledger",
    "Network",
    "Phase",
    "Product",
    "Quantity",
    "Role",
    "Shape",
    "Tile",
    "Use",
    "ageing",
    "compare",
    "data",
    "deploy",
    "device",
    "fit",
    "losses",
    "measure",
    "model",
    "nn",
    "ops",
    "parameter",
    "testing",
]
