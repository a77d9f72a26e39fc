"""What an expression can be, and whether a condition is decided before anything runs."""

from __future__ import annotations

import ast
from collections.abc import Sequence

from tests.support.trt.own import Own
from tests.support.trt.source import Scope
from tests.support.trt.values import (
    NOTHING,
    PLAIN,
    UNKNOWN,
    Callable,
    Class,
    Constant,
    Empty,
    Many,
    Namespace,
    Object,
    OwnClass,
    OwnFunction,
    OwnObject,
    Plain,
    Row,
    Scalar,
    Values,
    constant,
    elements,
)

PASSED_ON = {"enumerate", "list", "tuple", "set", "frozenset", "sorted", "reversed", "iter", "next", "zip", "dict"}
PLAIN_OF_ANYTHING = {"int", "str", "bytes", "len", "bool", "float", "range", "memoryview", "min", "max", "sum"}
FILLING = {"append", "add", "appendleft", "insert", "extend", "setdefault"}
TAKING = {"pop", "popleft", "get", "setdefault"}


class NotYet(Exception):  # it says when, and is no error
    """A condition hangs on what has no value yet: what it stands over is read another time."""


class Expressions(Own):
    """Reads expressions of one function, or of a module or class."""

    def value(self, node: ast.AST) -> Values:
        """What an expression can be; everything in it is read."""
        match node:
            case ast.Name():
                return self._name(node)
            case ast.Attribute():
                return self._attributes(node)
            case ast.Call():
                return self._call(node)
            case ast.Constant():
                return constant(node.value) if node.value is None or isinstance(node.value, bool) else PLAIN
            case ast.IfExp():
                decided = self.decide(node.test)
                return (NOTHING if decided is False else self.value(node.body)) | (
                    NOTHING if decided is True else self.value(node.orelse)
                )
            case ast.BoolOp() | ast.Compare():
                decided = self.decide(node)
                if isinstance(node, ast.BoolOp) and decided is None:
                    return self._either(node)
                return PLAIN if decided is None else constant(decided)
            case ast.UnaryOp(op=ast.Not()):
                decided = self.decide(node)
                return PLAIN if decided is None else constant(decided)
            case ast.NamedExpr():
                values = self.value(node.value)
                self._assign(node.target, values)
                return values
            case ast.Tuple():
                if any(isinstance(part, ast.Starred) for part in node.elts):
                    return frozenset({Many(self._all(node.elts))})
                return frozenset({Row(tuple(self.value(part) for part in node.elts))})
            case ast.List() | ast.Set():
                return frozenset({Many(self._all(node.elts)) if node.elts else Empty()})
            case ast.Dict():
                self._all([key for key in node.keys if key])
                return frozenset({Many(self._all(node.values)) if node.values else Empty()})
            case ast.ListComp() | ast.SetComp() | ast.GeneratorExp() | ast.DictComp():
                return self._comprehension(node)
            case ast.Starred():
                return elements(self.value(node.value))
            case ast.Subscript():
                return self._subscript(node)
            case ast.Await():
                return self.value(node.value)
            case ast.Yield():
                made = self.value(node.value) if node.value else constant(None)
                self.reading.returns(self.scope.key, frozenset({Many(made)}))
                return UNKNOWN
            case ast.YieldFrom():
                self.reading.returns(self.scope.key, self.value(node.value))
                return UNKNOWN
            case ast.Lambda():
                self.value(node.body)
                return UNKNOWN
            case _:
                self._all(list(ast.iter_child_nodes(node)))
                return PLAIN

    def _all(self, nodes: Sequence[ast.AST]) -> Values:
        found = NOTHING
        for node in nodes:
            found |= self.value(node)
        return found

    def _either(self, node: ast.BoolOp) -> Values:
        """`a or b`, `a and b`, undecided: any of those that are come to."""
        found, ending = NOTHING, isinstance(node.op, ast.Or)
        for part in node.values:
            found |= self.value(part)
            if self.decide(part) is ending:
                break
        return found

    def _comprehension(self, node: ast.ListComp | ast.SetComp | ast.GeneratorExp | ast.DictComp) -> Values:
        for generator in node.generators:
            self._assign(generator.target, elements(self.value(generator.iter)))
            if any(self.decide(test) is False for test in generator.ifs):
                return frozenset({Many(NOTHING)})
        if isinstance(node, ast.DictComp):
            self.value(node.key)
            return frozenset({Many(self.value(node.value))})
        return frozenset({Many(self.value(node.elt))})

    def _subscript(self, node: ast.Subscript) -> Values:
        self.value(node.slice)
        found = NOTHING
        for value in self.value(node.value):
            if isinstance(value, Object):
                self._member(node, value.kind, "__getitem__")
                found |= self._returned(value.kind, "__getitem__")
            elif isinstance(value, Row) and isinstance(node.slice, ast.Constant) and isinstance(node.slice.value, int):
                found |= self._part(frozenset({value}), node.slice.value)
            elif isinstance(value, Many) and isinstance(node.slice, ast.Slice):
                found |= {value}
            else:
                found |= elements(frozenset({value}))
        return found

    def _name(self, node: ast.Name) -> Values:
        if node.id == "trt":
            return frozenset({Namespace()})
        self.reading.speak(node.id, self.scope.key)
        scope: Scope | None = self.scope
        while scope is not None:
            key = (scope.key, node.id)
            if key in self.reading.names and (scope is self.scope or not isinstance(scope.node, ast.ClassDef)):
                return self.reading.names[key] or self.reading.unknown
            scope = scope.parent
        found = self.reading.source.find(self.scope, node.id)
        if found is None:
            return UNKNOWN
        own_class = isinstance(found.node, ast.ClassDef)
        return frozenset({OwnClass(found.key) if own_class else OwnFunction(found.key, bound=False)})

    def _attributes(self, node: ast.Attribute) -> Values:
        self.reading.speak(node.attr, self.scope.key)
        if node.attr == "trt":
            self.value(node.value)
            return frozenset({Namespace()})
        owners = self.value(node.value)
        if not owners and not self.reading.settled:
            return NOTHING
        if owners <= UNKNOWN:
            return self._of_unknown(node)
        found = NOTHING
        for owner in owners:
            found |= self._attribute(node, owner, node.attr)
        return found

    def _of_unknown(self, node: ast.Attribute) -> Values:
        """What is Any and comes from nowhere that is read here cannot be checked, and must not go unnoticed."""
        if isinstance(node.value, ast.Name):
            if self._is_any(node.value.id):
                self.complain(node, f"nothing is known of {node.value.id}, whose {node.attr} is asked for")
            module = [
                s for s in self.reading.source.by_name.get(node.attr, ()) if s.path.endswith(f"/{node.value.id}.py")
            ]
            if len(module) == 1:
                own_class = isinstance(module[0].node, ast.ClassDef)
                return frozenset({OwnClass(module[0].key) if own_class else OwnFunction(module[0].key, bound=False)})
        return UNKNOWN

    def _is_any(self, name: str) -> bool:
        """A parameter that is annotated so."""
        node = self.scope.node
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            return False
        every = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
        return any(a.arg == name and a.annotation and ast.unparse(a.annotation) == "Any" for a in every)

    def _attribute(self, node: ast.AST, owner: object, name: str) -> Values:
        match owner:
            case Namespace():
                self.reading.used.add(name)
                if name in self.api.classes:
                    return frozenset({Class(name)})
                if name in self.api.others:
                    functional = self.api.others[name]["kind"] == "function"
                    return frozenset({Callable(None, name, bound=False)}) if functional else PLAIN
                self.complain(node, f"trt has no {name}")
            case Class(kind) | Object(kind):
                return self._member(node, kind, name, bound=isinstance(owner, Object))
            case OwnObject(key) | OwnClass(key):
                return self._own(node, key, name, bound=isinstance(owner, OwnObject))
            case Many() if name in (*TAKING, "values", "copy", *FILLING):
                return frozenset({owner})
            case Many() if name == "items":
                return frozenset({Many(frozenset({Row((PLAIN, owner.elements))}))})
            case Plain() | Scalar() | Empty() | Constant() | Row():
                return PLAIN
        return UNKNOWN

    def _assign(self, target: ast.expr, values: Values) -> None:
        match target:
            case ast.Name():
                scope = self.scope
                while scope.parent and target.id in scope.elsewhere:
                    scope = scope.parent
                self.reading.learn(scope.key, target.id, values)
            case ast.Tuple() | ast.List():
                for place, part in enumerate(target.elts):
                    inside = part.value if isinstance(part, ast.Starred) else part
                    self._assign(inside, self._part(values, place))
            case ast.Attribute():
                for owner in self.value(target.value):
                    if isinstance(owner, OwnObject | OwnClass):
                        self.reading.learn(owner.key, target.attr, values)
                    elif isinstance(owner, Object):
                        self._set(target, owner.kind, values)
            case ast.Subscript():
                self.value(target.slice)
                self._fill(target.value, values)

    @staticmethod
    def _part(values: Values, place: int) -> Values:
        """One place of a tuple."""
        found = NOTHING
        for value in values:
            if isinstance(value, Row):
                found |= value.elements[place] if place < len(value.elements) else UNKNOWN
            else:
                found |= elements(frozenset({value}))
        return found

    def _fill(self, holder: ast.expr, values: Values) -> None:
        """A collection that is a variable or an attribute holds these, too."""
        self.value(holder)
        if isinstance(holder, ast.Name | ast.Attribute) and values:
            self._assign(holder, frozenset({Many(values)}))

    def _call(self, node: ast.Call) -> Values:
        if isinstance(node.func, ast.Name) and not self.reading.source.find(self.scope, node.func.id):
            known = self._builtin(node, node.func.id)
            if known is not None:
                return known
        functions = self.value(node.func)
        positional = [self.value(argument) for argument in node.args]
        keywords = {k.arg: self.value(k.value) for k in node.keywords}
        all_known = None not in keywords and not any(isinstance(a, ast.Starred) for a in node.args)
        named = {name: values for name, values in keywords.items() if name}
        if isinstance(node.func, ast.Attribute) and node.func.attr in FILLING and positional:
            last = elements(positional[-1]) if node.func.attr == "extend" else positional[-1]
            if any(isinstance(f, Many) for f in functions):
                self._fill(node.func.value, last)
        found = NOTHING
        for function in functions:
            match function:
                case Callable():
                    found |= self._theirs(node, function, positional, named, all_known=all_known)
                case Class(kind):
                    making = Callable(kind, "__init__", bound=True)
                    self._theirs(node, making, positional, named, all_known=all_known)
                    found |= {Object(kind)}
                case OwnFunction(key, bound):
                    given = self._give(self.reading.source.scopes[key], positional, named, bound=bound)
                    found |= self.reading.results[key]
                    for name in self.reading.passed[key]:
                        found |= given.get(name, UNKNOWN)
                case OwnClass(key):
                    self._make(key, positional, named)
                    found |= {OwnObject(key)}
                case Many():
                    taken = isinstance(node.func, ast.Attribute) and node.func.attr in TAKING
                    found |= function.elements if taken else frozenset({function})
                case Plain() | Scalar():
                    found |= PLAIN
                case _:
                    found |= UNKNOWN
        return found if functions else self.reading.unknown

    def _builtin(self, node: ast.Call, name: str) -> Values | None:
        """What Python's own functions make of it; None: it is none of these."""
        if name in ("getattr", "hasattr"):
            return self._getattr(node, name)
        arguments = [self.value(argument) for argument in node.args]
        if name == "super":
            return self._super()
        if name == "cast" and len(arguments) > 1:
            return arguments[1]
        if name in ("len", "iter", "list", "tuple") and len(arguments) == 1:
            for value in arguments[0]:
                if isinstance(value, Object):
                    self._member(node, value.kind, "__len__" if name == "len" else "__getitem__")
        if name not in PASSED_ON:
            if name in PLAIN_OF_ANYTHING:
                self._all([k.value for k in node.keywords])
                return PLAIN
            return None
        if name in ("enumerate", "zip"):
            rows = [elements(values) for values in arguments]
            return frozenset({Many(frozenset({Row(tuple([PLAIN, *rows] if name == "enumerate" else rows))}))})
        inside = NOTHING
        for values in arguments:
            inside |= elements(values)
        return inside if name == "next" else frozenset({Many(inside)})

    def _getattr(self, node: ast.Call, function: str) -> Values:
        """`hasattr(x, "y")` and `getattr(x, "y", otherwise)` are decided by what the version has."""
        owners = self.value(node.args[0])
        otherwise = self.value(node.args[2]) if len(node.args) > 2 else None
        name = node.args[1].value if isinstance(node.args[1], ast.Constant) else None
        theirs = [o for o in owners if isinstance(o, Namespace | Class | Object)]
        if not isinstance(name, str):
            self.value(node.args[1])
            if theirs and otherwise is None and function == "getattr":
                self.complain(node, "getattr with a name that is made and no default cannot be checked")
            kinds = frozenset(Object(o.name) for o in theirs if isinstance(o, Class) and self.api.is_enum(o.name))
            return kinds | (otherwise or NOTHING) or self.reading.unknown
        if not owners and not self.reading.settled:
            return NOTHING
        if not theirs:
            if owners == constant(None) and function == "getattr":
                return otherwise or UNKNOWN
            return PLAIN if function == "hasattr" else UNKNOWN
        found = NOTHING
        for owner in theirs:
            if function == "getattr" and otherwise is None:
                found |= self._attribute(node, owner, name)
                continue
            if isinstance(owner, Namespace):
                there = name in self.api.classes or name in self.api.others
            else:
                kind = owner.name if isinstance(owner, Class) else owner.kind
                there = self.api.member(kind, name) is not None
            if function == "hasattr":
                found |= constant(there)
            else:
                found |= self._attribute(node, owner, name) if there else otherwise or NOTHING
        return found

    def decide(self, node: ast.expr) -> bool | None:
        """Whether a condition holds under this version; None: not known. Everything that is come to is read."""
        match node:
            case ast.UnaryOp(op=ast.Not()):
                decided = self.decide(node.operand)
                return None if decided is None else not decided
            case ast.BoolOp():
                ending, undecided = isinstance(node.op, ast.Or), False
                for part in node.values:
                    decided = self.decide(part)
                    if decided is ending:
                        return ending
                    undecided = undecided or decided is None
                return None if undecided else not ending
            case ast.Compare(ops=[ast.Is() | ast.IsNot() as how], comparators=[ast.Constant(value=None)]):
                none = self._agreed({self._is_none(value) for value in self.value(node.left)})
                return None if none is None else none == isinstance(how, ast.Is)
            case ast.Compare():
                self._all(list(ast.iter_child_nodes(node)))
                return None
            case ast.Attribute() if self._is_feature(node):
                return bool(self.api.features[node.attr]["true"])
        return self._agreed({self._truth(value) for value in self.value(node)})

    def _agreed(self, verdicts: set[bool | None]) -> bool | None:
        """Raises NotYet where there are none."""
        if not verdicts and not self.reading.settled:
            raise NotYet
        return verdicts.pop() if len(verdicts) == 1 else None

    def _is_feature(self, node: ast.Attribute) -> bool:
        owners = self.value(node.value)
        return (
            node.attr in self.api.features
            and bool(owners - UNKNOWN)
            and all(isinstance(o, OwnObject) and o.key.endswith(":Features") for o in owners - UNKNOWN)
        )

    def _is_none(self, value: object) -> bool | None:
        match value:
            case Constant(it):
                return it is None
            case Scalar() | Empty() | Class() | Namespace() | OwnClass() | Many() | Row() | Callable():
                return False
            case Object(kind) if self.api.is_enum(kind):
                return False
        return None

    def _truth(self, value: object) -> bool | None:
        match value:
            case Constant(it):
                return bool(it)
            case Empty():
                return False
            case Class() | Namespace() | OwnClass() | Callable():
                return True
            case Object(kind) if self.api.is_enum(kind):
                return True
        return None
