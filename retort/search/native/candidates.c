/* The choice of most_probable_pairs in candidates.py: the same ones, in the same order, if no value is NaN. */

#include <math.h>
#include <stdint.h>
#include <stdlib.h>

typedef struct {
    float value;
    int32_t place;
} Candidate;

/* The ``most`` largest, the largest first; of equal ones those that came first. */
typedef struct {
    Candidate *best;
    int32_t count, most;
} Chosen;

static void offer(Chosen *chosen, float value, int32_t place) {
    if (chosen->count == chosen->most) {
        if (value <= chosen->best[chosen->most - 1].value) {
            return;
        }
        chosen->count--;
    }
    int32_t at = chosen->count++;
    for (; at > 0 && chosen->best[at - 1].value < value; at--) {
        chosen->best[at] = chosen->best[at - 1];
    }
    chosen->best[at] = (Candidate){value, place};
}

/* Of the sums of a transition to a vertex, of which each row has one, and of one of its ``width`` tokens: rows and
 * places of the ``most`` largest of each row that are above -inf, and at most -``log_share`` below the largest. Places
 * count the tokens, vertex by vertex. ``rows`` and ``places`` have room for ``most`` of each row. Returns how many there
 * are; -1 if there is no memory. */
int64_t retort_most_probable_pairs(int32_t count, int32_t vertices, int64_t stride, const float *transitions,
                                   int32_t width, const float *tokens, float log_share, int32_t most, int32_t *rows,
                                   int32_t *places) {
    Chosen chosen = {.best = malloc((size_t)most * sizeof(Candidate)), .most = most};
    float *tops = malloc((size_t)vertices * sizeof(float));
    int64_t found = -1;
    if (!chosen.best || !tops) {
        goto end;
    }
    for (int32_t vertex = 0; vertex < vertices; vertex++) {
        tops[vertex] = -INFINITY;
        for (int32_t i = 0; i < width; i++) {
            float token = tokens[(int64_t)vertex * width + i];
            tops[vertex] = token > tops[vertex] ? token : tops[vertex];
        }
    }
    found = 0;
    for (int32_t row = 0; row < count; row++) {
        const float *transition = transitions + row * stride;
        float top = -INFINITY;
        for (int32_t vertex = 0; vertex < vertices; vertex++) {
            float both = transition[vertex] + tops[vertex];
            top = both > top ? both : top;
        }
        float floor = top + log_share;
        chosen.count = 0;
        for (int32_t vertex = 0; vertex < vertices; vertex++) {
            if (!(transition[vertex] + tops[vertex] >= floor)) {
                continue;
            }
            for (int32_t i = 0; i < width; i++) {
                int32_t place = vertex * width + i;
                float both = transition[vertex] + tokens[place];
                if (both >= floor && both > -INFINITY) {
                    offer(&chosen, both, place);
                }
            }
        }
        for (int32_t i = 0; i < chosen.count; i++, found++) {
            rows[found] = row;
            places[found] = chosen.best[i].place;
        }
    }
end:
    free(chosen.best);
    free(tops);
    return found;
}
