"""State tokens: a client that holds one can continue from it, and can do nothing else with it."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.manifest import ModelSpec, StateSpec
from app.streaming.tokens import MOST_SEALS, BadToken, Tokens
from app.tensors import State
from tests.test_json_codec import SPEC

TWO_STATES = SPEC.model_copy(
    update={
        "states": (
            StateSpec(input="h0", output="hn", shape=(2, 3), batch_axis=1),
            StateSpec(input="c0", output="cn", shape=(5,), batch_axis=0),
        )
    }
)
TOKENS = Tokens([b"a secret of the tests"])


def state_of(spec: ModelSpec, seed: int = 0) -> State:
    rng = np.random.default_rng(seed)
    return tuple(rng.standard_normal(state.shape).astype(np.float32) for state in spec.states)


@pytest.mark.parametrize("spec", [SPEC, TWO_STATES, SPEC.model_copy(update={"states": ()})], ids=["one", "two", "stateless"])
def test_a_state_comes_back_to_the_last_bit(spec: ModelSpec) -> None:
    """A stream that is cut into requests must not drift; any replica with the secret can continue it."""
    state = state_of(spec)
    back = Tokens([b"a secret of the tests"]).decode(TOKENS.encode(state, spec), spec)
    assert len(back) == len(state)
    for mine, theirs in zip(state, back, strict=True):
        np.testing.assert_array_equal(mine, theirs)
        assert mine.shape == theirs.shape


def test_a_token_is_safe_in_a_url_and_a_header() -> None:
    token = TOKENS.encode(state_of(TWO_STATES), TWO_STATES)
    assert set(token) <= set("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_")


@pytest.mark.parametrize(
    "other",
    [
        pytest.param(SPEC.model_copy(update={"name": "other"}), id="model"),
        pytest.param(SPEC.model_copy(update={"version": "4"}), id="version"),
        pytest.param(SPEC.model_copy(update={"files": {**SPEC.files, "model.onnx": "f" * 64}}), id="weights"),
        pytest.param(
            SPEC.model_copy(update={"states": (StateSpec(input="h0", output="hn", shape=(4, 1), batch_axis=1),)}), id="layout"
        ),
    ],
)
def test_a_token_fits_nothing_but_its_model_version_weights_and_layout(other: ModelSpec) -> None:
    """Numbers of the right count but another meaning would give wrong answers without an error."""
    with pytest.raises(BadToken, match="another model, version or signing key"):
        TOKENS.decode(TOKENS.encode(state_of(SPEC), SPEC), other)


def test_one_secret_takes_the_place_of_another() -> None:
    """Replicas are restarted one by one: each must accept any token that a client holds, whichever secret signed it."""
    old, both, turned, new = (Tokens(secrets) for secrets in ([b"old"], [b"old", b"new"], [b"new", b"old"], [b"new"]))
    by_old, by_new = (tokens.encode(state_of(SPEC), SPEC) for tokens in (old, new))
    assert (both.encode(state_of(SPEC), SPEC), turned.encode(state_of(SPEC), SPEC)) == (by_old, by_new)
    for tokens, token in [(both, by_old), (both, by_new), (turned, by_old), (turned, by_new)]:
        np.testing.assert_array_equal(tokens.decode(token, SPEC)[0], state_of(SPEC)[0])
    for tokens, token in [(old, by_new), (new, by_old)]:
        with pytest.raises(BadToken):
            tokens.decode(token, SPEC)


def test_another_secret_refuses_it() -> None:
    with pytest.raises(BadToken):
        Tokens([b"another secret of the tests"]).decode(TOKENS.encode(state_of(SPEC), SPEC), SPEC)


def test_a_state_has_one_token_and_no_other() -> None:
    """Base64 has several spellings for the same bytes, but clients may compare tokens."""
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    tokens = [TOKENS.encode(state_of(spec, seed), spec) for spec in (SPEC, TWO_STATES) for seed in range(9)]
    assert any("-" in token and "_" in token for token in tokens)
    for spec, token in zip([SPEC] * 9 + [TWO_STATES] * 9, tokens, strict=True):
        others = {token[:-1] + last for last in alphabet} | {token.replace("-", "+"), token.replace("_", "/"), token + "="}
        for other in others - {token}:
            with pytest.raises(BadToken):
                TOKENS.decode(other, spec)


@given(st.data())
def test_no_changed_token_is_taken(data: st.DataObject) -> None:
    """Every character of the state and of the signature counts."""
    token = TOKENS.encode(state_of(SPEC), SPEC)
    place = data.draw(st.integers(0, len(token) - 1))
    changed = token[:place] + data.draw(st.characters()) + token[place + 1 :]
    cut = token[: data.draw(st.integers(0, len(token) - 1))]
    for wrong in {changed, cut, token + "A"} - {token}:
        with pytest.raises(BadToken):
            TOKENS.decode(wrong, SPEC)


def test_the_keys_of_versions_that_are_gone_do_not_fill_the_memory() -> None:
    tokens = Tokens([b"a secret of the tests"])
    for number in range(MOST_SEALS + 9):
        tokens.encode(state_of(SPEC), SPEC.model_copy(update={"version": f"{number}"}))
    assert len(tokens._seals) == MOST_SEALS
