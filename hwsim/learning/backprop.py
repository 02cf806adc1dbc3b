"""Backpropagation: forward, backward, release, move."""

from __future__ import annotations

from hwsim.arrays import Array
from hwsim.cost import Phase
from hwsim.nn import Network
from hwsim.optim import Optimizer
from hwsim.tape import HostOp


def backprop(net: Network, x: Array, target: Array, loss: HostOp, optimizer: Optimizer) -> Array:
    """One step on the mini-batch x [m, ...] with `target` (labels [m] or values [m, n]); the loss before it [].

    Weights move only after everything has gone backwards, so that tied weights, recurrent networks and
    accumulated gradients all see the weights of one step.
    """
    tape = net.tape
    with net.ledger.scope(phase=Phase.FORWARD):
        try:
            y = net.forward(x, sink=optimizer)
            net.ledger.layer = "loss"
            value = tape.host(loss, y, net.constant(target, y.device))
            tape.backward(value)
        except BaseException:
            optimizer.forget()
            raise
        finally:
            tape.release()
        optimizer.move(net.ledger)
    return value.data
