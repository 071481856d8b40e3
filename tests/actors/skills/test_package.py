"""What skill_actors.skills exports."""

import skill_actors.skills


def test_exports_are_sorted_and_exist() -> None:
    exports = skill_actors.skills.__all__
    assert exports == sorted(exports, key=lambda name: (not name[0].isupper(), name))
    assert all(hasattr(skill_actors.skills, name) for name in exports)
