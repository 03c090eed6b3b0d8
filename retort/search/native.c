/* The searches of prefix_beam.py and graph_beam.py, compiled; native.py calls them. Both ways give the same texts.
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

/* A text; see texts.py. */
typedef struct {
    int32_t token, parent, child, sibling; /* indices of nodes; the first child, and the next one of its parent */
    int32_t context;                       /* index of a context, NONE while it is not needed */
    int32_t alive;                         /* whether it is in the beam of CTC */
    double ngrams;
    double blank, ends, both, total; /* set while it is in that beam, as in Prefix */
} Node;

/* The texts that a search tries. The first node is the empty one. */
typedef struct {
    const Scorer *scorer;
    Node *nodes;
    Context *contexts;
    int32_t node_count, context_count;
    size_t node_room, context_room;
} Texts;

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

/* The array, or a larger one in its place, with room for ``count`` items and one more; NULL if there is no memory. */
static void *with_room(void *array, size_t count, size_t *room, size_t size) {
    if (count < *room) {
        return array;
    }
    size_t larger = 2 * count + 64;
    array = realloc(array, larger * size);
    if (array) {
        *room = larger;
    }
    return array;
}

/* Index of a new context; NONE if there is no memory. Pointers to contexts are void after it. */
static int32_t new_context(Texts *texts) {
    Context *contexts = with_room(texts->contexts, (size_t)texts->context_count, &texts->context_room, sizeof(Context));
    if (!contexts) {
        return NONE;
    }
    texts->contexts = contexts;
    return texts->context_count++;
}

/* Index of a node's context; otherwise as new_context. */
static int32_t context_of(Texts *texts, int32_t index) {
    Node *node = &texts->nodes[index];
    if (node->context == NONE) {
        int32_t parent = context_of(texts, node->parent), context = parent == NONE ? NONE : new_context(texts);
        if (context != NONE) {
            extend(texts->scorer, &texts->contexts[parent], node->token, &texts->contexts[context]);
        }
        node->context = context;
    }
    return node->context;
}

/* Score of a token behind a text. False if there is no memory. */
static int score_behind(Texts *texts, int32_t index, int32_t token, double *score) {
    int32_t context = context_of(texts, index);
    if (context != NONE) {
        *score = score_of(texts->scorer, &texts->contexts[context], token);
    }
    return context != NONE;
}

/* Index of a new node; NONE if there is no memory. Pointers to nodes are void after it. */
static int32_t new_node(Texts *texts, int32_t parent, int32_t token, double ngrams) {
    Node *nodes = with_room(texts->nodes, (size_t)texts->node_count, &texts->node_room, sizeof(Node));
    if (!nodes) {
        return NONE;
    }
    texts->nodes = nodes;
    int32_t index = texts->node_count++;
    nodes[index] = (Node){.token = token, .parent = parent, .child = NONE, .sibling = NONE, .context = NONE,
                          .ngrams = ngrams};
    if (parent != NONE) {
        nodes[index].sibling = nodes[parent].child;
        nodes[parent].child = index;
    }
    return index;
}

/* Index of the text with a token more; NONE if it is not known. */
static int32_t child_of(const Texts *texts, int32_t index, int32_t token) {
    int32_t child = texts->nodes[index].child;
    while (child != NONE && texts->nodes[child].token != token) {
        child = texts->nodes[child].sibling;
    }
    return child;
}

/* The empty text, in front of which is bos. False if there is no memory. */
static int begin(Texts *texts) {
    const Scorer *scorer = texts->scorer;
    int32_t root = new_node(texts, NONE, NONE, 0.0), context = new_context(texts);
    if (root == NONE || context == NONE) {
        return 0;
    }
    Context empty = {.count = 1, .levels = {{.first = 1, .low = scorer->firsts[0], .high = scorer->firsts[1]}}};
    extend(scorer, &empty, scorer->bos, &texts->contexts[context]);
    texts->nodes[root].context = context;
    return 1;
}

/* Write the tokens of a text; their number. */
static int32_t write_tokens(const Texts *texts, int32_t text, int32_t *out) {
    int32_t count = 0;
    for (int32_t node = text; texts->nodes[node].parent != NONE; node = texts->nodes[node].parent) {
        count++;
    }
    for (int32_t node = text, at = count; at > 0; node = texts->nodes[node].parent) {
        out[--at] = texts->nodes[node].token;
    }
    return count;
}

static double largest_score(const Scorer *scorer) { return scorer->bonus > 0 ? scorer->bonus : 0.0; }

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

/* Put a value into a heap of the ``size`` largest, which is none before there are so many. Whether there are. */
static int push(double *heap, int32_t *count, int32_t size, double value) {
    if (*count < size) {
        heap[(*count)++] = value;
        if (*count == size) {
            heapify(heap, size);
        }
    } else if (value > heap[0]) {
        heap[0] = value;
        sink(heap, size, 0);
    }
    return *count == size;
}

/* The search over the slots of CTC, prefix_beam.py. */
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

/* A hypothesis of graph_beam.py. */
typedef struct {
    double total, log_prob;
    int32_t text, vertex;
    int32_t next; /* of those that have grown to this vertex */
} Hypothesis;

/* Those that have grown to a vertex in the step that is the latest one to reach it. */
typedef struct {
    int32_t step, first;
} Vertex;

/* The search over the paths of a graph, graph_beam.py. */
typedef struct {
    Texts texts;
    Hypothesis *beam, *grown;
    int32_t beam_count, grown_count, reached_count;
    size_t grown_room;
    Vertex *vertices;
    int32_t *reached; /* vertices in the order in which this step reached them */
    double *totals;
    double best; /* of the texts that have ended */
    int32_t best_text;
} GraphSearch;

static double log_sum(double first, double second) {
    double low = first < second ? first : second, high = first < second ? second : first;
    return high + log1p(exp(low - high));
}

/* Compare the texts that end here with the best one so far. False if there is no memory. */
static int end_texts(GraphSearch *search, const double *ends) {
    const Hypothesis *beam = search->beam;
    for (int32_t i = 0; i < search->beam_count; i++) {
        int32_t text = beam[i].text;
        double log_prob = -INFINITY, eos;
        if (ends[beam[i].vertex] == -INFINITY) {
            continue;
        }
        /* the first hypothesis of a text sums over all; the others of it have less */
        for (int32_t k = i; k < search->beam_count; k++) {
            if (beam[k].text == text && ends[beam[k].vertex] > -INFINITY) {
                log_prob = log_sum(beam[k].log_prob + ends[beam[k].vertex], log_prob);
            }
        }
        if (!score_behind(&search->texts, text, search->texts.scorer->eos, &eos)) {
            return 0;
        }
        double total = log_prob + search->texts.nodes[text].ngrams + eos;
        if (total > search->best) {
            search->best = total;
            search->best_text = text;
        }
    }
    return 1;
}

/* The hypotheses with a token more: see _grown in graph_beam.py. False if there is no memory. */
static int grow_paths(GraphSearch *search, int32_t step, const int32_t *first, const double *log_probs,
                      const int32_t *vertices, const int32_t *tokens, int32_t size, double threshold) {
    Texts *texts = &search->texts;
    double *totals = search->totals, largest = largest_score(texts->scorer), floor = -INFINITY, least = -INFINITY;
    int32_t total_count = 0;
    size_t most = 0;
    for (int32_t i = 0; i < search->beam_count; i++) {
        int32_t vertex = search->beam[i].vertex;
        most += (size_t)(first[vertex + 1] - first[vertex]);
    }
    Hypothesis *grown = with_room(search->grown, most, &search->grown_room, sizeof(Hypothesis));
    if (!grown) {
        return 0;
    }
    search->grown = grown;
    search->grown_count = search->reached_count = 0;
    for (int32_t i = 0; i < search->beam_count; i++) {
        const Hypothesis *before = &search->beam[i];
        for (int32_t m = first[before->vertex]; m < first[before->vertex + 1]; m++) {
            double highest = before->total + log_probs[m] + largest;
            if (highest < floor) {
                break;
            }
            int32_t text = child_of(texts, before->text, tokens[m]);
            if (text == NONE) {
                double score;
                if (highest < least) {
                    continue;
                }
                if (!score_behind(texts, before->text, tokens[m], &score)) {
                    return 0;
                }
                text = new_node(texts, before->text, tokens[m], texts->nodes[before->text].ngrams + score);
                if (text == NONE) {
                    return 0;
                }
            }
            double log_prob = before->log_prob + log_probs[m], total = log_prob + texts->nodes[text].ngrams;
            if (total < floor) {
                continue;
            }
            Vertex *vertex = &search->vertices[vertices[m]];
            if (vertex->step != step) {
                *vertex = (Vertex){.step = step, .first = NONE};
                search->reached[search->reached_count++] = vertices[m];
            }
            int32_t *place = &vertex->first;
            while (*place != NONE && grown[*place].text != text) {
                place = &grown[*place].next;
            }
            if (*place != NONE) {
                grown[*place].log_prob = log_sum(log_prob, grown[*place].log_prob);
            } else if (total >= least) {
                *place = search->grown_count++;
                grown[*place] = (Hypothesis){.log_prob = log_prob, .text = text, .vertex = vertices[m], .next = NONE};
                floor = total - threshold > floor ? total - threshold : floor;
                least = push(totals, &total_count, size, total) ? totals[0] : least;
            }
        }
    }
    return 1;
}

/* The next beam, the largest total first: of equal ones the first by vertex and text. */
static void keep_paths(GraphSearch *search, double floor, int32_t size) {
    Hypothesis *beam = search->beam;
    int32_t count = 0;
    for (int32_t i = 0; i < search->reached_count; i++) {
        for (int32_t k = search->vertices[search->reached[i]].first; k != NONE; k = search->grown[k].next) {
            double total = search->grown[k].total;
            if (total < floor || (count == size && total <= beam[size - 1].total)) {
                continue;
            }
            int32_t at = count < size ? count++ : size - 1;
            for (; at > 0 && beam[at - 1].total < total; at--) {
                beam[at] = beam[at - 1];
            }
            beam[at] = search->grown[k];
        }
    }
    search->beam_count = count;
}

/* Tokens of the best text, which are written to ``out`` (room for ``limit``), and its score. Returns their number;
 * NONE if there is no memory.
 *
 * Vertex i of ``count`` has the successors first[i] to first[i + 1] - 1, the most probable first: the logs of their
 * probabilities, their vertices and tokens. ``ends`` are those of the end behind each vertex. */
int32_t retort_graph_beam(int32_t count, const int32_t *first, const double *log_probs, const int32_t *vertices,
                          const int32_t *tokens, const double *ends, const Scorer *scorer, int32_t limit, int32_t size,
                          double threshold, int32_t *out, double *score) {
    int32_t result = NONE;
    GraphSearch search = {.texts = {.scorer = scorer}, .best = -INFINITY};
    search.beam = malloc((size_t)size * sizeof(Hypothesis));
    search.totals = malloc((size_t)size * sizeof(double));
    search.vertices = calloc((size_t)count, sizeof(Vertex));
    search.reached = malloc((size_t)count * sizeof(int32_t));
    if (!search.beam || !search.totals || !search.vertices || !search.reached || !begin(&search.texts)) {
        goto end;
    }
    search.beam[0] = (Hypothesis){.next = NONE};
    search.beam_count = 1;
    for (int32_t length = 0; length <= limit; length++) {
        /* steps count from 1, as step 0 has reached all vertices */
        if (!end_texts(&search, ends) ||
            !grow_paths(&search, length + 1, first, log_probs, vertices, tokens, size, threshold)) {
            goto end;
        }
        double most = -INFINITY;
        for (int32_t i = 0; i < search.grown_count; i++) {
            Hypothesis *hypothesis = &search.grown[i];
            hypothesis->total = hypothesis->log_prob + search.texts.nodes[hypothesis->text].ngrams;
            most = hypothesis->total > most ? hypothesis->total : most;
        }
        /* no text gets better than its beginning by more than the bonus of the tokens to come */
        if (most + largest_score(scorer) * (limit - length) <= search.best) {
            break;
        }
        keep_paths(&search, most - threshold, size);
    }
    *score = search.best;
    result = write_tokens(&search.texts, search.best_text, out);
end:
    free(search.texts.nodes);
    free(search.texts.contexts);
    free(search.grown);
    free(search.beam);
    free(search.totals);
    free(search.vertices);
    free(search.reached);
    return result;
}

/* See VERSION in native.py. */
int32_t retort_native_version(void) { return 2; }
