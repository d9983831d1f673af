"""Errors of losses, and of losses that do not go with the output of a network."""

from ._entry import Entry, Section

LOSS = "from fastbp.losses import Loss\n"

SECTION = Section(
    "Losses",
    "A loss is a name, or a `fastbp.losses.Loss` with numbers of its own. A Trainer checks it against the last layer.",
    (
        Entry(
            "A loss that does not exist",
            'fastbp.Trainer(model, loss="cross_entropy")',
            ValueError,
            "The name is misspelled, or it is the name that another library uses.",
            "Classes that exclude each other have `softmax_cross_entropy`; two classes, or several labels a sample, "
            "have `sigmoid_cross_entropy`.",
        ),
        Entry(
            "Blocks that are no sequence",
            LOSS + 'Loss("softmax_cross_entropy", blocks=4)',
            TypeError,
            "blocks lists the number of classes of each label, and one number stands in the place of the list.",
            "Write `blocks=(4,)`, or leave blocks out where there is one label a sample.",
        ),
        Entry(
            "A block of one class",
            LOSS + 'Loss("softmax_cross_entropy", blocks=(3, 1))',
            ValueError,
            "A label of one possible class has nothing to learn.",
            "Leave that block out, together with its column of y.",
        ),
        Entry(
            "Blocks for another loss",
            LOSS + 'Loss("mean_squared_error", blocks=(2, 2))',
            ValueError,
            "Blocks are groups of classes, each with a softmax, so they belong to the softmax cross-entropy.",
            "Leave blocks out: other losses treat each output by itself anyway.",
        ),
        Entry(
            "A number that belongs to another loss",
            LOSS + 'Loss("mean_absolute_error", delta=0.5)',
            ValueError,
            "delta, level, label_smoothing and class_weight are each for the losses that the message names, and would "
            "change nothing here.",
            "Leave the argument out, or take the loss that it is for.",
        ),
        Entry(
            "A label smoothing that leaves no label",
            LOSS + 'Loss("softmax_cross_entropy", label_smoothing=1.0)',
            ValueError,
            "label_smoothing is the share of a target that goes to all classes alike, and at 1 nothing is left.",
            "Give a share below 1: 0.05 to 0.2 are usual.",
        ),
        Entry(
            "A level of 0 or 1",
            LOSS + 'Loss("quantile", level=95)',
            ValueError,
            "The level of a quantile is a share of the samples, between 0 and 1.",
            "Divide percents by 100: 0.95 in place of 95.",
        ),
        Entry(
            "No level at all",
            LOSS + 'Loss("quantile", level=())',
            ValueError,
            "The sequence of levels is empty.",
            "Give a level for each output, such as (0.1, 0.5, 0.9), or leave level out for the median.",
        ),
        Entry(
            "Class weights by name",
            LOSS + 'Loss("softmax_cross_entropy", class_weight={0: 1.0, 1: 5.0})',
            TypeError,
            'A dict or a word such as "balanced" is for the estimators, which know the names of the classes. A Loss '
            "knows the numbers of the outputs alone.",
            "Give a sequence in the order of the outputs: (1.0, 5.0).",
        ),
        Entry(
            "Class weights in another shape",
            LOSS + 'Loss("sigmoid_cross_entropy", class_weight=(1.0, 2.0, 3.0))',
            ValueError,
            "The softmax cross-entropy takes a weight for each class. The sigmoid cross-entropy takes a "
            "pair, for targets of 0 and of 1, or a pair for each output.",
            "For one pair write (1.0, 2.0), for three outputs ((1, 2), (1, 2), (1, 5)).",
        ),
        Entry(
            "Class weights below 0, or all 0",
            LOSS + 'Loss("softmax_cross_entropy", class_weight=(1.0, -1.0))',
            ValueError,
            "A negative weight would reward errors, and with all weights 0 there is no loss.",
            "Give weights of at least 0; 0 leaves a class out.",
        ),
        Entry(
            "Class weights beside blocks",
            LOSS + 'Loss("softmax_cross_entropy", blocks=(2, 2), class_weight=(1, 2, 1, 2))',
            ValueError,
            "A weighted loss is divided by the sum of the weights, and that sum would be another one for each block.",
            "Pass `sample_weight` to `fit`, or train a model for each label.",
        ),
        Entry(
            "Blocks that do not fill the outputs",
            LOSS + 'fastbp.Trainer(model, loss=Loss("softmax_cross_entropy", blocks=(2, 2)))',
            ValueError,
            "Each block has an output for each of its classes, and the last layer has another number of units.",
            "Give the last layer as many units as the blocks have together.",
        ),
        Entry(
            "Blocks behind a softmax",
            LOSS + 'soft = fastbp.Sequential([fastbp.Dense(4, "softmax")], n_features=3)\n'
            'fastbp.Trainer(soft, loss=Loss("softmax_cross_entropy", blocks=(2, 2)))',
            ValueError,
            "The last layer has one softmax over all outputs, and a loss with blocks has one for each block.",
            "Leave the activation of the last layer out. For probabilities apply `scipy.special.softmax(..., "
            "axis=1)` to the columns of each block.",
        ),
        Entry(
            "A softmax over one output",
            "one = fastbp.Sequential([fastbp.Dense(1)], n_features=3)\n"
            'fastbp.Trainer(one, loss="softmax_cross_entropy")',
            ValueError,
            "A softmax over one output is always 1.",
            "For two classes, give the last layer two units, or use `sigmoid_cross_entropy` with one.",
        ),
        Entry(
            "An output activation that the loss cannot take",
            'net = fastbp.Sequential([fastbp.Dense(3, "relu")], n_features=3)\n'
            'fastbp.Trainer(net, loss="softmax_cross_entropy")',
            ValueError,
            "This loss is computed from the outputs before their activation, together with the activation that belongs "
            "to it. Another one would be ignored.",
            "Leave the activation of the last layer out: the loss brings its own, and predictions have it.",
        ),
        Entry(
            "Another number of levels than of outputs",
            LOSS + 'fastbp.Trainer(model, loss=Loss("quantile", level=(0.1, 0.9)))',
            ValueError,
            "A sequence of levels has one for each output of the network.",
            "Give the last layer as many units as there are levels.",
        ),
        Entry(
            "Another number of class weights than of classes",
            LOSS + 'fastbp.Trainer(model, loss=Loss("softmax_cross_entropy", class_weight=(1, 2)))',
            ValueError,
            "There is a weight for each class, and the last layer has a unit for each class; the numbers differ.",
            "Add the weights that are missing: 1 changes nothing.",
        ),
        Entry(
            "Another number of pairs than of outputs",
            LOSS + 'fastbp.Trainer(model, loss=Loss("sigmoid_cross_entropy", class_weight=((1, 2), (1, 3))))',
            ValueError,
            "There is a pair of weights for each output, and the last layer has another number of units.",
            "Give a pair for each output, or a single pair, (1, 2), that all outputs share.",
        ),
    ),
)
