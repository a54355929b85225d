"""What may vary for DPO (Rafailov et al. 2023) and its two variants: LoRA's axes, and how hard preferences pull."""

from optuna.distributions import CategoricalDistribution, FloatDistribution

from search_spaces import cot
from search_spaces.space import Space

PREFERENCES = Space(
    {
        # 0.1 in the paper; the seed went from 0.05 to 0.1. Above 0.5 the reference hardly lets go.
        "beta": FloatDistribution(0.02, 0.5, log=True),
        # A beta that begins low lets the first steps move further; 40 steps are two rounds.
        "beta_warmup_steps": CategoricalDistribution((0, 10, 40)),
        # Cal-DPO also says how far apart the two sides shall be (Xiao et al. 2024); its gradients are far larger.
        "loss_type": CategoricalDistribution(("sigmoid", "cal_dpo")),
        # Dr. DPO (Wu et al. 2024) weighs doubtful pairs down; infinity is the plain mean.
        "beta_prime": CategoricalDistribution((0.5, 1.0, float("inf"))),
    }
)
# Far below supervised rates: nothing in a pair says how far to go, and above 1e-4 both sides soon become unlikely.
SPACE = cot.SPACE.replace(learning_rate=FloatDistribution(1e-6, 1e-4, log=True)) | PREFERENCES
