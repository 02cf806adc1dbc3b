# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # First steps
#
# One network, trained and costed on every simulated substrate. This notebook trains a small network on real
# handwritten digits, reads its bill, costs a large network without running it, and plugs in a device of its own.

# %%
import hwsim
from hwsim import models

digits = hwsim.data.load("digits")
print(digits.summary())

# %% [markdown]
# ## Train on a substrate
#
# A device string names a device, a preset and parameters. The ledger counts operations; joules are derived from it.

# %%
run = hwsim.fit(models.mlp([64, 32, 10]), digits, hwsim.device("gpu:h100:precision=fp8"), epochs=5, learning_rate=0.3)
print(f"test accuracy {run.test_accuracy:.1%}, {run.energy_per_step_j:.3g} J a step")
print(run.ledger.table(by=["phase", "part"]))

# %% [markdown]
# At this size a GPU is launch latency and static power. What would bound it if kernels launched ten times quicker?
# The same ledger, costed again with another device:

# %%
quick = hwsim.device("gpu:h100:precision=fp8", launch_s=4.5e-7)
print(
    f"{run.ledger.with_devices({run.ledger.devices()[d]: quick for d in run.ledger.devices()}).energy_j:.3g} J",
    f"instead of {run.ledger.energy_j:.3g} J",
)

# %% [markdown]
# ## Cost without running
#
# The same network code runs on shapes alone and charges the same ledger.

# %%
from hwsim.learning.backprop import backprop
from hwsim.losses import cross_entropy
from hwsim.optim import Adam

gpt = models.gpt(vocabulary=50_000, length=1024, width=1024, heads=16, layers=24)
net = hwsim.Network(gpt, hwsim.device("gpu:h100:precision=bf16"), shape_only=True)
backprop(net, hwsim.Shape(8, 1024), hwsim.Shape(8, 1024), cross_entropy, Adam(1e-4))
print(f"{net.parameter_count / 1e6:.0f} million parameters")
low, nominal, high = net.ledger.interval()[()]
print(f"one step of 8 x 1024 tokens: {nominal:.3g} J (90%: {low:.3g} to {high:.3g}), {net.ledger.time_s:.3g} s")
for (bound,), seconds in sorted(net.ledger.time(["bound_by"]).items(), key=lambda item: -item[1]):
    print(f"  {seconds:9.2e} s waiting for {bound}")

# %% [markdown]
# ## A device of your own
#
# Two things are mandatory: what the hardware consists of, and how often an operation uses each part.

# %%
from hwsim import Component, Device, Elementwise, Kind, Use


class Spin(Device):
    """A toy: one spin-wave array with one converter."""

    name = "spin"
    components = {
        "array": Component(energy_j=2e-15, time_s=1e-9),
        "converter": Component(energy_j=1e-12, time_s=2e-10),
        "bias": Component(static_power_w=1e-3),
    }

    def activity(self, op):
        if isinstance(op, Elementwise) or op.kind in (Kind.GRADIENT, Kind.PRODUCT, Kind.RELEASE, Kind.UPDATE_OUTER):
            return None  # the host does these
        rows = op.stack * (op.m if op.kind in (Kind.FORWARD, Kind.BACKWARD) else op.k)
        return {"array": Use(rows * op.k * op.n, op.k * op.n), "converter": Use(rows * (op.k + op.n))}


print(hwsim.testing.check_device(lambda: Spin()))

# %% [markdown]
# ## Compare
#
# Accuracy beside its controls, joules beside their intervals, all rows within one boundary.

# %%
table = hwsim.compare(
    models.mlp([64, 32, 10]),
    digits,
    {"digital int8": hwsim.device("digital:int8"), "gpu fp8": hwsim.device("gpu:h100:precision=fp8"), "spin": Spin()},
    epochs=5,
    seeds=2,
)
print(table)
