"""A conversation that was made shorter: what is sent instead, and what is sent still."""

from __future__ import annotations

import re
from typing import Any

from history_kit import Script, result, text, use
from skill_actors.sessions.dialogue import MAX_PINNED_BYTES
from skill_actors.sessions.history import History
from skill_actors.sessions.lineage import branch_of
from skill_actors.sessions.skill_texts import MAX_ALL_CHARS, MAX_SKILL_CHARS

SUMMARY = "They spoke of tides."


def turn(script: Script, name: str, *said: str, **data: Any) -> Script:
    script.ask(f"question {name}", name, **data)
    for answer in said or (f"answer {name}",):
        script.say(text(answer), turn=name)
    return script.add("turn.finished", name)


def seq_of(script: Script, type: str, turn: str) -> int:
    return next(event.seq for event in script.events if event.type == type and event.turn == turn)


def texts(script: Script) -> list[str]:
    return [str(block.get("text")) for message in script.messages() for block in message["content"]]


def loaded(script: Script, name: str, content: str, *, key: str = "k", call: str | None = None) -> Script:
    call = call or f"load_{name}"
    script.say(use(call))
    facts = {"name": name, "content": key, "folder": f"/{name}"}
    return script.add("tool.finished", id=call, content=content, skill_loaded=facts)


def test_a_summary_stands_for_what_was_before_and_the_rest_stays() -> None:
    script = turn(turn(Script(), "t1"), "t2")
    script.ask("question t3", "t3")
    script.add("session.compacted", "t3", summary=SUMMARY, kept_from_seq=seq_of(script, "turn.started", "t2"))
    first, answer, last = script.messages()
    assert SUMMARY in first["content"][0]["text"]
    assert first["content"][1:] == [text("question t2")]
    assert answer["content"] == [text("answer t2")]
    assert last["content"] == [text("question t3")]


def test_what_is_not_yet_answered_stays_also_if_it_is_older_than_what_is_kept() -> None:
    script = turn(Script(), "t1").ask("the task", "t2").say(use("a"), turn="t2")
    script.add("tool.finished", "t2", id="a", content="1").say(use("b"), turn="t2")
    kept = script.events[-1].seq
    script.add("tool.finished", "t2", id="b", content="2")
    script.add("session.compacted", "t2", summary=SUMMARY, kept_from_seq=kept)
    first, call, results = script.messages()
    assert first["content"][1:] == [text("the task")]
    assert call["content"] == [use("b")]
    assert results["content"] == [result("b", "2")]


def test_calls_that_wait_for_results_stay_whatever_the_event_says() -> None:
    script = turn(Script(), "t1").ask("the task", "t2").say(use("a"), use("b"), turn="t2")
    script.add("tool.finished", "t2", id="a", content="1").add("session.compacted", "t2", summary=SUMMARY)
    assert [call.id for call in History(script.events).open_calls()] == ["b"]
    script.add("tool.finished", "t2", id="b", content="2")
    assert script.messages()[-1]["content"] == [result("a", "1"), result("b", "2")]


def test_pinned_messages_stay_word_for_word_over_any_number_of_summaries() -> None:
    script = turn(turn(Script(), "t1", pinned=True), "t2")
    for number in range(3):
        script.add("session.compacted", None, summary=f"{SUMMARY} {number}")
        turn(script, f"u{number}")
    said = texts(script)
    assert said.count("question t1") == 1
    assert "question t2" not in said
    assert [number for number in range(3) if f"{SUMMARY} {number}" in said[0]] == [2]  # the last stands for the others


def test_of_pinned_messages_the_latest_stay_as_far_as_there_is_room_for_them() -> None:
    half = "x" * (MAX_PINNED_BYTES // 2)
    script = Script()
    for name in ("t1", "t2", "t3"):
        script.ask(f"{name} {half[10:]}", name, pinned=True).say(text("noted"), turn=name).add("turn.finished", name)
    script.ask("é" * (MAX_PINNED_BYTES // 2 + 1), "t4", pinned=True).add("turn.failed", "t4").ask("now", "t5")
    for _ in range(2):
        script.add("session.compacted", "t5", summary=SUMMARY)
        assert [said[:3] for said in texts(script)[1:]] == ["t2 ", "t3 ", "now"]
    script.say({"type": "compaction", "content": "theirs"}, turn="t5").add("turn.finished", "t5").ask("next", "t6")
    assert [said[:3] for said in texts(script)[-3:]] == ["t2 ", "t3 ", "nex"]


def test_of_a_pinned_message_the_words_stay_and_documents_only_by_name() -> None:
    document = {"name": "a.pdf", "media_type": "application/pdf", "base64": "QUJD"}
    script = turn(Script(), "t1", pinned=True, documents=[document])
    assert "QUJD" in str(script.messages())
    script.add("session.compacted", None, summary=SUMMARY).ask("now", "t2")
    assert "question t1" in texts(script)
    assert "QUJD" not in str(script.messages())
    assert "the document 'a.pdf' was shown here" in str(script.messages())


def test_a_later_summary_stands_for_the_earlier_one_whatever_it_keeps() -> None:
    script = turn(turn(Script(), "t1"), "t2")
    for number in range(3):
        script.add("session.compacted", None, summary=f"{SUMMARY} {number}", kept_from_seq=0)
    said = texts(script)
    assert [part in str(said) for part in ("tides. 0", "tides. 1", "tides. 2")] == [False, False, True]
    assert said[1:] == ["question t1", "answer t1", "question t2", "answer t2"]


def test_a_summary_cannot_end_itself() -> None:
    script = turn(Script(), "t1")
    script.add("session.compacted", None, summary="a </summary> b </ SUMMARY > c <\n/Summary\n> d").ask("now", "t2")
    (said, _) = texts(script)
    assert re.findall(r"<\s*/\s*summary", said, re.IGNORECASE) == ["</summary"]
    assert said.index("</summary") > said.index(" d")


def test_a_summary_of_the_api_is_a_text_where_it_is_not_taken() -> None:
    script = turn(Script(), "t1").ask("go", "t2")
    script.say({"type": "compaction", "content": "theirs"}, text("on it"), use("a"), turn="t2")
    script.add("tool.finished", "t2", id="a", content="1")
    history = History(script.events)
    first, answer, results = history.messages(api_summaries=False)
    assert "<summary>\ntheirs\n</summary>" in first["content"][-1]["text"]
    assert answer["content"] == [text("on it"), use("a")]
    assert results["content"] == [result("a", "1")]
    assert history.messages()[1]["content"][0] == {"type": "compaction", "content": "theirs"}


def test_instructions_of_a_skill_are_given_again_and_count_as_loaded() -> None:
    script = loaded(Script().ask("go"), "tides", "how to tide").say(text("done")).add("turn.finished")
    for _ in range(2):
        script.add("session.compacted", None, summary=SUMMARY)
        history = History(script.events)
        assert [block for block in history.messages()[0]["content"] if "how to tide" in block["text"]]
        assert history.instructions["tides"].content == "k"
        turn(script, "t2")


def test_instructions_in_messages_that_are_kept_are_not_given_twice() -> None:
    script = turn(Script(), "t1").ask("go", "t2")
    kept = script.events[-1].seq
    loaded(script, "tides", "how to tide").add("session.compacted", "t2", summary=SUMMARY, kept_from_seq=kept)
    assert str(script.messages()).count("how to tide") == 1


def test_of_long_instructions_the_beginning_is_given_and_they_can_be_loaded_again() -> None:
    script = loaded(Script().ask("go"), "tides", "x" * MAX_SKILL_CHARS + "END").say(text("done")).add("turn.finished")
    history = History(script.add("session.compacted", None, summary=SUMMARY).events)
    (told,) = [block["text"] for block in history.messages()[0]["content"] if "xxx" in block["text"]]
    assert told.count("x") >= MAX_SKILL_CHARS
    assert "END" not in told
    assert "load the skill 'tides' again" in told
    assert history.instructions["tides"].content == ""
    script.add("skill.changed", None, name="tides", content="k2", folder="/b")
    assert "was changed" in str(script.messages())


def test_of_many_skills_the_latest_loaded_are_given_and_the_others_forgotten() -> None:
    script, fitting = Script().ask("go"), MAX_ALL_CHARS // MAX_SKILL_CHARS
    for number in range(fitting + 2):
        loaded(script, f"s{number}", f"{number}" * MAX_SKILL_CHARS)
    loaded(script, "s0", "0" * MAX_SKILL_CHARS, call="again")  # the latest now
    history = History(script.say(text("done")).add("turn.finished").add("session.compacted", None, summary="s").events)
    assert list(history.instructions) == [f"s{number}" for number in range(3, fitting + 2)] + ["s0"]
    assert sum(len(block["text"]) for block in history.messages()[0]["content"]) < MAX_ALL_CHARS + 3_000


def test_outdated_instructions_are_not_given_again() -> None:
    script = loaded(Script().ask("go"), "tides", "old ways").say(text("done"))
    script.add("skill.changed", name="tides", content="k2", folder="/b").add("turn.finished")
    history = History(script.add("session.compacted", None, summary=SUMMARY).events)
    assert "old ways" not in str(history.messages())
    assert history.instructions == {}


def test_a_summary_that_came_to_nothing_changes_nothing() -> None:
    script = turn(Script(), "t1")
    before = script.messages()
    history = History(script.add("session.compacted", None, summary=None, why_not="it was empty").events)
    assert history.messages() == before
    assert history.not_shortened == "it was empty"
    assert History(script.add("session.compacted", None, summary=SUMMARY).events).not_shortened is None


def test_the_servers_summary_stays_as_it_is_and_nothing_before_it_is_sent() -> None:
    block = {"type": "compaction", "content": "theirs"}
    script = turn(Script(), "t1", pinned=True)
    loaded(script.ask("go", "t2"), "tides", "how to tide")
    script.say(block, text("on"), use("a"), turn="t2").add("tool.finished", "t2", id="a", content="1")
    first, answer, results = script.messages()
    assert "question t1" not in str(first)
    assert answer["content"] == [block, text("on"), use("a")]
    assert results["content"][0] == result("a", "1")
    assert "how to tide" in results["content"][1]["text"]
    assert results["content"][2] == text("question t1")
    script.say(text("done"), turn="t2").add("turn.finished", "t2")
    assert History(script.add("session.compacted", None, summary=SUMMARY).events).messages()[0]["content"][2] == text(
        "question t1"
    )


def test_a_compaction_of_the_server_that_failed_changes_nothing() -> None:
    script = turn(Script(), "t1").ask("go", "t2").say({"type": "compaction", "content": None}, text("on"), turn="t2")
    assert texts(script)[0] == "question t1"


def test_files_for_the_container_are_given_again_and_files_of_messages_named() -> None:
    script = Script().add("turn.queued", text="read", files=[{"name": "a.csv", "size": 1}]).add("turn.started")
    script.add("file.created", file_id="file_1", name="a.csv", uploaded=True).say(text("done")).add("turn.finished")
    history = History(script.add("session.compacted", None, summary=SUMMARY).events)
    (first,) = history.messages()
    assert "a.csv" in first["content"][0]["text"]
    assert first["content"][-1] == {"type": "container_upload", "file_id": "file_1"}
    assert list(history.uploads) == ["file_1"]


def test_a_file_that_is_gone_before_a_message_could_give_it_is_never_given() -> None:
    script = Script().ask("read").say(use("a"))
    for id in ("file_1", "file_2"):
        script.add("file.created", file_id=id, name=f"{id}.csv", uploaded=True)
    script.add("file.deleted", file_id="file_1").add("tool.finished", id="a", content="x")
    given = [block for block in script.messages()[-1]["content"] if block["type"] == "container_upload"]
    assert given == [{"type": "container_upload", "file_id": "file_2"}]


def test_of_very_many_files_the_names_of_the_latest_are_known() -> None:
    files = [{"name": f"{number}.csv", "size": 1} for number in range(1_001)]
    history = History(Script().add("turn.queued", text="", files=files).add("turn.started").events)
    assert (len(history.files), history.files[-1]) == (1_000, "1000.csv")


def test_a_fork_keeps_the_same_part() -> None:
    """Also where events of the original are left out, so that numbers are others."""
    script = turn(Script(), "t1").add("turn.queued", "never", text="waits", files=[])
    turn(turn(script, "t2"), "t3")
    script.add("session.compacted", None, summary=SUMMARY, kept_from_seq=seq_of(script, "turn.started", "t3"))
    branch = branch_of(script.events, "copy")
    assert History(branch.events).messages() == script.messages()
    assert len(branch.events) == len(script.events) - 1


def test_a_reset_forgets_the_summary_and_what_was_pinned() -> None:
    script = turn(Script(), "t1", pinned=True).add("session.compacted", None, summary=SUMMARY)
    assert turn(script.add("session.reset", None), "t2").messages()[0]["content"] == [text("question t2")]


def test_an_answer_that_was_cut_for_want_of_room_is_gone_on_with() -> None:
    script = turn(Script(), "t1").ask("the task", "t2").say(text("half an ans"), turn="t2")
    cut = script.events[-1].seq
    script.add("session.compacted", "t2", summary=SUMMARY, kept_from_seq=cut, by="window")
    first, answer, last = script.messages()
    assert first["content"][1:] == [text("the task")]
    assert answer["content"] == [text("half an ans")]
    assert "Go on with the answer" in last["content"][0]["text"]
