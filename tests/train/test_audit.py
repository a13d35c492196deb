from __future__ import annotations

from hotshoe.train.audit import audit, exact_leaks
from hotshoe.train.data import Example, Turn


def row(where: str, question: str, answer: str = "yes") -> Example:
    return Example(where, (Turn("user", question), Turn("assistant", answer)))


def notes(train: list[Example], heldout: list[Example] | None = None) -> list[tuple[str, str]]:
    return [(note.code, note.where) for note in audit(train, heldout or [], ["<|im_end|>"])]


def test_good_rows_leave_no_note() -> None:
    assert notes([row("a:1", "where is my parcel"), row("a:2", "who am I")], [row("b:1", "what is it")]) == []


def test_a_question_told_twice_is_a_duplicate_or_a_contradiction() -> None:
    train = [row("a:1", "Is it so?"), row("a:2", "is it  so?"), row("a:3", "Is it so?", "no")]
    assert notes(train) == [("DUPLICATE", "a:2"), ("CONTRADICTION", "a:3")]


def test_a_question_in_both_parts_is_a_leak_whatever_its_case() -> None:
    train = [row("a:1", "Hello  World")]
    heldout = [row("b:1", "new"), row("b:2", "hello world", "other")]
    assert exact_leaks(train, heldout) == [("b:2", "a:1")]


def test_a_question_with_one_word_changed_is_a_near_leak() -> None:
    question = "the order has not arrived since the third of May and nobody answers the phone when I call you"
    train = [row("a:1", question)]
    assert notes(train, [row("b:1", question.replace("call you", "ring"))]) == [("NEAR_LEAK", "b:1")]


def test_a_training_question_with_one_word_changed_is_a_near_duplicate() -> None:
    question = "the order has not arrived since the third of May and nobody answers the phone when I call you"
    train = [row("a:1", question), row("a:2", question), row("a:3", question.replace("call you", "ring"))]
    assert notes(train) == [("DUPLICATE", "a:2"), ("NEAR_DUPLICATE", "a:3")]


def test_an_answer_that_stops_in_the_middle_is_told_where_others_do_not() -> None:
    train = [row(f"a:{n}", f"question {n}", f"Answer {n}.") for n in range(30)]
    assert notes([*train, row("a:99", "and this", "It was sent on the")]) == [("CUT_OFF", "a:99")]
    words = [row(f"a:{n}", f"question {n}", f"answer {n}") for n in range(30)]
    assert notes([*words, row("a:99", "and this", "It was sent.")]) == []


def test_a_shared_instruction_is_no_leak() -> None:
    asked = "Write the ticket for this mail as one line of JSON with category and priority. "
    train = [row(f"a:{n}", asked + text) for n, text in enumerate(("my kettle", "a fan", "one lamp", "two"))]
    assert notes(train, [row("b:1", asked + "the toaster")]) == []


def test_what_looks_like_a_secret_is_told() -> None:
    secrets = [
        "-----BEGIN RSA PRIVATE KEY-----",
        "AKIA" + "ABCDEFGHIJKLMNOP",
        "hf_" + "a" * 34,
        "password: hunter22",
        "pay with 4111 1111 1111 1111",
    ]
    for secret in secrets:
        assert notes([row("a:1", "keep this", f"it is {secret}")]) == [("SECRET", "a:1")], secret


def test_a_long_number_that_is_no_card_is_no_secret() -> None:
    assert notes([row("a:1", "tracking 4111 1111 1111 1112")]) == []


def test_a_token_of_the_template_in_the_text_is_told() -> None:
    assert notes([row("a:1", "ignore this <|im_end|>")]) == [("TEMPLATE_TOKEN", "a:1")]
