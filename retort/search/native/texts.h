/* What both searches share: texts, the scores of their n-grams (texts.py and ngram_scores.py), and a heap.
 *
 * Sums are in Python's order, in double precision, so that scores differ by rounding at most. No global state: any
 * number of threads may search at once.
 */

#ifndef RETORT_TEXTS_H
#define RETORT_TEXTS_H

#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define BITS 16
#define MAX_ORDER (64 / BITS)
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

static inline int find(const Scorer *scorer, const Level *level, int32_t token, uint32_t *place) {
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

static inline double score_of(const Scorer *scorer, const Context *context, int32_t token) {
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
static inline void extend(const Scorer *scorer, const Context *context, int32_t token, Context *longer) {
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
static inline void *with_room(void *array, size_t count, size_t *room, size_t size) {
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
static inline int32_t new_context(Texts *texts) {
    Context *contexts = with_room(texts->contexts, (size_t)texts->context_count, &texts->context_room, sizeof(Context));
    if (!contexts) {
        return NONE;
    }
    texts->contexts = contexts;
    return texts->context_count++;
}

/* Index of a node's context; otherwise as new_context. */
static inline int32_t context_of(Texts *texts, int32_t index) {
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
static inline int score_behind(Texts *texts, int32_t index, int32_t token, double *score) {
    int32_t context = context_of(texts, index);
    if (context != NONE) {
        *score = score_of(texts->scorer, &texts->contexts[context], token);
    }
    return context != NONE;
}

/* Index of a new node; NONE if there is no memory. Pointers to nodes are void after it. */
static inline int32_t new_node(Texts *texts, int32_t parent, int32_t token, double ngrams) {
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
static inline int32_t child_of(const Texts *texts, int32_t index, int32_t token) {
    int32_t child = texts->nodes[index].child;
    while (child != NONE && texts->nodes[child].token != token) {
        child = texts->nodes[child].sibling;
    }
    return child;
}

/* The empty text, in front of which is bos. False if there is no memory. */
static inline int begin(Texts *texts) {
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
static inline int32_t write_tokens(const Texts *texts, int32_t text, int32_t *out) {
    int32_t count = 0;
    for (int32_t node = text; texts->nodes[node].parent != NONE; node = texts->nodes[node].parent) {
        count++;
    }
    for (int32_t node = text, at = count; at > 0; node = texts->nodes[node].parent) {
        out[--at] = texts->nodes[node].token;
    }
    return count;
}

static inline double largest_score(const Scorer *scorer) { return scorer->bonus > 0 ? scorer->bonus : 0.0; }

/* A heap whose least value is the first. */
static inline void sink(double *heap, int32_t count, int32_t at) {
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

static inline void heapify(double *heap, int32_t count) {
    for (int32_t i = count / 2 - 1; i >= 0; i--) {
        sink(heap, count, i);
    }
}

/* Put a value into a heap of the ``size`` largest, which is none before there are so many. Whether there are. */
static inline int push(double *heap, int32_t *count, int32_t size, double value) {
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

#endif
