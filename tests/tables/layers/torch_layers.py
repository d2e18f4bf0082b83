"""torch's recurrent layers and attention."""

import torch
from serve import HEADS, Attention, Recurrent, serve
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

torch.set_num_threads(1)


def recurrent(made, kind, **options):
    def initial(seed, inputs, hidden):
        torch.manual_seed(seed)
        return {name: one.detach().numpy() for name, one in made(inputs, hidden, **options).named_parameters()}

    def run(parameters, x, states, lengths):
        hidden = parameters["weight_hh_l0"].shape[1]
        layer = made(x.shape[2], hidden, batch_first=True, **options).double()
        layer.load_state_dict({name: torch.tensor(one) for name, one in parameters.items()}, strict=True)
        given = None if states is None else tuple(torch.tensor(one)[None] for one in states)
        given = given[0] if given is not None and len(given) == 1 else given
        entered = torch.tensor(x)
        if lengths is not None:
            entered = pack_padded_sequence(entered, torch.tensor(lengths), batch_first=True, enforce_sorted=False)
        with torch.no_grad():
            outputs, after = layer(entered, given)
        if lengths is not None:
            outputs, _ = pad_packed_sequence(outputs, batch_first=True, total_length=x.shape[1])
        return outputs, [one[0] for one in (after if isinstance(after, tuple) else (after,))]

    return Recurrent(kind, initial, run, "pack_padded_sequence", made, nn.RNNBase)


def attention(need_weights: bool, training: bool, argument: str) -> Attention:
    def initial(seed, features, heads):
        torch.manual_seed(seed)
        made = nn.MultiheadAttention(features, heads, batch_first=True)
        return {name: one.detach().numpy() for name, one in made.named_parameters()}

    def run(parameters, query, key, value, mask):
        layer = nn.MultiheadAttention(query.shape[2], HEADS, batch_first=True).double().train(training)
        layer.load_state_dict({name: torch.tensor(one) for name, one in parameters.items()}, strict=True)
        given = {}
        if mask is not None and argument == "attn_mask":
            given = {"attn_mask": torch.tensor(mask).repeat_interleave(HEADS, 0)}
        elif mask is not None:  # of all queries, what the last one has
            given = {"key_padding_mask": torch.tensor(mask[:, -1])}
        with torch.no_grad():
            found, _ = layer(*map(torch.tensor, (query, key, value)), need_weights=need_weights, **given)
        return found

    return Attention(initial, run, True, argument, laws=argument == "attn_mask" and need_weights)


def plain(parameters, query, key, value, mask):
    split = [torch.tensor(one).unflatten(2, (HEADS, -1)).transpose(1, 2) for one in (query, key, value)]
    given = None if mask is None else torch.tensor(mask)[:, None]
    found = nn.functional.scaled_dot_product_attention(*split, attn_mask=given)
    return found.transpose(1, 2).flatten(2)


serve(
    {
        "nn.RNN": recurrent(nn.RNN, "rnn"),
        "nn.RNN, nonlinearity='relu'": recurrent(nn.RNN, "rnn", nonlinearity="relu"),
        "nn.GRU": recurrent(nn.GRU, "gru"),
        "nn.LSTM": recurrent(nn.LSTM, "lstm"),
        "nn.MultiheadAttention": attention(True, True, "attn_mask"),
        "nn.MultiheadAttention, need_weights=False": attention(False, True, "attn_mask"),
        "nn.MultiheadAttention, eval": attention(False, False, "attn_mask"),
        "scaled_dot_product_attention": Attention(lambda *_: {}, plain, None, "attn_mask", laws=False),
    },
    ("torch", "numpy"),
)
