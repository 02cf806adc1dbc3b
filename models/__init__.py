"""The built-in networks, each a plug-in like a stranger's."""

if __name__ != "hwsim.models":
    raise ImportError("import hwsim.models, not models: a class imported under two names would exist twice")

from hwsim.models.mlp import mlp, xor
from hwsim.models.revnet import revnet
from hwsim.models.rnn import rnn
from hwsim.models.transformer import gpt

__all__ = ["gpt", "mlp", "revnet", "rnn", "xor"]
