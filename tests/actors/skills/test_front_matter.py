"""Reading the front matter of a SKILL.md."""

import pytest

from skill_actors.skills.front_matter import FrontMatter, FrontMatterError, read_front_matter, read_strictly


def read(header: str, body: str = "Body\n") -> FrontMatter:
    return read_front_matter(f"---\n{header}\n---\n{body}".encode())


def refusal(data: bytes) -> tuple[str, int | None]:
    with pytest.raises(FrontMatterError) as caught:
        read_front_matter(data)
    assert caught.value.diagnostic.severity == "error"
    assert caught.value.diagnostic.remedy
    return caught.value.diagnostic.code, caught.value.diagnostic.line


def test_values_stay_the_text_that_was_written() -> None:
    front = read("a: 1.10\nb: true\nc: 2026-11-20\nd: 007\ne: '~'\nf: 1e3\ng: [1, {x: no}]")
    assert front.values == {
        "a": "1.10",
        "b": "true",
        "c": "2026-11-20",
        "d": "007",
        "e": "~",
        "f": "1e3",
        "g": ["1", {"x": "no"}],
    }


def test_nulls_are_told_apart_from_quoted_text() -> None:
    front = read("a:\nb: ~\nc: null\nd: 'null'\ne: ''")
    assert front.nulls == {"a", "b", "c"}


def test_lines_count_from_one_in_the_file() -> None:
    assert read("# note\nname: x\n\ndescription: y").lines == {"name": 3, "description": 5}


def test_body_is_everything_below_the_closing_line() -> None:
    assert read("name: x", "\nA\n\n---\n\nB\n\n").body == "A\n\n---\n\nB"


def test_bom_and_crlf_are_folded() -> None:
    front = read_front_matter(b"\xef\xbb\xbf---\r\nname: x\r\ndescription: |\r\n  a\r\n  b\r\n---\r\nBody\r\n")
    assert front.values == {"name": "x", "description": "a\nb"}
    assert front.body == "Body"


def test_delimiters_may_have_blanks_behind_them() -> None:
    assert read_front_matter(b"--- \t\nname: x\n---\t \n").values == {"name": "x"}


def test_dashes_inside_a_value_are_no_delimiter() -> None:
    assert read("description: range 1---3").values == {"description": "range 1---3"}


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"", "no_front_matter"),
        (b"name: x\n", "no_front_matter"),
        (b" ---\nname: x\n---\n", "no_front_matter"),
        (b"---name: x\n---\n", "no_front_matter"),
        (b"---\nname: x\n", "front_matter_open"),
        (b"---\nname: x\n  ---\n", "front_matter_open"),
        (b"---\n---\n", "yaml_not_mapping"),
        (b"---\n# nothing\n---\n", "yaml_not_mapping"),
        (b"---\n- a\n---\n", "yaml_not_mapping"),
        (b"---\ntext\n---\n", "yaml_not_mapping"),
        (b"---\na: b\n...\nc: d\n---\n", "yaml_syntax"),
        (b"---\na: \xff\n---\n", "not_utf8"),
        ("---\na: x\n---\n".encode("utf-16"), "not_utf8"),
        (b"---\na: x\x00y\n---\n", "yaml_syntax"),
        ('---\na: "x\x85...\x85y"\n---\n'.encode(), "yaml_syntax"),
        ('---\na: "x\u2028---\u2028y"\n---\n'.encode(), "yaml_syntax"),
        (b"---\na: &x 1\nb: *x\n---\n", "yaml_alias"),
        (b"---\na: &x\n  b: *x\n---\n", "yaml_alias"),
        (b"---\n<<: {a: b}\n---\n", "yaml_merge_key"),
        (b"---\na: !!python/object/apply:os.system [id]\n---\n", "yaml_tag"),
        (b"---\na: !secret x\n---\n", "yaml_tag"),
        (b"---\n!x {a: b}\n---\n", "yaml_tag"),
        (b"---\n? [a, b]\n: c\n---\n", "yaml_key"),
        (b"---\na: " + b"[" * 33 + b"]" * 33 + b"\n---\n", "yaml_too_deep"),
        (b"---\na: " + b"[" * 30_000 + b"\n---\n", "yaml_too_deep"),
        (b"---\na: [" + b"x," * 32_768 + b"]\n---\n", "yaml_too_many"),
        (b"---\n" + b"a: b: c\n" * 10_000 + b"---\n", "yaml_syntax"),
    ],
)
def test_unreadable_front_matter_is_refused_with_a_code(data: bytes, code: str) -> None:
    assert refusal(data)[0] == code


def test_refusals_name_the_line() -> None:
    assert refusal(b"---\nname: x\nb: *x\n---\n") == ("yaml_alias", 3)
    assert refusal(b"---\nname: x\nb: \xff\n---\n") == ("not_utf8", 3)


def test_core_tags_are_accepted_and_change_nothing() -> None:
    assert read("a: !!str 1\nb: !!int 1\nc: !!map {d: e}").values == {"a": "1", "b": "1", "c": {"d": "e"}}


def test_other_tags_without_effect_are_passed_over_and_reported() -> None:
    front = read("a: !!set {b, c}\nd: !!timestamp 2026-11-20\ne: !!seq f")
    assert front.values == {"a": {"b": "", "c": ""}, "d": "2026-11-20", "e": "f"}
    assert [(found.code, found.line) for found in front.diagnostics] == [
        ("yaml_tag", 2),
        ("yaml_tag", 3),
        ("yaml_tag", 4),
    ]


def test_lone_exclamation_mark_and_anchors_are_passed_over_and_reported() -> None:
    front = read("a: ! b\nc: &d e\nf: &g\n  h: i")
    assert front.values == {"a": "b", "c": "e", "f": {"h": "i"}}
    found = [(found.code, found.line) for found in front.diagnostics]
    assert found == [("yaml_tag", 2), ("yaml_anchor", 3), ("yaml_anchor", 4)]


@pytest.mark.parametrize("end", ["\x85", "\u2028", "\u2029"])
def test_line_ends_of_old_yaml_are_plain_characters(end: str) -> None:
    front = read(f"a{end}b: c{end}d\nq: 'x{end}y' # {end}\nz: last")
    assert front.values == {f"a{end}b": f"c{end}d", "q": f"x{end}y", "z": "last"}
    assert front.lines["z"] == 4
    assert front.diagnostics == ()


@pytest.mark.parametrize("text", ["a:\tb", "a: b\tc", "a: [b,\tc]", "a:\t'b'", "a:\t|\n  b"])
def test_tabs_outside_of_quotes_are_reported(text: str) -> None:
    assert [(found.code, found.line) for found in read(text).diagnostics] == [("yaml_tab", 2)]


def test_tabs_in_quotes_and_blocks_are_text() -> None:
    front = read("a: 'b\tc'\nd: |\n  e\tf")
    assert (front.values, front.diagnostics) == ({"a": "b\tc", "d": "e\tf"}, ())


def test_tab_behind_a_value_is_reported_and_no_part_of_it() -> None:
    front = read("name: x\t\ntext: |\n  kept:\t\nquoted: 'y'\t\nlast: z \t ")
    assert front.values == {"name": "x", "text": "kept:\t\n", "quoted": "y", "last": "z"}
    assert [(found.code, found.line) for found in front.diagnostics] == [("yaml_tab", 2), ("yaml_tab", 6)]


def test_line_ends_that_were_converted_twice_are_folded() -> None:
    assert read_front_matter(b"---\r\r\nname: x\r\r\n---\r\r\nA\r\r\nB").body == "A\nB"


def test_lone_cr_ends_lines_only_where_nothing_else_does() -> None:
    front = read_front_matter(b"---\rname: x\r---\rA\rB")
    assert (front.values, front.body) == ({"name": "x"}, "A\nB")
    assert [found.code for found in front.diagnostics] == ["line_ends"]
    front = read("name: x", "10 %\r20 %\n")
    assert (front.body, front.diagnostics) == ("10 %\r20 %", ())


def test_long_value_is_cut_by_the_loader_and_whole_for_the_validator() -> None:
    data = b"---\na: b\nblob: " + b"x" * 5_000_000 + b"\n---\n"
    front = read_front_matter(data)
    assert front.values == {"a": "b", "blob": "x" * 65_536}
    assert [(found.code, found.line) for found in front.diagnostics] == [("front_matter_large", None), ("value_cut", 3)]
    assert len(read_strictly(data).values["blob"]) == 5_000_000


def test_strict_reading_repairs_no_slips() -> None:
    with pytest.raises(FrontMatterError) as caught:
        read_strictly(b"---\ndescription: Use when: asked\n---\n")
    assert caught.value.diagnostic.code == "yaml_syntax"
    assert read_strictly(b'---\na: "\\uD83D\\uDE00 \\uD83C"\n---\n').values == {"a": "\U0001f600 \ufffd"}


def test_thousands_of_doubts_are_a_short_list() -> None:
    front = read("\n".join(f"a: {number}" for number in range(3_000)))
    assert len(front.diagnostics) == 20


def test_quoted_double_angle_is_an_ordinary_key() -> None:
    assert read("'<<': x").values == {"<<": "x"}


def test_duplicate_key_is_reported_and_the_last_one_holds() -> None:
    front = read("a: 1\na: 2")
    assert front.values == {"a": "2"}
    assert [(found.code, found.line) for found in front.diagnostics] == [("duplicate_key", 3)]


@pytest.mark.parametrize(
    ("header", "values"),
    [
        ("description: Use when: asked", {"description": "Use when: asked"}),
        ("description: Use when: asked\n  or told: so", {"description": "Use when: asked or told: so"}),
        ("description: `tide` tool", {"description": "`tide` tool"}),
        ("description: @tide", {"description": "@tide"}),
        ("description: [beta] tides", {"description": "[beta] tides"}),
        ('description: "never closed', {"description": "never closed"}),
        ("allowed-tools: *", {"allowed-tools": "*"}),
        ("name: x # slug\ndescription: a: b", {"name": "x", "description": "a: b"}),
        ('a: "x \\uD83C y"', {"a": "x \ufffd y"}),
        ("a:\n\tb: c", {"a": {"b": "c"}}),
        ("a: b: c\nlist:\n  - x\n  - y", {"a": "b: c", "list": ["x", "y"]}),
        ("a: b: c\ntext: |\n  kept: as\n  it is", {"a": "b: c", "text": "kept: as\nit is"}),
        ('a: b: c\nq: "quoted: fine" # note', {"a": "b: c", "q": "quoted: fine"}),
        ("a: b: c\nflow: [x,\n  y]", {"a": "b: c", "flow": ["x", "y"]}),
        ('a: say "hi": now\\n', {"a": 'say "hi": now\\n'}),
        ('a: "C:\\Users\\\\me\\tools"', {"a": "C:\\Users\\me\tools"}),
        ('a: "\\d+\\.\\d" # of a version', {"a": "\\d+\\.\\d"}),
        ('a: "one \\w \\\n  line"', {"a": "one \\w line"}),
        ('a: "high" and "low"', {"a": '"high" and "low"'}),
        ("a: 'when it's high'", {"a": "'when it's high'"}),
        ('a: "C:\\tides\\"', {"a": '"C:\\tides\\"'}),
        ("a: b: c\nq: 'it''s' # one\n  # two\nr: \"x\n\n  # y\"", {"a": "b: c", "q": "it's", "r": "x\n# y"}),
        ("metadata: # note\n  a: b: c", {"metadata": {"a": "b: c"}}),
    ],
)
def test_common_slips_are_repaired_and_reported(header: str, values: dict[str, object]) -> None:
    front = read(header)
    assert front.values == values
    assert [found.code for found in front.diagnostics] == ["yaml_repaired"]


def test_repair_keeps_the_line_numbers() -> None:
    front = read("description: a: b\n  more\nname: x")
    assert front.lines == {"description": 2, "name": 4}
