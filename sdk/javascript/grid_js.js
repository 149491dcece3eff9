// The plugin `grid_js`: turns grids as the built-in `grid.rotate` does.

const MANIFEST = {
  manifest: 1,
  name: "grid_js",
  version: "0.1.0",
  tools: [
    {
      name: "js.rotate",
      kind: "puzzle_augmenter",
      summary: "Rotates every grid counterclockwise by 90, 180 or 270 degrees.",
      params: {
        type: "object",
        properties: { degrees: { enum: [90, 180, 270] } },
        required: ["degrees"],
        additionalProperties: false,
      },
      laws: { deterministic: true, shape: "bounded", growth_max: 1 },
    },
  ],
};

// What is thrown becomes the error of the `result`.
const refusal = (kind, message) => ({ kind, message });

function quarter({ height, width, cells }) {
  const count = cells.length;
  const turned = new Uint8Array(count);
  let to = 0;
  for (let column = width - 1; column >= 0; column--) {
    for (let from = column; from < count; from += width) turned[to++] = cells[from];
  }
  return { height: width, width: height, cells: turned };
}

const half = ({ height, width, cells }) => ({ height, width, cells: cells.toReversed() });

const TURNS = new Map([
  [90, quarter],
  [180, half],
  [270, (grid) => half(quarter(grid))],
]);

function turnOf(params) {
  let given;
  try {
    given = JSON.parse(params);
  } catch (error) {
    throw refusal("invalid-params", `the parameters are not JSON: ${error.message}`);
  }
  const { degrees, ...rest } = given ?? {};
  const turn = TURNS.get(degrees);
  if (!turn || Object.keys(rest).length > 0) {
    throw refusal("invalid-params", "expected `degrees`, one of 90, 180 and 270, and nothing else");
  }
  return turn;
}

export const manifest = {
  describe: () => JSON.stringify(MANIFEST),
};

export const puzzleAugmenter = {
  augment(tool, params, seed, tasks) {
    if (tool !== "js.rotate") {
      throw refusal("unknown-tool", `there is no tool \`${tool}\` here`);
    }
    const turn = turnOf(params);
    const example = ({ input, output }) => ({ input: turn(input), output: turn(output) });
    return tasks.map(({ train, test }) => ({ train: train.map(example), test: example(test) }));
  },
};
