"""Search space of DPO (Rafailov et al. 2023) and its two variants: LoRA's axes, and the loss's own."""

from optuna.distributions import CategoricalDistribution, FloatDistribution

from search_spaces import cot
from search_spaces.space import Space

PREFERENCES = Space(
    {
        # 0.1 in the paper; above 0.5 the policy hardly leaves the reference.
        "beta": FloatDistribution(0.02, 0.5, log=True),
        # A low beta at first allows larger changes in the first steps; 40 steps are two rounds.
        "beta_warmup_steps": CategoricalDistribution((0, 10, 40)),
        # Cal-DPO also sets targets for both log ratios (Xiao et al. 2024); its gradients are far larger.
        "loss_type": CategoricalDistribution(("sigmoid", "cal_dpo")),
        # Dr. DPO (Wu et al. 2024) gives doubtful pairs less weight; infinity is the plain mean.
        "beta_prime": CategoricalDistribution((0.5, 1.0, float("inf"))),
    }
)
# Far below supervised rates: a pair gives no distance, and above 1e-4 both completions soon become unlikely.
SPACE = cot.SPACE.replace(learning_rate=FloatDistribution(1e-6, 1e-4, log=True)) | PREFERENCES
