"""Conversations, opened: one constructor for each kind of backend, one for several together, one for a name.

Each is used with `async with`; however the block is left, all that runs is killed and everything is closed. A backend
that is unknown, or cannot run here, is an error, and nothing else is tried in its place.
"""

from __future__ import annotations

import os
import re
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Final, Unpack, cast

import trio

from skill_actors.backends import BackendUnavailable, Executor, Host, Workers, WorkersRef, open_native
from skill_actors.backends.anthropic.client import HostedClient
from skill_actors.backends.native import NATIVE
from skill_actors.library.callbacks import Callbacks
from skill_actors.library.delegated import DelegatedTurns
from skill_actors.library.errors import SkillError, wrap
from skill_actors.library.files import SessionFiles
from skill_actors.library.hosting import HOSTED, HostedOptions, HostedPlace, open_hosted
from skill_actors.library.keeping import Keeping
from skill_actors.library.places import PlaceSpec, open_places
from skill_actors.library.session import Session
from skill_actors.library.settings import Options, Settings
from skill_actors.library.turns import PlacedTurns
from skill_actors.loop import Backend, ToolBackend, find_backend
from skill_actors.loop.context import unwrapped
from skill_actors.native import BadSkill
from skill_actors.runtime import ChildSpec, open_system
from skill_actors.skills.base import Skill, SkillSnapshot

__all__ = [
    "HYBRID",
    "default_executor",
    "new_anthropic",
    "new_docker",
    "new_hybrid",
    "new_local",
    "new_native",
    "start_session",
]

HYBRID: Final = "hybrid"
_EXECUTORS: Final[Mapping[str, str]] = {"development": "local", "production": "docker", "test": "local"}
_PLACE_NAME: Final = re.compile(r"[a-z][a-z0-9-]{0,31}")  # as in the daemon
_OF_A_PLACE: Final = frozenset({"name", "executor", "classes", "isolation", "working_directory", "options"})
_OF_HOSTED: Final = frozenset({"client", "uploads", "display_name"})

Skills = Iterable[Skill] | SkillSnapshot


def default_executor(mode: str | None = None) -> str:
    """The executor for a mode: "local" for development and test, "docker" for production.

    Args:
        mode: by default what the environment variable SKILLD_MODE says, else development.

    Raises:
        ValueError: there is no such mode.

    """
    chosen = mode if mode is not None else os.environ.get("SKILLD_MODE") or "development"
    if chosen not in _EXECUTORS:
        raise ValueError(f"there is no mode {chosen!r}; there are {', '.join(_EXECUTORS)}")
    return _EXECUTORS[chosen]


@asynccontextmanager
async def new_local(
    skills: Skills = (),
    *,
    executor: str | Executor = "local",
    options: Mapping[str, Any] | None = None,
    **settings: Unpack[Options],
) -> AsyncIterator[Session]:
    """A conversation whose tools run in an executor: by default commands on this host, with this user's rights.

    Args:
        skills: which its tools may read.
        executor: a name, such as `default_executor()`, or an executor of the program's own, which stays open.
        options: of the executor that is named.
        settings: see `Settings`.

    Raises:
        SkillError: "backend_unavailable", "docker_unavailable".
        TypeError, ValueError: an option makes no sense.

    """
    if not isinstance(executor, str) and not hasattr(executor, "open"):
        raise TypeError(f"an executor is a name or an Executor, not {executor!r:.100}")
    name = executor if isinstance(executor, str) else executor.name
    spec = PlaceSpec(name=name, backend=name, executor=executor, options=options or {})
    async with _opened([spec], name, _skills(skills), Settings.of(settings)) as session:
        yield session


def new_docker(
    skills: Skills = (), *, options: Mapping[str, Any] | None = None, **settings: Unpack[Options]
) -> AbstractAsyncContextManager[Session]:
    """The same in a container of the conversation's own. See `new_local`."""
    return new_local(skills, executor="docker", options=options, **settings)


@asynccontextmanager
async def new_native(
    classes: Sequence[Any],
    *,
    skills: Skills = (),
    isolation: str = "inline",
    **settings: Unpack[Options],
) -> AsyncIterator[Session]:
    """A conversation whose tools are classes of this program, or objects of them.

    Args:
        classes: as `skill_actors.native` has it.
        skills: which the model is told of besides.
        isolation: "inline": in this process, with all it has. "process": in worker processes that are killed when they
            take too long.
        settings: see `Settings`.

    Raises:
        SkillError: "not_a_native_skill", "native_callback_missing".
        TypeError, ValueError: an option makes no sense.

    """
    chosen = Settings.of(settings)
    async with unwrapped(), AsyncExitStack() as stack:
        spec = await _native(stack, NATIVE, classes, isolation, chosen.host)
        yield await stack.enter_async_context(_opened([spec], NATIVE, _skills(skills), chosen))


@asynccontextmanager
async def new_anthropic(
    skills: Iterable[Any] = (),
    *,
    client: HostedClient | None = None,
    uploads: Path | str | None = None,
    display_name: str | None = None,
    **settings: Unpack[Options],
) -> AsyncIterator[Session]:
    """A conversation whose code runs in a container of the model's provider.

    Args:
        skills: names such as "anthropic:xlsx@latest", triples of type, id and version, and, to be uploaded if they are
            not yet, loaded skills, folders and `.skill` files. They may be mixed.
        client: for Skills and Files; by default one with the key of the environment.
        uploads: the file that remembers what was uploaded; by default one of this user's.
        display_name: of the skill that is uploaded, if it is one.
        settings: see `Settings`.

    Raises:
        SkillError: "invalid_skill_spec", "skills_limit_exceeded", "skill_upload_failed".
        TypeError, ValueError: an option makes no sense.

    """
    chosen = Settings.of(settings)
    wanted = {"skills": skills, "client": client, "uploads": uploads, "display_name": display_name}
    async with unwrapped(), AsyncExitStack() as stack:
        hosted = await _hosted(stack, HOSTED, wanted, ())
        spec = PlaceSpec(name=HOSTED, backend=HOSTED)
        yield await stack.enter_async_context(_opened([spec], HOSTED, (), chosen, hosted))


@asynccontextmanager
async def new_hybrid(
    places: Sequence[str | tuple[str, Mapping[str, Any]]],
    skills: Skills = (),
    **settings: Unpack[Options],
) -> AsyncIterator[Session]:
    """One conversation over several places, with one history and one list of files.

    Args:
        places: each the name of a backend, or that name and what is wanted of it: `name` (of the place, by default the
            backend's), `options` (of the executor), `executor` (one of the program's own), `working_directory`;
            for "native" `classes` and `isolation`; for "anthropic" what `new_anthropic` takes, its `skills` also by the
            names of those on disk. Several may be of one kind, but for "anthropic". The first that is neither native
            nor hosted has tools of plain names.
        skills: which the tools of each place may read.
        settings: see `Settings`.

    Raises:
        SkillError: "backend_unavailable", "docker_unavailable", "not_a_native_skill" and so on; it names the place.
        TypeError, ValueError: an option makes no sense, or two tools would have one name.

    """
    chosen = Settings.of(settings)
    asked = _asked(places)
    local = _skills(skills)
    if sum(backend == HOSTED for backend, _given in asked) > 1:
        raise ValueError("one request has one container: a conversation can have one anthropic place")
    async with unwrapped(), AsyncExitStack() as stack:
        hosted: HostedPlace | None = None
        specs: list[PlaceSpec] = []
        for backend, given in asked:
            if backend == HOSTED:
                name = str(given.get("name", HOSTED))
                hosted = await _hosted(stack, name, {key: given[key] for key in given.keys() - {"name"}}, local)
                specs.append(PlaceSpec(name=name, backend=HOSTED))
            else:
                specs.append(await _place(stack, backend, given, chosen))
        yield await stack.enter_async_context(_opened(specs, HYBRID, local, chosen, hosted))


def start_session(
    backend: str | Backend | Executor, skills: Any = (), **options: Any
) -> AbstractAsyncContextManager[Session]:
    """A conversation of a backend that is chosen while the program runs, by the same code for all of them.

    Args:
        backend: "local", "docker", "native", "anthropic", "hybrid"; the name of one that a package brings, as an
            executor or as a backend that owns its turns; or one of the program's own, of either kind.
        skills: skills, the classes of "native", the skills of "anthropic", or the places of "hybrid".
        options: of the constructor, or of the backend.

    Raises:
        SkillError: "backend_unavailable" for a name that is none, and what the constructor raises.

    """
    match backend:
        case "native":
            return new_native(skills, **options)
        case "anthropic":
            return new_anthropic(skills, **options)
        case "hybrid":
            return new_hybrid(skills, **options)
        case "local" | "docker":
            return new_local(skills, executor=backend, **options)
        case str():
            return _named(backend, skills, options)
        case _ if hasattr(backend, "backend_type"):
            return _delegated(cast("Backend", backend), skills, options)
        case _:
            return new_local(skills, executor=backend, **options)


@asynccontextmanager
async def _named(name: str, skills: Any, options: Mapping[str, Any]) -> AsyncIterator[Session]:
    try:
        found = await find_backend(name)
    except BackendUnavailable as error:
        raise wrap(error, backend=name) from error
    opening = (
        new_local(skills, executor=name, **options)
        if isinstance(found, ToolBackend)
        else _delegated(found, skills, options)
    )
    async with opening as session:
        yield session


@asynccontextmanager
async def _delegated(backend: Backend, skills: Any, options: Mapping[str, Any]) -> AsyncIterator[Session]:
    """A backend that owns its turns: what it has opened itself it closes itself."""
    ours = {name: value for name, value in options.items() if name in ("session_id", "messages")}
    settings = Settings.of(ours)
    callbacks = Callbacks({})
    chosen = _skills(skills) if _are_skills(skills) else skills
    name = backend.backend_type()
    try:
        made = await backend.new_session(chosen, **{key: options[key] for key in options.keys() - ours.keys()})
    except BackendUnavailable as error:
        raise wrap(error, backend=name) from error
    session = Session(
        execution_mode=name,
        settings=replace(settings, messages=settings.messages or made.messages),
        turns=DelegatedTurns(backend, made),
        places=None,
        files=SessionFiles(callbacks),
        skills=made.skills,
        hosting=None,
        callbacks=callbacks,
    )
    try:
        yield session
    finally:
        await session.cleanup()


@asynccontextmanager
async def _opened(
    specs: Sequence[PlaceSpec],
    mode: str,
    skills: Sequence[Skill],
    settings: Settings,
    hosted: HostedPlace | None = None,
) -> AsyncIterator[Session]:
    callbacks = Callbacks(settings.callbacks)
    files = SessionFiles(callbacks)
    keeping = None
    if settings.storage is not None:
        keeping = Keeping(storage=settings.storage, session_id=settings.session_id, callbacks=callbacks)
        files.wake = keeping.wake
    restore = None if keeping is None else keeping.restore
    async with open_places(specs, skills, settings, files.changed, restore) as places:
        files.opened(places)
        if hosted is not None:
            files.elsewhere[hosted.name] = hosted
        turns = PlacedTurns(places=places, hosted=hosted, files=files, settings=settings, callbacks=callbacks)
        session = Session(
            execution_mode=mode,
            settings=settings,
            turns=turns,
            places=places,
            files=files,
            skills=skills,
            hosting=None if hosted is None else hosted.hosting,
            callbacks=callbacks,
            remote=[each for each in (hosted, keeping) if each is not None],
            keeping=keeping,
        )
        async with unwrapped(), trio.open_nursery() as nursery:
            if keeping is not None:
                nursery.start_soon(keeping.run)
            try:
                yield session
            finally:
                await session.cleanup()
                nursery.cancel_scope.cancel()


def _asked(places: Sequence[str | tuple[str, Mapping[str, Any]]]) -> list[tuple[str, Mapping[str, Any]]]:
    """Each place as a backend and what is wanted of it. Raises TypeError, ValueError."""
    if isinstance(places, str | Mapping):
        raise TypeError("places are a list")
    asked: list[tuple[str, Mapping[str, Any]]] = []
    for each in places:
        match each:
            case str():
                asked.append((each, {}))
            case (str() as backend, Mapping() as given):
                asked.append((backend, given))
            case _:
                raise TypeError(f"a place is the name of a backend, or that and a mapping, not {each!r:.100}")
    if not asked:
        raise ValueError("a conversation needs a place")
    for _backend, given in asked:
        if "name" in given and not (isinstance(given["name"], str) and _PLACE_NAME.fullmatch(given["name"])):
            raise ValueError(f"the name {given['name']!r:.60} has to be lower case letters, digits and -, at most 32")
    return asked


async def _hosted(stack: AsyncExitStack, name: str, given: Mapping[str, Any], local: Sequence[Skill]) -> HostedPlace:
    options = {key: value for key, value in given.items() if key != "skills" and value is not None}
    if unknown := sorted(options.keys() - _OF_HOSTED):
        raise TypeError(f"the place {name}: no {unknown[0]!r}; there are skills, {', '.join(sorted(_OF_HOSTED))}")
    if "uploads" in options:
        options["uploads"] = _absolute(options["uploads"])
    return await stack.enter_async_context(open_hosted(name, given.get("skills", ()), local, HostedOptions(**options)))


async def _place(stack: AsyncExitStack, backend: str, given: Mapping[str, Any], settings: Settings) -> PlaceSpec:
    if unknown := sorted(given.keys() - _OF_A_PLACE):
        raise TypeError(f"the place {backend}: no {unknown[0]!r}; there are {', '.join(sorted(_OF_A_PLACE))}")
    name = str(given.get("name", backend))
    if backend == NATIVE:
        isolation = str(given.get("isolation", "inline"))
        return await _native(stack, name, given.get("classes", ()), isolation, settings.host)
    folder = given.get("working_directory")
    return PlaceSpec(
        name=name,
        backend=backend,
        executor=given.get("executor", backend),
        options=given.get("options", {}),
        working_directory=None if folder is None else _absolute(folder),
    )


async def _native(stack: AsyncExitStack, name: str, classes: Sequence[Any], isolation: str, host: Host) -> PlaceSpec:
    if isolation not in ("inline", "process"):
        raise ValueError(f"isolation is 'inline' or 'process', not {isolation!r}")
    if not classes:
        raise ValueError("a native place needs classes")
    if isolation == "process" and host.find_workers is None:
        workers = ChildSpec(id="workers", name="workers", factory=Workers, isolated=True)
        system = await stack.enter_async_context(open_system([workers]))
        host = replace(host, find_workers=lambda: cast("WorkersRef", system.directory.ref("workers")))
    try:
        executor = await stack.enter_async_context(open_native(classes, host, isolation=cast("Any", isolation)))
    except BadSkill as error:
        raise wrap(error, backend=NATIVE) from error
    return PlaceSpec(name=name, backend=NATIVE, executor=executor, native=True)


def _skills(skills: Skills) -> list[Skill]:
    chosen = list(skills.skills.values()) if isinstance(skills, SkillSnapshot) else list(skills)
    for skill in chosen:
        if not isinstance(skill, Skill):
            raise SkillError(
                "skill_not_found", f"{skill!r:.100} is no loaded skill", details={"name": f"{skill!r:.100}"}
            )
    return chosen


def _absolute(folder: Path | str) -> Path:
    return Path(folder).absolute()


def _are_skills(skills: object) -> bool:
    return isinstance(skills, SkillSnapshot) or (
        isinstance(skills, list | tuple) and all(isinstance(skill, Skill) for skill in skills)
    )
