/* A native plugin that does what it should, until a test puts something else at one of the marks. */
#define _GNU_SOURCE
#include "selkie_plugin.h"

#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

static selkie_text text(const char *string) {
    selkie_text text = {string, strlen(string)};
    return text;
}

/*TOP*/

const uint32_t selkie_abi_version = SELKIE_ABI_VERSION/*VERSION*/;

selkie_text selkie_describe(void) {
    /*DESCRIBE*/
    return text("{\"manifest\": 1}");
}

/* Attacks with seed 1 only. */
void selkie_augment_puzzles(const selkie_host *host, const selkie_call *call, const selkie_task *tasks,
                            size_t tasks_len) {
    if (call->seed == 1) {
        /*AUGMENT*/
    }
    for (size_t at = 0; at < tasks_len; at++) {
        host->task(host, &tasks[at]);
    }
}
