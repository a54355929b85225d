"""What may vary for efe: step sizes of its parts, how far it looks, what its loss adds, and what it remembers.

Steps per round stay fixed: they are time, and rounds of one sweep are compared.
"""

from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from search_spaces.space import Space

# A term is off, or weighs what the first system gave it at most; cross-entropy weighs 1.
TERM = CategoricalDistribution((0.0, 0.03, 0.1, 0.3))

SPACE = Space(
    {
        # As for percell: below 1e-3 a few hundred steps do not fit the demonstrations.
        "learning_rate": FloatDistribution(1e-3, 2e-2, log=True),
        # The encoder learns from other signals than the forward model, so its steps may differ.
        "encoder_multiplier": FloatDistribution(0.1, 2.0, log=True),
        # As for percell: three demonstrations are few, so strong decay is worth a try.
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
        # None, or fewer entries, which forget early tasks; more neighbours blur what is remembered.
        "memory_capacity": CategoricalDistribution((0, 16, 256)),
        "memory_k": IntDistribution(1, 4),
        # Right for most rules, wrong for those that know a colour by its name.
        "permute_colours": CategoricalDistribution((False, True)),
        # Cosine; the median of two tasks is 0.62, and 0.77 with features.
        "memory_similarity": FloatDistribution(0.5, 0.98),
        # Who makes room in a memory that fills up.
        "eviction": CategoricalDistribution(("oldest", "least_used")),
        # What a frozen base says of the demonstrations.
        "features": CategoricalDistribution((False, True)),
        # The backward model learns only where a term asks it; the preference acts only through risk.
        "backward_multiplier": FloatDistribution(0.25, 4.0, log=True),
        "preference_multiplier": FloatDistribution(0.25, 4.0, log=True),
        "anchor": TERM,
        # Decides where lenses disagree on an output's size: one task in fifteen.
        "size_head": CategoricalDistribution((False, True)),
        # Both ask for features. LoRA on the base reads all demonstrations anew in every step: a small rank will do.
        "alignment": TERM,
        "base_r": CategoricalDistribution((0, 4)),
        # The base knows something already, so its steps are smaller, or as large at most.
        "base_multiplier": FloatDistribution(0.01, 1.0, log=True),
    }
)
for axis in ("success_threshold", "memory_k", "memory_similarity"):
    SPACE = SPACE.given(axis, memory_capacity=(16, 256))
SPACE = SPACE.given("eviction", memory_capacity=(16,))
SPACE = SPACE.given("alignment", features=True).given("base_r", features=True).given("base_multiplier", base_r=4)
SPACE = SPACE.given("backward_multiplier", bidirectional=(0.03, 0.1, 0.3))
SPACE = SPACE.given("preference_multiplier", risk=(0.03, 0.1, 0.3)).given("anchor", risk=(0.03, 0.1, 0.3))
