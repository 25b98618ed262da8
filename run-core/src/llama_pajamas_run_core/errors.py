"""Every error that llama-pajamas raises on purpose.

PajamasError
├── UserError                 the request or the set-up is wrong; trying again changes nothing
│   ├── MissingDependency     a package is not installed; the message is the install line
│   ├── UnknownModel          no model of that name; the message lists what there is
│   ├── BadInput              a value, file or message that cannot be used
│   │   ├── ContextTooLong    more tokens than the model's context holds
│   │   └── TooLarge          past a size limit: bytes, pixels, seconds, items
│   └── Unsupported           this model or runtime lacks the feature
└── RuntimeFault              the request was fine; this process could not serve it
    ├── LoadError             a model could not be loaded
    ├── InferenceError        a model failed while running
    ├── OutOfMemory           memory (host or device) ran out; the process goes on
    ├── Busy                  the queue is full or the model is in use; try again later
    └── Cancelled             somebody asked for the work to stop

The server turns each into a status in one table (``server/errors.py``).
"""


class PajamasError(Exception):
    """The root of the tree.

    Attributes:
        message: what is wrong, in one sentence that names the thing.
        hint: what to do about it, or None.
    """

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(f"{message} {hint}" if hint else message)
        self.message = message
        self.hint = hint


class UserError(PajamasError):
    """The request or the set-up is wrong; trying again changes nothing.

    Attributes:
        param: the parameter at fault as a dotted path (``messages[0].content``), or None.
    """

    def __init__(self, message: str, *, hint: str | None = None, param: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.param = param


class MissingDependency(UserError):
    """A package that the feature needs is not installed."""

    def __init__(self, feature: str, *, package: str, install: str) -> None:
        super().__init__(
            f"{feature} needs the package {package}, which is not installed.", hint=f"Install it: {install}"
        )
        self.package = package
        self.install = install


class UnknownModel(UserError):
    """No model of that name is known."""

    def __init__(self, model: str, *, available: tuple[str, ...] = (), hint: str | None = None) -> None:
        if hint is None and available:
            hint = f"Available: {', '.join(available)}."
        super().__init__(f"The model '{model}' does not exist.", hint=hint, param="model")
        self.model = model
        self.available = available


class BadInput(UserError):
    """A value, file or message that cannot be used."""


class ContextTooLong(BadInput):
    """The prompt, with the room asked for the answer, does not fit the model's context."""

    def __init__(self, *, tokens: int, limit: int, param: str | None = "messages") -> None:
        super().__init__(
            f"This model's context length is {limit} tokens, but the request needs {tokens}.",
            hint="Shorten the input, or load the model with a larger n_ctx.",
            param=param,
        )
        self.tokens = tokens
        self.limit = limit


class TooLarge(BadInput):
    """Past a size limit: bytes, pixels, seconds, items."""


class Unsupported(UserError):
    """This model or runtime lacks the feature that was asked for."""


class RuntimeFault(PajamasError):
    """The request was fine; this process could not serve it."""


class LoadError(RuntimeFault):
    """A model could not be loaded; the message names the file and what is wrong with it."""


class InferenceError(RuntimeFault):
    """A model failed while running."""


class OutOfMemory(RuntimeFault):
    """Memory ran out, on the host or on a device; the process goes on."""


class Busy(RuntimeFault):
    """The queue is full or the model is in use; trying again later may succeed.

    Attributes:
        retry_after: seconds after which a new try makes sense.
    """

    def __init__(self, message: str, *, hint: str | None = None, retry_after: float = 1.0) -> None:
        super().__init__(message, hint=hint)
        self.retry_after = retry_after


class Cancelled(RuntimeFault):
    """Somebody asked for the work to stop."""
