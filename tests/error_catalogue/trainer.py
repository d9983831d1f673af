"""Errors of a training by a Trainer."""

from ._entry import Entry, Exempt, Section
from ._stage import Stage


def _wrong_kernels(stage: Stage) -> None:
    """The session of the trainer computes gradients a tenth too large; that of the reference does not."""
    opened = stage.names["fastbp"].Trainer._open

    def open_wrong(self, *data, backend=None, **options):
        session = opened(self, *data, backend=backend, **options)
        if backend is None:
            right = session.loss_and_gradients

            def wrong(rows):
                loss, gradients = right(rows)
                return loss, [1.1 * gradient for gradient in gradients]

            session.loss_and_gradients = wrong
        return session

    stage.patch.setattr("fastbp.trainer.Trainer._open", open_wrong)


SECTION = Section(
    "Training",
    "Errors of `fastbp.Trainer`. After one of them the model has the weights of the last whole epoch.",
    (
        Entry(
            "A backend that does not exist",
            'fastbp.Trainer(model, loss="softmax_cross_entropy", backend="gpu")',
            ValueError,
            "The name is misspelled, or is that of another library.",
            'Choose "cpu", "cuda" for an NVIDIA GPU, or "reference" for NumPy alone.',
        ),
        Entry(
            "No epoch at all",
            "trainer.fit(X, labels, epochs=0)",
            ValueError,
            "A training has at least one epoch, a batch at least one row.",
            "Leave the call of fit out where nothing is to be trained.",
        ),
        Entry(
            "A fraction of an epoch",
            "trainer.fit(X, labels, epochs=2.5)",
            TypeError,
            "Epochs are counted in whole numbers; so are batch_size and n_threads.",
            "Round the number: `int(...)`. To train for less than an epoch, pass fewer rows.",
        ),
        Entry(
            "An answer to divergence that does not exist",
            'fastbp.Trainer(model, loss="softmax_cross_entropy", on_divergence="stop")',
            ValueError,
            "A training whose numbers overflow ends with an error, or goes on.",
            'Choose "raise", the default, or "ignore".',
        ),
        Entry(
            "A batch of one row for a BatchNorm",
            "normed = fastbp.Sequential([fastbp.BatchNorm(), fastbp.Dense(3)], n_features=3)\n"
            'fastbp.Trainer(normed, loss="softmax_cross_entropy").fit(X, labels, batch_size=1)',
            ValueError,
            "A BatchNorm divides by the standard deviation of the batch, and that of one row is 0.",
            "Take a larger batch_size, 32 for example. A LayerNorm takes single rows.",
        ),
        Entry(
            "A loss that overflows",
            "linear = fastbp.Sequential([fastbp.Dense(1)], n_features=3, random_state=0)\n"
            'steep = fastbp.Trainer(linear, loss="mean_squared_error", optimizer=fastbp.SGD(1e6))\n'
            "steep.fit(X, values, epochs=20)",
            FloatingPointError,
            "The training has diverged: each step overshoots by more than the last one, until a number overflows.",
            "Divide the learning rate by 10 until it trains. Look at the data too: "
            "`sklearn.preprocessing.StandardScaler` brings features to about 1, and targets of thousands are scaled "
            "likewise.",
        ),
        Entry(
            "A weight that overflows",
            "high = fastbp.Sequential([fastbp.Dense(1)], n_features=3, random_state=0)\n"
            'fastbp.Trainer(high, loss="mean_squared_error", optimizer=fastbp.SGD(1e38)).fit(X, 100 * values)',
            FloatingPointError,
            "The last step was so large that a weight is no finite number any more, though its loss was one.",
            "Use a learning rate that is smaller by many powers of ten: for SGD 0.1 is large.",
        ),
        Entry(
            "Kernels that disagree with the reference",
            'checked = fastbp.Trainer(model, loss="softmax_cross_entropy", verify=True)\nchecked.fit(X, labels)',
            FloatingPointError,
            "verify=True takes the first step with NumPy too, and the compiled kernels have computed something else. "
            "This is a fault of fastbp or of the compiler, not of your data.",
            'Report it with the output of `fastbp.show_config()`, and train with backend="reference" meanwhile.',
            given=_wrong_kernels,
        ),
        Entry(
            "An average that was not kept",
            "trainer.averaged_weights()",
            ValueError,
            "The moving average of the weights costs memory and time, so that an optimizer keeps one on request only.",
            "Make the optimizer with it: `fastbp.Adam(ema_decay=0.999)`.",
        ),
        Entry(
            "A value that was not recorded",
            'history = trainer.fit(X, labels)\nhistory["accuracy"]',
            KeyError,
            "A history has the loss and the seconds of each epoch, and the validation loss and the learning rate where "
            "there are some. A Trainer knows no metric.",
            "Compute a metric in a callback, in `on_epoch_end`, and keep it there. The estimators have `scoring`.",
        ),
        Entry(
            "TF32 without a GPU",
            'fastbp.Trainer(model, loss="softmax_cross_entropy", precision="tf32")',
            ValueError,
            "TF32 is a mode of the tensor cores of a GPU, for float32 alone.",
            'Leave precision out, or train with backend="cuda" and a model of dtype="float32".',
        ),
        Entry(
            "A BatchNorm with one row that counts",
            "normed = fastbp.Sequential([fastbp.BatchNorm(), fastbp.Dense(3)], n_features=3)\n"
            'counted = fastbp.Trainer(normed, loss="softmax_cross_entropy")\n'
            "counted.fit(X, labels, sample_weight=[1] + [0] * 11)",
            ValueError,
            "A row of weight 0 counts for nothing, also in the variance that a BatchNorm divides by.",
            "Give more rows a weight above 0.",
        ),
        Entry(
            "An output that overflows after the last step",
            'steep = fastbp.Trainer(model, loss="softmax_cross_entropy", optimizer=fastbp.SGD(1e38))\n'
            "steep.fit(X, labels)",
            FloatingPointError,
            "The loss and the weights are still finite, but the weights are so large that predictions are not.",
            "Train anew with a learning rate of 0.1 or less. The model has the weights from before the fit, or of the "
            "last whole epoch.",
        ),
    ),
    (
        Exempt("fastbp/_fit.py", "train", "raise", "passes on what a callback or a step has raised"),
        Exempt(
            "fastbp/backends/_planned.py",
            "PlannedBackend._check",
            "precision=",
            "not reachable through Trainer, Sequential and the estimators, which refuse that precision before",
        ),
        Exempt(
            "fastbp/backends/_planned.py",
            "PlannedSession.inspect",
            "session with shards",
            "not reachable: gradient checks open sessions of few rows, which have no shards",
        ),
    ),
)
