"""Errors of learning-rate schedules."""

from ._entry import Entry, Exempt, Section

SCHEDULES = "from fastbp import schedules\n"

SECTION = Section(
    "Schedules",
    "Errors of `fastbp.schedules`, and of functions of the step in their place. Some come in `fit`, when the length of "
    "the training is known.",
    (
        Entry(
            "A unit that is none",
            SCHEDULES + 'schedules.Exponential(0.1, 0.9, per="batch")',
            ValueError,
            "A schedule counts steps, one for each batch, or epochs.",
            'Write per="step" for batches.',
        ),
        Entry(
            "A smallest rate above the largest",
            SCHEDULES + "schedules.Cosine(0.001, min_rate=0.01)",
            ValueError,
            "The rate falls from max_rate to min_rate, and here it would rise.",
            "Exchange the two numbers.",
        ),
        Entry(
            "A smallest rate above the first",
            SCHEDULES + "schedules.ReduceOnPlateau(0.001, min_rate=0.01)",
            ValueError,
            "The rate begins at the first argument and is lowered to min_rate at most.",
            "Give a min_rate below the first rate, or leave it out for 0.",
        ),
        Entry(
            "A factor that does not lower the rate",
            SCHEDULES + "schedules.ReduceOnPlateau(0.1, factor=10)",
            ValueError,
            "factor multiplies the rate, and the rate is to fall.",
            "Give 0.1 in place of 10.",
        ),
        Entry(
            "A warm-up that begins above the largest rate",
            SCHEDULES + "schedules.Cosine(0.1, total=100, warmup=10, warmup_start=5.0)",
            ValueError,
            "warmup_start is the share of max_rate that the warm-up begins at.",
            "Divide the rate that you want to begin with by max_rate.",
        ),
        Entry(
            "A warm-up that is neither a count nor a share",
            SCHEDULES + "schedules.Cosine(0.1, total=100, warmup=1.5)",
            ValueError,
            "An int counts steps, and a float is a share of all steps, below 1.",
            "Write 10 for ten steps, and 0.1 for a tenth of the training.",
        ),
        Entry(
            "A warm-up as long as the training",
            SCHEDULES + "schedules.Cosine(0.1, total=100, warmup=100)",
            ValueError,
            "After the warm-up no step is left in which the rate could fall.",
            "Shorten the warm-up; a tenth of the steps or less is usual. Where total is left out, the message comes in "
            "`fit`: there, more epochs help too.",
        ),
        Entry(
            "A cycle factor without cycles",
            SCHEDULES + "schedules.Cosine(0.1, total=100, cycle_factor=2)",
            ValueError,
            "cycle_factor makes each cycle longer than the last one, and without cycle there is only one.",
            "Give cycle, the length of the first cycle, in place of total.",
        ),
        Entry(
            "Cycles beside a total",
            SCHEDULES + "schedules.Cosine(0.1, total=100, cycle=10)",
            ValueError,
            "Either the rate falls once, over total, or again and again, over cycles.",
            "Leave one of the two out.",
        ),
        Entry(
            "A share of cycles",
            SCHEDULES + "schedules.Cosine(0.1, cycle=10, warmup=0.1)",
            ValueError,
            "A share of the training needs its length, and cycles go on for as long as the training does.",
            "Give the warm-up in steps, as an int.",
        ),
        Entry(
            "A cosine without a length",
            SCHEDULES + "schedules.Cosine(0.1)(5)",
            TypeError,
            "Within a `fit` the schedule takes its length from there; called by hand it has none.",
            "Pass the length as the second argument, or look at the rates by `fastbp.schedules.preview`.",
        ),
        Entry(
            "One cycle without a length",
            SCHEDULES + "schedules.OneCycle(0.1)(5)",
            TypeError,
            "OneCycle spans a whole training, and called by hand it does not know how long that is.",
            "Make it with total, or call it as `schedule(step, total)`.",
        ),
        Entry(
            "A share of rising steps out of its range",
            SCHEDULES + "schedules.OneCycle(0.1, pct_start=0.6, three_phase=True)",
            ValueError,
            "With three phases the rate falls for as long as it has risen, so that the rise takes less than half.",
            "Give a pct_start below 0.5, or leave three_phase out.",
        ),
        Entry(
            "Rates of a schedule that follows losses",
            SCHEDULES + "schedules.preview(schedules.ReduceOnPlateau(0.1), epochs=3, steps=2)",
            TypeError,
            "ReduceOnPlateau lowers the rate when the loss no longer falls, which is not known ahead.",
            "Train with the callback `fastbp.LearningRateLogger`, which has the rates afterwards.",
        ),
        Entry(
            "A plateau of a validation loss that is not there",
            SCHEDULES + "optimizer = fastbp.SGD(schedules.ReduceOnPlateau(0.1))\n"
            'fastbp.Trainer(model, loss="softmax_cross_entropy", optimizer=optimizer).fit(X, labels)',
            ValueError,
            "ReduceOnPlateau watches the validation loss unless it is told otherwise, and fit was given no validation "
            "data.",
            'Pass `validation_data=(X_val, y_val)`, or watch the training loss by monitor="loss".',
        ),
        Entry(
            "A function that gives no rate",
            "optimizer = fastbp.SGD(lambda step: 0.1 - 0.2 * step)\n"
            'fastbp.Trainer(model, loss="softmax_cross_entropy", optimizer=optimizer).fit(X, labels, epochs=2)',
            ValueError,
            "A function of the step has returned a negative number, a NaN, or no number.",
            "Keep it at 0 or above, for all steps that the training has: `max(0.0, ...)`.",
        ),
        Entry(
            "A learning rate that is set beside a schedule",
            "optimizer = fastbp.SGD(lambda step: 0.1)\n"
            'trainer = fastbp.Trainer(model, loss="softmax_cross_entropy", optimizer=optimizer)\n'
            "trainer.learning_rate = 0.01",
            ValueError,
            "The schedule decides on the rate of each step, and would overwrite the one that is set.",
            "Set the rate by the schedule, or give the optimizer a number and set the rate in a callback.",
            hide=(r"<function.*?>(?= and)",),
        ),
    ),
    (
        Exempt(
            "fastbp/schedules/_cycles.py",
            "OneCycle.__call__",
            "raise AssertionError",
            "not reachable: the last phase returns",
        ),
    ),
)
