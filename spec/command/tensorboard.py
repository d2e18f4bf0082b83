"""The figures of a run as TensorBoard reads them. The one file that needs the extra `tensorboard`."""

from pathlib import Path

from tensorboardX import SummaryWriter  # pyright: ignore[reportMissingImports] (an extra)

from spec.command.events import Epoch, Speed


class Board:
    """Writes a run's figures into the folder `tensorboard` of its directory, by optimizer steps."""

    def __init__(self, directory: Path, steps_done: int, steps_per_epoch: int):
        # What a run that was killed has written beyond its checkpoint comes again.
        self.writer = SummaryWriter(str(directory / "tensorboard"), purge_step=steps_done + 1, flush_secs=10)
        self.steps_per_epoch = steps_per_epoch

    def add(self, event: Epoch | Speed) -> None:
        """An event's numbers, each under a name."""
        if isinstance(event, Speed):
            self.writer.add_scalar("speed/tokens_per_second", event.tokens_per_second, event.step)
            return
        figures = {"loss/training": event.loss, "loss/evaluation": event.evaluation_loss}
        if event.validation is not None:
            figures["loss/validation"] = event.validation.loss
            if event.validation.accuracy is not None:
                figures["validation/accuracy"] = event.validation.accuracy
            if event.validation.rmse is not None:
                figures["validation/rmse"] = event.validation.rmse
            if event.validation.bits_per_byte is not None:
                figures["validation/bits_per_byte"] = event.validation.bits_per_byte
        for name, value in figures.items():
            self.writer.add_scalar(name, value, event.epoch * self.steps_per_epoch)

    def close(self) -> None:
        """Write what is still held back."""
        self.writer.close()
