"""Motion at 400 Hz: known signals, gaps, axes, and rates that would fold."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from safetensors.torch import load_file

from models import preprocess
from models.preprocess import IMU_AXES

NANO = load_file(Path(__file__).parent / "data" / "preprocess" / "nano.safetensors")


def still(rows: int) -> NDArray[np.float32]:
    """Gravity along z, [1, n, 6]."""
    x = np.zeros((1, rows, 6), np.float32)
    x[..., 2] = 9.80665
    return x


def turning(rate_hz: float, frequency_hz: float, duration_s: float = 6.0) -> NDArray[np.float32]:
    """Gravity, and turning about z to and fro at 1 rad/s, [1, n, 6]."""
    x = still(round(duration_s * rate_hz))
    x[0, :, 5] = np.sin(2 * np.pi * frequency_hz * np.arange(x.shape[1]) / rate_hz)
    return x


def wanted(rate_hz: float, frequency_hz: float, duration_s: float = 6.0) -> NDArray[np.float64]:
    """The same at the 2000 steps that end with the newest row."""
    newest_s = (round(duration_s * rate_hz) - 1) / rate_hz
    out: NDArray[np.float64] = np.sin(2 * np.pi * frequency_hz * (newest_s + np.arange(-1999, 1) / 400))
    return out


@pytest.mark.parametrize("rate_hz", [100.0, 187.3, 400.0])
def test_steps_are_those_that_the_shipped_weights_were_trained_with(rate_hz: float) -> None:
    out = preprocess.imu(NANO[f"imu_{rate_hz:g}.input"][None], rate_hz)[0, :, ::10]
    torch.testing.assert_close(out, NANO[f"imu_{rate_hz:g}.output"], atol=1e-6, rtol=0)


@pytest.mark.parametrize("rate_hz", [100.0, 400.0, 416.0, 562.5, 1000.0, 8000.0])
def test_slow_motion_is_kept_at_any_rate(rate_hz: float) -> None:
    out = preprocess.imu(turning(rate_hz, 1.5), rate_hz)[0].numpy()
    np.testing.assert_allclose(out[2], 1.0, atol=1e-6)
    # At the ends a low-pass has rows on one side only.
    np.testing.assert_allclose(out[5], wanted(rate_hz, 1.5), atol=0.003)
    np.testing.assert_allclose(out[5, 20:-20], wanted(rate_hz, 1.5)[20:-20], atol=0.0012)
    assert np.abs(out[[0, 1, 3, 4]]).max() == 0.0


@pytest.mark.parametrize("rate_hz", [562.5, 1000.0, 1600.0, 8000.0])
def test_vibration_that_400_hz_cannot_hold_is_not_folded_into_motion(rate_hz: float) -> None:
    # Plain interpolation would show 390 Hz as a slow 10 Hz of full strength.
    frequency_hz = min(390.0, 0.45 * rate_hz)
    folded = preprocess.imu(turning(rate_hz, frequency_hz), rate_hz)[0, 5]
    assert folded[20:-20].abs().max() < 0.002
    kept = preprocess.imu(turning(rate_hz, 100.0), rate_hz)[0, 5].numpy()
    np.testing.assert_allclose(kept[20:-20], wanted(rate_hz, 100.0)[20:-20], atol=0.01)


@given(st.permutations(IMU_AXES))
@settings(deadline=None, max_examples=30)
def test_axes_may_come_in_any_order(axes: list[str]) -> None:
    rows = np.random.default_rng(0).normal(0, 1, (2, 500, 6)).astype(np.float32)
    mixed = rows[..., [IMU_AXES.index(name) for name in axes]]
    found = preprocess.imu(mixed, 100.0, axes=axes, guess_units=False)
    assert torch.equal(found, preprocess.imu(rows, 100.0, guess_units=False))


def test_short_gaps_are_bridged_and_count_as_real() -> None:
    rows = turning(200.0, 1.5)
    holes = rows.copy()
    holes[0, 500:520] = np.nan  # 0.1 s
    holes[0, 900:905, 3] = np.nan  # a row is whole or not there
    holes[0, -4:] = np.nan
    out, exact = preprocess.imu(holes, 200.0), preprocess.imu(rows, 200.0)
    torch.testing.assert_close(out[..., :-10], exact[..., :-10], atol=0.15, rtol=0)
    assert (out[0, 5, 600:640] - exact[0, 5, 600:640]).abs().max() > 0.01
    assert torch.equal(out[0, 5, -9:], out[0, 5, -9:-8].expand(9))
    assert preprocess.imu_real_steps(holes, 200.0).all()
    assert not preprocess.imu_real_steps(holes, 200.0, max_gap_s=0.05).all()


def test_long_gaps_hold_gravity_stop_turning_and_are_marked() -> None:
    rows = np.concatenate([turning(100.0, 1.0, 5.0), still(500)])
    rows[1, :, :3] = (3.0, 4.0, 5.0)
    rows[1, 250:, :3] = (6.0, 7.0, 8.0)
    rows[0, 200:, 0] = 2.0
    gaps = rows.copy()
    gaps[0, 100:200] = np.nan  # 1 s in the middle
    gaps[1, :50] = np.nan  # the beginning
    gaps[1, 400:] = np.nan  # the end
    out = preprocess.imu(gaps, 100.0)
    real = preprocess.imu_real_steps(gaps, 100.0)
    assert real.shape == (2, 2000)
    assert real.dtype == torch.bool
    # The newest row is step 1999, and a row is four steps.
    at = [1999 - 4 * (499 - row) for row in (0, 99, 100, 199, 200)]
    assert real[0, at].tolist() == [True, True, False, False, True]
    assert (~real[0]).sum() == pytest.approx(400, abs=6)
    assert (~real[1]).sum() == pytest.approx(200 + 400, abs=12)
    g = 9.80665
    torch.testing.assert_close(out[0, 2], torch.ones(2000))
    assert out[0, 5, at[2] : at[3]].abs().max() == 0.0
    assert out[0, 0, at[2] : at[3]].abs().max() == 0.0  # not on its way to what comes after the gap
    torch.testing.assert_close(out[1, :3, 100], torch.tensor([3.0, 4.0, 5.0]) / g)
    torch.testing.assert_close(out[1, :3, -1], torch.tensor([6.0, 7.0, 8.0]) / g)
    untouched = preprocess.imu(rows, 100.0)
    torch.testing.assert_close(out.movedim(1, 2)[real], untouched.movedim(1, 2)[real], atol=1e-6, rtol=0)


@given(st.integers(0, 999), st.floats(0.0, 0.6), st.sampled_from([50.0, 400.0, 500.0]))
@settings(deadline=None, max_examples=40)
def test_real_steps_never_depend_on_what_is_made_up(seed: int, lost: float, rate_hz: float) -> None:
    rng = np.random.default_rng(seed)
    rows = rng.normal(0, 1, (1, round(5 * rate_hz), 6)).astype(np.float32)
    rows[0, rng.random(rows.shape[1]) < lost] = np.nan
    rows[0, -1] = 0.0
    out = preprocess.imu(rows, rate_hz, guess_units=False)
    assert out.isfinite().all()
    assert out.abs().max() <= np.nanmax(np.abs(rows)) * (1.0 if rate_hz <= 400 else 1.6)
    runs = preprocess.imu_real_steps(rows, rate_hz, max_gap_s=1e9)
    assert runs.all()
    few, more = (preprocess.imu_real_steps(rows, rate_hz, max_gap_s=s) for s in (0.0, 0.05))
    assert (more | ~few).all()


def test_what_is_older_than_the_window_changes_nothing() -> None:
    rows = np.random.default_rng(5).normal(0, 1, (1, 12000, 6)).astype(np.float32)
    for rate_hz, needed in ((400.0, 2000), (1000.0, 5000 + 100)):
        found, whole = (preprocess.imu(part, rate_hz, guess_units=False) for part in (rows[:, -needed:], rows))
        torch.testing.assert_close(whole, found, atol=1e-6, rtol=0)
