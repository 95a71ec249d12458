"""What is gathered between two points of the curves."""

import pytest
import torch

from lit_rl.record import HELD, Record


def flushed(record: Record) -> dict[str, float]:
    speeds = {"steps_per_second", "updates_per_second", "updates"}
    return {name: value for name, value in record.flush(0, 0, {}).items() if name not in speeds}


def test_means_are_over_updates_and_over_what_each_gave() -> None:
    record = Record()
    for update in range(HELD + 3):  # beyond what is kept as it came
        rows = torch.full((2, 3), float(update), requires_grad=True)
        rows = rows + torch.tensor([-1.0, 0.0, 1.0])
        record.add({"rows": rows, "scalar": torch.tensor(update), "number": float(update), "flags": rows > 1})
    middle = (HELD + 2) / 2
    found = flushed(record)
    assert found == {
        "rows": pytest.approx(middle),
        "scalar": pytest.approx(middle),
        "number": pytest.approx(middle),
        "flags": pytest.approx((0 / 3 + 1 / 3 + 2 / 3 + HELD) / (HELD + 3)),
    }
    assert flushed(record) == {}, "everything is gone once it is written"


def test_updates_of_different_sizes_count_alike() -> None:
    record = Record()
    for values in ([1.0, 3.0], [5.0], [4.0, 4.0]):
        record.add({"x": torch.tensor(values)})
    assert flushed(record) == {"x": pytest.approx((2 + 5 + 4) / 3)}


def test_it_holds_no_graph() -> None:
    record, x = Record(), torch.ones(3, requires_grad=True)
    record.add({"x": x * 2})
    assert not record._pending["x"][0].requires_grad


@pytest.mark.parametrize("before", [1, HELD - 1, HELD, HELD + 5])
def test_a_restored_record_goes_on_averaging_bit_for_bit(before: int) -> None:
    torch.manual_seed(0)
    values = [{"x": torch.randn(33), "norm": float(torch.randn(()))} for _ in range(2 * HELD)]
    whole, first, second = Record(), Record(), Record()
    for update in values:
        whole.add(update)
    for update in values[:before]:
        first.add(update)
    second.restore(first.snapshot())
    for update in values[before:]:
        second.add(update)
    assert flushed(second) == flushed(whole)
