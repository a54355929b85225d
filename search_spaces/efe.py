"""Search space of efe: learning rates of its parts, horizon, loss terms, and memory.

Steps per round stay fixed, because rounds of different trials are compared.
"""

from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from search_spaces.space import Space

# A term is off, or has a weight well below that of cross-entropy, which is 1.
TERM = CategoricalDistribution((0.0, 0.03, 0.1, 0.3))

SPACE = Space(
    {
        # As for percell: below 1e-3 a few hundred steps do not fit the demonstrations.
        "learning_rate": FloatDistribution(1e-3, 2e-2, log=True),
        # The encoder learns from other signals than the forward model, so its best rate may differ.
        "encoder_multiplier": FloatDistribution(0.1, 2.0, log=True),
        # As for percell: with only three demonstrations, strong decay may help.
        "weight_decay": CategoricalDistribution((0.0, 0.01, 0.1, 1.0)),
        # How far information travels, in cells; more costs time in proportion.
        "horizon": CategoricalDistribution((4, 6, 8, 10)),
        "risk": TERM,
        "ambiguity": TERM,
        "step": TERM,
        "bidirectional": TERM,
        "reversibility": TERM,
        # From one view of the held-out demonstration in two to all of them.
        "success_threshold": CategoricalDistribution((0.5, 0.75, 1.0)),
        # No memory, or a small one, which forgets early tasks, or a large one.
        "memory_capacity": CategoricalDistribution((0, 16, 256)),
        # More neighbours average over more solutions.
        "memory_k": IntDistribution(1, 4),
        # Right for most rules, wrong for those that depend on a certain colour.
        "permute_colours": CategoricalDistribution((False, True)),
        # Cosine; the median of two tasks is 0.62, and 0.77 with features.
        "memory_similarity": FloatDistribution(0.5, 0.98),
        # Matters only for a memory that fills up.
        "eviction": CategoricalDistribution(("oldest", "least_used")),
        # Features of a frozen base for the demonstrations.
        "features": CategoricalDistribution((False, True)),
        # The backward model is trained only by the term bidirectional; the preference acts only through risk.
        "backward_multiplier": FloatDistribution(0.25, 4.0, log=True),
        "preference_multiplier": FloatDistribution(0.25, 4.0, log=True),
        # Acts only through the preference.
        "anchor": TERM,
        # Decides where lenses disagree on an output's size: one task in fifteen.
        "size_head": CategoricalDistribution((False, True)),
        # Both need features. LoRA on the base reads all demonstrations in every step, so the rank is small.
        "alignment": TERM,
        "base_r": CategoricalDistribution((0, 4)),
        # The base is trained already, so its rate is at most that of the networks.
        "base_multiplier": FloatDistribution(0.01, 1.0, log=True),
    }
)
for axis in ("success_threshold", "memory_k", "memory_similarity"):
    SPACE = SPACE.given(axis, memory_capacity=(16, 256))
SPACE = SPACE.given("eviction", memory_capacity=(16,))
SPACE = SPACE.given("alignment", features=True).given("base_r", features=True).given("base_multiplier", base_r=4)
SPACE = SPACE.given("backward_multiplier", bidirectional=(0.03, 0.1, 0.3))
SPACE = SPACE.given("preference_multiplier", risk=(0.03, 0.1, 0.3)).given("anchor", risk=(0.03, 0.1, 0.3))
