/* The prefix beam search of prefix_beam.py, compiled; native.py calls it. Both give the same texts.
 *
 * Sums are in Python's order, in double precision, so that scores differ by rounding at most. No global state: any
 * number of threads may search at once.
 */

#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define BITS 16
#define MAX_ORDER (64 / BITS)
#define SMALL 1e-100
#define NONE (-1)

/* A table of n-grams (retort/data/ngrams.py) and the weights of a search; see Scorer in ngram_scores.py. */
typedef struct {
    const uint64_t *keys;
    const float *log_probs, *weights;
    const uint32_t *firsts;
    int32_t order, bos, eos;
    double lm_weight, bonus, unknown;
} Scorer;

/* An end of a text that n-grams of the table continue: the key of its continuation by token 0, their places. */
typedef struct {
    uint64_t first;
    uint32_t low, high;
    int32_t length;
    double weight; /* of leaving it for the shorter one */
} Level;

/* All such ends of a text; the empty one is the first, the longest the last. */
typedef struct {
    int32_t count;
    Level levels[MAX_ORDER];
} Context;

/* A text. Its probabilities are set while it is in the beam, as in Prefix. */
typedef struct {
    int32_t token, parent, child, sibling; /* indices of nodes; the first child, and the next one of its parent */
    int32_t context;                       /* index of a context, NONE while it is not needed */
    int32_t alive;                         /* whether it is in the beam */
    double ngrams, blank, ends, both, total;
} Node;

typedef struct {
    const Scorer *scorer;
    Node *nodes;
    Context *contexts;
    int32_t node_count, node_room, context_count, context_room;
    int32_t *beam, *grown;
    int32_t beam_count, grown_count, grown_room;
    double *totals, *blanks, *ends, *stayed;
} Search;

static int find(const Scorer *scorer, const Level *level, int32_t token, uint32_t *place) {
    uint64_t key = level->first + (uint64_t)token;
    uint32_t low = level->low, high = level->high;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (scorer->keys[middle] < key) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    *place = low;
    return low < level->high && scorer->keys[low] == key;
}

static double score_of(const Scorer *scorer, const Context *context, int32_t token) {
    double bonus = token == scorer->eos ? 0.0 : scorer->bonus, left = 0.0;
    for (int32_t i = context->count - 1;; i--) {
        const Level *level = &context->levels[i];
        uint32_t place;
        if (find(scorer, level, token, &place) && scorer->log_probs[place] > -INFINITY) {
            return scorer->lm_weight * (double)scorer->log_probs[place] + bonus + left;
        }
        if (i == 0) {
            return scorer->unknown + bonus + left;
        }
        left += level->weight;
    }
}

/* The context of a text with one more token. */
static void extend(const Scorer *scorer, const Context *context, int32_t token, Context *longer) {
    longer->levels[0] = context->levels[0];
    longer->count = 1;
    for (int32_t i = 0; i < context->count; i++) {
        const Level *level = &context->levels[i];
        uint32_t place;
        if (level->length + 1 < scorer->order && find(scorer, level, token, &place) && scorer->weights[place] != 0) {
            longer->levels[longer->count++] = (Level){
                .first = ((level->first + (uint64_t)token) << BITS) + 1,
                .low = scorer->firsts[place],
                .high = scorer->firsts[place + 1],
                .length = level->length + 1,
                .weight = scorer->lm_weight * (double)scorer->weights[place],
            };
        }
    }
}

/* Index of a node's context; NONE if there is no memory. Pointers to contexts are void after it. */
static int32_t context_of(Search *search, int32_t index) {
    Node *node = &search->nodes[index];
    if (node->context == NONE) {
        int32_t parent = context_of(search, node->parent);
        if (search->context_count == search->context_room) {
            int32_t room = 2 * search->context_room;
            Context *contexts = realloc(search->contexts, (size_t)room * sizeof(Context));
            if (!contexts) {
                return NONE;
            }
            search->contexts = contexts;
            search->context_room = room;
        }
        node->context = search->context_count++;
        extend(search->scorer, &search->contexts[parent], node->token, &search->contexts[node->context]);
    }
    return node->context;
}

static int32_t new_node(Search *search, int32_t parent, int32_t token, double ngrams) {
    if (search->node_count == search->node_room) {
        int32_t room = 2 * search->node_room;
        Node *nodes = realloc(search->nodes, (size_t)room * sizeof(Node));
        if (!nodes) {
            return NONE;
        }
        search->nodes = nodes;
        search->node_room = room;
    }
    int32_t index = search->node_count++;
    search->nodes[index] = (Node){.token = token, .parent = parent, .child = NONE, .sibling = NONE, .context = NONE,
                                  .ngrams = ngrams};
    if (parent != NONE) {
        search->nodes[index].sibling = search->nodes[parent].child;
        search->nodes[parent].child = index;
    }
    return index;
}

/* A heap whose least value is the first. */
static void sink(double *heap, int32_t count, int32_t at) {
    for (;;) {
        int32_t least = at, left = 2 * at + 1, right = left + 1;
        if (left < count && heap[left] < heap[least]) {
            least = left;
        }
        if (right < count && heap[right] < heap[least]) {
            least = right;
        }
        if (least == at) {
            return;
        }
        double value = heap[at];
        heap[at] = heap[least];
        heap[least] = value;
        at = least;
    }
}

static void heapify(double *heap, int32_t count) {
    for (int32_t i = count / 2 - 1; i >= 0; i--) {
        sink(heap, count, i);
    }
}

/* What the beam's texts have one slot later, if none is new: see _stayed. */
static void stay(Search *search, double slot_blank, int32_t count, const int32_t *tokens, const double *probs) {
    for (int32_t i = 0; i < search->beam_count; i++) {
        const Node *node = &search->nodes[search->beam[i]];
        double blank = node->both * slot_blank, ends = 0.0;
        for (int32_t k = 0; k < count; k++) {
            if (tokens[k] == node->token) {
                const Node *parent = &search->nodes[node->parent];
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
static int grow(Search *search, int32_t count, const int32_t *tokens, const double *probs, const double *log_probs,
                int32_t size, double threshold, double largest, double *least_total) {
    double *totals = search->totals, best = -INFINITY;
    int32_t total_count = search->beam_count;
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
        Node node = search->nodes[index];
        double least = floor - node.total - largest;
        for (int32_t k = 0; k < count; k++) {
            if (log_probs[k] < least) {
                break;
            }
            int32_t child = search->nodes[index].child;
            while (child != NONE && search->nodes[child].token != tokens[k]) {
                child = search->nodes[child].sibling;
            }
            double score, ends, total;
            if (child == NONE) {
                int32_t context = context_of(search, index);
                if (context == NONE) {
                    return 0;
                }
                score = score_of(search->scorer, &search->contexts[context], tokens[k]);
            } else if (search->nodes[child].alive) {
                continue; /* it has stayed */
            } else {
                score = search->nodes[child].ngrams - node.ngrams;
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
            if (child == NONE && (child = new_node(search, index, tokens[k], node.ngrams + score)) == NONE) {
                return 0;
            }
            Node *text = &search->nodes[child];
            text->blank = 0.0;
            text->ends = text->both = ends;
            text->total = total;
            if (search->grown_count == search->grown_room) {
                int32_t room = 2 * search->grown_room;
                int32_t *grown = realloc(search->grown, (size_t)room * sizeof(int32_t));
                if (!grown) {
                    return 0;
                }
                search->grown = grown;
                search->grown_room = room;
            }
            search->grown[search->grown_count++] = child;
            /* the size-th best so far is a floor for what is yet to come */
            if (full) {
                if (total > totals[0]) {
                    totals[0] = total;
                    sink(totals, total_count, 0);
                }
            } else {
                totals[total_count++] = total;
                full = total_count == size;
                if (full) {
                    heapify(totals, total_count);
                }
            }
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
static void keep(Search *search, double floor, int32_t size) {
    int32_t kept = 0;
    for (int32_t i = 0; i < search->beam_count; i++) {
        Node *node = &search->nodes[search->beam[i]];
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
        Node *node = &search->nodes[search->grown[i]];
        if (node->total >= floor) {
            node->alive = 1;
            search->beam[kept++] = search->grown[i];
        }
    }
    if (kept > size) {
        sort_by_total(search->nodes, search->beam, kept);
        for (int32_t i = size; i < kept; i++) {
            search->nodes[search->beam[i]].alive = 0;
        }
        kept = size;
    }
    search->beam_count = kept;
}

/* Divide the probabilities of the beam where they become too small; the log of the divisor. */
static double rescale(Search *search) {
    double largest = 0.0;
    if (!(search->nodes[search->beam[0]].both < SMALL)) {
        return 0.0;
    }
    for (int32_t i = 0; i < search->beam_count; i++) {
        double both = search->nodes[search->beam[i]].both;
        largest = both > largest ? both : largest;
    }
    if (!(largest > 0 && largest < SMALL)) {
        return 0.0;
    }
    for (int32_t i = 0; i < search->beam_count; i++) {
        Node *node = &search->nodes[search->beam[i]];
        node->blank /= largest;
        node->ends /= largest;
        node->both /= largest;
        node->total -= log(largest);
    }
    return log(largest);
}

/* See VERSION in native.py. */
int32_t retort_native_version(void) { return 1; }

/* Tokens of the best text, which are written to ``out`` (room for one per slot), and its score. Returns their number;
 * NONE if there is no memory.
 *
 * Slot i has the candidates first[i] to first[i + 1] - 1, the most probable first: their tokens, probabilities and
 * the logs of these. */
int32_t retort_prefix_beam(int32_t slots, const double *blank, const int32_t *first, const int32_t *tokens,
                           const double *probs, const double *log_probs, const Scorer *scorer, int32_t size,
                           double threshold, int32_t *out, double *score) {
    int32_t result = NONE, most = 0;
    double log_scale = 0.0, largest = scorer->bonus > 0 ? scorer->bonus : 0.0;
    for (int32_t i = 0; i < slots; i++) {
        most = first[i + 1] - first[i] > most ? first[i + 1] - first[i] : most;
    }
    Search search = {.scorer = scorer, .node_room = 256, .context_room = 128, .grown_room = 64};
    size_t room = (size_t)size * ((size_t)most + 1);
    search.nodes = malloc((size_t)search.node_room * sizeof(Node));
    search.contexts = malloc((size_t)search.context_room * sizeof(Context));
    search.grown = malloc((size_t)search.grown_room * sizeof(int32_t));
    search.beam = malloc(room * sizeof(int32_t));
    search.totals = malloc(4 * (size_t)size * sizeof(double));
    if (!search.nodes || !search.contexts || !search.grown || !search.beam || !search.totals) {
        goto end;
    }
    search.blanks = search.totals + size;
    search.ends = search.blanks + size;
    search.stayed = search.ends + size;

    int32_t root = new_node(&search, NONE, NONE, 0.0);
    Context empty = {.count = 1, .levels = {{.first = 1, .low = scorer->firsts[0], .high = scorer->firsts[1]}}};
    extend(scorer, &empty, scorer->bos, &search.contexts[0]);
    search.context_count = 1;
    search.nodes[root].context = 0;
    search.nodes[root].alive = 1;
    search.nodes[root].blank = search.nodes[root].both = 1.0;
    search.beam[0] = root;
    search.beam_count = 1;

    for (int32_t i = 0; i < slots; i++) {
        int32_t from = first[i], count = first[i + 1] - from;
        double floor;
        stay(&search, blank[i], count, tokens + from, probs + from);
        if (!grow(&search, count, tokens + from, probs + from, log_probs + from, size, threshold, largest, &floor)) {
            goto end;
        }
        keep(&search, floor, size);
        log_scale += rescale(&search);
    }

    /* the best of the texts if all of them end */
    sort_by_total(search.nodes, search.beam, search.beam_count);
    double best = -INFINITY;
    int32_t text = search.beam[0];
    for (int32_t i = 0; i < search.beam_count; i++) {
        double total = search.nodes[search.beam[i]].total;
        if (total <= best) {
            break; /* eos scores 0 at most */
        }
        int32_t context = context_of(&search, search.beam[i]);
        if (context == NONE) {
            goto end;
        }
        total += score_of(scorer, &search.contexts[context], scorer->eos);
        if (total > best) {
            best = total;
            text = search.beam[i];
        }
    }
    *score = best + log_scale;
    result = 0;
    for (int32_t node = text; search.nodes[node].parent != NONE; node = search.nodes[node].parent) {
        result++;
    }
    for (int32_t node = text, at = result; at > 0; node = search.nodes[node].parent) {
        out[--at] = search.nodes[node].token;
    }
end:
    free(search.nodes);
    free(search.contexts);
    free(search.grown);
    free(search.beam);
    free(search.totals);
    return result;
}
