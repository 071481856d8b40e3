"""The section [backends.docker] and what the backend itself takes."""

from __future__ import annotations

from dataclasses import fields

from skill_actors.backends.docker_options import DockerOptions, checked
from skilld.config import BackendsConfig, DockerConfig


def test_the_configuration_has_the_same_options_with_the_same_defaults() -> None:
    options, section = DockerOptions(), DockerConfig()
    assert {field.name for field in fields(DockerOptions)} == set(DockerConfig.model_fields)
    for field in fields(DockerOptions):
        assert getattr(options, field.name) == getattr(section, field.name), field.name


def test_what_is_configured_reaches_the_backend_and_no_other() -> None:
    config = BackendsConfig(default=("local",), offered=("docker", "local"), docker=DockerConfig(image="mine", cpus=2))
    assert config.names == ("local", "docker")
    made = checked(config.options_of("docker"))
    assert (made.image, made.cpus) == ("mine", 2.0)
    assert config.options_of("another") == {}
