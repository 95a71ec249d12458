"""From words to an agent and a trainer: Lightning's command line, with errors in one line."""

import logging
import warnings
from importlib import import_module
from typing import Any, NoReturn

import yaml
from jsonargparse import get_loader, set_loader, set_parsing_settings
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI
from lightning.pytorch.utilities.exceptions import MisconfigurationException

import lit_rl
from lit_rl.agent import Agent
from lit_rl.cli.complaint import complaint
from lit_rl.cli.configuration import Words, class_paths, to_yaml
from lit_rl.cli.refusal import Refusal, did_you_mean, one_line
from lit_rl.envs.allow import ALLOWED
from lit_rl.trainer import Trainer

Options = dict[str, tuple[Any, Any, str]]  # of one command: name to type, default, help
DEFAULT_DIRECTORY = "runs/default"
read_yaml = get_loader("yaml")


class CommandLine(LightningCLI):
    """Parses words into ``config``; :meth:`agent` and :meth:`trainer` build what it describes.

    Lightning's own storing of hyper-parameters, merging of checkpoints and saving of configurations are off:
    agents do the first, the commands the others.

    Raises:
        Refusal: the words describe no run.
    """

    def __init__(self, words: Words, command: str, options: Options) -> None:
        self.options = options
        self.agent_class = _agent_class(words)
        quiet()
        set_loader("yaml", _read_value)
        set_parsing_settings(import_path_denylist=["*"], import_path_allowlist=sorted(ALLOWED))
        for module in lit_rl.RECIPES.values():
            import_module(module)
        super().__init__(
            Agent,
            trainer_class=Trainer,
            subclass_mode_model=True,
            seed_everything_default=0,
            parser_class=OneLineParser,
            parser_kwargs={"prog": f"lit-rl {command}", "allow_abbrev": False},
            save_config_callback=None,
            auto_configure_optimizers=False,
            load_from_checkpoint_support=False,
            run=False,
            args=[part for word in words for part in _as_arguments(word)],
        )

    def init_parser(self, **kwargs: Any) -> LightningArgumentParser:
        """The parser, which knows the agent's class for its complaints."""
        parser = super().init_parser(**kwargs)
        assert isinstance(parser, OneLineParser)
        parser.complain = True
        parser.agent_class = self.agent_class
        return parser

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """The command's own options."""
        for name, (kind, default, text) in self.options.items():
            parser.add_argument(f"--{name}", type=kind, default=default, help=text)

    def parse_arguments(self, parser: LightningArgumentParser, args: Any) -> None:
        """Parse, and name the directory of a run that has none."""
        self.config = parser.parse_args(args)
        seed = self.config.seed_everything
        if isinstance(seed, bool) or not 0 <= seed < 2**31:
            raise Refusal(f"seed_everything is {seed}; a seed is a whole number from 0 to {2**31 - 1}")
        if self.config.trainer.directory == DEFAULT_DIRECTORY:
            model = self.config.model
            env = model.init_args.env
            name = f"{model.class_path.rpartition('.')[2]}-{env.get('id') or env.init_args.id}"
            self.config.trainer.directory = f"runs/{name.lower().replace('/', '-').replace(':', '-')}"

    def instantiate_classes(self) -> None:
        """Nothing yet."""

    def agent(self) -> Agent:
        """Build the agent, and whatever the trainer is given."""
        try:
            self.config_init = self.parser.instantiate(self.config)
        except (ValueError, TypeError, ImportError, MisconfigurationException) as error:
            raise Refusal(complaint(str(error), self.agent_class, [])) from error
        return self.config_init.model

    def trainer_of(self, agent: Agent, **arguments: Any) -> Trainer:
        """Build the trainer; ``arguments`` replace what the configuration says.

        Raises:
            Refusal: Lightning accepts no such combination.
        """
        try:
            return Trainer(**{**self.config_init.trainer.as_dict(), **arguments})
        except (ValueError, TypeError, ImportError, MisconfigurationException) as error:
            raise Refusal(f"trainer: {one_line(error)}") from error

    def resolved(self) -> dict[str, Any]:
        """The whole configuration as plain data."""
        return yaml.safe_load(self.parser.dump(self.config, skip_none=False, format="yaml"))


class OneLineParser(LightningArgumentParser):
    """Raises what it has to say; the parsers of nested arguments leave the wording to the outermost."""

    complain = False
    agent_class: type | None = None

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """Refuse in one line."""
        if not self.complain:
            raise ValueError(message) from ex
        options = [action.dest for action in self._actions if action.dest != "help"]
        raise Refusal(complaint(message, self.agent_class, options)) from ex


def quiet() -> None:
    """Leave Lightning's advice out; its warnings stay."""
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
    for text in (
        "does not have many workers",
        "isinstance.treespec",
        "number of training batches",
        "instantiate_classes",
    ):
        warnings.filterwarnings("ignore", f".*{text}")


def _read_value(text: str) -> Any:
    """YAML in which None is null, too: the parser spells a null so where it hands it on to a nested argument."""
    value = read_yaml(text)
    return None if value == "None" else value


def _agent_class(words: Words) -> type[Agent] | None:
    """Import the agent that the words name last, so that its short name is known.

    Raises:
        Refusal: no agent has that name.
    """
    configs = [word for word in words if isinstance(word, dict)]
    named = [path for config in configs for key, path in class_paths(config) if key == "model.class_path"]
    found: type[Agent] | None = None
    for name in named:
        found = _find_agent(name)
    return found


def _find_agent(name: str) -> type[Agent]:
    short = name.rpartition(".")[2]
    if short in lit_rl.AGENTS and name in (short, f"lit_rl.{short}", f"{lit_rl.AGENTS[short]}.{short}"):
        return getattr(lit_rl, short)
    if "." in name:
        module, _, attribute = name.rpartition(".")
        try:
            found = getattr(import_module(module), attribute, None)
        except ImportError as error:
            raise Refusal(f"model names {name}, which cannot be imported: {one_line(error)}") from None
    else:
        found = {kind.__name__: kind for kind in _subclasses(Agent)}.get(name)
    if not (isinstance(found, type) and issubclass(found, Agent)):
        known = [*lit_rl.AGENTS, *(kind.__name__ for kind in _subclasses(Agent))]
        raise Refusal(f"there is no algorithm {name!r}{did_you_mean(name, known)} (lit-rl list shows all)")
    return found


def _subclasses(kind: type) -> list[type]:
    children: list[type] = kind.__subclasses__()
    return [found for child in children for found in (child, *_subclasses(child))]


def _as_arguments(word: str | dict[str, Any]) -> list[str]:
    return ["--config", to_yaml(word)] if isinstance(word, dict) else [word]
