/* The search over the paths of a graph of graph_beam.py: the same texts. */

#include "texts.h"

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
        if (search.best == -INFINITY) {
            /* where none ends in time, the best one is cut */
            search.best_text = search.beam[0].text;
        }
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
