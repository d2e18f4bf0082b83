"""The optimizers, clipping and the embedding's own rules, as the equations have them. See spec.training."""

import numpy as np

from spec.models import Embedding, Model
from spec.parameters import Parameters
from spec.tasks import Batch, valid_steps
from spec.training import SGD, Adam, AdamW, Clipping, RMSprop, State, Training


def step(training: Training, state: State, gradients: Parameters) -> State:
    """The state after one step with these gradients, clipping included."""
    gradients = clipped(training.clipping, gradients)
    parameters, slots = dict(state.parameters), dict(state.slots)
    for name, gradient in gradients.items():
        p = parameters[name]
        rate, decay = training.learning_rate(state.step, name), training.weight_decay(name, p.ndim)
        match training.optimizer:
            case Adam(beta1=beta1, beta2=beta2, epsilon=epsilon) | AdamW(beta1=beta1, beta2=beta2, epsilon=epsilon):
                t = state.step + 1
                m = beta1 * slots[f"{name}.exp_avg"] + (1 - beta1) * gradient
                v = beta2 * slots[f"{name}.exp_avg_sq"] + (1 - beta2) * gradient**2
                slots[f"{name}.exp_avg"], slots[f"{name}.exp_avg_sq"] = m, v
                if training.optimizer.amsgrad:
                    v = slots[f"{name}.max_exp_avg_sq"] = np.maximum(slots[f"{name}.max_exp_avg_sq"], v)
                p = p * (1 - rate * decay)
                p = p - rate * (m / (1 - beta1**t)) / (np.sqrt(v / (1 - beta2**t)) + epsilon)
            case SGD(momentum=momentum, nesterov=nesterov):
                b = gradient = gradient + decay * p if decay else gradient
                if momentum:
                    b = slots[f"{name}.momentum_buffer"] = momentum * slots[f"{name}.momentum_buffer"] + gradient
                p = p - rate * (gradient + momentum * b if nesterov else b)
            case RMSprop(alpha=alpha, epsilon=epsilon, momentum=momentum):
                v = slots[f"{name}.square_avg"] = alpha * slots[f"{name}.square_avg"] + (1 - alpha) * gradient**2
                b = gradient / (np.sqrt(v) + epsilon)
                if momentum:
                    b = slots[f"{name}.momentum_buffer"] = momentum * slots[f"{name}.momentum_buffer"] + b
                p = p - rate * b
        parameters[name] = p
    return State(parameters, slots, state.step + 1)


def clipped(clipping: Clipping | None, gradients: Parameters) -> Parameters:
    """Each element by its value, and then all gradients scaled together."""
    if clipping is None:
        return gradients
    if clipping.max_value is not None:
        gradients = {n: np.clip(gradient, -clipping.max_value, clipping.max_value) for n, gradient in gradients.items()}
    if clipping.max_norm is None:
        return gradients
    norm = np.sqrt(sum(np.sum(gradient**2) for gradient in gradients.values()))
    # Not `min`, which is 1 beside a NaN: a norm that is none must not be hidden.
    factor = np.minimum(1.0, clipping.max_norm / (norm + clipping.epsilon))
    return {name: gradient * factor for name, gradient in gradients.items()}


def renormalized(model: Model, parameters: Parameters, batch: Batch) -> Parameters:
    """The parameters after the embedding's max_norm has rescaled the rows that the batch uses."""
    if not isinstance(model.inputs, Embedding) or model.inputs.max_norm is None:
        return parameters
    spec, longest = model.inputs, model.inputs.max_norm
    rows = parameters["embedding.weight"].copy()
    for row in np.unique(used_indices(batch)):
        norm = np.sum(np.abs(rows[row]) ** spec.norm_type) ** (1 / spec.norm_type)
        if norm > longest:
            rows[row] *= longest / (norm + spec.renormalization_epsilon)
    return {**parameters, "embedding.weight": rows}


def embedding_gradient(model: Model, gradients: Parameters, batch: Batch) -> Parameters:
    """The gradients after the embedding's padding_idx and scale_grad_by_freq."""
    if not isinstance(model.inputs, Embedding):
        return gradients
    spec, rows = model.inputs, gradients["embedding.weight"].copy()
    if spec.scale_grad_by_freq:
        counts = np.bincount(used_indices(batch), minlength=spec.num_embeddings)
        rows /= np.maximum(counts, 1)[:, None]
    if spec.padding_idx is not None:
        rows[spec.padding_idx] = 0
    return {**gradients, "embedding.weight": rows}


def used_indices(batch: Batch) -> np.ndarray:
    """The indices of all valid steps, one after the other."""
    if batch.lengths is None:
        return batch.inputs.ravel()
    return batch.inputs[valid_steps(batch.lengths, batch.inputs.shape[1])]
