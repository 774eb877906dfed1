"""Texts read in the words of a model: the shipped table against the captions of training, and the rules of reading."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import pytest

from agent.config.faults import ConfigError
from agent.config.parse import load, synthetic
from agent.perceiving.alerts.acceptance import accepted
from agent.perceiving.alerts.prompts import TEMPLATES
from agent.query import Query, QueryError
from agent.run import build
from agent.run.known import note_on_weights
from models.files import store
from models.vocabulary import Reading, Vocabulary, VocabularyError, vocabulary_of
from world.captions import MOTIONS, NOTHING, WORDS
from world.kinds import KINDS

TABLE = {
    "knows": "two animals",
    "meanings": {
        "dog": {
            "shown": {"caption": "a dog", "heads": ["dog", "hound"], "beside": ["pet"]},
            "heard": {"caption": "a dog barking", "heads": ["bark", "bow wow"], "beside": ["deep"]},
        },
        "cat": {"shown": {"caption": "a cat", "heads": ["cat"], "beside": ["pet"]}},
        "cry": {"heard": {"caption": "a cry", "heads": ["cry"]}},
    },
    "left_out": ["loudly", "right now"],
    "near": {"wolf": ["a dog"]},
}


@pytest.fixture(scope="module")
def shipped() -> Vocabulary:
    found = vocabulary_of(store.find("imagebind_nano"))
    assert found is not None
    return found


@pytest.mark.parametrize("kind", KINDS)
def test_every_caption_of_training_is_read_as_its_own_kind(shipped: Vocabulary, kind: str) -> None:
    stand_for = {WORDS[kind].looks[0], KINDS[kind].sound}
    for phrase in WORDS[kind].looks + WORDS[kind].sounds:
        for template in TEMPLATES:
            reading = shipped.read(template.replace("{}", phrase))
            assert reading.text in stand_for, phrase
            assert (reading.unknown, reading.mixed) == ((), ()), phrase
    if KINDS[kind].sound:
        # What the shipped configurations and the demo ask for stays as it is.
        assert shipped.read(str(KINDS[kind].sound)) == Reading(str(KINDS[kind].sound))


@pytest.mark.parametrize("motion", MOTIONS)
def test_every_phrase_of_a_motion_is_read_as_one_of_them(shipped: Vocabulary, motion: str) -> None:
    (read_as,) = {shipped.read(phrase).text for phrase in MOTIONS[motion]}
    assert read_as in MOTIONS[motion]
    assert not any(shipped.read(phrase).unknown for phrase in MOTIONS[motion])


def test_captions_of_nothing_are_read_as_captions_of_nothing(shipped: Vocabulary) -> None:
    assert all(shipped.read(phrase).text in NOTHING for phrase in NOTHING)


@pytest.mark.parametrize(
    ("text", "read_as"),
    [
        ("someone sneezes", "a person sneezing"),
        ("Is there a HELICOPTER?", "a helicopter"),
        ("helicopter noise", "a helicopter flying"),
        ("tick-tock", "a clock ticking"),
        ("the puppy's bark", "a dog barking"),
        ("tell me when the robot tips over", "the robot is falling"),
        ("a dog and a tree", "a dog and a tree"),
    ],
)
def test_other_words_for_a_known_thing_are_read_as_its_caption(shipped: Vocabulary, text: str, read_as: str) -> None:
    reading = shipped.read(text)
    assert (reading.text, reading.unknown, reading.mixed) == (read_as, (), ())


@pytest.mark.parametrize(
    ("text", "unknown", "nearest"),
    [
        ("engine noise", ("engine",), "a chainsaw running"),
        ("smoke and fire", ("smoke",), "a fire"),
        ("a person coughing", ("coughing",), "a person sneezing"),
        ("helicoptor", ("helicoptor",), "a helicopter"),
        ("no dog", ("no",), "a dog"),
    ],
)
def test_a_word_that_carries_meaning_and_was_never_trained_is_unknown(
    shipped: Vocabulary, text: str, unknown: tuple[str, ...], nearest: str
) -> None:
    reading = shipped.read(text)
    assert (reading.text, reading.unknown) == (text, unknown)
    assert nearest in reading.nearest


def test_known_words_in_a_relation_that_no_caption_had_are_told(shipped: Vocabulary) -> None:
    reading = shipped.read("a person fell to the floor")
    assert (reading.unknown, reading.mixed) == ((), ("a person", "the robot is falling", "the floor"))
    (warning,) = accepted(Query("q", "a person fell"), shipped.read("a person fell")).warnings
    assert "'a person', 'the robot is falling'" in warning


@pytest.mark.parametrize(
    ("text", "reading"),
    [
        ("my pet hound", Reading("a dog")),
        ("the sound of a hound", Reading("a dog barking")),
        ("bow-wow!", Reading("a dog barking")),
        ("a dog barks loudly right now", Reading("a dog barking", left_out=("loudly", "right now"))),
        ("a cat with a hound", Reading("a cat and a dog")),
        ("a cat and a barking hound", Reading("a cat and a barking hound", mixed=("a cat", "a dog barking"))),
        ("a dog cries", Reading("a dog cries", mixed=("a dog", "a cry"))),
        ("a pet", Reading("a pet", ("pet",), (), "two animals")),  # known only beside a head
        ("deep cat", Reading("deep cat", ("deep",), ("a cat",), "two animals")),
        ("wolves' wolf", Reading("wolves' wolf", ("wolves", "wolf"), ("a dog",), "two animals")),
        ("is it there?", Reading("is it there?", ("is it there?",), (), "two animals")),
        ("狗叫", Reading("狗叫", ("狗叫",), (), "two animals")),
    ],
)
def test_the_rules_of_reading(text: str, reading: Reading) -> None:
    assert Vocabulary(TABLE).read(text) == reading
    assert Reading.of(asdict(reading)) == reading


def test_the_refusal_names_the_word_the_nearest_and_the_remedy() -> None:
    query = Query("q", "a wolf howling")
    with pytest.raises(QueryError, match="text: ") as refused:
        accepted(query, Vocabulary(TABLE).read(query.text))
    assert str(refused.value) == (
        "text: 'a wolf howling': the model was never trained on 'wolf', 'howling'; nearest to what it knows: 'a dog'; "
        "ask for that, set force (--force) to ask all the same, or choose other weights (model.weights)"
    )
    with pytest.raises(QueryError, match="it knows two animals; ask for one of these"):
        accepted(query, Vocabulary(TABLE).read("xyzzy"))
    forced = accepted(Query("q", "a wolf", force=True), Vocabulary(TABLE).read("a wolf"))
    assert forced.warnings == ("the model was never trained on: wolf; do not trust its scores",)


def test_a_configuration_with_such_a_query_does_not_start(tmp_path: Path) -> None:
    path = tmp_path / "robot.yaml"
    path.write_text("sensors: {e: {type: synthetic_imu, pace: fast, duration_s: 1}}\nqueries: [{text: engine noise}]\n")
    pipeline = build.offline(load(path))
    with pytest.raises(ConfigError) as refused:
        pipeline.load_model()
    pipeline.stop()
    assert str(refused.value).startswith(f"{path}: queries[0]: text: 'engine noise': the model was never trained on ")
    path.write_text(path.read_text().replace("noise", "noise, force: true"))
    pipeline = build.offline(load(path))
    (standing,) = pipeline.load_model().perceiving.queries()
    pipeline.stop()
    assert "engine" in standing.warnings[0]


def test_weights_of_the_synthetic_world_say_so_to_real_sensors_alone() -> None:
    robot = load(Path(__file__).parent.parent / "configs" / "robot.yaml")
    said = note_on_weights(robot)
    assert said.startswith("imagebind_nano knows drawn things of a synthetic world (dog, rain, ")
    assert "front_camera, " in said
    assert said.endswith("for the real world set model.weights, such as imagebind-huge")
    assert note_on_weights(synthetic()) == ""


def test_what_ships_asks_only_for_what_its_model_knows(shipped: Vocabulary) -> None:
    robot = load(Path(__file__).parent.parent / "configs" / "robot.yaml")
    for query in (*synthetic().queries, *robot.queries):
        assert accepted(query, shipped.read(query.text)).warnings == ()


@pytest.mark.parametrize(
    ("table", "fault"),
    [
        ({"meanings": {"dog": {}}}, "meanings.dog: has neither"),
        ({"meanings": {}, "near": {"wolf": ["a dog"]}}, "near.wolf: 'a dog' is not the caption of a meaning"),
        ({"meanings": {"dog": {"shown": {"caption": "a dog"}}}}, "meanings.dog.shown.heads: Field required"),
        ({"words": {}}, "meanings: Field required"),
        ([], "Input should be a valid dictionary"),
    ],
)
def test_a_table_that_cannot_be_used_is_refused_in_one_line(table: object, fault: str) -> None:
    with pytest.raises(VocabularyError, match=fault):
        Vocabulary(table)


def test_weights_bring_their_table_beside_them(tmp_path: Path) -> None:
    weights = tmp_path / "own.safetensors"
    weights.write_bytes(b"")
    assert vocabulary_of(weights) is None
    (tmp_path / "own.words.yaml").write_text("meanings: {cat: {shown: {caption: a cat, heads: [cat, kitten]}}}\n")
    found = vocabulary_of(weights)
    assert found is not None
    assert found.read("kittens").text == "a cat"
    (tmp_path / "own.words.yaml").write_text("meanings: 3\n")
    with pytest.raises(VocabularyError, match=r"own\.words\.yaml: meanings: "):
        vocabulary_of(weights)
    (tmp_path / "own.words.yaml").write_text("meanings: [\n")
    with pytest.raises(VocabularyError, match=r"own\.words\.yaml.*not YAML"):
        vocabulary_of(weights)
