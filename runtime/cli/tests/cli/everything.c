/* A native plugin that says back everything that it is given. */
#include "selkie_plugin.h"

#include <stdio.h>
#include <string.h>

const uint32_t selkie_abi_version = SELKIE_ABI_VERSION;

selkie_text selkie_describe(void) {
    selkie_text none = {NULL, 0};
    return none;
}

/* Each source's title, text and completions, the sources from last to first. */
void selkie_augment_texts(const selkie_host *host, const selkie_call *call, const selkie_source *sources,
                          size_t sources_len) {
    for (size_t at = sources_len; at-- > 0;) {
        host->document(host, at, call->params);
        host->document(host, at, sources[at].title);
        host->document(host, at, sources[at].text);
        for (size_t completion = 0; completion < sources[at].completions_len; completion++) {
            host->document(host, at, sources[at].completions[completion]);
        }
    }
}

/* The kind as the score, and the texts as the reasons. */
void selkie_grade(const selkie_host *host, const selkie_call *call, const selkie_submission *submissions,
                  size_t submissions_len) {
    if (call->seed > 0) {
        const char message[] = "because\nof the \x1b[31mseed";
        selkie_text because = {message, sizeof message - 1};
        host->refuse(host, (uint32_t)call->seed - 1, because);
        host->refuse(host, SELKIE_INTERNAL, call->tool);
        return;
    }
    for (size_t at = 0; at < submissions_len; at++) {
        const selkie_submission *one = &submissions[at];
        selkie_text reasons[8];
        char sides[2][32];
        size_t count = 0;
        if (one->kind == SELKIE_ANSWERS) {
            reasons[count++] = one->of.answers.left;
            reasons[count++] = one->of.answers.right;
        } else if (one->kind == SELKIE_GRIDS) {
            const selkie_grid grids[2] = {one->of.grids.left, one->of.grids.right};
            for (; count < 2; count++) {
                unsigned last = grids[count].cells[grids[count].height * grids[count].width - 1];
                snprintf(sides[count], sizeof sides[count], "%ux%u, last %u", grids[count].height,
                         grids[count].width, last);
                reasons[count].bytes = sides[count];
                reasons[count].len = strlen(sides[count]);
            }
        } else {
            reasons[count++] = one->of.edit.title;
            reasons[count++] = one->of.edit.passage;
            for (size_t document = 0; document < one->of.edit.documents_len && count < 8; document++) {
                reasons[count++] = one->of.edit.documents[document];
            }
        }
        host->score(host, one->kind / 2.0, reasons, count);
    }
}
