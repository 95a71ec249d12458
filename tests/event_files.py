"""TensorBoard's event files as a run would leave them, without torch."""

from pathlib import Path

from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.summary.writer.record_writer import RecordWriter


def write_events(folder: Path, start: float, points: list[tuple[int, float, float]]) -> None:
    """An event file begun at ``start``, with val/return as (step, value, wall time)."""
    folder.mkdir(parents=True, exist_ok=True)
    events = [Event(wall_time=start, file_version="brain.Event:2")]
    for step, value, wall_time in points:
        summary = Summary(value=[Summary.Value(tag="val/return", simple_value=value)])
        events.append(Event(wall_time=wall_time, step=step, summary=summary))
    with (folder / f"events.out.tfevents.{start:.0f}.host").open("wb") as file:
        for event in events:
            RecordWriter(file).write(event.SerializeToString())
