"""A scan: the Python files of a project -> its remote functions, by their resource. Nothing is imported.

Modules are followed one by one, and what they decorate is judged here: arguments, names, routes. All that
stands against a build is collected, and raised at the end.

::

    value         what a name stands for
    evaluation    an expression -> its value
    construction  the arguments of a call -> the resource that it makes
    module        a file, followed statement by statement as an import runs it
    nested        uses of `remote` that only running would show
    reading       which names some code reads
    calls         which remote functions some code may call
    factory       functions that make the application
    imports       what the modules that run on workers import
"""

from __future__ import annotations

import ast
import re
import sys
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

from packaging.requirements import InvalidRequirement, Requirement

from flash_nb.cells.syntax import without_collection
from flash_nb.errors import ResourceError, did_you_mean
from flash_nb.project.declared import Function, Group, Mothership, Place, Project, Trouble, TroubleError
from flash_nb.project.handlers import handler_file
from flash_nb.project.scan.calls import Calls
from flash_nb.project.scan.construction import setting_troubles, unknown_troubles
from flash_nb.project.scan.factory import made_applications
from flash_nb.project.scan.imports import find_imports
from flash_nb.project.scan.module import Decorated, Module, Modules
from flash_nb.project.scan.nested import nested_uses
from flash_nb.project.scan.value import (
    Application,
    Argument,
    Declaration,
    Decorator,
    Definition,
    brief,
    is_plain,
    is_resource,
)
from flash_nb.project.sources import why_left_out
from flash_nb.resources.live import CpuLiveLoadBalancer
from flash_nb.resources.serverless import ServerlessResource

PARAMETERS = (
    "resource_config",
    "dependencies",
    "system_dependencies",
    "accelerate_downloads",
    "local",
    "method",
    "path",
    "strict",
)
"""What `flash_nb.sdk.remote.remote` takes, in its order; a test compares them."""

APPLICATION_FILES = ("main.py", "app.py", "server.py")
_METHOD_FIX = 'For example: @remote(api, method="POST", path="/api/process")'


def scan(root: Path, files: Iterable[str]) -> Project:
    """Return what a project's files say.

    Args:
        root: The project's folder.
        files: What belongs into its artifact, relative to `root`, with ``/``; what is not Python is
            passed over.

    Raises:
        TroubleError: Something stands against a build: all of it, in order of file and line.
    """
    paths = sorted(file for file in set(files) if file.endswith(".py"))
    with without_collection():
        scanned = _Scan(root, paths)
        project = scanned.project()
        scanned.forget()
    if scanned.troubles:
        raise TroubleError(sorted(scanned.troubles, key=_order))
    return project


def _order(trouble: Trouble) -> tuple[str, int, str]:
    place = trouble.place
    return (place.file, place.line, trouble.message) if place else ("", 0, trouble.message)


@dataclass(frozen=True)
class _Found:
    """A decorated definition whose resource is known."""

    function: Function
    definition: Definition
    declaration: Declaration


class _Scan:
    """One scan, and what stands against a build so far."""

    def __init__(self, root: Path, files: list[str]) -> None:
        self._root = root
        self._files = frozenset(files)
        self._entries = frozenset(entry.name for entry in root.iterdir()) if root.is_dir() else frozenset()
        self._on_workers: dict[str, None] = {}  # modules with functions that are not local
        self.troubles: dict[Trouble, None] = {}
        self._notes: tuple[Trouble, ...] = ()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # those of the compiler: they are the user's business
            self._modules = Modules(self._parsed(files))

    def project(self) -> Project:
        """Return the project; it is of use only if there are no troubles."""
        self._modules.follow_all()
        for module in list(self._modules):
            self._say(*module.troubles, *nested_uses(self._modules, module))
        found = [each for module in self._modules for each in self._judged(module)]
        self._check_names(found)
        calls = Calls(self._modules, {each.definition: each.function.name for each in found})
        groups = self._groups(
            [
                replace(each, function=replace(each.function, calls=calls.of(each.definition)))
                for each in found
            ]
        )
        mothership, application = self._mothership(groups)
        first = [*self._on_workers, *application]
        imports = find_imports(self._modules, first, self._why_left_out)
        self._say(*imports.troubles)
        if mothership is not None:
            closure = find_imports(self._modules, application, self._why_left_out).modules
            mothership = replace(mothership, calls=calls.of_modules(closure))
        if not found and mothership is None and not self.troubles:
            self._say(*(self._notes or [_nothing_found(len(self._files))]))
        return Project(
            name=self._root.resolve().name,
            root=self._root,
            groups=groups,
            mothership=mothership,
            imports=imports.imports,
            notes=self._notes,
        )

    def forget(self) -> None:
        """Let go of what the project was made from: modules refer to each other, so nothing else would."""
        self._modules.forget()

    def _say(self, *troubles: Trouble) -> None:
        self.troubles.update(dict.fromkeys(troubles))

    def _why_left_out(self, file: str) -> str:
        """Return why a file of the project's folder is not in the artifact; empty if that is not so."""
        first = file.partition("/")[0]
        if first not in self._entries or file in self._files or not (self._root / file).is_file():
            return ""
        return why_left_out(self._root, file) or "though no rule says so"

    # Files

    def _parsed(self, files: list[str]) -> Iterator[Module]:
        packages = {_folder(file) for file in files if _is_package(file)}
        for file in files:
            parsed = self._tree(file)
            if parsed is not None:
                tree, text = parsed
                yield Module(_module_name(file, packages), file, tree, _is_package(file), text)

    def _tree(self, file: str) -> tuple[ast.Module, str] | None:
        try:
            source = (self._root / file).read_bytes()
        except OSError as error:
            self._say(
                Trouble(Place(file, 1), f"cannot be read: {error.strerror}", "Leave it out, or allow it.")
            )
            return None
        try:
            return ast.parse(source, file), source.decode(errors="replace")
        except SyntaxError as error:
            reason = f"is not valid Python {sys.version_info[0]}.{sys.version_info[1]}: {error.msg}"
            place = Place(file, error.lineno or 1)
        except (ValueError, RecursionError, MemoryError) as error:
            reason = f"cannot be read as Python: {str(error) or type(error).__name__}"
            place = Place(file, 1)
        self._say(Trouble(place, reason, f"Correct it, or leave {file} out with .flashignore."))
        return None

    # Functions

    def _judged(self, module: Module) -> Iterator[_Found]:
        decorated: set[Definition] = set()
        for each in module.found:
            arguments = self._arguments(each.decorator)
            if arguments is None:
                continue
            if _is_true(arguments, "local"):
                continue
            self._on_workers[module.name] = None
            if each.definition in decorated:
                message = f"{each.definition.name} is decorated with @remote twice"
                self._say(Trouble(each.definition.place, message, "Keep one of the two."))
                continue
            decorated.add(each.definition)
            if module.name.startswith("<"):
                self._say(_not_importable(each.definition, module.file))
            function = self._function(each, arguments)
            declaration = self._declaration(each, arguments)
            if declaration is None or function is None:
                continue
            resource = cast("ServerlessResource", declaration.value)
            before = len(self.troubles)
            self._say(*_mismatches(each.definition, function, resource, each.decorator.place))
            if len(self.troubles) == before:
                yield _Found(function, each.definition, declaration)

    def _arguments(self, decorator: Decorator) -> dict[str, Argument] | None:
        """Return the arguments of `remote` by name; None if they cannot be told."""
        arguments = dict(decorator.keywords)
        unknown = arguments.pop("**", None)
        if unknown is not None:
            self._say(*setting_troubles("@remote: **", unknown.value, unknown.place))
            return None
        if len(decorator.positional) > len(PARAMETERS):
            self._say(Trouble(decorator.place, "@remote has too many arguments", "Give them by name."))
            return None
        arguments.update(zip(PARAMETERS, decorator.positional, strict=False))
        for name, argument in arguments.items():
            if name not in PARAMETERS:
                self._say(
                    Trouble(
                        argument.place,
                        f"@remote has no parameter {name!r}{did_you_mean(name, PARAMETERS)}",
                        f"They are {', '.join(PARAMETERS)}; workersMax, env and the like belong to the "
                        "resource.",
                    )
                )
        return arguments

    def _plain(self, arguments: Mapping[str, Argument], name: str) -> object:
        """Return an argument that has to be a constant; None if there is none, or if it is no constant."""
        argument = arguments.get(name)
        if argument is None:
            return None
        troubles = setting_troubles(f"@remote: {name}", argument.value, argument.place)
        self._say(*troubles)
        return None if troubles or not is_plain(argument.value) else argument.value

    def _flag(self, arguments: Mapping[str, Argument], name: str, *, default: bool) -> bool:
        value = self._plain(arguments, name)
        return default if value is None else bool(value)

    def _texts(self, arguments: Mapping[str, Argument], name: str) -> tuple[str, ...]:
        value = self._plain(arguments, name)
        if value is None:
            return ()
        if not isinstance(value, list | tuple) or not all(isinstance(each, str) for each in value):
            self._say(
                Trouble(
                    arguments[name].place,
                    f"@remote: {name} is {brief(value)}, not a list of texts",
                    f'{name}=["…"]',
                )
            )
            return ()
        if name == "dependencies":
            self._say(*(_bad_requirement(each, arguments[name].place) for each in value if _is_bad(each)))
        return tuple(value)

    def _function(self, each: Decorated, arguments: Mapping[str, Argument]) -> Function | None:
        definition = each.definition
        node = definition.node
        local = self._plain(arguments, "local")
        if "local" in arguments and not isinstance(local, bool):
            return None
        method, path = self._plain(arguments, "method"), self._plain(arguments, "path")
        return Function(
            name=definition.name,
            module=definition.module,
            place=definition.place,
            kind="class" if isinstance(node, ast.ClassDef) else "function",
            is_async=isinstance(node, ast.AsyncFunctionDef),
            methods=tuple(_methods(definition)),
            method=method if isinstance(method, str) else "" if method is None else brief(method),
            path=path if isinstance(path, str) else "" if path is None else brief(path),
            dependencies=self._texts(arguments, "dependencies"),
            system_dependencies=self._texts(arguments, "system_dependencies"),
            accelerate_downloads=self._flag(arguments, "accelerate_downloads", default=True),
            strict=self._flag(arguments, "strict", default=False),
        )

    def _declaration(self, each: Decorated, arguments: Mapping[str, Argument]) -> Declaration | None:
        argument = arguments.get("resource_config")
        name = each.definition.name
        if argument is None:
            self._say(_no_resource(f"@remote of {name} has no resource_config", each.decorator.place))
            return None
        if is_resource(argument.value):
            return cast("Declaration", argument.value)
        what = f"the resource of {name}"
        troubles = unknown_troubles(what, argument.value)
        self._say(*(troubles or [_no_resource(f"{what} is no resource", argument.place)]))
        return None

    # Resources

    def _check_names(self, found: list[_Found]) -> None:
        first: dict[str, Function] = {}
        for each in sorted(found, key=lambda each: each.function.place):
            function = each.function
            known = first.setdefault(function.name, function)
            if known is not function:
                self._say(
                    Trouble(
                        function.place,
                        f"{function.name} is the name of a remote function already, at {known.place}",
                        "Give each a name of its own: calls of other endpoints go by it.",
                    )
                )

    def _groups(self, found: list[_Found]) -> tuple[Group, ...]:
        by_name: dict[str, list[_Found]] = {}
        for each in found:
            by_name.setdefault(_name_of(each.declaration), []).append(each)
        groups = [self._group(members) for members in by_name.values()]
        files: dict[str, Group] = {}
        for group in groups:
            other = files.setdefault(handler_file(group.key).casefold(), group)
            if other is not group:
                self._say(_same_file(other, group))
        return tuple(sorted(groups, key=lambda group: group.key))

    def _group(self, members: list[_Found]) -> Group:
        members = sorted(members, key=lambda each: (each.function.module, each.function.place))
        declared = members[0].declaration
        for each in members[1:]:
            other = each.declaration
            if other.value != declared.value or dict(other.env_from) != dict(declared.env_from):
                self._say(_two_of_one_name(_name_of(declared), declared.place, other.place))
        routes: dict[str, Function] = {}
        for each in members:
            route = f"{each.function.method} {each.function.path}"
            known = routes.setdefault(route, each.function)
            if each.function.path and known is not each.function:
                self._say(
                    Trouble(
                        each.function.place,
                        f"{_name_of(declared)} serves {route} already, by {known.name} at {known.place}",
                        "Give each route a path or method of its own.",
                    )
                )
        return Group(
            resource=cast("ServerlessResource", declared.value),
            variable=declared.variable,
            place=declared.place,
            functions=tuple(each.function for each in members),
            env_from=dict(declared.env_from),
        )

    # The application

    def _mothership(self, groups: tuple[Group, ...]) -> tuple[Mothership | None, list[str]]:
        """Return the endpoint of the project's own application, and the modules that it imports first."""
        explicit = self._explicit()
        served = self._application(lambda app: app.has_routes)
        if served is None:
            self._notes = tuple(self._made_applications())
        if explicit is None and served is None:
            return None, []
        if explicit is None:
            assert served is not None
            taken = {group.key for group in groups}
            name = "mothership-entrypoint" if "mothership" in taken else "mothership"
            resource = CpuLiveLoadBalancer(name=name, workersMin=1, workersMax=3)
            place, env_from = Place(served[0].file, 1), {}
        else:
            served = served or self._application(lambda _: True)
            resource = cast("CpuLiveLoadBalancer", explicit.value)
            place, env_from = explicit.place, dict(explicit.env_from)
            if served is None:
                self._say(*(self._notes or [_no_application(place)]))
                return None, []
        for group in groups:
            if group.key == resource.name:
                self._say(_two_of_one_name(group.key, group.place, place))
        module, variable = served
        made = Mothership(
            module.file, variable, resource, is_explicit=explicit is not None, env_from=env_from
        )
        return made, [module.name]

    def _explicit(self) -> Declaration | None:
        module = self._modules.find("mothership")
        if module is None or module.file != "mothership.py" or "mothership" not in module.names:
            return None
        declared = self._modules.settled(module.names["mothership"])
        place = Place(module.file, 1)
        if is_resource(declared):
            assert isinstance(declared, Declaration)
            if cast("ServerlessResource", declared.value).is_load_balanced:
                return declared
            place = declared.place
        troubles = unknown_troubles("mothership", declared)
        self._say(*(troubles or [_no_load_balancer(place)]))
        return None

    def _application(self, is_wanted: Callable[[Application], bool]) -> tuple[Module, str] | None:
        for module in self._application_modules():
            for name, value in module.names.items():
                if isinstance(value := self._modules.settled(value), Application) and is_wanted(value):
                    return module, name
        return None

    def _application_modules(self) -> Iterator[Module]:
        for file in APPLICATION_FILES:
            module = self._modules.find(file.removesuffix(".py"))
            if module is not None and module.file == file:
                yield module

    def _made_applications(self) -> Iterator[Trouble]:
        for module in self._application_modules():
            yield from made_applications(self._modules, module)


def _folder(file: str) -> str:
    return file.rpartition("/")[0]


def _is_package(file: str) -> bool:
    return file.rpartition("/")[2] == "__init__.py"


def _module_name(file: str, packages: set[str]) -> str:
    """Return the dotted name of a file; in ``<>`` where no import can name it."""
    path = _folder(file) if _is_package(file) else file.removesuffix(".py")
    hidden = path in packages and not _is_package(file)
    if not path or hidden or "." in path:
        return f"<{re.sub(r'[./]', '_', file)}>"
    return path.replace("/", ".")


def _name_of(declaration: Declaration) -> str:
    return cast("ServerlessResource", declaration.value).name


def _is_true(arguments: Mapping[str, Argument], name: str) -> bool:
    return name in arguments and arguments[name].value is True


def _methods(definition: Definition) -> Iterator[str]:
    """Give the public methods of a class, its own first, then those of its bases."""
    seen: set[str] = set()
    for each in _family(definition, set()):
        assert isinstance(each.node, ast.ClassDef)
        for node in each.node.body:
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                if not node.name.startswith("_") and node.name not in seen and not _is_property(node):
                    yield node.name
                seen.add(node.name)


def _family(definition: Definition, seen: set[Definition]) -> Iterator[Definition]:
    if isinstance(definition.node, ast.ClassDef) and definition not in seen:
        seen.add(definition)
        yield definition
        for base in definition.bases:
            yield from _family(base, seen)


def _is_property(node: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    names = {
        each.id if isinstance(each, ast.Name) else getattr(each, "attr", "") for each in node.decorator_list
    }
    return bool(names & {"cached_property", "property", "setter", "deleter"})


def _mismatches(
    definition: Definition, function: Function, resource: ServerlessResource, place: Place
) -> Iterator[Trouble]:
    """Give why a definition cannot run on a resource; `remote` refuses the same when it runs."""
    if function.kind == "class" and (not resource.is_live or resource.is_load_balanced):
        yield Trouble(
            place,
            f"{function.name} is a class, and a {type(resource).__name__} keeps no objects",
            "Objects live on a LiveServerless or a CpuLiveServerless.",
        )
    elif resource.is_load_balanced:
        yield from _route_troubles(definition, function, place)
    elif function.method or function.path:
        yield Trouble(
            place,
            f"{function.name} has a method or a path, but {resource.name} has a queue and no routes",
            f'Serve routes from a LiveLoadBalancer: LiveLoadBalancer(name="{resource.name}")',
        )


def _route_troubles(definition: Definition, function: Function, place: Place) -> Iterator[Trouble]:
    from flash_nb.sdk.route import checked_route
    from flash_nb.worker.routes import placeholders

    try:
        checked_route(function.name, function.method or None, function.path or None)
    except ResourceError as error:
        yield Trouble(place, error.message.rstrip("."), error.hint or _METHOD_FIX)
        return
    assert not isinstance(definition.node, ast.ClassDef)
    arguments = definition.node.args
    names = [each.arg for each in (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs)]
    for name in placeholders(function.path):
        if name not in names:
            yield Trouble(
                place,
                f"the path {function.path!r} has {{{name}}}, but {function.name} has no such parameter"
                f"{did_you_mean(name, names)}",
                f"Name a parameter {name}, or correct the path.",
            )


def _is_bad(requirement: str) -> bool:
    try:
        Requirement(requirement)
    except InvalidRequirement:
        return "://" not in requirement  # pip takes URLs without a name too
    return False


def _bad_requirement(text: str, place: Place) -> Trouble:
    return Trouble(place, f"{text!r} is not a requirement", 'Write it as pip takes it: "numpy>=1.26".')


def _no_resource(message: str, place: Place) -> Trouble:
    return Trouble(place, message, 'For example: @remote(resource_config=CpuLiveServerless(name="worker"))')


def _two_of_one_name(name: str, one: Place, other: Place) -> Trouble:
    return Trouble(
        other,
        f"two different resources are named {name!r}; the other is at {one}",
        "Give each a name of its own, or declare it once and import it.",
    )


def _same_file(one: Group, other: Group) -> Trouble:
    return Trouble(
        other.place,
        f"{other.key!r} and {one.key!r} (at {one.place}) would both be started by {handler_file(one.key)}",
        "Let them differ in more than signs and capitals.",
    )


def _no_application(place: Place) -> Trouble:
    return Trouble(
        place,
        f"mothership is declared, but none of {', '.join(APPLICATION_FILES)} has an application",
        "Write app = FastAPI() and its routes in main.py, or delete mothership.py.",
    )


def _no_load_balancer(place: Place) -> Trouble:
    return Trouble(
        place,
        "mothership is not a load-balanced resource",
        'For example: mothership = CpuLiveLoadBalancer(name="mothership", workersMin=1)',
    )


def _not_importable(definition: Definition, file: str) -> Trouble:
    return Trouble(
        definition.place,
        f"{definition.name} is in {file}, which no import can name",
        "Rename the file: no dots, and no package of the same name beside it.",
    )


def _nothing_found(count: int) -> Trouble:
    return Trouble(
        None,
        f"no @remote function and no application was found in {count} Python file{'s' * (count != 1)}",
        "Decorate a function with @remote at the top level of a module. Files are missed if .flashignore, "
        ".gitignore or a built-in rule leaves them out, or if they are outside of the project's folder.",
    )
