"""Continuous batching: what must hold for every load, and the cases that the rules are made for."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from kajitori.engines.simulated.batching import Batcher, Limits, Sequence
from kajitori.engines.simulated.text import Writer, count_tokens, decode, encode, prefix_hashes

LIMITS = st.builds(
    Limits,
    sequences=st.integers(1, 5),
    step_tokens=st.integers(1, 64),
    blocks=st.integers(8, 40),
    block_tokens=st.integers(1, 8),
    prefix_caching=st.booleans(),
)
# Prompts of few different letters, so that many begin alike.
PROMPTS = st.lists(
    st.tuples(st.text("ab", min_size=1, max_size=60), st.integers(1, 20)), min_size=1, max_size=8
)


def drain(batcher: Batcher, most_steps: int = 5000) -> list:
    works, now = [], 0.0
    while batcher.busy:
        work = batcher.next_work(now)
        assert work is not None, "busy, and nothing to do"
        works.append(work)
        now += 1
        batcher.complete(work, now)
        assert len(works) < most_steps
    return works


def sequence_of(prompt: str, output: int, limits: Limits, at: float = 0.0) -> Sequence:
    tokens = [ord(letter) for letter in prompt]
    return Sequence(len(tokens), output, at, prefix_hashes(tokens, limits.block_tokens, "m"))


@given(limits=LIMITS, prompts=PROMPTS)
@settings(max_examples=200)
def test_every_sequence_gets_all_its_tokens_and_all_blocks_come_back(limits, prompts):
    batcher = Batcher(limits)
    sequences = [sequence_of(prompt, output, limits) for prompt, output in prompts]
    sequences = [sequence for sequence in sequences if batcher.fits(sequence)]
    for sequence in sequences:
        batcher.add(sequence)
    works = drain(batcher)
    for work in works:
        assert 0 < work.tokens <= limits.step_tokens
        assert len(work.parts) <= limits.sequences
    assert all(sequence.generated == sequence.output_tokens for sequence in sequences)
    assert batcher.pool.used == 0
    assert batcher.pool.idle <= limits.blocks


@given(limits=LIMITS, prompts=PROMPTS, leave=st.sets(st.integers(0, 7)))
def test_sequences_that_leave_at_any_time_give_their_blocks_back(limits, prompts, leave):
    batcher = Batcher(limits)
    sequences = [sequence_of(prompt, output, limits) for prompt, output in prompts]
    sequences = [sequence for sequence in sequences if batcher.fits(sequence)]
    for sequence in sequences:
        batcher.add(sequence)
    step = 0
    while batcher.busy:
        work = batcher.next_work(step)
        assert work is not None
        if step in leave and step < len(sequences):
            batcher.remove(sequences[step])
        batcher.complete(work, step)
        assert batcher.pool.used <= limits.blocks
        step += 1
    assert batcher.pool.used == 0


def test_a_long_prompt_is_cut_and_others_go_on_beside_it():
    limits = Limits(sequences=4, step_tokens=16, blocks=100, block_tokens=4)
    batcher = Batcher(limits)
    short = Sequence(4, 10, 0.0)
    batcher.add(short)
    batcher.complete(batcher.next_work(0), 1)
    batcher.add(Sequence(100, 1, 1.0))
    work = batcher.next_work(1)
    assert [count for _, count in work.parts] == [1, 15]
    assert (work.step.decodes, work.step.prefill_tokens) == (1, 15)


def test_a_shared_prefix_is_computed_once():
    limits = Limits(sequences=4, step_tokens=1000, blocks=100, block_tokens=4)
    batcher = Batcher(limits)
    first, second = sequence_of("a" * 41, 1, limits), sequence_of("a" * 40 + "b", 1, limits)
    batcher.add(first)
    assert drain(batcher)[0].tokens == 41
    batcher.add(second)
    assert drain(batcher)[0].tokens == 1
    assert second.cached_tokens == 40


def test_the_youngest_gives_way_when_blocks_run_out():
    limits = Limits(sequences=4, step_tokens=100, blocks=4, block_tokens=4, prefix_caching=False)
    batcher = Batcher(limits)
    old, young = Sequence(8, 9, 0.0), Sequence(8, 8, 1.0)
    batcher.add(old)
    batcher.add(young)
    drain(batcher)
    assert (old.preemptions, young.preemptions > 0) == (0, True)
    assert batcher.preemptions == young.preemptions
    assert young.generated == 8


def test_what_could_never_fit_is_known_before():
    batcher = Batcher(Limits(sequences=1, step_tokens=8, blocks=4, block_tokens=4))
    assert batcher.fits(Sequence(12, 4, 0.0))
    assert not batcher.fits(Sequence(12, 5, 0.0))


@given(text=st.text())
def test_tokens_turn_back_into_their_text(text):
    text = text.encode(errors="replace").decode()
    assert decode(encode(text)) == text
    assert count_tokens(text) == len(encode(text))


@given(tokens=st.lists(st.integers(0, 2**60)))
def test_any_token_numbers_give_some_text(tokens):
    assert isinstance(decode(tokens), str)


@given(
    shared=st.lists(st.integers(0, 3), max_size=40),
    left=st.lists(st.integers(0, 3)),
    salt=st.text(max_size=3),
)
def test_hashes_are_equal_exactly_as_far_as_prompts_are(shared, left, salt):
    both = prefix_hashes(shared, 4, salt)
    assert prefix_hashes([*shared, *left], 4, salt)[: len(both)] == both
    assert len(both) == len(shared) // 4
    if both:
        assert prefix_hashes([shared[0] + 9, *shared[1:]], 4, salt)[-1] != both[-1]


@given(prompt=st.text(), seed=st.integers())
def test_the_same_prompt_and_seed_write_the_same_words(prompt, seed):
    prompt = prompt.encode(errors="replace").decode()
    first, second = Writer(prompt, seed), Writer(prompt, seed)
    assert first.natural_length == second.natural_length
    assert [first.next_token() for _ in range(50)] == [second.next_token() for _ in range(50)]
