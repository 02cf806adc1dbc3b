"""Commands of plug-ins beside those of hwsim: listed by name alone, imported where one is asked for."""

from __future__ import annotations

import warnings
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup

from hwsim import registry
from hwsim.errors import ConfigError, PluginError


class Commands(TyperGroup):
    """The commands of an application, and those of plug-ins."""

    def list_commands(self, ctx: Any) -> list[str]:
        own, others = super().list_commands(ctx), registry.installed(registry.COMMANDS)
        for name in others.keys() & set(own):
            text = f"the plug-in command {name!r} ({others[name].value}) is not used: hwsim has one of that name"
            warnings.warn(text, RuntimeWarning, stacklevel=2)
        return [*own, *(name for name in others if name not in own)]

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        point = registry.installed(registry.COMMANDS).get(cmd_name) if cmd_name not in self.commands else None
        return super().get_command(ctx, cmd_name) if point is None else PluginCommand(cmd_name, point.value)

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        names = self.list_commands(ctx)
        if args and args[0] not in names:
            raise ConfigError(registry.unknown("command", args[0], names))
        return super().resolve_command(ctx, args)


class PluginCommand(TyperCommand):
    """Stands in the help for a plug-in's command, and gives way to it where that is to run."""

    def __init__(self, name: str, target: str) -> None:
        text = f"From {target.partition(':')[0]}; see: hwsim {name} --help"
        super().__init__(name, help=text, rich_help_panel="Commands of plug-ins")

    def make_context(self, info_name: str | None, args: list[str], parent: Any = None, **extra: Any) -> Any:
        return plugin_command(str(self.name)).make_context(info_name, args, parent=parent, **extra)


def plugin_command(name: str) -> Any:
    """The command that a plug-in's function makes. Raises PluginError where it cannot be imported or makes none."""
    single = typer.Typer(add_completion=False, rich_markup_mode="rich")
    single.command(name)(registry.command(name))
    try:
        return typer.main.get_command(single)
    except Exception as error:  # signatures that typer cannot read raise whatever they meet
        raise PluginError(f"command {name!r} takes arguments that typer cannot read: {error}") from error
