"""Runs a package's program, operation by operation."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Final

import numpy as np

from llama_pajamas_run_core.errors import BadInput, InferenceError, LoadError, PajamasError, Unsupported
from llama_pajamas_run_coreml.evaluate.ops import KINDS
from llama_pajamas_run_coreml.evaluate.ops.registry import Kind
from llama_pajamas_run_coreml.evaluate.package import read_package
from llama_pajamas_run_coreml.evaluate.program import Block, Constant, Operand, Operation, Package, Result
from llama_pajamas_run_coreml.evaluate.types import HELD, STORED, Array, TensorType, rounded
from llama_pajamas_run_coreml.interface import Feature, Interface

#: Operations that the evaluator does itself, because they run blocks or touch states.
_OWN: Final = frozenset({"const", "cond", "while_loop", "read_state", "write_state", "coreml_update_state"})
#: Rounds after which a loop counts as endless.
_MOST_ROUNDS: Final = 100_000


class State:
    """What a stateful model remembers between predictions.

    Attributes:
        values: its arrays by name, float32 or whole numbers.
    """

    def __init__(self, values: dict[str, Array]) -> None:
        self.values = values


@dataclass(frozen=True, slots=True)
class _Step:
    """An operation, ready to run.

    Attributes:
        operation: what it is.
        kind: what does it; None where the evaluator does it itself.
        inputs: its parameters; a tuple where a parameter takes several values.
        blocks: its blocks, ready to run.
        free: the names that nothing needs after it.
    """

    operation: Operation
    kind: Kind | None
    inputs: tuple[tuple[str, "Operand | tuple[Operand, ...]"], ...]
    blocks: "tuple[_Plan, ...]"
    free: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Plan:
    """A block, ready to run."""

    inputs: tuple[Result, ...]
    steps: tuple[_Step, ...]
    outputs: tuple[str, ...]


class Evaluator:
    """A package whose program can be run on any system.

    Args:
        package: where it lies, or the package as it was read.
        function: which of its functions to run; None is its default.

    Raises:
        BadInput: there is no such package or function.
        LoadError: it is damaged.
        Unsupported: the program uses an operation, a parameter or a type that is not known.
    """

    def __init__(self, package: Path | Package, function: str | None = None) -> None:
        self.package = read_package(package) if isinstance(package, Path) else package
        name = function or self.package.default
        if name not in self.package.functions:
            known = ", ".join(self.package.functions)
            raise BadInput(f"{self.package.path} has no function '{name}'.", hint=f"It has: {known}.")
        self._function = self.package.functions[name]
        self._constants: dict[str, Any] = {}
        self._states = {one.name: one.type for one in self._function.inputs if one.type.state}
        defined = {one.name for one in self._function.inputs}
        self._plan = self._planned(self._function.body, defined, frozenset(self._function.body.outputs))

    @property
    def interface(self) -> Interface:
        """What the function takes and gives."""
        names = [name for name, one in self.package.functions.items() if one is self._function]
        return self.package.interfaces.get(names[0], self.package.interfaces[self.package.default])

    def make_state(self) -> State:
        """A state as it is before the first prediction: zeros."""
        made: dict[str, Array] = {}
        for name, kind in self._states.items():
            if kind.shape is None or None in kind.shape:
                raise Unsupported(f"The state {name} of {self.package.path} has no fixed size.")
            made[name] = np.zeros([size or 0 for size in kind.shape], HELD[kind.dtype])
        return State(made)

    def predict(self, feeds: Mapping[str, Any], state: State | None = None) -> dict[str, Array]:
        """Run the program.

        Args:
            feeds: an array for each input; for an image uint8 [height, width, 3] RGB, or [height, width] for a gray
                one.
            state: what a stateful model remembers; it is changed.

        Returns:
            the outputs by name, in the types that the package declares.

        Raises:
            BadInput: an input is missing, unknown or of the wrong size, or the model is stateful and has no state.
            InferenceError: an operation failed, or gave what the program does not declare.
        """
        if self._states and state is None:
            raise BadInput(f"{self.package.path.name} is stateful.", hint="Give it a state of make_state().")
        declared = {one.name: one.type for one in self._function.inputs if not one.type.state}
        described = {one.name: one for one in self.interface.inputs}
        if unknown := sorted(feeds.keys() - declared.keys()):
            raise BadInput(
                f"{self.package.path.name} has no input '{unknown[0]}'.", hint=f"It has: {', '.join(declared)}."
            )
        values: dict[str, Any] = dict(self._constants)
        for name, kind in declared.items():
            if name not in feeds:
                raise BadInput(f"{self.package.path.name} lacks its input '{name}'.")
            values[name] = _taken(name, feeds[name], kind, described.get(name))
        self._run(self._plan, values, state)
        return self._given({name: values[name] for name in self._function.body.outputs})

    def _given(self, values: Mapping[str, Array]) -> dict[str, Array]:
        """The outputs in the types that the package promises."""
        promised = {one.name: one.dtype for one in self.interface.outputs}
        return {
            name: np.ascontiguousarray(value.astype(STORED.get(promised.get(name, ""), value.dtype)))
            for name, value in values.items()
        }

    def _planned(self, block: Block, defined: set[str], kept: frozenset[str]) -> _Plan:
        """A block ready to run; its constants are computed now.

        Args:
            block: the block.
            defined: the names there are before it.
            kept: names that are needed after it.
        """
        defined = defined | {one.name for one in block.inputs}
        steps: list[tuple[Operation, Kind | None, tuple[_Plan, ...]]] = []
        for operation in block.operations:
            if operation.kind not in _OWN and operation.kind not in KINDS:
                raise Unsupported(
                    f"{self.package.path} uses the operation {operation.kind}, which the evaluator does not know.",
                    param="model",
                )
            for name in _names(operation):
                if name not in defined:
                    raise LoadError(f"{self.package.path} is damaged: {operation.kind} reads {name} before it is made.")
            kind = KINDS.get(operation.kind)
            if kind is not None:
                kind.check(frozenset(operation.inputs))
            if operation.kind == "const" or operation.kind.startswith("constexpr_"):
                self._compute_constant(operation, kind)
            else:
                inner = tuple(self._planned(one, defined, frozenset(one.outputs)) for one in operation.blocks)
                steps.append((operation, kind, inner))
            defined |= {one.name for one in operation.outputs}
        if missing := [name for name in block.outputs if name not in defined]:
            raise LoadError(f"{self.package.path} is damaged: nothing makes its output {missing[0]}.")
        return _Plan(block.inputs, self._freeing(steps, kept), block.outputs)

    def _freeing(self, steps: list[tuple[Operation, Kind | None, tuple[_Plan, ...]]], kept: frozenset[str]) -> Any:
        """The steps, each with the names of results that nothing needs after it."""
        last: dict[str, int] = {}
        for index, (operation, _, _) in enumerate(steps):
            for name in _all_names(operation):
                last[name] = index
            for one in operation.outputs:
                last.setdefault(one.name, index)
        free: list[list[str]] = [[] for _ in steps]
        own = {one.name for operation, _, _ in steps for one in operation.outputs}
        for name, index in last.items():
            if name in own and name not in kept:
                free[index].append(name)
        return tuple(
            _Step(operation, kind, _parameters(operation, kind), inner, tuple(free[index]))
            for index, (operation, kind, inner) in enumerate(steps)
        )

    def _compute_constant(self, operation: Operation, kind: Kind | None) -> None:
        if kind is None:  # a const
            (value,) = operation.inputs["val"]
            assert isinstance(value, Constant)
            self._constants[operation.outputs[0].name] = value.value
            return
        step = _Step(operation, kind, _parameters(operation, kind), (), ())
        self._store(operation, kind, self._call(step, self._constants), self._constants)

    def _run(self, plan: _Plan, values: dict[str, Any], state: State | None) -> None:
        for step in plan.steps:
            if step.kind is None:
                self._run_own(step, values, state)
            else:
                self._store(step.operation, step.kind, self._call(step, values), values)
            for name in step.free:
                del values[name]

    def _call(self, step: _Step, values: Mapping[str, Any]) -> Any:
        assert step.kind is not None
        try:
            given = {
                name: tuple(_value(one, values) for one in operand)
                if isinstance(operand, tuple)
                else _value(operand, values)
                for name, operand in step.inputs
            }
            return step.kind.function(**given)
        except PajamasError:
            raise
        except MemoryError:
            raise
        except Exception as error:  # whatever numpy raises where shapes or types do not fit
            raise InferenceError(f"{self._place(step.operation)} failed: {error}.") from error

    def _store(self, operation: Operation, kind: Kind | None, made: Any, values: dict[str, Any]) -> None:
        results = made if isinstance(made, tuple) else (made,)
        if len(results) != len(operation.outputs):
            raise InferenceError(
                f"{self._place(operation)} made {len(results)} results where {len(operation.outputs)} are declared."
            )
        exact = kind is not None and kind.exact
        for declared, result in zip(operation.outputs, results, strict=True):
            values[declared.name] = self._settled(np.asarray(result), declared, operation, exact)

    def _settled(self, value: Array, declared: Result, operation: Operation, exact: bool) -> Array:
        """A result as the program declares it, in half precision rounded.

        Raises:
            InferenceError: it is something else than the program declares.
        """
        kind = declared.type
        if not kind.fits(value.shape):
            raise InferenceError(
                f"{self._place(operation)} made {list(value.shape)} where {kind} is declared for {declared.name}."
            )
        held = HELD.get(kind.dtype)
        if held is None or not _same_family(value.dtype, np.dtype(held)):
            raise InferenceError(
                f"{self._place(operation)} made {value.dtype} where {kind} is declared for {declared.name}."
            )
        if np.issubdtype(held, np.integer) and value.dtype != held and value.size:
            limits = np.iinfo(np.dtype(held))
            if int(value.min()) < limits.min or int(value.max()) > limits.max:
                raise InferenceError(f"{self._place(operation)} made numbers that do not fit {kind}.")
        value = value.astype(held, copy=False)
        return rounded(value) if kind.dtype == "fp16" and not exact else value

    def _run_own(self, step: _Step, values: dict[str, Any], state: State | None) -> None:
        operation = step.operation
        if operation.kind == "cond":
            self._branch(step, values, state)
        elif operation.kind == "while_loop":
            self._loop(step, values, state)
        else:
            self._use_state(step, values, state)

    def _branch(self, step: _Step, values: dict[str, Any], state: State | None) -> None:
        (condition,) = step.operation.inputs["pred"]
        plan = step.blocks[0] if bool(_value(condition, values)) else step.blocks[1]
        inner = dict(values)
        self._run(plan, inner, state)
        self._store(step.operation, None, tuple(inner[name] for name in plan.outputs), values)

    def _loop(self, step: _Step, values: dict[str, Any], state: State | None) -> None:
        test, body = step.blocks
        current = [_value(one, values) for one in step.operation.inputs["loop_vars"]]
        for _ in range(_MOST_ROUNDS):
            inner = values | {one.name: value for one, value in zip(test.inputs, current, strict=True)}
            self._run(test, inner, state)
            if not bool(inner[test.outputs[0]]):
                self._store(step.operation, None, tuple(current), values)
                return
            inner = values | {one.name: value for one, value in zip(body.inputs, current, strict=True)}
            self._run(body, inner, state)
            current = [inner[name] for name in body.outputs]
        raise InferenceError(f"{self._place(step.operation)} did not end after {_MOST_ROUNDS} rounds.")

    def _use_state(self, step: _Step, values: dict[str, Any], state: State | None) -> None:
        operation = step.operation
        (name,) = operation.inputs.get("input") or operation.inputs["state"]
        if not isinstance(name, str) or name not in self._states or state is None:
            raise LoadError(f"{self.package.path} is damaged: {operation.kind} names no state.")
        if operation.kind != "read_state":
            (written,) = operation.inputs.get("value") or operation.inputs["data"]
            value = np.asarray(_value(written, values))
            state.values[name] = self._settled(value, Result(name, self._states[name]), operation, exact=False)
        if operation.outputs:
            self._store(operation, None, state.values[name], values)

    def _place(self, operation: Operation) -> str:
        name = operation.outputs[0].name if operation.outputs else ""
        return f"{self.package.path.name}: {operation.kind} {name}".rstrip()


def _parameters(operation: Operation, kind: Kind | None) -> tuple[tuple[str, Operand | tuple[Operand, ...]], ...]:
    lists = kind.lists if kind is not None else frozenset()
    made: list[tuple[str, Operand | tuple[Operand, ...]]] = []
    for name, operands in operation.inputs.items():
        if name in lists:
            made.append((name, operands))
        elif len(operands) == 1:
            made.append((name, operands[0]))
        elif kind is not None:
            raise LoadError(f"The program is damaged: {operation.kind} has {len(operands)} values for {name}.")
    return tuple(made)


def _value(operand: Operand, values: Mapping[str, Any]) -> Any:
    return operand.value if isinstance(operand, Constant) else values[operand]


def _names(operation: Operation) -> Iterable[str]:
    """The names that an operation itself reads."""
    return (one for operands in operation.inputs.values() for one in operands if isinstance(one, str))


def _all_names(operation: Operation) -> Iterable[str]:
    """The names that an operation or its blocks read."""
    yield from _names(operation)
    for block in operation.blocks:
        yield from block.outputs
        for inner in block.operations:
            yield from _all_names(inner)


@cache
def _same_family(dtype: np.dtype[Any], held: np.dtype[Any]) -> bool:
    return any(
        np.issubdtype(dtype, family) and np.issubdtype(held, family) for family in (np.floating, np.integer, np.bool_)
    )


def _taken(name: str, given: Any, kind: TensorType, described: Feature | None) -> Array:
    """An input as the program wants it."""
    array = np.asarray(given)
    if described is not None and described.dtype == "image":
        array = _picture(name, array, described)
    held = HELD.get(kind.dtype, np.float32)
    if not _same_family(array.dtype, np.dtype(held)):
        raise BadInput(f"The input '{name}' is {array.dtype}, where {kind} is expected.")
    if not kind.fits(array.shape) or (described is not None and not _allowed(array.shape, described)):
        raise BadInput(f"The input '{name}' has the shape {list(array.shape)}, where {kind} is expected.")
    array = array.astype(held, copy=False)
    return rounded(array) if kind.dtype == "fp16" else array


def _picture(name: str, array: Array, described: Feature) -> Array:
    _, channels, height, width = described.shape
    wanted = (height, width) if channels == 1 else (height, width, 3)
    if array.dtype != np.uint8 or array.shape != wanted:
        raise BadInput(
            f"The input '{name}' is {array.dtype} {list(array.shape)}, where an image is expected: "
            f"uint8 {list(wanted)}."
        )
    if described.colors == "BGR":
        array = array[..., ::-1]
    planes = array[None] if channels == 1 else array.transpose(2, 0, 1)
    return planes[None].astype(np.float32)


def _allowed(shape: tuple[int, ...], described: Feature) -> bool:
    """Whether the package promises to take a shape."""
    if described.shapes:
        return shape in described.shapes
    if described.dtype == "image" or not described.ranges:
        return True
    return len(shape) == len(described.ranges) and all(
        low <= size and (high is None or size <= high)
        for size, (low, high) in zip(shape, described.ranges, strict=True)
    )
