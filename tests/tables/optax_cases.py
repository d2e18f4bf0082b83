"""What is run beside what in the table of optimizers: classes of torch's with arguments, and what optax has for them.

An expression of optax has a place, `{}`, for arguments of `options`; all combinations are tried, the fewest first. The
values are those that torch documents for its own. No verdict stands here.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NamedTuple


class Template(NamedTuple):
    code: str
    options: Mapping[str, tuple[Any, ...]] = MappingProxyType({})


class Case(NamedTuple):
    """named: whether the first template is what optax has under that name."""

    torch: str
    templates: tuple[Template, ...]
    measure: str = "replay"
    named: bool = True


def decayed(inner: str, decay: str = "0.1") -> str:
    return f"optax.chain(optax.add_decayed_weights({decay}), {inner})"


ADAGRAD = {"eps": (1e-10, 0.0), "initial_accumulator_value": (0.0,)}
RMSPROP = {"decay": (0.99,), "eps_in_sqrt": (False,)}
AMSGRAD = {"bias_correction_mu": (False,), "bias_correction_nu": (False,)}
NADAM = {"eps_root": (1e-8,), "eps": (1e-16,), "nesterov": (False,)}
RADAM = {"threshold": (5.0001, 4.0), "eps_root": (1e-16,)}
ADAFACTOR = {
    "min_dim_size_to_factor": (1,),
    "multiply_by_parameter_scale": (False,),
    "clipping_threshold": (None,),
    "weight_decay_rate": (0.1,),
}

MUON = {"weight_decay": (0.1,), "eps": (1e-7,)}

OPTIMIZERS = (
    Case("torch.optim.SGD(p, lr=0.01)", (Template("optax.sgd(0.01)"),)),
    Case("torch.optim.SGD(p, lr=0.01, momentum=0.9)", (Template("optax.sgd(0.01, momentum=0.9{})"),)),
    Case(
        "torch.optim.SGD(p, lr=0.01, momentum=0.9, nesterov=True)",
        (Template("optax.sgd(0.01, momentum=0.9, nesterov=True)"),),
    ),
    Case(
        "torch.optim.SGD(p, lr=0.01, momentum=0.9, dampening=0.9)",
        (
            Template("optax.sgd(0.01, momentum=0.9{})", {"nesterov": (True,)}),
            Template("optax.chain(optax.ema(0.9{}), optax.scale(-0.01))", {"debias": (False,)}),
            Template("optax.sgd(0.001, momentum=0.9)"),
        ),
    ),
    Case(
        "torch.optim.SGD(p, lr=0.01, momentum=0.9, weight_decay=0.1)",
        (Template("optax.sgd(0.01, momentum=0.9)"), Template(decayed("optax.sgd(0.01, momentum=0.9)"))),
    ),
    Case("torch.optim.Adam(p, lr=0.01)", (Template("optax.adam(0.01{})"),)),
    Case("torch.optim.Adam(p, lr=0.01, fused=True)", (Template("optax.adam(0.01{})"),)),
    Case(
        "torch.optim.Adam(p, lr=0.01, maximize=True)",
        (Template("optax.adam(0.01)"), Template("optax.chain(optax.scale(-1.0), optax.adam(0.01))")),
    ),
    Case(
        "torch.optim.Adam(p, lr=0.01, weight_decay=0.1)",
        (
            Template("optax.adam(0.01)"),
            Template("optax.adamw(0.01, weight_decay=0.1)"),
            Template(decayed("optax.adam(0.01)")),
        ),
    ),
    Case(
        "torch.optim.Adam(p, lr=0.01, weight_decay=0.1, decoupled_weight_decay=True)",
        (Template("optax.adam(0.01)"), Template("optax.adamw(0.01, weight_decay=0.1)")),
    ),
    Case(
        "torch.optim.Adam(p, lr=0.01, amsgrad=True)",
        (Template("optax.amsgrad(0.01{})", AMSGRAD),),
    ),
    Case("torch.optim.AdamW(p, lr=0.01)", (Template("optax.adamw(0.01{})", {"weight_decay": (0.01,)}),)),
    Case(
        "torch.optim.AdamW(p, lr=0.01, amsgrad=True)",
        (
            Template("optax.adamw(0.01{})", {"weight_decay": (0.01,)}),
            Template(
                "optax.chain(optax.scale_by_amsgrad({}), optax.add_decayed_weights(0.01), "
                "optax.scale_by_learning_rate(0.01))",
                AMSGRAD,
            ),
        ),
    ),
    Case("torch.optim.Adamax(p, lr=0.01)", (Template("optax.adamax(0.01{})", {"eps": (0.0,)}),)),
    Case(
        "torch.optim.Adamax(p, lr=0.01, weight_decay=0.1)",
        (
            Template("optax.adamax(0.01)"),
            Template("optax.adamaxw(0.01, weight_decay=0.1)"),
            Template(decayed("optax.adamax(0.01)")),
        ),
    ),
    Case(
        "torch.optim.NAdam(p, lr=0.01)",
        (Template("optax.nadam(0.01{})", NADAM), Template("optax.adam(0.01, nesterov=True)")),
    ),
    Case("torch.optim.NAdam(p, lr=0.01, momentum_decay=0)", (Template("optax.nadam(0.01{})", NADAM),)),
    Case(
        "torch.optim.NAdam(p, lr=0.01, weight_decay=0.1, decoupled_weight_decay=True)",
        (Template("optax.nadam(0.01)"), Template("optax.nadamw(0.01, weight_decay=0.1{})", NADAM)),
    ),
    Case("torch.optim.RAdam(p, lr=0.01)", (Template("optax.radam(0.01{})", RADAM | {"eps": (1e-12,)}),)),
    Case("torch.optim.RAdam(p, lr=0.01, eps=1e-30)", (Template("optax.radam(0.01{})", {"eps": (1e-30,)}),)),
    Case(
        "torch.optim.RAdam(p, lr=0.01, eps=1e-30, weight_decay=0.1)",
        (
            Template("optax.radam(0.01{})", {"eps": (1e-30,)}),
            Template(decayed("optax.radam(0.01{})"), {"eps": (1e-30,)}),
        ),
    ),
    Case("torch.optim.Adagrad(p, lr=0.01)", (Template("optax.adagrad(0.01{})", ADAGRAD),)),
    Case(
        "torch.optim.Adagrad(p, lr=0.01, initial_accumulator_value=0.1, eps=1e-7)",
        (Template("optax.adagrad(0.01, initial_accumulator_value=0.1{})", {"eps": (1e-14, 0.0)}),),
    ),
    Case(
        "torch.optim.Adagrad(p, lr=0.01, initial_accumulator_value=0.1, eps=1e-30)",
        (Template("optax.adagrad(0.01, initial_accumulator_value=0.1, eps=1e-30)"),),
    ),
    Case(
        "torch.optim.Adagrad(p, lr=0.01, lr_decay=0.1, initial_accumulator_value=0.1, eps=1e-30)",
        (
            Template("optax.adagrad(0.01{})", {"eps": (1e-30,)}),
            Template("optax.adagrad(lambda count: 0.01 / (1 + 0.1 * count){})", {"eps": (1e-30,)}),
        ),
    ),
    Case(
        "torch.optim.Adadelta(p, lr=0.1)",
        (Template("optax.adadelta(0.1{})", {"rho": (0.95,)}),),
    ),
    Case(
        "torch.optim.Adadelta(p, lr=0.1, weight_decay=0.1)",
        (
            Template("optax.adadelta(0.1, weight_decay=0.1)"),
            Template(decayed("optax.adadelta(0.1)")),
        ),
    ),
    Case("torch.optim.RMSprop(p, lr=0.01)", (Template("optax.rmsprop(0.01{})", RMSPROP),)),
    Case(
        "torch.optim.RMSprop(p, lr=0.01, momentum=0.9)",
        (Template("optax.rmsprop(0.01, momentum=0.9{})", RMSPROP),),
    ),
    Case(
        "torch.optim.RMSprop(p, lr=0.01, centered=True)",
        (Template("optax.rmsprop(0.01, centered=True{})", RMSPROP),),
    ),
    Case(
        "torch.optim.RMSprop(p, lr=0.01, centered=True, momentum=0.9)",
        (Template("optax.rmsprop(0.01, centered=True, momentum=0.9{})", RMSPROP),),
    ),
    Case(
        "torch.optim.RMSprop(p, lr=0.01, weight_decay=0.1)",
        (Template("optax.rmsprop(0.01)"), Template(decayed("optax.rmsprop(0.01{})"), RMSPROP)),
    ),
    Case("torch.optim.Rprop(p, lr=0.01)", (Template("optax.rprop(0.01{})", {"min_step_size": (0.0,)}),)),
    Case(
        "torch.optim.ASGD(p, lr=0.01)",
        (
            Template("optax.sgd(0.01)"),
            Template(decayed("optax.sgd(0.01)", "1e-4")),
            Template(decayed("optax.sgd(lambda count: 0.01 / (1 + 1e-4 * 0.01 * count) ** 0.75)", "1e-4")),
        ),
        named=False,
    ),
    Case(
        "torch.optim.SparseAdam(p, lr=0.01)",
        (Template("optax.adam(0.01)"),),
        measure="sparse",
        named=False,
    ),
    Case("torch.optim.Adafactor(p, lr=0.01)", (Template("optax.adafactor(0.01{})", ADAFACTOR),)),
    Case(
        "torch.optim.Adafactor(p, lr=0.01, eps=(1e-15, 1e-3))",
        (Template("optax.adafactor(0.01{})", ADAFACTOR | {"eps": (0.0, 1e-15)}),),
    ),
    Case(
        "torch.optim.Muon(p, lr=0.01)",
        (Template("optax.contrib.muon(0.01{})", MUON),),
        measure="matrices",
    ),
    Case(
        "torch.optim.Muon(p, lr=0.01)",
        (Template("optax.contrib.muon(0.01{})", MUON),),
        measure="matrices, transposed for optax",
    ),
    Case(
        "torch.optim.Muon(p, lr=0.01, weight_decay=0.0, adjust_lr_fn='match_rms_adamw')",
        (Template("optax.contrib.muon(0.01{})", {"consistent_rms": (0.2,), "eps": (1e-7,)}),),
        measure="matrices",
    ),
    Case("torch.optim.LBFGS(p)", (Template("optax.lbfgs({})", {"memory_size": (100,)}),), measure="descent"),
    Case(
        "torch.optim.LBFGS(p, lr=0.1, max_iter=1, history_size=10)",
        (Template("optax.lbfgs(0.1, linesearch=None{})", {"scale_init_precond": (False,), "memory_size": (100,)}),),
        measure="descent",
    ),
)

ONE_CYCLE = {"final_div_factor": (250000.0,), "pct_start": (0.29,)}

SCHEDULES = (
    Case(
        "lr_scheduler.StepLR(o, 10, gamma=0.5)",
        (Template("optax.exponential_decay(0.1, 10, 0.5{})", {"staircase": (True,)}),),
        "rates",
        named=False,
    ),
    Case(
        "lr_scheduler.MultiStepLR(o, [10, 25], gamma=0.5)",
        (
            Template("optax.piecewise_constant_schedule(0.1, dict.fromkeys((10, 25), 0.5))"),
            Template("optax.piecewise_constant_schedule(0.1, dict.fromkeys((9, 24), 0.5))"),
        ),
        "rates",
        named=False,
    ),
    Case(
        "lr_scheduler.ConstantLR(o, factor=0.5, total_iters=5)",
        (
            Template("optax.constant_schedule(0.1)"),
            Template("optax.constant_schedule(0.05)"),
            Template("optax.join_schedules([optax.constant_schedule(0.05), optax.constant_schedule(0.1)], [5])"),
            Template("optax.join_schedules([optax.constant_schedule(0.05), optax.constant_schedule(0.1)], [4])"),
        ),
        "rates",
    ),
    Case(
        "lr_scheduler.LinearLR(o, start_factor=0.1, total_iters=10)",
        (Template("optax.linear_schedule(0.01, 0.1, 10)"), Template("optax.linear_schedule(0.01, 0.1, 9)")),
        "rates",
    ),
    Case(
        "lr_scheduler.ExponentialLR(o, gamma=0.9)",
        (Template("optax.exponential_decay(0.1, 1, 0.9)"),),
        "rates",
    ),
    Case(
        "lr_scheduler.PolynomialLR(o, total_iters=20, power=2.0)",
        (Template("optax.polynomial_schedule(0.1, 0.0, 2.0, 20)"),),
        "rates",
    ),
    Case(
        "lr_scheduler.CosineAnnealingLR(o, 20)",
        (Template("optax.cosine_decay_schedule(0.1, 20)"),),
        "rates",
    ),
    Case(
        "lr_scheduler.CosineAnnealingLR(o, 60, eta_min=0.01)",
        (Template("optax.cosine_decay_schedule(0.1, 60{})", {"alpha": (0.01, 0.1)}),),
        "rates",
    ),
    Case(
        "lr_scheduler.CosineAnnealingWarmRestarts(o, 10, T_mult=2)",
        (
            Template(
                "optax.sgdr_schedule([{'init_value': 0.1, 'peak_value': 0.1, 'warmup_steps': 0, 'decay_steps': n} "
                "for n in (10, 20, 40)])"
            ),
        ),
        "rates",
    ),
    Case(
        "lr_scheduler.CyclicLR(o, 0.01, 0.1, step_size_up=10, cycle_momentum=False)",
        (
            Template(
                "optax.join_schedules([optax.linear_schedule(0.01, 0.1, 10), optax.linear_schedule(0.1, 0.01, 10)] "
                "* 3, [10, 20, 30, 40, 50])"
            ),
        ),
        "rates",
        named=False,
    ),
    Case(
        "lr_scheduler.OneCycleLR(o, 0.1, total_steps=60)",
        tuple(Template(f"optax.cosine_onecycle_schedule({steps}, 0.1{{}})", ONE_CYCLE) for steps in (60, 59)),
        "rates",
    ),
    Case(
        "lr_scheduler.OneCycleLR(o, 0.1, total_steps=61)",
        tuple(Template(f"optax.cosine_onecycle_schedule({steps}, 0.1{{}})", ONE_CYCLE) for steps in (61, 60)),
        "rates",
    ),
    Case(
        "lr_scheduler.OneCycleLR(o, 0.1, total_steps=60, anneal_strategy='linear')",
        tuple(
            Template(f"optax.linear_onecycle_schedule({steps}, 0.1{{}})", {"pct_final": (1.0,)} | ONE_CYCLE)
            for steps in (60, 59)
        ),
        "rates",
    ),
    Case(
        "lr_scheduler.OneCycleLR(o, 0.1, total_steps=60, anneal_strategy='linear', three_phase=True)",
        tuple(
            Template(f"optax.linear_onecycle_schedule({steps}, 0.1{{}})", {"pct_final": (0.6, 0.58)} | ONE_CYCLE)
            for steps in (60, 59)
        ),
        "rates",
    ),
    Case(
        "lr_scheduler.LambdaLR(o, lambda epoch: 1 / (1 + epoch))",
        (Template("lambda count: 0.1 / (1 + count)"),),
        "rates",
        named=False,
    ),
    Case(
        "lr_scheduler.MultiplicativeLR(o, lambda epoch: 0.9)",
        (Template("optax.exponential_decay(0.1, 1, 0.9)"),),
        "rates",
        named=False,
    ),
    Case(
        "lr_scheduler.SequentialLR(o, [lr_scheduler.LinearLR(o, 0.1, 1.0, 5), "
        "lr_scheduler.CosineAnnealingLR(o, 55)], [5])",
        (
            Template("optax.warmup_cosine_decay_schedule(0.01, 0.1, 5, 55{})"),
            Template("optax.warmup_cosine_decay_schedule(0.01, 0.1, 5, 60{})"),
            Template(
                "optax.join_schedules([optax.linear_schedule(0.01, 0.1, 5), optax.cosine_decay_schedule(0.1, 55)], [5])"
            ),
        ),
        "rates",
        named=False,
    ),
    Case(
        "lr_scheduler.ChainedScheduler([lr_scheduler.ConstantLR(o, 0.5, 5), lr_scheduler.ExponentialLR(o, 0.9)])",
        (
            Template("optax.exponential_decay(0.05, 1, 0.9)"),
            Template("lambda count: optax.piecewise_constant_schedule(0.05, {5: 2.0})(count) * 0.9**count"),
        ),
        "rates",
        named=False,
    ),
    Case(
        "lr_scheduler.ReduceLROnPlateau(o, factor=0.5, patience=2)",
        (Template("optax.contrib.reduce_on_plateau(0.5, 2{})", {"atol": (1e-12,)}),)
        + tuple(Template(f"optax.contrib.reduce_on_plateau(0.5, {n})") for n in (3, 1)),
        "rates after a loss",
    ),
    Case(
        "lr_scheduler.ReduceLROnPlateau(o, factor=0.5, patience=2, cooldown=2)",
        tuple(Template(f"optax.contrib.reduce_on_plateau(0.5, {n}{{}})", {"cooldown": (2, 1, 3)}) for n in (2, 3)),
        "rates after a loss",
    ),
    Case(
        "lr_scheduler.ReduceLROnPlateau(o, factor=0.5, patience=2)",
        tuple(Template(f"optax.contrib.reduce_on_plateau(0.5, {n})") for n in (2, 3, 1)),
        "rates of a step with its loss",
    ),
)

CLIPPING = (
    Case("clip_grad_norm_(p, 1.0)", (Template("optax.clip_by_global_norm(1.0)"),), "clipping"),
    Case("clip_grad_norm_(p, 1e-4)", (Template("optax.clip_by_global_norm(1e-4)"),), "clipping"),
    Case(
        "clip_grad_norm_(p, 1.0, norm_type=math.inf)",
        (Template("optax.clip_by_global_norm(1.0)"), Template("optax.clip(1.0)")),
        "clipping",
        named=False,
    ),
    Case(
        "clip_grad_value_(p, 1.0)",
        (Template("optax.clip(1.0)"),),
        "clipping",
    ),
    Case(
        "get_total_norm(g)",
        (Template("optax.global_norm"), Template("optax.tree.norm")),
        "norms",
    ),
)
