/*
 * A native plugin in C: the same tool as `grid.rotate`.
 *
 *     cc -std=c99 -O2 -shared -fPIC -fvisibility=hidden -o rotate.so rotate.c
 *     sha256sum rotate.so
 */
#include "selkie_plugin.h"

#include <stdlib.h>
#include <string.h>

static const char MANIFEST[] =
    "{\"manifest\": 1, \"name\": \"rotate_c\", \"version\": \"0.1.0\", \"tools\": [{"
    "\"name\": \"rotate_c.rotate\", \"kind\": \"puzzle_augmenter\","
    "\"summary\": \"Rotates every grid counterclockwise by 90, 180 or 270 degrees.\","
    "\"params\": {\"type\": \"object\", \"properties\": {\"degrees\": {\"enum\": [90, 180, 270]}},"
    "\"required\": [\"degrees\"], \"additionalProperties\": false},"
    "\"laws\": {\"deterministic\": true, \"shape\": \"bounded\", \"growth_max\": 1}}]}";

const uint32_t selkie_abi_version = SELKIE_ABI_VERSION;

static selkie_text text(const char *string) {
    selkie_text text;
    text.bytes = string;
    text.len = strlen(string);
    return text;
}

selkie_text selkie_describe(void) { return text(MANIFEST); }

/* The number in `{"degrees": 90}`, 0 if it is none of the three. The host has checked the form against the schema. */
static int degrees(selkie_text params) {
    char digits[8] = "";
    size_t found = 0;
    for (size_t at = 0; at < params.len && found + 1 < sizeof digits; at++) {
        if (params.bytes[at] >= '0' && params.bytes[at] <= '9') {
            digits[found++] = params.bytes[at];
        }
    }
    int value = atoi(digits);
    return value == 90 || value == 180 || value == 270 ? value : 0;
}

/* `cells` has room for the result. */
static selkie_grid rotate(selkie_grid from, int degrees, uint8_t *cells) {
    selkie_grid to;
    to.cells = cells;
    to.height = degrees == 180 ? from.height : from.width;
    to.width = degrees == 180 ? from.width : from.height;
    for (size_t row = 0; row < to.height; row++) {
        for (size_t column = 0; column < to.width; column++) {
            size_t r, c;
            if (degrees == 90) {
                r = column;
                c = from.width - 1u - row;
            } else if (degrees == 180) {
                r = from.height - 1u - row;
                c = from.width - 1u - column;
            } else {
                r = from.height - 1u - column;
                c = row;
            }
            cells[row * to.width + column] = from.cells[r * from.width + c];
        }
    }
    return to;
}

static size_t cells_of(const selkie_example *example) {
    return (size_t)example->input.height * example->input.width +
           (size_t)example->output.height * example->output.width;
}

/* Takes the room of its cells from `*room`. */
static selkie_example rotate_example(const selkie_example *from, int degrees, uint8_t **room) {
    selkie_example to;
    to.input = rotate(from->input, degrees, *room);
    *room += (size_t)from->input.height * from->input.width;
    to.output = rotate(from->output, degrees, *room);
    *room += (size_t)from->output.height * from->output.width;
    return to;
}

/* Returns 0 when there is no memory. */
static int rotate_task(const selkie_host *host, const selkie_task *task, int degrees) {
    size_t size = cells_of(&task->test);
    for (size_t at = 0; at < task->train_len; at++) {
        size += cells_of(&task->train[at]);
    }
    uint8_t *cells = malloc(size);
    selkie_example *train = calloc(task->train_len + 1, sizeof *train);
    if (cells != NULL && train != NULL) {
        uint8_t *room = cells;
        for (size_t at = 0; at < task->train_len; at++) {
            train[at] = rotate_example(&task->train[at], degrees, &room);
        }
        selkie_task made;
        made.train = train;
        made.train_len = task->train_len;
        made.test = rotate_example(&task->test, degrees, &room);
        host->task(host, &made);
    }
    int done = cells != NULL && train != NULL;
    free(train);
    free(cells);
    return done;
}

void selkie_augment_puzzles(const selkie_host *host, const selkie_call *call, const selkie_task *tasks,
                            size_t tasks_len) {
    int turn = degrees(call->params);
    if (turn == 0) {
        host->refuse(host, SELKIE_INVALID_PARAMS, text("`degrees` is not 90, 180 or 270"));
        return;
    }
    for (size_t at = 0; at < tasks_len; at++) {
        if (!rotate_task(host, &tasks[at], turn)) {
            host->refuse(host, SELKIE_INTERNAL, text("no memory"));
            return;
        }
    }
}
