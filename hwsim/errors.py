"""Every error that hwsim raises on purpose: each says what was asked, what is allowed and what to do."""


class HwsimError(Exception):
    """Base of all errors that hwsim raises on purpose; the command line prints it and exits with status 2."""


class ShapeError(HwsimError, ValueError):
    """An array has the wrong shape."""


class NotFiniteError(ShapeError):
    """An array holds NaN or infinity."""


class DeviceError(HwsimError):
    """A device, preset or parameter does not exist or is out of range, or no device does an operation."""


class PluginError(HwsimError):
    """A plug-in could not be imported, or what it offers is not what its entry point says."""


class ConfigError(HwsimError, ValueError):
    """A parameter, file or component value is unreadable or out of range."""


class DataError(HwsimError):
    """A data set is unknown, missing, unreadable, or not the one a checkpoint was made with."""


class TrainingError(HwsimError):
    """Training diverged (NaN or infinity); the step and the layer are named."""


class Interrupted(HwsimError):
    """A run was asked to stop, and did so after a whole step, with its checkpoint written."""
