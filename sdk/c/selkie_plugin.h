/*
 * Selkie's interface for native plugins, version 1. C99 and C++.
 *
 * A native plugin is a shared library with tools, as a WebAssembly plugin is: the same manifest, the same kinds of
 * tools, the same errors. Selkie loads it in a process of its own, a fresh one for every batch, and kills that
 * process when its time is up. This confines accidents. It is not a sandbox: the library's code runs with the rights
 * of whoever runs Selkie, from the moment it is loaded. So Selkie loads none whose SHA-256 the operator has not
 * listed. A plugin that can be WebAssembly should be.
 *
 * A library defines `selkie_abi_version`, `selkie_describe` and one function for each kind of tool that it has.
 * Compile it with: cc -std=c99 -O2 -shared -fPIC -fvisibility=hidden -o rotate.so rotate.c
 *
 * Lifetimes. What a function is given may be read until that function returns; it must not be written. What is given
 * to a host function is copied before the host function returns. Nothing is freed by the other side.
 *
 * Threads. Host functions may be called during the call that was given the `selkie_host`, and only on its thread.
 * Other threads and processes may fail to start.
 *
 * Determinism. The same tool, params, seed and input must give the same answer. There is no environment, stdin is
 * empty, and no file can be written. Nothing is remembered between calls. What is printed to stdout or stderr goes
 * where `log` goes.
 *
 * Resources. A process has a limit on time, CPU time, memory and answer (runtime/tools/src/native/limits.rs). Memory
 * allocation fails at the limit; a write to a file ends the process.
 */
#ifndef SELKIE_PLUGIN_H
#define SELKIE_PLUGIN_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#if defined(__GNUC__)
#define SELKIE_EXPORT __attribute__((visibility("default")))
#else
#define SELKIE_EXPORT
#endif

/* The version of this file. A host loads the versions that it knows, and no other. */
#define SELKIE_ABI_VERSION 1u

/* UTF-8, not terminated. `bytes` may be NULL where `len` is 0. */
typedef struct selkie_text {
    const char *bytes;
    size_t len;
} selkie_text;

/* A rectangle of colours. Sides are 1 to 255, colours 0 to 9, cells row by row: height * width bytes. */
typedef struct selkie_grid {
    const uint8_t *cells;
    uint8_t height;
    uint8_t width;
} selkie_grid;

/* A grid before and after the puzzle's rule. */
typedef struct selkie_example {
    selkie_grid input;
    selkie_grid output;
} selkie_example;

/* Demonstrations and one example to solve, whose answer is known. */
typedef struct selkie_task {
    const selkie_example *train;
    size_t train_len;
    selkie_example test;
} selkie_task;

/* What a text augmenter works on: a passage, its title (may be empty), and what a model wrote about it. */
typedef struct selkie_source {
    selkie_text title;
    selkie_text text;
    const selkie_text *completions;
    size_t completions_len;
} selkie_source;

/* Two answers to one question. Swapping them must not change the score. */
typedef struct selkie_answers {
    selkie_text left;
    selkie_text right;
} selkie_answers;

/* Two grids. Swapping them must not change the score. */
typedef struct selkie_grids {
    selkie_grid left;
    selkie_grid right;
} selkie_grids;

/* A self-edit of a passage: what it would train on, in order, without titles and without the passage. */
typedef struct selkie_edit {
    selkie_text title;
    selkie_text passage;
    const selkie_text *documents;
    size_t documents_len;
} selkie_edit;

/* Values of `selkie_submission.kind`. */
#define SELKIE_ANSWERS 0u
#define SELKIE_GRIDS 1u
#define SELKIE_EDIT 2u

/* What is graded: the member of `of` that `kind` says. A tool's manifest says which one it takes. */
typedef struct selkie_submission {
    uint32_t kind;
    union {
        selkie_answers answers;
        selkie_grids grids;
        selkie_edit edit;
    } of;
} selkie_submission;

/* What is asked. `params` is a JSON object that the tool's schema accepts; `seed` is the only randomness. */
typedef struct selkie_call {
    selkie_text tool;
    selkie_text params;
    uint64_t seed;
} selkie_call;

/* Why a tool refuses: the parameters do not parse, or a value is outside its range; */
#define SELKIE_INVALID_PARAMS 0u
/* the plugin has no tool of that name; */
#define SELKIE_UNKNOWN_TOOL 1u
/* the parameters are fine, but the tool cannot work on this input; */
#define SELKIE_UNSUPPORTED_INPUT 2u
/* the host's model is needed (this version of the interface does not offer it); */
#define SELKIE_MODEL_UNAVAILABLE 3u
/* a fault of the plugin's own. */
#define SELKIE_INTERNAL 4u

/* How a plugin answers: by calling these, in any number, each with the `selkie_host` that it was given. */
typedef struct selkie_host selkie_host;
struct selkie_host {
    /* The host's own. */
    void *state;
    /* Adds a task to a puzzle augmenter's answer. */
    void (*task)(const selkie_host *host, const selkie_task *task);
    /* Adds a document to those of the source of that index, from 0. */
    void (*document)(const selkie_host *host, size_t source, selkie_text document);
    /* Gives the next submission its score: 0 is worst, 1 is best; and reasons, one line each. */
    void (*score)(const selkie_host *host, double value, const selkie_text *reasons, size_t reasons_len);
    /* Refuses the call. The answer so far is dropped; of several refusals the first counts. */
    void (*refuse)(const selkie_host *host, uint32_t kind, selkie_text message);
    /* Notes a line, for the plugin's author. The host keeps the last ones. */
    void (*log)(const selkie_host *host, selkie_text line);
};

/*
 * What a library defines. The first two always; of the others those of its kinds of tools.
 */

/* SELKIE_ABI_VERSION. It is data so that it can be read before anything is called. */
extern SELKIE_EXPORT const uint32_t selkie_abi_version;

/* The manifest: JSON as in schemas/plugin-manifest.v1.json. It must stay where it is until the process ends. */
SELKIE_EXPORT selkie_text selkie_describe(void);

/* Applies a puzzle augmenter to a batch. A task that the tool cannot change is left out; no task is no error. */
SELKIE_EXPORT void selkie_augment_puzzles(const selkie_host *host, const selkie_call *call,
                                          const selkie_task *tasks, size_t tasks_len);

/* Applies a text augmenter to a batch. */
SELKIE_EXPORT void selkie_augment_texts(const selkie_host *host, const selkie_call *call,
                                        const selkie_source *sources, size_t sources_len);

/* Grades a batch: one score a submission, in order. A score must not depend on the other submissions. */
SELKIE_EXPORT void selkie_grade(const selkie_host *host, const selkie_call *call,
                                const selkie_submission *submissions, size_t submissions_len);

#ifdef __cplusplus
}
#endif

#endif
