"""Warnings."""

from sklearn.exceptions import ConvergenceWarning, DataConversionWarning, UndefinedMetricWarning

from ._entry import Entry, Section
from ._files import checkpoint

PRESS = "class Press(fastbp.Callback):\n    def on_chunk_end(self, *arguments):\n        raise KeyboardInterrupt\n"
LOST = (
    "class Score(fastbp.Callback):\n"
    "    def on_epoch_end(self, trainer, epoch, logs):\n"
    '        logs["score"] = float("nan")\n'
)


def _ctrl_c(stage):
    stage.run(PRESS + "ctrl_c = [Press()]")


def _other_table(stage):
    checkpoint("before.fit(X, labels, epochs=2, callbacks=[fastbp.CSVLogger('log.csv')])")(stage)
    (stage.folder / "log.csv").write_text("epoch,loss,epoch_seconds\n0,0.5,0.1\n")


SECTION = Section(
    "Warnings",
    "After a warning the call goes on, and its result can be used. To silence one, filter it by its class: "
    '`warnings.filterwarnings("ignore", category=...)`.',
    (
        Entry(
            "A training that Ctrl-C has ended",
            "trainer.fit(X, labels, epochs=1000, callbacks=ctrl_c)",
            UserWarning,
            "Ctrl-C was pressed, or the process was sent SIGINT. The steps that were under way are done.",
            "The model can be used as it is; `history.interrupted` is True. Another `fit` goes on from here.",
            given=_ctrl_c,
            shown="trainer.fit(X, labels, epochs=1000)  # and then Ctrl-C",
        ),
        Entry(
            "A fit that Ctrl-C has ended",
            "fastbp.MLPClassifier((4,), max_iter=1000, callbacks=ctrl_c).fit(X, labels)",
            UserWarning,
            "Ctrl-C was pressed, or the process was sent SIGINT. The estimator is fitted, with the weights so far.",
            "Predict with it, or go on by `warm_start=True` and another fit.",
            given=_ctrl_c,
            shown="fastbp.MLPClassifier((4,), max_iter=1000).fit(X, labels)  # and then Ctrl-C",
        ),
        Entry(
            "More threads than the pool has",
            "start(1000)",
            UserWarning,
            "Numba makes its threads once, as many as the CPU has cores, and n_threads asks for more.",
            "Leave n_threads at None for all usable threads. Results do not depend on their number.",
            given=lambda stage: stage.run("from fastbp.backends.cpu import _threads as start"),
            shown="model.predict(X, n_threads=1000)",
            hide=(r"(?<=pool has )\d+", r"(?<=using )\d+"),
        ),
        Entry(
            "R^2 of one row",
            "fastbp.MLPRegressor(hidden_layer_sizes=(4,), early_stopping=True).fit(X, values, X_val=X[:1], "
            "y_val=values[:1])",
            UndefinedMetricWarning,
            "Early stopping goes by R^2, which compares with the spread of the targets, and one target has none. The "
            "scores are NaN and nothing is stopped early.",
            'Pass more validation rows, or scoring="loss".',
        ),
        Entry(
            "A batch larger than the data",
            "fastbp.MLPClassifier((4,), batch_size=500).fit(X, labels)",
            UserWarning,
            "batch_size is larger than the number of samples, so that each epoch is one step. After early stopping has "
            "held out its rows, there are fewer.",
            'Leave batch_size at "auto", which is 200 or all samples.',
        ),
        Entry(
            "A training that has not converged",
            "fastbp.MLPClassifier((4,), max_iter=3).fit(X, labels)",
            ConvergenceWarning,
            "The training has ended after max_iter epochs, while the loss was still falling by more than tol.",
            "Look at `loss_curve_`: if it falls, raise max_iter; if it falls slowly, scale the features and raise "
            "learning_rate_init. A fixed number of epochs may be what you want: then filter the warning.",
        ),
        Entry(
            "L-BFGS has not converged",
            'fastbp.MLPClassifier((4,), solver="lbfgs", max_iter=2).fit(X, labels)',
            ConvergenceWarning,
            "SciPy's L-BFGS has ended after max_iter iterations, with a gradient larger than tol.",
            "Raise max_iter, or scale the features: L-BFGS is slow where they are of different sizes.",
            foreign=True,
        ),
        Entry(
            "Targets as a column",
            "fastbp.MLPClassifier((4,), max_iter=2).fit(X, labels.reshape(-1, 1))",
            DataConversionWarning,
            "y is a matrix of one column; it was taken for a vector. A column of a data frame in double "
            "brackets is one.",
            'Pass `y.ravel()`, or `frame["y"]` with single brackets.',
        ),
        Entry(
            "L-BFGS that Ctrl-C has ended",
            'fastbp.MLPClassifier((4,), solver="lbfgs", callbacks=ctrl_c).fit(X, labels)',
            UserWarning,
            "Ctrl-C was pressed, or the process was sent SIGINT. The estimator has the weights of the last iteration.",
            "Predict with it, or begin anew with a smaller max_iter.",
            given=_ctrl_c,
            shown='fastbp.MLPClassifier((4,), solver="lbfgs").fit(X, labels)  # and then Ctrl-C',
        ),
        Entry(
            "D^2 of one row",
            'loss = fastbp.losses.Loss("quantile", level=(0.1, 0.9))\n'
            "levels = fastbp.MLPRegressor(loss=loss, hidden_layer_sizes=(4,), early_stopping=True)\n"
            "levels.fit(X, values, X_val=X[:1], y_val=values[:1])",
            UndefinedMetricWarning,
            "Early stopping of quantiles goes by D^2, which compares with the quantiles of the targets, and one target "
            "has no spread.",
            'Pass at least two validation rows, or scoring="loss".',
        ),
        Entry(
            "Early stopping without a score",
            "def lost(estimator, X, y):\n"
            '    return float("nan")\n'
            "stops = fastbp.MLPRegressor(hidden_layer_sizes=(4,), early_stopping=True, scoring=lost, max_iter=3)\n"
            "stops.fit(X, values, X_val=X, y_val=values)",
            UserWarning,
            "Each score was NaN or minus infinity: none is the best, and nothing was stopped early.",
            "Print the score of the fitted estimator, and look why the scorer gives no number.",
        ),
        Entry(
            "Early stopping of a monitor that is never a number",
            LOST + 'trainer.fit(X, labels, callbacks=[Score(), fastbp.EarlyStopping("score", mode="max")])',
            UserWarning,
            "The watched value was NaN in each epoch, or infinite in the wrong direction.",
            "Look at the value in the history. The training has probably diverged: lower the learning rate.",
        ),
        Entry(
            "A best checkpoint that was never written",
            LOST + 'best = fastbp.Checkpoint("best.safetensors", best=True, monitor="score", mode="max")\n'
            "trainer.fit(X, labels, callbacks=[Score(), best])",
            UserWarning,
            "The watched value was NaN in each epoch, or infinite in the wrong direction, so that no epoch was better "
            "than none.",
            "Correct the value or its mode; the model itself is trained, and `model.save` keeps it.",
        ),
        Entry(
            "A callback that begins anew",
            'logger = fastbp.LearningRateLogger("step")\n'
            'trainer.fit(X, labels, epochs=3, resume_from="last.safetensors", callbacks=[logger])',
            UserWarning,
            "The checkpoint has the state of a callback of the same class with other arguments.",
            "Make the callback as in the first training, if it is to go on from there.",
            given=checkpoint("before.fit(X, labels, epochs=2, callbacks=[fastbp.LearningRateLogger()])"),
        ),
        Entry(
            "A table of another training",
            'trainer.fit(X, labels, epochs=3, resume_from="last.safetensors", callbacks=[fastbp.CSVLogger("log.csv")])',
            UserWarning,
            "The table at the path has no line of the training that goes on. Its lines are kept, and new ones follow.",
            "Give the logger the path of the first training, if the table is to have one line for each epoch.",
            given=_other_table,
        ),
    ),
)
