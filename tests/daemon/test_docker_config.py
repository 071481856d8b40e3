"""The section [backends.docker] and what the backend itself takes."""

from __future__ import annotations

import re
from dataclasses import fields
from pathlib import Path

from skill_actors.backends import docker_proxies, egress
from skill_actors.backends.container_forward import ADDRESS
from skill_actors.backends.docker_limits import OPTIONS, checked_options
from skill_actors.backends.docker_options import DockerOptions, SessionLimits, checked
from skilld.config import BackendsConfig, DockerConfig


def test_the_configuration_has_the_same_options_with_the_same_defaults() -> None:
    options, section = DockerOptions(), DockerConfig()
    for made, written in ((options, section), (options.session, section.session)):
        names = {field.name for field in fields(made)}
        assert names == set(type(written).model_fields)
        for name in names - {"session"}:
            assert getattr(made, name) == getattr(written, name), name


def test_what_is_configured_reaches_the_backend_and_no_other() -> None:
    config = BackendsConfig(default=("local",), offered=("docker", "local"), docker=DockerConfig(image="mine", cpus=2))
    assert config.names == ("local", "docker")
    made = checked(config.options_of("docker"))
    assert (made.image, made.cpus) == ("mine", 2.0)
    assert config.options_of("another") == {}


def test_what_sessions_may_choose_reaches_the_backend() -> None:
    docker = DockerConfig.model_validate({"session": {"images": ["mine:1"], "cpus": 2, "users": [50_000]}})
    limits = checked(BackendsConfig(docker=docker).options_of("docker")).session
    assert (limits.images, limits.cpus, limits.users) == (("mine:1",), 2.0, (50_000,))


def test_the_page_has_every_option_of_a_session_with_the_key_that_permits_more() -> None:
    page = (Path(__file__).parents[2] / "docs/docker.md").read_text()
    rows = re.findall(r"^\| (`.*) \|.*\|.*\| `([a-z_]+)` \|$", page.partition("## Options of one session")[2], re.M)
    listed = [re.findall(r"`([a-z_]+)`", names) for names, _ in rows]
    assert sorted(names[0] for names in listed) == sorted(OPTIONS)
    assert {key for _, key in rows} == {field.name for field in fields(SessionLimits)}
    short = checked_options(checked({}), {name: 1 << 24 for names in listed for name in names[1:] if name != "memory"})
    assert set(short) == {"workspace_bytes", "tmp_bytes"}


def test_the_page_has_the_numbers_of_the_proxy() -> None:
    page = (Path(__file__).parents[2] / "docs/docker.md").read_text()
    assert (
        f"at most {egress._CONNECTIONS} connections at a time, all of them together {docker_proxies._CONNECTIONS}"
        in page
    )
    assert f"carries nothing for {egress._IDLE_S:g} s is closed" in page
    assert f"On port {ADDRESS[1]} there" in page
