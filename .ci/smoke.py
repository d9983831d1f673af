"""What a user does first, run on an installed wheel with nothing but its dependencies."""

import sys

from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

import fastbp
import fastbp.kernels

for module in (fastbp, fastbp.kernels):
    assert module.__file__.startswith(sys.prefix), module.__file__
fastbp.show_config()

X, y = load_digits(return_X_y=True)
X_train, X_test, y_train, y_test = train_test_split((X / 16).astype("float32"), y, random_state=0)
model = fastbp.Sequential(
    [fastbp.Dense(100, activation="relu"), fastbp.Dense(10)], n_features=64, random_state=0, dtype="float32"
)
trainer = fastbp.Trainer(model, loss="softmax_cross_entropy", optimizer=fastbp.Adam(learning_rate=1e-3), random_state=0)
trainer.fit(X_train, y_train, epochs=30, batch_size=32)
accuracy = (model.predict(X_test).argmax(axis=1) == y_test).mean()
assert accuracy > 0.95, accuracy
print(f"digits: {accuracy:.4f}")
