"""One walk over a cell's syntax tree, in the order in which Python evaluates it; see `plan`."""

from __future__ import annotations

import ast
import builtins
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from flash_nb.cells.flow import Flow, Jump, Mark, Marks, Scope, join, merge

PROVIDED_NAMES = frozenset({"__annotations__", "__builtins__", "__flash_shell__", "_exit_code", "display"})
"""Names that a worker's cell finds without binding them and that are not Python's builtins.

`display` and `__flash_shell__` (what ``!command`` becomes, it sets `_exit_code`) are the worker's;
the dunder names are the module's. A cell has no `__file__`, neither here nor there.
"""

_BUILTINS = frozenset(dir(builtins))
_CATCHES_NAME_ERROR = frozenset({"BaseException", "Exception", "NameError"})
_SWALLOWS = frozenset({"assertRaises", "assertRaisesRegex", "raises", "suppress"})
# Code that reads these can bind and test names that the text does not show.
_NAMESPACE_DOORS = frozenset({"dir", "eval", "exec", "get_ipython", "globals", "locals", "vars"})


@dataclass(frozen=True, slots=True)
class Read:
    """Where a cell reads a name.

    Attributes:
        name: The name.
        line: From 1.
        column: From 0, in UTF-8 bytes, as `ast` counts.
        eager: It happens when the top level of the cell runs, not when a function is called.
        guarded: It is in the body of a `try` that catches `NameError`.
    """

    name: str
    line: int
    column: int
    eager: bool
    guarded: bool


def last_name(node: ast.expr) -> str | None:
    """Return ``c`` of ``c`` or ``a.b.c``."""
    if isinstance(node, ast.Attribute):
        return node.attr
    return node.id if isinstance(node, ast.Name) else None


def _catches_name_error(caught: ast.expr | None) -> bool:
    if isinstance(caught, ast.Tuple):
        return any(map(_catches_name_error, caught.elts))
    return caught is None or last_name(caught) in _CATCHES_NAME_ERROR


def _is_irrefutable(pattern: ast.pattern) -> bool:
    if isinstance(pattern, ast.MatchOr):
        return any(map(_is_irrefutable, pattern.patterns))
    return isinstance(pattern, ast.MatchAs) and (pattern.pattern is None or _is_irrefutable(pattern.pattern))


class Walk:
    """One walk over a cell.

    Attributes:
        bound: How often each name of the module is bound.
        imported: How often by an import statement.
        modules: Absolute modules that are imported anywhere.
    """

    def __init__(self, *, lazy_annotations: bool) -> None:
        self._lazy_annotations = lazy_annotations
        self._module = Scope("module", None)
        self._scope = self._module
        self._function: Scope | None = None  # the innermost; None while the top level runs
        self._flow = Flow(set(), set())
        self._loops: list[list[Jump]] = []  # the jumps of every loop around this point
        self._repeats = 0  # loops and comprehensions around this point of the top level
        self._guarded = False
        self._classes = 0
        self._unfinished: list[str] = []  # names of the classes around this point
        self._log: list[str] = []  # module names in the order in which they are bound
        self._lazily_bound: set[str] = set()
        self._waiting: dict[str, Marks] = {}  # functions that only their name can start, by key
        self._eager: Marks = {}
        self._lazy: Marks = {}
        self._suspects: list[tuple[str, Mark, bool]] = []
        self._star = False
        self.bound: dict[str, int] = {}
        self.imported: dict[str, int] = {}
        self.modules: set[str] = set()

    # What comes out

    def run(self, tree: ast.Module) -> None:
        """Walk over the cell; once."""
        self._visit_all(tree.body)
        if self._flow.dead:  # it cannot end well: nothing is sure for whoever calls its functions
            self._flow = Flow(set(), set(self._log))
        for marks in list(self._waiting.values()):
            self._may_run(marks)

    def outputs(self) -> set[str]:
        """Return the names that the cell binds and that may exist at its end."""
        return self._flow.live | self._lazily_bound

    def reads(self, known: frozenset[str]) -> dict[str, Read]:
        """Return the reads of names that the cell may not have bound by then; see `CellPlan.reads`."""
        marks = {name: _read_at(name, mark, eager=False) for name, mark in self._lazy.items()}
        marks |= {name: _read_at(name, mark, eager=True) for name, mark in self._eager.items()}
        hidden = (_BUILTINS | PROVIDED_NAMES) - known
        return {read.name: read for read in sorted(marks.values(), key=_position) if read.name not in hidden}

    def undefined(self, known: frozenset[str]) -> tuple[Read, ...]:
        """Return the first read of each name that surely does not exist."""
        if self._star or not _NAMESPACE_DOORS.isdisjoint(self._eager.keys() | self._lazy.keys()):
            return ()
        exists = known | _BUILTINS | PROVIDED_NAMES | self._lazily_bound
        found: dict[str, Read] = {}
        for name, mark, repeated in self._suspects:
            bound_before_next_turn = repeated and name in self.bound
            if name not in exists and not bound_before_next_turn:
                found.setdefault(name, _read_at(name, mark, eager=True))
        return tuple(sorted(found.values(), key=_position))

    # Reading and binding names

    def _read(self, name: str, node: ast.expr) -> None:
        flow = self._flow
        if flow.dead:
            return
        mark = (node, self._guarded)
        scope = self._scope
        if scope is not self._module:
            name = scope.mangle(name)
            if not self._reaches_module(name, mark, scope):
                return
        is_settled = name in flow.settled
        if self._function is not None:
            if not is_settled:
                self._function.free.setdefault(name, mark)
            return
        if not is_settled:
            self._eager.setdefault(name, mark)
            if name not in self.bound and not self._guarded:
                self._suspects.append((name, mark, self._repeats > 0))
        if name in self._waiting:
            self._may_run(self._waiting[name])

    def _reaches_module(self, name: str, mark: Mark, scope: Scope) -> bool:
        """Look a name up from a scope outwards; False if it may not be the module's."""
        while scope.outer is not None and name not in scope.declared_global:
            if scope.kind == "function":
                scope.reads.setdefault(name, mark)
                return False
            if scope.kind == "inline":
                if name in scope.bound:
                    return False
            elif scope.prefix + name in self._flow.settled and name not in scope.deleted:
                if self._function is None:
                    self._may_run(self._waiting.get(scope.prefix + name, {}))
                return False
            else:
                scope.reads.setdefault(name, mark)
            scope = scope.outer
        return True

    def _may_run(self, marks: Marks, trusted: Collection[str] = ()) -> None:
        """Judge the reads of a function that may run here, and of those that it may call.

        Args:
            marks: Its reads.
            trusted: Names that it will not read yet.
        """
        if self._flow.dead:
            return
        settled = self._flow.settled
        seen: set[str] = set()
        todo = [marks]
        while todo:
            for name, mark in todo.pop().items():
                if name in seen:
                    continue
                seen.add(name)
                if name not in settled and name not in trusted:
                    self._lazy.setdefault(name, mark)
                if name in self._waiting:
                    todo.append(self._waiting[name])

    def _keep(self, marks: Marks, name: str | None) -> None:
        """Keep the reads of a function that was just made; `name` if only that name leads to it."""
        scope = self._scope
        if not marks or self._flow.dead:
            return
        if self._function is not None:
            merge(self._function.free, marks)
        elif scope.kind == "class":
            merge(scope.free, marks)
            if name is None:
                self._may_run(marks, trusted=self._unfinished)
            else:
                merge(self._waiting.setdefault(scope.key(scope.mangle(name)), {}), marks)
        elif name is None or self._repeats:  # in a loop, what mentions the name can stand above
            self._may_run(marks)
        else:
            merge(self._waiting.setdefault(name, {}), marks)

    def _settle(self, name: str) -> str | None:
        """Bind a name; return it as the module knows it, None if it is not the module's."""
        scope = self._scope
        while scope.kind == "inline" and scope.outer is not None:  # a walrus in a comprehension
            scope = scope.outer
        name = scope.mangle(name)
        if scope.is_global(name):
            self._flow.settled.add(name)
            self.bound[name] = self.bound.get(name, 0) + 1
            return name
        if name not in scope.declared_nonlocal:
            scope.bound.add(name)
            if scope.kind == "class":
                self._flow.settled.add(scope.key(name))
        return None

    def _bind(self, name: str, *, imported: bool = False) -> None:
        bound = self._settle(name)
        if bound is None:
            return
        self._flow.live.add(bound)
        self._log.append(bound)
        if imported:
            self.imported[bound] = self.imported.get(bound, 0) + 1
        if self._function is not None:
            self._lazily_bound.add(bound)

    def _unbind(self, name: str) -> None:
        scope = self._scope
        name = scope.mangle(name)
        if scope.is_global(name):
            self._flow.settled.add(name)
            self._flow.live.discard(name)
        elif name not in scope.declared_nonlocal:
            scope.bound.add(name)
            scope.deleted.add(name)

    # Walking

    def _visit(self, node: ast.AST) -> None:
        """Walk a node in the order of evaluation, without recursion where nothing special is met."""
        todo: list[Any] = [node]
        while todo:
            node = todo.pop()
            handler = _HANDLERS.get(type(node))
            if handler is not None:
                handler(self, node)
                continue
            for field in _CHILDREN[type(node)]:
                value = getattr(node, field, None)
                if type(value) is list:
                    todo.extend(reversed(value))
                elif value is not None:
                    todo.append(value)

    def _visit_all(self, nodes: Iterable[ast.AST | None]) -> None:
        for node in nodes:
            if node is not None:
                self._visit(node)

    def _nothing(self, node: ast.AST) -> None:
        pass

    def _name(self, node: ast.Name) -> None:
        if type(node.ctx) is ast.Load:
            self._read(node.id, node)
        elif type(node.ctx) is ast.Del:
            self._read(node.id, node)
            self._unbind(node.id)
        elif self._scope.kind != "inline":  # there it is a target of the comprehension
            self._bind(node.id)

    # Expressions

    def _walrus(self, node: ast.NamedExpr) -> None:
        self._visit(node.value)
        self._bind(node.target.id)

    def _dict(self, node: ast.Dict) -> None:
        for key, value in zip(node.keys, node.values, strict=True):
            self._visit_all((key, value))

    def _test(self, node: ast.expr) -> tuple[Flow, Flow]:
        """Walk a condition; return the flows for true and for false."""
        if isinstance(node, ast.BoolOp):
            return self._short_circuit(node)
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
            yes, no = self._test(node.operand)
            return no, yes
        self._visit(node)
        yes, no = self._flow, self._flow.copy()
        if isinstance(node, ast.Constant):
            impossible = no if node.value else yes
            impossible.dead = True
        return yes, no

    def _short_circuit(self, node: ast.BoolOp) -> tuple[Flow, Flow]:
        is_and = isinstance(node.op, ast.And)
        early = []
        for value in node.values:
            yes, no = self._test(value)
            self._flow, leave = (yes, no) if is_and else (no, yes)
            early.append(leave)
        left = join(early)
        return (self._flow, left) if is_and else (left, self._flow)

    def _bool_op(self, node: ast.BoolOp) -> None:
        self._flow = join(self._short_circuit(node))

    def _compare(self, node: ast.Compare) -> None:
        self._visit_all((node.left, node.comparators[0]))
        if len(node.comparators) > 1:  # a chain ends where it becomes false
            ended = self._flow.copy()
            self._visit_all(node.comparators[1:])
            self._flow = join([ended, self._flow])

    def _if_exp(self, node: ast.IfExp) -> None:
        self._flow, no = self._test(node.test)
        self._visit(node.body)
        yes, self._flow = self._flow, no
        self._visit(node.orelse)
        self._flow = join([yes, self._flow])

    def _comprehension(self, node: ast.ListComp | ast.SetComp | ast.GeneratorExp | ast.DictComp) -> None:
        self._visit(node.generators[0].iter)  # belongs to the scope around, also in class bodies
        ways_out = [self._flow.copy()]
        around = self._scope
        self._scope = Scope("inline", around.inner, _targets(node.generators))
        self._repeats += 1
        for index, generator in enumerate(node.generators):
            if index:
                self._visit(generator.iter)
            self._visit(generator.target)
            for condition in generator.ifs:
                self._flow, no = self._test(condition)
                ways_out.append(no)
        self._visit_all((node.key, node.value) if isinstance(node, ast.DictComp) else (node.elt,))
        self._repeats -= 1
        self._scope = around
        self._flow = join([*ways_out, self._flow])

    # Simple statements

    def _assign(self, node: ast.Assign) -> None:
        if isinstance(node.value, ast.Lambda) and len(node.targets) == 1:
            target = node.targets[0]
            marks = self._lambda_body(node.value)
            self._visit(target)
            self._keep(marks, target.id if isinstance(target, ast.Name) else None)
            return
        self._visit(node.value)
        self._visit_all(node.targets)

    def _aug_assign(self, node: ast.AugAssign) -> None:
        if isinstance(node.target, ast.Name):
            self._read(node.target.id, node.target)
            self._visit_all((node.value, node.target))
        else:
            self._visit_all((node.target, node.value))

    def _ann_assign(self, node: ast.AnnAssign) -> None:
        in_function = self._scope.kind == "function"
        if node.value is not None:
            self._visit_all((node.value, node.target))
        elif not isinstance(node.target, ast.Name):
            self._visit(node.target)
        elif node.simple:  # it binds nothing, but whose the name is, it says
            self._scope.bound.add(self._scope.mangle(node.target.id))
        if not in_function:
            self._keep(self._annotations([node.annotation]), "__annotations__")

    def _import(self, node: ast.Import) -> None:
        for alias in node.names:
            self.modules.add(alias.name)
            self._bind(alias.asname or alias.name.partition(".")[0], imported=True)

    def _import_from(self, node: ast.ImportFrom) -> None:
        if node.module and not node.level:
            self.modules.add(node.module)
        for alias in node.names:
            if alias.name == "*":
                self._star = True
            else:
                self._bind(alias.asname or alias.name, imported=True)

    def _global(self, node: ast.Global) -> None:
        self._scope.declared_global.update(map(self._scope.mangle, node.names))

    def _nonlocal(self, node: ast.Nonlocal) -> None:
        self._scope.declared_nonlocal.update(map(self._scope.mangle, node.names))

    def _assert(self, node: ast.Assert) -> None:
        holds, self._flow = self._test(node.test)
        self._visit_all((node.msg,))
        self._flow = holds

    def _raise(self, node: ast.Raise) -> None:
        self._visit_all((node.exc, node.cause))
        self._flow.dead = True

    def _return(self, node: ast.Return) -> None:
        self._visit_all((node.value,))
        self._flow.dead = True

    def _leave_turn(self, node: ast.Break | ast.Continue) -> None:
        self._loops[-1].append((type(node), self._flow.copy()))
        self._flow.dead = True

    # Compound statements

    def _if(self, node: ast.If) -> None:
        ends = []
        orelse: list[ast.stmt] = [node]
        while len(orelse) == 1 and isinstance(orelse[0], ast.If):  # a long elif chain is no deep tree
            branch = orelse[0]
            self._flow, no = self._test(branch.test)
            self._visit_all(branch.body)
            ends.append(self._flow)
            self._flow = no
            orelse = branch.orelse
        self._visit_all(orelse)
        self._flow = join([*ends, self._flow])

    def _while(self, node: ast.While) -> None:
        self._flow, over = self._test(node.test)
        self._loop(node.body, node.orelse, over)

    def _for(self, node: ast.For | ast.AsyncFor) -> None:
        self._visit(node.iter)
        self._loop([node.target, *node.body], node.orelse, self._flow.copy())

    def _loop(self, body: Sequence[ast.AST], orelse: list[ast.stmt], over: Flow) -> None:
        """Walk the turns of a loop. One walk does: what is settled before a turn stays so."""
        jumps: list[Jump] = []
        self._loops.append(jumps)
        self._repeats += 1
        self._visit_all(body)
        self._repeats -= 1
        self._loops.pop()
        breaks = [flow for kind, flow in jumps if kind is ast.Break]
        turns = [self._flow, *(flow for kind, flow in jumps if kind is ast.Continue)]
        for turn in turns:
            if not turn.dead:
                for end in (over, *breaks):
                    end.live |= turn.live
        self._flow = over
        self._visit_all(orelse)
        self._flow = join([self._flow, *breaks])

    def _with(self, node: ast.With | ast.AsyncWith) -> None:
        was_guarded = self._guarded
        swallows = False
        for item in node.items:
            self._visit_all((item.context_expr, item.optional_vars))
            call = item.context_expr
            if isinstance(call, ast.Call) and last_name(call.func) in _SWALLOWS:
                swallows = True
                self._guarded |= any(map(_catches_name_error, call.args))
        before, mark = self._flow.copy(), len(self._log)
        self._visit_all(node.body)
        self._guarded = was_guarded
        if swallows or self._flow.dead:  # a body that always raises is there to be swallowed
            self._flow = join([self._interrupted(before, mark), self._flow])

    def _interrupted(self, before: Flow, mark: int) -> Flow:
        """Return the flow after an exception somewhere in what was walked since `before`."""
        return Flow(before.settled.copy(), before.live.union(self._log[mark:]), dead=before.dead)

    def _try(self, node: ast.Try) -> None:
        before, mark = self._flow.copy(), len(self._log)
        jumps = self._loops[-1] if self._loops else []
        jumped = len(jumps)
        was_guarded = self._guarded
        self._guarded |= any(_catches_name_error(handler.type) for handler in node.handlers)
        self._visit_all(node.body)
        self._guarded = was_guarded
        body_end = self._flow
        ends = []
        for handler in node.handlers:
            self._flow = self._interrupted(before, mark)
            self._handler(handler)
            ends.append(self._flow)
        self._flow = body_end
        self._visit_all(node.orelse)
        self._flow = join([self._flow, *ends])
        if node.finalbody:
            self._finally(node.finalbody, self._interrupted(before, mark), jumps[jumped:])

    def _handler(self, node: ast.ExceptHandler) -> None:
        self._visit_all((node.type,))
        if node.name:  # gone after the handler, however that ends: never live
            self._settle(node.name)
        self._visit_all(node.body)
        if node.name:
            self._unbind(node.name)

    def _finally(self, body: list[ast.stmt], interrupted: Flow, jumps: list[Jump]) -> None:
        normal = self._flow
        self._flow = interrupted
        mark = len(self._log)
        self._visit_all(body)
        end, bound = self._flow, self._log[mark:]
        self._flow = Flow(
            normal.settled | end.settled,
            end.live & normal.live.union(bound),
            dead=normal.dead or end.dead,
        )
        for _, flow in jumps:  # they pass here before they leave the loop
            flow.settled |= end.settled
            flow.live.update(bound)

    def _match(self, node: ast.Match) -> None:
        self._visit(node.subject)
        ends = []
        for case in node.cases:
            refused = self._flow.copy()
            refused.dead |= _is_irrefutable(case.pattern)
            self._pattern(case.pattern)
            if case.guard is not None:
                self._flow, no = self._test(case.guard)
                refused = join([refused, no])
            self._visit_all(case.body)
            ends.append(self._flow)
            self._flow = refused
        self._flow = join([*ends, self._flow])

    def _pattern(self, pattern: ast.pattern) -> None:
        captured: list[str | None] = []
        for node in ast.walk(pattern):
            if isinstance(node, ast.Name):
                self._read(node.id, node)
            elif isinstance(node, (ast.MatchAs, ast.MatchStar)):
                captured.append(node.name)
            elif isinstance(node, ast.MatchMapping):
                captured.append(node.rest)
        for name in captured:  # bound only when the whole pattern has matched
            if name is not None:
                self._bind(name)

    # Definitions

    def _in_function(self, outer: Scope, parameters: Iterable[str], body: Iterable[ast.AST]) -> Marks:
        """Walk code that runs later; return its reads of the module's names."""
        scope = Scope("function", outer, parameters)
        around = self._scope, self._function, self._flow, self._loops, self._guarded
        self._scope = self._function = scope
        self._flow, self._loops, self._guarded = Flow(set(), set()), [], False
        self._visit_all(body)
        self._scope, self._function, self._flow, self._loops, self._guarded = around
        for name, mark in scope.reads.items():
            if name not in scope.bound and self._reaches_module(name, mark, outer):
                scope.free.setdefault(name, mark)
        return scope.free

    def _function_def(self, node: ast.FunctionDef | ast.AsyncFunctionDef) -> None:
        self._visit_all((*node.decorator_list, *node.args.defaults, *node.args.kw_defaults))
        around = self._scope
        marks = self._type_parameters(node)
        arguments = _arguments(node.args)
        annotations = [argument.annotation for argument in arguments]
        merge(marks, self._annotations([*annotations, node.returns]))
        merge(marks, self._in_function(self._scope.inner, (one.arg for one in arguments), node.body))
        self._scope = around
        self._bind(node.name)
        self._keep(marks, None if node.decorator_list else node.name)

    def _lambda(self, node: ast.Lambda) -> None:
        self._keep(self._lambda_body(node), None)

    def _lambda_body(self, node: ast.Lambda) -> Marks:
        self._visit_all((*node.args.defaults, *node.args.kw_defaults))
        names = (argument.arg for argument in _arguments(node.args))
        return self._in_function(self._scope.inner, names, [node.body])

    def _annotations(self, annotations: list[ast.expr | None]) -> Marks:
        """Walk annotations; return their reads of the module's names if they happen later."""
        if self._lazy_annotations:
            return self._in_function(self._scope, (), [node for node in annotations if node is not None])
        self._visit_all(annotations)
        return {}

    def _class_def(self, node: ast.ClassDef) -> None:
        self._visit_all(node.decorator_list)
        around = self._scope
        marks = self._type_parameters(node)
        self._visit_all((*node.bases, *node.keywords))
        self._classes += 1
        scope = Scope("class", self._scope.inner, prefix=f"{self._classes}.", private=node.name.lstrip("_"))
        self._flow.settled |= {scope.prefix + "__module__", scope.prefix + "__qualname__"}
        self._scope = scope
        self._unfinished.append(node.name)
        self._visit_all(node.body)
        self._unfinished.pop()
        if self._function is not None:
            # A name that the class binds somewhere is never looked up in functions around it.
            for name in scope.bound & scope.reads.keys():
                self._function.free.setdefault(name, scope.reads[name])
        self._scope = around
        self._bind(node.name)
        merge(marks, scope.free)
        # Decorators see the class at once; so do metaclasses and `__init_subclass__`.
        is_seen = node.decorator_list or node.bases or node.keywords
        self._keep(marks, None if is_seen else node.name)

    def _type_parameters(self, node: Any) -> Marks:
        """Enter the scope of PEP 695 parameters, if any; return what their bounds read later."""
        parameters = getattr(node, "type_params", None)
        if not parameters:
            return {}
        self._scope = Scope("inline", self._scope, [parameter.name for parameter in parameters])
        lazy = [getattr(one, field, None) for one in parameters for field in ("bound", "default_value")]
        return self._in_function(self._scope, (), [node for node in lazy if node is not None])

    def _type_alias(self, node: Any) -> None:
        around = self._scope
        marks = self._type_parameters(node)
        merge(marks, self._in_function(self._scope, (), [node.value]))
        self._scope = around
        self._bind(node.name.id)
        self._keep(marks, node.name.id)


def _position(read: Read) -> tuple[int, int]:
    return read.line, read.column


def _read_at(name: str, mark: Mark, *, eager: bool) -> Read:
    node, guarded = mark
    return Read(name, node.lineno, node.col_offset, eager, guarded)


def _targets(generators: list[ast.comprehension]) -> set[str]:
    nodes = (node for generator in generators for node in ast.walk(generator.target))
    return {node.id for node in nodes if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}


def _arguments(arguments: ast.arguments) -> list[ast.arg]:
    stars = [argument for argument in (arguments.vararg, arguments.kwarg) if argument is not None]
    return [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs, *stars]


# By name, because the oldest Python that we run on lacks some of them.
_BY_NAME: dict[str, Callable[[Walk, Any], None]] = {
    "AnnAssign": Walk._ann_assign,
    "Assert": Walk._assert,
    "Assign": Walk._assign,
    "AsyncFor": Walk._for,
    "AsyncFunctionDef": Walk._function_def,
    "AsyncWith": Walk._with,
    "AugAssign": Walk._aug_assign,
    "BoolOp": Walk._bool_op,
    "Break": Walk._leave_turn,
    "ClassDef": Walk._class_def,
    "Compare": Walk._compare,
    "Constant": Walk._nothing,
    "Continue": Walk._leave_turn,
    "Dict": Walk._dict,
    "DictComp": Walk._comprehension,
    "For": Walk._for,
    "FunctionDef": Walk._function_def,
    "GeneratorExp": Walk._comprehension,
    "Global": Walk._global,
    "If": Walk._if,
    "IfExp": Walk._if_exp,
    "Import": Walk._import,
    "ImportFrom": Walk._import_from,
    "Lambda": Walk._lambda,
    "ListComp": Walk._comprehension,
    "Match": Walk._match,
    "Name": Walk._name,
    "NamedExpr": Walk._walrus,
    "Nonlocal": Walk._nonlocal,
    "Raise": Walk._raise,
    "Return": Walk._return,
    "SetComp": Walk._comprehension,
    "Try": Walk._try,
    "TryStar": Walk._try,
    "TypeAlias": Walk._type_alias,
    "While": Walk._while,
    "With": Walk._with,
}
_HANDLERS = {getattr(ast, name): handler for name, handler in _BY_NAME.items() if hasattr(ast, name)}

_LEAVES = {"arg", "attr", "conversion", "ctx", "is_async", "kind", "op", "ops", "str"}
# The last child first: it goes to the bottom of the stack.
_CHILDREN = {
    node: tuple(field for field in reversed(node._fields) if field not in _LEAVES)
    for node in vars(ast).values()
    if isinstance(node, type) and issubclass(node, ast.AST)
}
