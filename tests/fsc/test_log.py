"""What methods that train tell a tracker of experiments."""

import pytest
import torch
from networks import small

import fsc
from fsc.methods.lesson import Learner

IMAGES = torch.randn(6, 3, 16, 16, generator=torch.Generator().manual_seed(0))
LABELS = torch.arange(6) % 5
TRAINING = {"steps": 25, "learning_rate": 1e-4, "batch_size": 3, "max_retries": 0}


def compressed(method, **options):
    torch.manual_seed(0)
    return fsc.compress(small().eval(), IMAGES, method=method, pruning_ratio=0.5, **options)


def logged(method, **options):
    told = []
    result = compressed(method, log=lambda values, step: told.append((step, values)), **options)
    return told, result


@pytest.mark.parametrize(
    ("method", "labels"),
    [
        (fsc.MiR(**TRAINING), None),
        (fsc.KD(**TRAINING), None),
        (fsc.BackProp(**TRAINING), LABELS),
    ],
    ids=lambda each: type(each).__name__,
)
def test_loss_and_rate_every_ten_steps_and_at_the_end(method, labels):
    told, result = logged(method, labels=labels)
    assert [step for step, _ in told] == [10, 20, 25]
    assert all(values.keys() == {"loss", "learning_rate"} for _, values in told)
    assert all(type(number) is float for _, values in told for number in values.values())
    # Divided by ten after 40 % and after 80 % of the steps.
    assert [values["learning_rate"] for _, values in told] == pytest.approx([1e-4, 1e-5, 1e-6])
    alike = compressed(method, labels=labels).student.state_dict()
    assert all(torch.equal(v, alike[k]) for k, v in result.student.state_dict().items())


def test_the_loss_is_that_of_the_step(monkeypatch):
    losses, advance = [], Learner.advance

    def seen(learner):
        losses.append(advance(learner))
        return losses[-1]

    monkeypatch.setattr(Learner, "advance", seen)
    told, _ = logged(fsc.MiR(**TRAINING))
    assert [values["loss"] for _, values in told] == [losses[at].item() for at in (9, 19, 24)]


def test_steps_of_several_parts_and_runs_are_counted_in_one_row():
    told, result = logged(fsc.MiR(tune_head=True, **TRAINING))
    assert [step for step, _ in told] == [10, 20, 25, 35, 45, 50]
    wild = fsc.MiR(steps=10, learning_rate=3e4, max_retries=40, batch_size=3)
    with pytest.warns(fsc.CompressionWarning, match="diverged"):
        told, result = logged(wild)
    steps = [step for step, _ in told]
    assert len(result.report.learning_rates) > 1 and steps == sorted(set(steps))


def test_a_run_that_goes_on_counts_on(tmp_path):
    class Stop(Exception):
        pass

    def stop(what, done, total):
        if done == 60:
            raise Stop

    method = fsc.MiR(steps=70, learning_rate=1e-4, batch_size=3, max_retries=0)
    with pytest.raises(Stop):
        logged(method, journal=tmp_path, progress=stop)
    told, _ = logged(method, journal=tmp_path)
    assert [step for step, _ in told] == [60, 70]


def test_nothing_waits_for_the_loss_without_a_log(monkeypatch):
    asked, item = [], torch.Tensor.item

    def seen(tensor):
        asked.append(tensor)
        return item(tensor)

    monkeypatch.setattr(torch.Tensor, "item", seen)
    compressed(fsc.MiR(**TRAINING))
    without = len(asked)
    logged(fsc.MiR(**TRAINING))
    assert len(asked) - 2 * without == 3


def test_the_default_tells_of_its_training_and_solving_nothing():
    assert logged("cd-nc")[0] == []
    from fsc.methods.solve_then_train import training

    told, _ = logged(fsc.SolveThenTrain(train=training(steps=12)))
    assert [step for step, _ in told][:2] == [10, 12]


@pytest.mark.parametrize("log", [True, "wandb", {}])
def test_what_cannot_be_called_is_refused(log):
    with pytest.raises(TypeError, match="^log must be a function of .* got "):
        compressed("cd-nc", log=log)


def test_tensorboard_takes_it(tmp_path):
    pytest.importorskip("tensorboard", reason="writes for TensorBoard")
    from torch.utils.tensorboard import SummaryWriter

    with SummaryWriter(tmp_path) as writer:

        def log(values, step):
            for name, value in values.items():
                writer.add_scalar(name, value, step)

        compressed(fsc.MiR(**TRAINING), log=log)
    assert list(tmp_path.glob("events*"))
