"""Functions, modules and classes, statement by statement; what a decided condition rules out is not read."""

from __future__ import annotations

import ast
from collections.abc import Sequence

from tests.support.trt.expressions import Expressions, NotYet
from tests.support.trt.reading import Reading
from tests.support.trt.source import Scope
from tests.support.trt.values import (
    NOTHING,
    PLAIN,
    UNKNOWN,
    Class,
    Empty,
    Many,
    OwnClass,
    OwnObject,
    Values,
    constant,
    elements,
)


class Body(Expressions):
    """Reads one function, or a module."""

    def read(self) -> None:
        """All of it."""
        node = self.scope.node
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            self._parameters(node.args)
        ended = self.statements(node.body)
        if isinstance(node, ast.FunctionDef) and not ended:
            silent = node.returns is None or ast.unparse(node.returns) == "None"
            self.reading.returns(self.scope.key, constant(None) if silent else NOTHING)

    def _parameters(self, arguments: ast.arguments) -> None:
        every = [*arguments.posonlyargs, *arguments.args]
        first_default = len(every) - len(arguments.defaults)
        for place, argument in enumerate([*every, *arguments.kwonlyargs]):
            values = self.annotated(argument.annotation)
            if place == 0 and self.scope.is_method() and not self.scope.is_("staticmethod"):
                owner = self.scope.parent
                assert owner is not None
                values = frozenset({OwnClass(owner.key) if self.scope.is_("classmethod") else OwnObject(owner.key)})
            default = (
                arguments.defaults[place - first_default]
                if first_default <= place < len(every)
                else arguments.kw_defaults[place - len(every)]
                if place >= len(every)
                else None
            )
            if default is not None:
                values |= self.value(default) | UNKNOWN
            if not values and self.reading.is_called_from_elsewhere(self.scope):
                values = UNKNOWN
            self.reading.learn(self.scope.key, argument.arg, values)

    def statements(self, body: Sequence[ast.stmt]) -> bool:
        """Read them in turn; whether the last of them never goes on to the next."""
        try:
            return any(self._ends(statement) for statement in body)
        except NotYet:
            return True

    def _ends(self, node: ast.stmt) -> bool:
        match node:
            case ast.If():
                return self._if(node)
            case ast.Return() | ast.Raise() | ast.Continue() | ast.Break():
                for part in ast.iter_child_nodes(node):
                    values = self.value(part)
                    if isinstance(part, ast.Name) and self._is_passed(part.id):
                        self.reading.passed[self.scope.key].add(part.id)
                    elif isinstance(node, ast.Return):
                        self.reading.returns(self.scope.key, values)
                return True
            case ast.Assign():
                values = self._held(node.value)
                for target in node.targets:
                    self._assign(target, values)
            case ast.AnnAssign():
                told = self.annotated(node.annotation)
                values = self._held(node.value) if node.value else NOTHING
                local = isinstance(node.target, ast.Name) and values
                self._assign(node.target, values if local else told | values)
            case ast.AugAssign():
                self.value(node.value)
                self._assign(node.target, PLAIN)
            case ast.For() | ast.AsyncFor():
                self._assign(node.target, elements(self.value(node.iter)))
                self.statements(node.body)
                self.statements(node.orelse)
            case ast.While():
                if self.decide(node.test) is not False:
                    self.statements(node.body)
                self.statements(node.orelse)
            case ast.With() | ast.AsyncWith():
                for item in node.items:
                    values = self.value(item.context_expr)
                    if item.optional_vars is not None:
                        self._assign(item.optional_vars, self._entered(values))
                swallows = any("suppress" in ast.unparse(item.context_expr) for item in node.items)
                return self.statements(node.body) and not swallows
            case ast.Try():
                ended = [self.statements([*node.body, *node.orelse])]
                ended += [self.statements(handler.body) for handler in node.handlers]
                return self.statements(node.finalbody) or all(ended)
            case ast.Match():
                self.value(node.subject)
                for case_ in node.cases:
                    self.statements(case_.body)
            case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
                pass
            case _:
                for part in ast.iter_child_nodes(node):
                    self.value(part)
        return False

    def _held(self, node: ast.expr) -> Values:
        """What a variable is given: an empty collection that has a name is there to be filled."""
        values = self.value(node)
        return frozenset({Many(NOTHING)}) if values == {Empty()} and isinstance(node, ast.List | ast.Dict) else values

    def _is_passed(self, name: str) -> bool:
        """A parameter, and never anything else."""
        node = self.scope.node
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            return False
        parameters = [a.arg for a in (*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs)]
        return name in parameters and name not in self.scope.stored

    def _if(self, node: ast.If) -> bool:
        decided = self.decide(node.test)
        if decided is not None:
            return self.statements(node.body if decided else node.orelse)
        body, other = self.statements(node.body), self.statements(node.orelse)
        return body and other and bool(node.orelse)

    @staticmethod
    def _entered(values: Values) -> Values:
        """What `with` gives: what a generator yields, or the thing itself."""
        found = NOTHING
        for value in values:
            found |= value.elements if isinstance(value, Many) else frozenset({value})
        return found


class Definition:
    """Reads a class of the sources: its fields, and what it overrides."""

    def __init__(self, reading: Reading, scope: Scope) -> None:
        self.reading, self.scope = reading, scope

    def read(self) -> None:
        """Learn what the fields are; complain of what overrides nothing."""
        assert isinstance(self.scope.node, ast.ClassDef)
        body = Body(self.reading, self.scope)
        for statement in self.scope.node.body:
            if isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name):
                self.reading.learn(self.scope.key, statement.target.id, body.annotated(statement.annotation))
            elif not isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                body.statements([statement])
        for base in body.bases(self.scope.key):
            if isinstance(base, Class):
                for name, inner in self.scope.inner.items():
                    self._override(base.name, name, inner)

    def _override(self, base: str, name: str, scope: Scope) -> None:
        """TensorRT calls by name and position what it knows; a public method that it does not know is misspelt."""
        if name.startswith("_") or not isinstance(scope.node, ast.FunctionDef):
            return
        body = Body(self.reading, scope)
        if self.reading.api.member(base, name) is None:
            body.complain(scope.node, f"{base} has no {name} to override")
            return
        self.reading.used.add(f"{base}.{name}")
        takes = scope.node.args
        most = len(takes.posonlyargs) + len(takes.args)
        least = most - len(takes.defaults)
        names = [a.arg for a in (*takes.posonlyargs, *takes.args)]
        for signature in self.reading.api.overloads(base, name):
            for argument, parameter in zip(names[1:], signature.parameters[1:], strict=False):
                self.reading.learn(scope.key, argument, self.reading.object_of(parameter.type))
            given = len(signature.parameters)
            if not (least <= given and (given <= most or takes.vararg)):
                body.complain(scope.node, f"{base}.{name} is called with {given - 1} arguments, this takes {most - 1}")
