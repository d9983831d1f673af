"""Errors of optimizers."""

from ._entry import Entry, Section

SECTION = Section(
    "Optimizers",
    "An optimizer checks its numbers when it is made. The names are those of PyTorch, where it has them.",
    (
        Entry(
            "An optimizer by its name",
            'fastbp.Trainer(model, loss="mean_squared_error", optimizer="adam")',
            TypeError,
            "A Trainer takes an object, with its learning rate and its other numbers; a name is for the estimators.",
            "Make one: `optimizer=fastbp.Adam(learning_rate=1e-3)`. A class needs its brackets too.",
        ),
        Entry(
            "The class that all optimizers share",
            "fastbp.optimizers.Optimizer()",
            TypeError,
            "Optimizer is the base class, which has no rule for a step.",
            "Make `fastbp.SGD`, `fastbp.Adam` or another of the optimizers. Optimizer is for `isinstance` alone.",
        ),
        Entry(
            "A learning rate of 0",
            "fastbp.SGD(0.0)",
            ValueError,
            "With a learning rate of 0, or below, nothing would be learned.",
            "Begin with 1e-3 for Adam and its kin, and with 0.01 to 0.1 for SGD.",
        ),
        Entry(
            "A learning rate that is no number",
            'fastbp.SGD("0.1")',
            TypeError,
            "The learning rate has been read from a file or from the command line and is a string still.",
            "Convert it: `float(...)`.",
        ),
        Entry(
            "A number too large for a float",
            "fastbp.SGD(0.1, l2=10**400)",
            ValueError,
            "Python's integers have no limit, but the kernels compute with floats.",
            "Look for a mistake in the exponent.",
            hide=(r"(?<=got 1)0+\.*",),
        ),
        Entry(
            "A learning rate that is a class",
            "fastbp.SGD(fastbp.schedules.Cosine)",
            TypeError,
            "The brackets are missing: the class stands where a schedule of that class is expected.",
            "Make an object of it: `fastbp.schedules.Cosine(0.1)`.",
        ),
        Entry(
            "A momentum above 1",
            "fastbp.SGD(0.1, momentum=9)",
            ValueError,
            "The momentum is the share of the last velocity that is kept.",
            "Pass a share and not percents: 0.9 is usual.",
        ),
        Entry(
            "A decay rate of 1",
            "fastbp.Adam(beta_2=1.0)",
            ValueError,
            "A mean that keeps all of the old would never see a new gradient. beta_1, beta_2, alpha of RMSprop and "
            "ema_decay are such shares.",
            "Give a number below 1, such as 0.9 or 0.999.",
        ),
        Entry(
            "A penalty below 0",
            "fastbp.AdamW(weight_decay=-0.01)",
            ValueError,
            "A negative penalty would let the weights grow without end.",
            "Drop the sign: the penalty is taken from the weights already.",
        ),
        Entry(
            "A limit of gradients of 0",
            "fastbp.SGD(0.1, clip_norm=0)",
            ValueError,
            "A norm of 0 would leave nothing of the gradient.",
            "Give None for no limit.",
        ),
        Entry(
            "A convention that does not exist",
            'fastbp.SGD(0.1, convention="keras")',
            ValueError,
            "There are two ways to write the same rule down, PyTorch's and scikit-learn's, which differ in where "
            "epsilon and the learning rate stand.",
            "Leave convention as it is, unless you compare the numbers with those of one library.",
        ),
        Entry(
            "An l1 penalty in scikit-learn's convention",
            'fastbp.SGD(0.1, l1=1e-4, convention="scikit-learn")',
            ValueError,
            "In scikit-learn's convention the penalty is a part of the loss that is reported, and its loss has no such "
            "part.",
            "Leave the convention at its default.",
        ),
        Entry(
            "The state of another optimizer",
            "trainer.fit(X, labels)\ntrainer.optimizer = fastbp.SGD(0.1, momentum=0.9)\ntrainer.fit(X, labels)",
            ValueError,
            "A second fit goes on with the moments of the first one, and this optimizer has others.",
            "Make a new Trainer for the same model: the model keeps its weights.",
        ),
    ),
)
