// The plugin `grid_c`: turns grids as the built-in `grid.rotate` does.

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "generated/puzzle_plugin.h"

typedef selkie_plugin_types_grid_t grid;
typedef selkie_plugin_types_example_t example;
typedef selkie_plugin_types_task_t task;
typedef exports_selkie_plugin_puzzle_augmenter_list_task_t task_list;
typedef exports_selkie_plugin_puzzle_augmenter_tool_error_t tool_error;

static const char MANIFEST[] =
    "{\"manifest\":1,\"name\":\"grid_c\",\"version\":\"0.1.0\",\"tools\":[{"
    "\"name\":\"c.rotate\",\"kind\":\"puzzle_augmenter\","
    "\"summary\":\"Rotates every grid counterclockwise by 90, 180 or 270 degrees.\","
    "\"params\":{\"type\":\"object\",\"properties\":{\"degrees\":{\"enum\":[90,180,270]}},"
    "\"required\":[\"degrees\"],\"additionalProperties\":false},"
    "\"laws\":{\"deterministic\":true,\"shape\":\"bounded\",\"growth_max\":1}}]}";

static const char TOOL[] = "c.rotate";

static bool refuse(tool_error *err, uint8_t kind, const char *message) {
  err->kind = kind;
  puzzle_plugin_string_dup(&err->message, message);
  return false;
}

// How often to turn by 90 degrees, or 0 where the parameters are not `{"degrees": 90, 180 or 270}`. One whole
// number needs no JSON library; the host has already held the parameters to the tool's schema.
static int quarter_turns(const puzzle_plugin_string_t *params) {
  char text[64];
  int degrees = 0, end = 0;
  if (params->len >= sizeof text) return 0;
  memcpy(text, params->ptr, params->len);
  text[params->len] = 0;
  sscanf(text, " { \"degrees\" : %3d } %n", &degrees, &end);
  bool known = degrees == 90 || degrees == 180 || degrees == 270;
  return known && end > 0 && text[end] == 0 ? degrees / 90 : 0;
}

static void turn(grid *given) {
  size_t height = given->height, width = given->width;
  uint8_t *cells = malloc(height * width);
  if (cells == NULL) abort();
  for (size_t row = 0; row < width; row++)
    for (size_t column = 0; column < height; column++)
      cells[row * height + column] = given->cells.ptr[column * width + (width - 1 - row)];
  free(given->cells.ptr);
  *given = (grid){.height = width, .width = height, .cells = {cells, height * width}};
}

static void turn_example(example *given, int quarters) {
  for (int quarter = 0; quarter < quarters; quarter++) {
    turn(&given->input);
    turn(&given->output);
  }
}

void exports_selkie_plugin_manifest_describe(puzzle_plugin_string_t *ret) {
  puzzle_plugin_string_dup(ret, MANIFEST);
}

// The tasks are ours, so they are changed in place and handed back. The instance ends with the call: the rest is
// not freed.
bool exports_selkie_plugin_puzzle_augmenter_augment(puzzle_plugin_string_t *tool, puzzle_plugin_string_t *params,
                                                    uint64_t seed, task_list *tasks, task_list *ret,
                                                    tool_error *err) {
  (void)seed;
  if (tool->len != strlen(TOOL) || memcmp(tool->ptr, TOOL, tool->len) != 0)
    return refuse(err, SELKIE_PLUGIN_TYPES_ERROR_KIND_UNKNOWN_TOOL, "there is no such tool here");
  int quarters = quarter_turns(params);
  if (quarters == 0)
    return refuse(err, SELKIE_PLUGIN_TYPES_ERROR_KIND_INVALID_PARAMS,
                  "expected `degrees`, one of 90, 180 and 270, and nothing else");
  for (task *each = tasks->ptr; each < tasks->ptr + tasks->len; each++) {
    for (size_t at = 0; at < each->train.len; at++) turn_example(&each->train.ptr[at], quarters);
    turn_example(&each->test, quarters);
  }
  *ret = *tasks;
  return true;
}

// The generated file asks for an object file with the world in it; build.sh takes the world from schemas/wit.
void __component_type_object_force_link_puzzle_plugin(void) {}
