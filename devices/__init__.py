"""The built-in devices, each a plug-in like a stranger's."""

if __name__ != "hwsim.devices":
    raise ImportError("import hwsim.devices, not devices: a class imported under two names would exist twice")
