"""Plain computations that alignment losses are compared with."""

import itertools
import math


def axe_recurrence(log_probs_jk, slots, length, delta):
    """Aligned cross entropy of one sentence, cell by cell (Ghazvininejad et al. 2020); class 0 is the blank."""
    cost = (-log_probs_jk).tolist()
    a = [[math.inf] * (slots + 1) for _ in range(length + 1)]
    a[0][0] = 0.0
    for i, j in itertools.product(range(length + 1), range(slots + 1)):
        if i:
            a[i][j] = min(a[i][j], a[i - 1][j] + delta * cost[max(j, 1) - 1][i])
        if j:
            a[i][j] = min(a[i][j], a[i][j - 1] + cost[j - 1][0])
        if i and j:
            a[i][j] = min(a[i][j], a[i - 1][j - 1] + cost[j - 1][i])
    return a[length][slots]


def graph_paths(vertices, length):
    """All paths of ``length`` vertices from the first vertex to the last one."""
    if length == 1:
        return [(0,)] if vertices == 1 else []
    inner = itertools.combinations(range(1, vertices - 1), length - 2)
    return [(0, *chosen, vertices - 1) for chosen in inner] if vertices > 1 else []


def path_probability(path, emissions_nt, transitions_ij):
    """Probability of the path and of the tokens on it."""
    total = emissions_nt[0, path[0]].exp()
    for k in range(1, len(path)):
        total = total * transitions_ij[path[k - 1], path[k]] * emissions_nt[k, path[k]].exp()
    return total
