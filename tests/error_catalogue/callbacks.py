"""Errors of callbacks."""

from ._entry import Also, Entry, Section

SECTION = Section(
    "Callbacks",
    "Errors of the callbacks that fastbp has, and of your own. An error within a callback ends the training and comes "
    "out of `fit` as it is.",
    (
        Entry(
            "Callbacks that are no sequence",
            "trainer.fit(X, labels, callbacks=fastbp.EarlyStopping())",
            TypeError,
            "One callback stands where a list of callbacks is expected.",
            "Put it into a list: `callbacks=[fastbp.EarlyStopping()]`.",
        ),
        Entry(
            "A callback that is a class",
            "trainer.fit(X, labels, callbacks=[fastbp.EarlyStopping])",
            TypeError,
            "The brackets are missing: the list holds the class, and not an object of it.",
            "Write `fastbp.EarlyStopping()`, with its arguments between the brackets.",
        ),
        Entry(
            "A callback without any method",
            "trainer.fit(X, labels, callbacks=[print])",
            TypeError,
            "A function is no callback: it does not say when it is to be called.",
            "Write a subclass of `fastbp.Callback` with one of the methods that the message lists.",
        ),
        Entry(
            "A method that is never called",
            "class Beep(fastbp.Callback):\n"
            "    def on_epoch_finish(self, trainer, epoch, logs):\n"
            '        print("beep")\n'
            "trainer.fit(X, labels, callbacks=[Beep()])",
            TypeError,
            "The name of the method begins as that of a hook, and is none: it is misspelled or comes from another "
            "library.",
            "Take a name from the message. Your own helpers need names that do not begin with `on_`.",
        ),
        Entry(
            "A monitor that is no name",
            "fastbp.EarlyStopping(monitor=None)",
            TypeError,
            "The monitor is the key of a value in the logs of an epoch.",
            'Give "val_loss", "loss", or the name that a callback of yours adds.',
        ),
        Entry(
            "A monitor of unknown direction",
            'fastbp.EarlyStopping("val_profit")',
            ValueError,
            "Losses and errors are to fall, scores and accuracies to rise; other names say nothing.",
            'Add mode="max" for what is to rise, and mode="min" for what is to fall.',
        ),
        Entry(
            "A direction that does not exist",
            'fastbp.EarlyStopping(mode="lower")',
            ValueError,
            "mode says whether the best value is the smallest or the largest.",
            'Write "min" in place of "lower", and "max" in place of "higher".',
        ),
        Entry(
            "A monitor that is not in the logs",
            "trainer.fit(X, labels, callbacks=[fastbp.EarlyStopping()])",
            ValueError,
            "EarlyStopping and Checkpoint watch the validation loss unless told otherwise, and fit was given no "
            "validation data. A value that another callback adds must be there before: order matters.",
            'Pass `validation_data=(X_val, y_val)`, or watch the training loss by monitor="loss".',
        ),
        Entry(
            "A patience below 0",
            "fastbp.EarlyStopping(patience=-1)",
            ValueError,
            "patience counts the epochs without an improvement after which the training ends.",
            "Give 0 or 1 to end with the first epoch that is no better.",
        ),
        Entry(
            "A separator that is none",
            'fastbp.CSVLogger("log.csv", separator="tab")',
            ValueError,
            "Fields of a table are separated by one character.",
            r'Write "\t" for a tabulator.',
        ),
        Entry(
            "A table with other columns",
            'trainer.fit(X, labels, callbacks=[fastbp.CSVLogger("log.csv", append=True)])',
            ValueError,
            "append=True goes on with the table of an earlier training, whose columns are others: it had validation "
            "data, another separator, or other callbacks before the logger.",
            "Write to a new file, or pass append=False to begin the table anew.",
            given=lambda stage: (stage.folder / "log.csv").write_text("epoch,loss,val_loss,epoch_seconds\n"),
        ),
        Entry(
            "A table in a folder that is missing",
            'trainer.fit(X, labels, callbacks=[fastbp.CSVLogger("runs/log.csv")])',
            FileNotFoundError,
            "The logger opens its file when the training begins, and makes no folders.",
            'Make the folder first: `os.makedirs("runs", exist_ok=True)`.',
            foreign=True,
        ),
        Entry(
            "Checkpoints in a folder that is missing",
            'trainer.fit(X, labels, callbacks=[fastbp.Checkpoint("runs/{epoch}.safetensors")])',
            FileNotFoundError,
            "The folder is looked for before the first epoch, so that no training is lost for the want of one.",
            "Make the folder, or give a path in one that is there.",
        ),
        Entry(
            "A path with an unknown field",
            'trainer.fit(X, labels, callbacks=[fastbp.Checkpoint("{val_loss:.3f}.safetensors")])',
            ValueError,
            "The path of a checkpoint is filled in with the values of the epoch, and one of its fields is not among "
            "them, or its format does not fit.",
            "Use the names in the message; for `val_loss` pass validation_data. A brace of the path itself is written "
            "twice.",
        ),
        Entry(
            "A table that cannot be read",
            'trainer.fit(X, labels, callbacks=[fastbp.CSVLogger("log.csv", append=True)])',
            ValueError,
            "The file at the path is no table of values separated by this character: a field is longer than 128 KiB.",
            "Give the logger another path, or append=False to write the file anew.",
            given=lambda stage: (stage.folder / "log.csv").write_text("a" * 200_000 + "\n"),
        ),
        Entry(
            "A key that no file holds",
            "class Best(fastbp.Callback):\n"
            '    def get_state(self):\n        return {"best": 0.5}\n'
            '    def state_key(self):\n        return {"of": object()}\n'
            'trainer.fit(X, labels, callbacks=[Best(), fastbp.Checkpoint("last.safetensors")])',
            TypeError,
            "state_key tells the callbacks of a class apart in a file: by names with numbers, strings or lists.",
            "Return a dict of the arguments that the callback was made with.",
            hide=(r"(?<=hold \().*(?=\): num)",),
            also=(
                Also(
                    "class Best(fastbp.Callback):\n"
                    '    def get_state(self):\n        return {"best": 0.5}\n'
                    '    def state_key(self):\n        return "loss"\n'
                    'trainer.fit(X, labels, callbacks=[Best(), fastbp.Checkpoint("last.safetensors")])',
                ),
            ),
        ),
    ),
)
