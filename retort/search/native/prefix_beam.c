/* The search over the slots of CTC of prefix_beam.py: the same texts. */

#include "texts.h"

#define SMALL 1e-100

typedef struct {
    Texts texts;
    int32_t *beam, *grown; /* indices of nodes */
    int32_t beam_count, grown_count;
    size_t grown_room;
    double *totals, *blanks, *ends, *stayed;
} PrefixSearch;

/* What the beam's texts have one slot later, if none is new: see _stayed. */
static void stay(PrefixSearch *search, double slot_blank, int32_t count, const int32_t *tokens, const double *probs) {
    for (int32_t i = 0; i < search->beam_count; i++) {
        const Node *node = &search->texts.nodes[search->beam[i]];
        double blank = node->both * slot_blank, ends = 0.0;
        for (int32_t k = 0; k < count; k++) {
            if (tokens[k] == node->token) {
                const Node *parent = &search->texts.nodes[node->parent];
                ends = node->ends * probs[k];
                /* a token that equals the last one needs a blank between them */
                if (parent->alive) {
                    ends += (parent->token == node->token ? parent->blank : parent->both) * probs[k];
                }
                break;
            }
        }
        double both = blank + ends;
        search->blanks[i] = blank;
        search->ends[i] = ends;
        search->stayed[i] = both != 0 ? log(both) + node->ngrams : -INFINITY;
    }
}

/* Texts with a token more that are not in the beam, and the total below which none can be in the new one: see _grown.
 * False if there is no memory. */
static int grow(PrefixSearch *search, int32_t count, const int32_t *tokens, const double *probs,
                const double *log_probs, int32_t size, double threshold, double *least_total) {
    double *totals = search->totals, largest = largest_score(search->texts.scorer), best = -INFINITY;
    int32_t total_count = search->beam_count;
    size_t most = (size_t)total_count * (size_t)count;
    int32_t *grown = with_room(search->grown, most, &search->grown_room, sizeof(int32_t));
    if (!grown) {
        return 0;
    }
    search->grown = grown;
    memcpy(totals, search->stayed, (size_t)total_count * sizeof(double));
    for (int32_t i = 0; i < total_count; i++) {
        best = totals[i] > best ? totals[i] : best;
    }
    double floor = best - threshold;
    int full = total_count == size;
    if (full) {
        heapify(totals, total_count);
        floor = totals[0] > floor ? totals[0] : floor;
    }
    search->grown_count = 0;
    for (int32_t i = 0; i < search->beam_count; i++) {
        int32_t index = search->beam[i];
        Node node = search->texts.nodes[index];
        double least = floor - node.total - largest;
        for (int32_t k = 0; k < count; k++) {
            if (log_probs[k] < least) {
                break;
            }
            int32_t child = child_of(&search->texts, index, tokens[k]);
            double score, ends, total;
            if (child == NONE) {
                if (!score_behind(&search->texts, index, tokens[k], &score)) {
                    return 0;
                }
            } else if (search->texts.nodes[child].alive) {
                continue; /* it has stayed */
            } else {
                score = search->texts.nodes[child].ngrams - node.ngrams;
            }
            if (tokens[k] == node.token) {
                ends = node.blank * probs[k];
                if (ends == 0) {
                    continue;
                }
                total = log(ends) + node.ngrams + score;
            } else {
                ends = node.both * probs[k];
                total = node.total + log_probs[k] + score;
            }
            if (total < floor) {
                continue;
            }
            if (child == NONE && (child = new_node(&search->texts, index, tokens[k], node.ngrams + score)) == NONE) {
                return 0;
            }
            Node *text = &search->texts.nodes[child];
            text->blank = 0.0;
            text->ends = text->both = ends;
            text->total = total;
            grown[search->grown_count++] = child;
            /* the size-th best so far is a floor for what is yet to come */
            full = push(totals, &total_count, size, total);
            best = total > best ? total : best;
            floor = best - threshold > floor ? best - threshold : floor;
            floor = full && totals[0] > floor ? totals[0] : floor;
            least = floor - node.total - largest;
        }
    }
    *least_total = floor;
    return 1;
}

/* The largest total first; equal ones stay in their order. */
static void sort_by_total(const Node *nodes, int32_t *texts, int32_t count) {
    for (int32_t i = 1; i < count; i++) {
        int32_t text = texts[i], at = i;
        for (; at > 0 && nodes[texts[at - 1]].total < nodes[text].total; at--) {
            texts[at] = texts[at - 1];
        }
        texts[at] = text;
    }
}

/* The next beam: see _kept. ``beam`` has room for all. */
static void keep(PrefixSearch *search, double floor, int32_t size) {
    int32_t kept = 0;
    for (int32_t i = 0; i < search->beam_count; i++) {
        Node *node = &search->texts.nodes[search->beam[i]];
        if (search->stayed[i] < floor) {
            node->alive = 0;
        } else {
            node->blank = search->blanks[i];
            node->ends = search->ends[i];
            node->both = node->blank + node->ends;
            node->total = search->stayed[i];
            search->beam[kept++] = search->beam[i];
        }
    }
    for (int32_t i = 0; i < search->grown_count; i++) {
        Node *node = &search->texts.nodes[search->grown[i]];
        if (node->total >= floor) {
            node->alive = 1;
            search->beam[kept++] = search->grown[i];
        }
    }
    if (kept > size) {
        sort_by_total(search->texts.nodes, search->beam, kept);
        for (int32_t i = size; i < kept; i++) {
            search->texts.nodes[search->beam[i]].alive = 0;
        }
        kept = size;
    }
    search->beam_count = kept;
}

/* Divide the probabilities of the beam where they become too small; the log of the divisor. */
static double rescale(PrefixSearch *search) {
    double largest = 0.0;
    if (!(search->texts.nodes[search->beam[0]].both < SMALL)) {
        return 0.0;
    }
    for (int32_t i = 0; i < search->beam_count; i++) {
        double both = search->texts.nodes[search->beam[i]].both;
        largest = both > largest ? both : largest;
    }
    if (!(largest > 0 && largest < SMALL)) {
        return 0.0;
    }
    for (int32_t i = 0; i < search->beam_count; i++) {
        Node *node = &search->texts.nodes[search->beam[i]];
        node->blank /= largest;
        node->ends /= largest;
        node->both /= largest;
        node->total -= log(largest);
    }
    return log(largest);
}

/* Tokens of the best text, which are written to ``out`` (room for one per slot), and its score. Returns their number;
 * NONE if there is no memory.
 *
 * Slot i has the candidates first[i] to first[i + 1] - 1, the most probable first: their tokens, probabilities and
 * the logs of these. */
int32_t retort_prefix_beam(int32_t slots, const double *blank, const int32_t *first, const int32_t *tokens,
                           const double *probs, const double *log_probs, const Scorer *scorer, int32_t size,
                           double threshold, int32_t *out, double *score) {
    int32_t result = NONE, most = 0;
    double log_scale = 0.0;
    for (int32_t i = 0; i < slots; i++) {
        most = first[i + 1] - first[i] > most ? first[i + 1] - first[i] : most;
    }
    PrefixSearch search = {.texts = {.scorer = scorer}};
    search.beam = malloc((size_t)size * ((size_t)most + 1) * sizeof(int32_t));
    search.totals = malloc(4 * (size_t)size * sizeof(double));
    if (!search.beam || !search.totals || !begin(&search.texts)) {
        goto end;
    }
    search.blanks = search.totals + size;
    search.ends = search.blanks + size;
    search.stayed = search.ends + size;
    search.texts.nodes[0].alive = 1;
    search.texts.nodes[0].blank = search.texts.nodes[0].both = 1.0;
    search.beam[0] = 0;
    search.beam_count = 1;

    for (int32_t i = 0; i < slots; i++) {
        int32_t from = first[i], count = first[i + 1] - from;
        double floor;
        stay(&search, blank[i], count, tokens + from, probs + from);
        if (!grow(&search, count, tokens + from, probs + from, log_probs + from, size, threshold, &floor)) {
            goto end;
        }
        keep(&search, floor, size);
        log_scale += rescale(&search);
    }

    /* the best of the texts if all of them end */
    sort_by_total(search.texts.nodes, search.beam, search.beam_count);
    double best = -INFINITY;
    int32_t text = search.beam[0];
    for (int32_t i = 0; i < search.beam_count; i++) {
        double total = search.texts.nodes[search.beam[i]].total, eos;
        if (total <= best) {
            break; /* eos scores 0 at most */
        }
        if (!score_behind(&search.texts, search.beam[i], scorer->eos, &eos)) {
            goto end;
        }
        if (total + eos > best) {
            best = total + eos;
            text = search.beam[i];
        }
    }
    *score = best + log_scale;
    result = write_tokens(&search.texts, text, out);
end:
    free(search.texts.nodes);
    free(search.texts.contexts);
    free(search.grown);
    free(search.beam);
    free(search.totals);
    return result;
}

/* See VERSION in __init__.py. */
int32_t retort_native_version(void) { return 3; }
